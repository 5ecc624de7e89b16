"""Links between pages of docs/ and files outside of it.

On a code host, a page of docs/ links to `../SECURITY.md`. The site has such pages below `project/`, and other files that
pages link to below `files/`; `rewritten` changes each link to that place.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PROJECT: Final = "project"
FILES: Final = "files"
# Pages of the repository that are pages of the site too.
PAGES: Final = (
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "tools/README.md",
    "policies/README.md",
    "traces/README.md",
    "traces/codes.md",
)

_ITEM = re.compile(r"(?:[-*+]|\d+\.) \S")
_PARAGRAPH = re.compile(r"[^\s#|><]")
_FENCE = re.compile(r"^ *(`{3,}|~{3,})")
_LINK = re.compile(r"(`+[^`]*`+)|(\]\()([^)\s]+)((?:\s+\"[^\"]*\")?\))|(^\[[^\]]+\]:\s+)(\S+)")


def project_pages() -> dict[str, Path]:
    """The pages of the repository, by their path in the site."""
    return {f"{PROJECT}/{name}": ROOT / name for name in PAGES if (ROOT / name).is_file()}


def linked_files(sources: Mapping[str, str]) -> dict[str, Path]:
    """The files outside docs/ to which pages link, by their path in the site. `sources` are texts by their path there."""
    found: dict[str, Path] = {}
    for page, text in sources.items():
        for target in _targets(text):
            place = _place(page, target.partition("#")[0])
            if place is not None and place.startswith(f"{FILES}/"):
                found[place] = ROOT / place.removeprefix(f"{FILES}/").removesuffix(".txt")
    return found


def linked_pages(page: str, text: str) -> list[str]:
    """The pages to which a page links, in their order."""
    places = (_place(page, target.partition("#")[0]) for target in _targets(text))
    return [place for place in places if place is not None and place.endswith(".md")]


def rewritten(page: str, text: str) -> str:
    """The text of a page, with each link to a file outside docs/ changed to its place in the site."""

    def link(match: re.Match[str]) -> str:
        code, before, target, after, label, reference = match.groups()
        if code is not None:
            return code
        path, hash_, anchor = (target or reference).partition("#")
        place = _place(page, path)
        if place is None:
            return match.group()
        new = posixpath.relpath(place, posixpath.dirname(page)) + hash_ + anchor
        return f"{before}{new}{after}" if before else label + new

    return "".join(line if code else _LINK.sub(link, line) for line, code in _lines(text))


def swallowed_lists(text: str) -> list[int]:
    """The lines (from 1) of lists right below a paragraph: a code host shows a list, and MkDocs shows more text."""
    found: list[int] = []
    before = ""
    for number, (line, code) in enumerate(_lines(text), 1):
        if not code and _ITEM.match(line) and _PARAGRAPH.match(before) and not _ITEM.match(before):
            found.append(number)
        before = "" if code else line
    return found


def _place(page: str, target: str) -> str | None:
    """Where the site has the file to which a link of a page points; None if the link need not change."""
    if not target or target.startswith("/") or ":" in target:
        return None
    # Where a code host has the page.
    source = page.removeprefix(f"{PROJECT}/") if page.startswith(f"{PROJECT}/") else f"docs/{page}"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith(".."):
        return None
    if (ROOT / path / "README.md").is_file():
        path = posixpath.normpath(f"{path}/README.md")
    if path in PAGES:
        return f"{PROJECT}/{path}"
    return f"{FILES}/{path}.txt" if (ROOT / path).is_file() else None


def _targets(text: str) -> Iterator[str]:
    for line, code in _lines(text):
        if not code:
            yield from (match[3] or match[6] for match in _LINK.finditer(line) if match[1] is None)


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Each line, and whether it belongs to a fenced block of code."""
    fence = ""
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line)
        yield line, bool(fence or found)
        if found and not fence:
            fence = found[1]
        elif found and line.strip() == fence:
            fence = ""
