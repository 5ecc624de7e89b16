"""Reads tables of cases in YAML: plain rows, each with its lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from remit.core.calls import Json
from remit.core.errors import Problem, WorkspaceError
from remit.core.parsing.bounded_readers import is_list, is_mapping, load_yaml, read_text

DEEPEST: Final = 32
MOST_BITS: Final = 1024  # of a whole number; Python refuses to print one with more than about 14,000


@dataclass(frozen=True, kw_only=True)
class YamlRow:
    """One row. `line` is its first line, `lines` is the line of each of its keys; both count from 1."""

    value: Json
    line: int
    lines: Mapping[str, int]


def table_text(path: Path, *, file: str) -> str:
    """The text of one table, empty if the file does not exist. Raises WorkspaceError if it cannot be read."""
    return read_text(path, file=file) if path.exists() else ""


def read_rows(text: str, *, file: str) -> Iterator[YamlRow]:
    """The rows of one table; an empty file has none.

    Raises WorkspaceError if the text is not YAML or not a list, and, after all other rows, if rows have values that JSON does
    not have.
    """
    table: Any = load_yaml(text, file=file)
    if table is None:
        return
    if not is_list(table):
        what = "the table is not a list of rows"
        raise WorkspaceError([Problem(file=file, line=1, what=what, fix="begin each row with `- note: …`")])
    place: Any = getattr(table, "lc")  # noqa: B009 - ruamel's own, which its types hide
    problems: list[Problem] = []
    for number, row in enumerate(table):
        line = int(place.data[number][0]) + 1
        keys: Any = getattr(getattr(row, "lc", None), "data", None) or {}
        try:
            value = plain_value(row)
        except ValueError as error:
            problems.append(Problem(file=file, line=line, what=str(error), fix="write plain texts, numbers and lists"))
            continue
        yield YamlRow(value=value, line=line, lines={str(key): int(at[0]) + 1 for key, at in keys.items()})
    if problems:
        raise WorkspaceError(problems)


def plain_value(value: Any, depth: int = 0) -> Json:
    """The value with the types of JSON.

    Raises ValueError for a date, a key that is not a text, and nesting that is too deep or infinite.
    """
    if depth > DEEPEST:
        raise ValueError(f"a value is nested deeper than {DEEPEST}")
    if is_mapping(value):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key is not a text")
        return {_joined(str(key)): plain_value(item, depth + 1) for key, item in value.items()}
    if is_list(value):
        return [plain_value(item, depth + 1) for item in value]
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ValueError("a number has too many digits: write it as a text")
    if isinstance(value, str):
        return _joined(str(value))
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    raise ValueError(f"{value!r} is not a JSON value: write it as a text in quotes")


def _joined(text: str) -> str:
    """The text with each pair of escaped halves as one character: JSON writes such characters so, and JSON is YAML."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
