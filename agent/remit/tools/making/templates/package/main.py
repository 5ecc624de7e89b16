# /// script
# requires-python = ">=3.11"
# dependencies = ["markdown-it-py>=3"]
# ///
"""One typed function for each action, with its name. This file never imports remit.

The comment above names the packages (PEP 723), also pydantic if you import it. `remit tool env mytool` locks their versions
and hashes in main.py.lock.
"""

from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt


class NotText(Exception):
    """The file is not UTF-8."""


def outline(path: str) -> list[str]:
    """List the headings of one Markdown file, each with a # for its level."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise NotText(f"{path} is not UTF-8") from error
    tokens = MarkdownIt().parse(text)
    return [
        f"{'#' * int(opened.tag[1:])} {inline.content}"
        for opened, inline in pairwise(tokens)
        if opened.type == "heading_open"
    ]
