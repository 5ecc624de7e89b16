"""What MkDocs calls when it builds the site: adds generated pages, fixes links to files outside docs/, orders the pages."""

from __future__ import annotations

import logging
import sys
from itertools import chain
from pathlib import Path
from typing import cast

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from generator import reference
from generator.repository import linked_files, linked_pages, project_pages, rewritten, swallowed_lists
from generator.theme import corrected, navigation

_log = logging.getLogger("mkdocs.hooks.generator")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and what pages link to outside docs/; then order the pages."""
    for path, text in reference.pages().items():
        files.append(File.generated(config, path, content=text))
    for path, source in project_pages().items():
        files.append(File.generated(config, path, abs_src_path=str(source)))
    sources = {file.src_uri: file.content_string for file in files.documentation_pages()}
    for path, source in linked_files(sources).items():
        files.append(File.generated(config, path, abs_src_path=str(source)))
    pages = [file.src_uri for file in files.documentation_pages()]
    order = [
        *config.extra["order"],
        *chain(*(linked_pages(page, sources[page]) for page in sources if page.endswith("README.md"))),
    ]
    config.nav = cast("list[object]", navigation(pages, order))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change links to files outside docs/ to their place in the site. Report lists that MkDocs does not show as lists."""
    for line in swallowed_lists(markdown):
        _log.warning("%s: line %d of the text begins a list: write an empty line above it", page.file.src_uri, line)
    if page.file.src_uri == "reference/README.md":
        markdown += reference.index()
    return rewritten(page.file.src_uri, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Give landmarks their names."""
    return corrected(output)


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Give landmarks of the page that says "not found" their names."""
    return corrected(output_content) if template_name == "404.html" else output_content
