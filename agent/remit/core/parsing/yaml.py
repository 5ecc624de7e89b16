"""Tables of cases in YAML: plain rows, each with the lines it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from remit.core.calls import Json
from remit.core.errors import Problem, WorkspaceError
from remit.core.parsing.outside import is_list, is_mapping, load_yaml, read_text

DEEPEST: Final = 32
MOST_BITS: Final = 1024  # of a whole number; Python prints no more than about four times as many


@dataclass(frozen=True, kw_only=True)
class YamlRow:
    """One row. `line` is where it begins, `lines` where each of its keys stands; both 1-based."""

    value: Json
    line: int
    lines: Mapping[str, int]


def table_text(path: Path, *, file: str) -> str:
    """The text of one table, empty where there is no such file. Raises WorkspaceError where it cannot be read."""
    return read_text(path, file=file) if path.exists() else ""


def read_rows(text: str, *, file: str) -> Iterator[YamlRow]:
    """The rows of one table; an empty file has none.

    Raises WorkspaceError where it is not YAML or not a list; where rows hold what JSON cannot say, after all others.
    """
    table: Any = load_yaml(text, file=file)
    if table is None:
        return
    if not is_list(table):
        what = "the table is not a list of rows"
        raise WorkspaceError([Problem(file=file, line=1, what=what, fix="begin each row with - note: …")])
    place: Any = getattr(table, "lc")  # noqa: B009 - ruamel's own, which its types hide
    problems: list[Problem] = []
    for number, row in enumerate(table):
        line = int(place.data[number][0]) + 1
        keys: Any = getattr(getattr(row, "lc", None), "data", None) or {}
        try:
            value = plain(row)
        except ValueError as error:
            problems.append(Problem(file=file, line=line, what=str(error), fix="write plain texts, numbers and lists"))
            continue
        yield YamlRow(value=value, line=line, lines={str(key): int(at[0]) + 1 for key, at in keys.items()})
    if problems:
        raise WorkspaceError(problems)


def plain(value: Any, depth: int = 0) -> Json:
    """YAML's own types as JSON has them.

    Raises ValueError for a date, a key that is no text, or a nesting that is deep or endless.
    """
    if depth > DEEPEST:
        raise ValueError(f"a value is nested deeper than {DEEPEST}")
    if is_mapping(value):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key is not a text")
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if is_list(value):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ValueError("a number has too many digits: write it as a text")
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    raise ValueError(f"{value!r} is no JSON value")
