"""What the theme of the site needs: the order of pages and folders, and names for its landmarks (WCAG 2.2).

The navigation is the folders of docs/, in the order of `extra.order` in mkdocs.yml and of the index of each folder. `docs/assets/`
has what styles and scripts correct.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

INDEX = ("README.md", "index.md")
Item: TypeAlias = "str | dict[str, list[Item]]"
_SEARCH: Final = '<div class="md-search" data-md-component="search" role="dialog">'
# A folder with an index page has an empty label; its title follows.
_FOLDER: Final = re.compile(
    r"(<nav class=\"md-nav\" data-md-level=\"\d+\") aria-labelledby=\"[^\"]+\""
    r"([^>]*>\s*<label class=\"md-nav__title\"[^>]*>\s*<span class=\"md-nav__icon md-icon\"></span>)(.*?)</label>",
    re.DOTALL,
)


def navigation(pages: Iterable[str], order: Sequence[str]) -> list[Item]:
    """The items that MkDocs calls `nav`: paths of pages, and `{title: items}` for each folder.

    `order` names pages and folders of any level by their path. Others follow by name; the index of a folder comes first.
    """
    return _folder("", sorted(pages), {name: place for place, name in enumerate(dict.fromkeys(order))})


def _folder(folder: str, pages: Sequence[str], places: dict[str, int]) -> list[Item]:
    inside = {page.removeprefix(folder).partition("/")[0] for page in pages}
    names = sorted(inside, key=lambda name: (name not in INDEX, places.get(folder + name, len(places)), name))
    items: list[Item] = []
    for name in names:
        below = [page for page in pages if page.startswith(f"{folder}{name}/")]
        items.append({_title(name): _folder(f"{folder}{name}/", below, places)} if below else folder + name)
    return items


def _title(folder: str) -> str:
    return folder.replace("-", " ").capitalize()


def corrected(html: str) -> str:
    """The page with these names.

    Raises ValueError if the theme no longer has what is corrected here.
    """
    if _SEARCH not in html:
        raise ValueError("the theme's search has changed: compare docs/generator/theme.py with it")
    html = html.replace(_SEARCH, _SEARCH.replace(">", ' aria-label="Search">'))
    return _FOLDER.sub(_named, html)


def _named(match: re.Match[str]) -> str:
    before, between, title = match.groups()
    name = " ".join(re.sub(r"<[^>]+>", "", title).split())
    return f'{before} aria-label="{name}"{between}{title}</label>'
