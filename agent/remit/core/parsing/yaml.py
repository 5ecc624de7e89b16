"""Tables of cases in YAML: plain rows, each with the lines it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final, TypeGuard

from remit.core.calls import Json
from remit.core.errors import Problem, WorkspaceError

DEEPEST: Final = 32
LONGEST_FILE: Final = 1 << 20  # characters
_DEEP: Final = re.compile(rf"(?:[\[{{][ \t]*+){{{DEEPEST + 1}}}|(?:[-?:][ \t]++){{{DEEPEST + 1}}}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row. `line` is where it begins, `lines` where each of its keys stands; both 1-based."""

    value: Json
    line: int
    lines: Mapping[str, int]


def table_text(path: Path, *, file: str) -> str:
    """The text of one table, empty where there is no such file. Raises WorkspaceError where it is not UTF-8."""
    data = path.read_bytes() if path.exists() else b""
    try:
        return data.decode()
    except UnicodeDecodeError as failure:
        line = data.count(b"\n", 0, failure.start) + 1
        raise WorkspaceError([Problem(file=file, line=line, what="not UTF-8", fix="save it as UTF-8")]) from None


def read_rows(text: str, *, file: str) -> Iterator[Row]:
    """The rows of one table; an empty file has none.

    Raises WorkspaceError where it is not YAML or not a list; where rows hold what JSON cannot say, after all others.
    """
    # Imported here: it takes 60 ms, and whoever only decides never needs it.
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    _check_size(text, file)
    try:
        yaml: Any = YAML(typ="rt", pure=True)
        table: Any = yaml.load(StringIO(text))
    except (RecursionError, ValueError) as error:  # deep nesting; a date or a number that Python cannot hold
        what = "its values are nested too deep" if isinstance(error, RecursionError) else str(error)
        raise WorkspaceError([Problem(file=file, what=what, fix="write plain texts, numbers and lists")]) from None
    except YAMLError as error:
        mark: Any = getattr(error, "problem_mark", None)
        what = " ".join(str(getattr(error, "problem", None) or error).split())
        line: int | None = None if mark is None else mark.line + 1
        raise WorkspaceError([Problem(file=file, line=line, what=what, fix="write it as YAML reads it")]) from None
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
        yield Row(value=value, line=line, lines={str(key): int(at[0]) + 1 for key, at in keys.items()})
    if problems:
        raise WorkspaceError(problems)


def _check_size(text: str, file: str) -> None:
    """Raise WorkspaceError for what the parser takes too long over: a very long text, or very many levels."""
    if len(text) > LONGEST_FILE:
        what = f"it is longer than {LONGEST_FILE} characters"
        raise WorkspaceError([Problem(file=file, what=what, fix="split it, or remove what is not needed")])
    if found := _DEEP.search(text):
        line = text.count("\n", 0, found.start()) + 1
        what = f"a value is nested deeper than {DEEPEST}"
        raise WorkspaceError([Problem(file=file, line=line, what=what, fix="nest it less")])


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
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    raise ValueError(f"{value!r} is no JSON value")


def is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def is_mapping(value: Any) -> TypeGuard[dict[Any, Any]]:
    return isinstance(value, dict)
