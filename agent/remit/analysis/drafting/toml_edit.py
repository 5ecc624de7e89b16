"""Adds an item to a list in the text of a TOML file. Everything else of the text, its comments included, stays as it is.

An edit is checked: the edited text must parse to the old document with that one item, or nothing is changed.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import Any, Final, cast

from remit.core import UsageError
from remit.core.parsing import load_toml, toml_line

# A text, a comment, or one other character: enough to find the end of an array that a parser has accepted.
_TOKEN: Final = re.compile(r"\"\"\".*?\"\"\"|'''.*?'''|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|#[^\n]*|.", re.DOTALL)


def with_item(text: str, path: Sequence[str], item: str, *, file: str, below: str = "") -> str:
    """The text with `item` at the end of the array at `path`: its tables, then its key.

    A key that is missing is written below the key `below` of its table, or else right below the header of the table.

    Raises:
        UsageError: the text cannot be edited so.
    """
    document = load_toml(text, file=file)
    expected = _with_item(document, path, item)
    if expected == document:
        return text
    edited = _edited(text, path, item, below)
    if load_toml(edited, file=file) != expected:
        where = f" in [{'.'.join(path[:-1])}]" if path[:-1] else ""
        raise UsageError(f"{file} cannot be edited safely: add {json.dumps(item)} to {path[-1]}{where} by hand")
    return edited


def with_enforced(text: str, action: str, *, file: str) -> str:
    """The text of agent.toml with one more action in `enforce`. Raises UsageError if it cannot be edited so."""
    return with_item(text, ("enforce",), action, file=file, below="observe_until")


def _with_item(document: dict[str, Any], path: Sequence[str], item: str) -> dict[str, Any]:
    expected = copy.deepcopy(document)
    table = expected
    for key in path[:-1]:
        table = cast("dict[str, Any]", table.setdefault(key, {}))
    items: list[Any] = table.setdefault(path[-1], [])
    if item not in items:
        items.append(item)
    return expected


def _edited(text: str, path: Sequence[str], item: str, below: str) -> str:
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    if (at := _line_of(text, path)) is not None:
        return _appended(text, starts[at], item)
    new = f"{path[-1]} = [{json.dumps(item)}]\n"
    above = _line_of(text, (*path[:-1], below)) if below else None
    above = _line_of(text, path[:-1]) if above is None and path[:-1] else above
    if above is not None:
        return text[: starts[above + 1]] + new + text[starts[above + 1] :]
    header = f"[{'.'.join(path[:-1])}]\n" if path[:-1] else ""
    return (text.rstrip("\n") + "\n\n" + header + new) if header else new + text


def _line_of(text: str, path: Sequence[str]) -> int | None:
    """The index of the line of exactly this key or table; None if the text does not have it."""
    document: Any = load_toml(text, file="")
    for key in path:
        if not isinstance(document, dict) or key not in document:
            return None
        document = cast("dict[str, Any]", document)[key]
    line = toml_line(text, *path)
    return None if line is None else line - 1


def _appended(text: str, start: int, item: str) -> str:
    """The text with the item before the bracket that closes the array whose key is at `start`."""
    opened = text.index("[", text.index("=", start))
    depth, last, comma = 0, opened, True
    for token in _TOKEN.finditer(text, opened):
        part = token[0]
        if part == "]" and depth == 1:
            return _inserted(text, (opened, last + 1, token.start()), item, comma=not comma)
        depth += {"[": 1, "]": -1}.get(part, 0)
        if not part.isspace() and not part.startswith("#"):
            last, comma = token.end() - 1, part in ("[", ",")
    return text


def _inserted(text: str, at: tuple[int, int, int], item: str, *, comma: bool) -> str:
    """Insert after the last item; in an array over several lines, on a line of its own with the indentation of the others."""
    opened, last, closing = at
    several = "\n" in text[last:closing]
    indent = re.match(r"[ \t]*", text[text.rfind("\n", 0, last) + 1 :])
    before = text[:last] + ("," if comma else "")
    if not several:
        gap = "" if last == opened + 1 else " "
        return f"{before}{gap}{json.dumps(item)}{text[last:]}"
    rest, _, tail = text[last:closing].rpartition("\n")
    depth = (indent[0] if indent else "") or "    "
    return f"{before}{rest}\n{depth}{json.dumps(item)},\n{tail}{text[closing:]}"
