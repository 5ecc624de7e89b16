"""The navigation of the site: the folders of docs/, in the order of `extra.order` in mkdocs.yml and of the index of each folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

INDEX = ("README.md", "index.md")
Item: TypeAlias = "str | dict[str, list[Item]]"


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
