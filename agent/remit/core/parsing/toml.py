"""Reads TOML strictly: every problem is reported with its file, its line and its fix.

The parser of the standard library does not keep line numbers. `lines_of` walks through a text that the parser has
accepted, and notes the line of each key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from remit.core.calls import Json
from remit.core.errors import Problem, WorkspaceError
from remit.core.meant import near_names
from remit.core.parsing.bounded_readers import load_toml
from remit.core.renamed import RENAMED

MOST_PROBLEMS: Final = 100  # reported of one table; a file can have a hundred thousand

_KEY = re.compile(r"\s*(?:\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([A-Za-z0-9_-]+))\s*")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_STRING = re.compile(r"\"\"\".*?(?<!\\)(?:\\\\)*\"{3,5}|'''.*?'{3,5}|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'", re.DOTALL)
_SCALAR = re.compile(r"[^,\]}\n#]+")

File = TypeVar("File", bound=BaseModel)


class TomlTable(BaseModel):
    """A table of a TOML file that people write: unknown keys and wrong types are problems, nothing is coerced."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


def invalid(what: str, fix: str) -> PydanticCustomError:
    """The error that a validator of a `TomlTable` raises: one problem and its fix.

    `what` follows the name of the key: "is 'x', which is not …".
    """
    return PydanticCustomError("wrong", "{what}", {"what": what, "fix": fix})


@dataclass(frozen=True)
class Matching:
    """Annotates a text that must match a pattern. For any other text, the problem has `what` was expected and the `fix`.

    Python reads the pattern, and so do editors in the published JSON Schema: use only what both support.
    """

    pattern: str
    what: str
    fix: str

    def __get_pydantic_core_schema__(self, source: Json, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}

    def _check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise invalid(f"is {value!r}, which is not {self.what}", self.fix)
        return value


def read_table(
    table: type[File], value: Json, *, file: str, text: str, at: Sequence[str] = ()
) -> tuple[File | None, list[Problem]]:
    """The value as that kind of table, or None and every problem in it. `at` is the path of the value in the document."""
    try:
        return table.model_validate(value), []
    except ValidationError as failure:
        problems = [
            _problem(error, table, file=file, text=text, at=at)
            for error in failure.errors(include_url=False)[:MOST_PROBLEMS]
            if not _other_branch(error)
        ]
        return None, list({(problem.line, problem.what): problem for problem in problems}.values())


def toml_line(text: str, *path: str) -> int | None:
    """The line (from 1) of a key or of an element of an array (by its number); without one, of the nearest table around it."""
    lines = lines_of(text)
    for length in range(len(path), 0, -1):
        if line := lines.get(path[:length]):
            return line
    return None


@lru_cache(maxsize=64)
def lines_of(text: str) -> Mapping[tuple[str, ...], int]:
    """The line of each key of a valid TOML text; empty for a text that is not valid."""
    try:
        load_toml(text, file="")
    except WorkspaceError:
        return {}
    return _Walk(text).document()


class _Walk:
    """One walk through a text that the parser has accepted, so its syntax is not checked again."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[tuple[str, ...], int] = {}
        self._seen = self._newlines = 0  # a place in the text, and the number of lines before it
        self._counts: dict[tuple[str, ...], int] = {}  # elements of each array of tables so far

    def document(self) -> Mapping[tuple[str, ...], int]:
        prefix: tuple[str, ...] = ()
        self._skip()
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                prefix = self._header()
            else:
                self._pair(prefix)
            self._skip()
        return self._lines

    def _header(self) -> tuple[str, ...]:
        line = self._line()
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        keys = self._keys("]")
        self._at += 2 if array else 1
        path: tuple[str, ...] = ()
        for number, key in enumerate(keys, 1):
            path += (key,)
            self._lines.setdefault(path, line)
            if array and number == len(keys):
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path += (str(self._counts[path]),)
                self._lines.setdefault(path, line)
        return path

    def _pair(self, prefix: tuple[str, ...]) -> None:
        line = self._line()
        path = prefix
        for key in self._keys("="):
            path += (key,)
            self._lines.setdefault(path, line)
        self._at += 1
        self._value(path)

    def _keys(self, end: str) -> list[str]:
        keys: list[str] = []
        while True:
            found = _KEY.match(self._text, self._at)
            assert found is not None  # the parser has accepted the text
            quoted, literal, bare = found.groups()
            keys.append(tomllib.loads(f'k = "{quoted}"')["k"] if quoted is not None else literal or bare or "")
            self._at = found.end()
            if self._text[self._at] == end:
                return keys
            self._at += 1

    def _value(self, path: tuple[str, ...]) -> None:
        self._skip()
        if self._text[self._at] == "[":
            self._at += 1
            for number in range(len(self._text)):
                self._skip(",")
                if self._text[self._at] == "]":
                    break
                self._lines.setdefault((*path, str(number)), self._line())
                self._value((*path, str(number)))
            self._at += 1
        elif self._text[self._at] == "{":
            self._at += 1
            self._skip(",")
            while self._text[self._at] != "}":
                self._pair(path)
                self._skip(",")
            self._at += 1
        else:
            found = _STRING.match(self._text, self._at) or _SCALAR.match(self._text, self._at)
            assert found is not None  # the parser has accepted the text
            self._at = found.end()

    def _skip(self, also: str = "") -> None:
        while True:
            found = _BLANK.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if not also or not self._text.startswith(also, self._at):
                return
            self._at += 1

    def _line(self) -> int:
        self._newlines += self._text.count("\n", self._seen, self._at)
        self._seen = self._at
        return self._newlines + 1


_KINDS: Final[Mapping[str, str]] = {
    "string_type": 'write a text in quotes: "…"',
    "int_type": "write a whole number",
    "bool_type": "write true or false",
    "list_type": 'write a list: ["…"]',
    "dict_type": "write a table",
    "model_type": "write a table",
    "model_attributes_type": "write a table",
    "float_type": "write a number",
}


def _problem(error: ErrorDetails, table: type[BaseModel], *, file: str, text: str, at: Sequence[str]) -> Problem:
    where = [*at, *(str(part) for part in error["loc"])]
    path = [
        part for part in where if "[" not in part and "(" not in part
    ]  # pydantic also has the branches of a union in the path
    name = ".".join(path)
    line = toml_line(text, *path)
    match error["type"]:
        case "missing":
            what, fix = f"the key {name!r} is missing", f"write {path[-1]} = …"
            line = toml_line(text, *path[:-1]) or 1
        case "extra_forbidden":
            known = _keys_of(table, path[len(at) : -1])
            renamed = RENAMED["manifest"].get(path[-1], "")
            near = [renamed] if renamed in known else near_names(path[-1], known)
            what = f"unknown key {name!r}"
            fix = f"write {near[0]!r}" if near else f"remove it; possible keys are {', '.join(known) or 'none'}"
        case "wrong":
            context = error.get("ctx", {})
            what, fix = f"{name!r} {context['what']}", str(context["fix"])
        case "literal_error":
            what, fix = f"{name!r} is {error['input']!r}", f"write {error.get('ctx', {}).get('expected')}"
        case kind:
            what = f"{name!r} is {_shown(error['input'])}"
            fix = _KINDS.get(kind) or error["msg"][:1].lower() + error["msg"][1:]
    return Problem(file=file, line=line, what=what, fix=fix)


def _other_branch(error: ErrorDetails) -> bool:
    """True for a key that may be a list or a table and is one of them, if the error is that it is not the other."""
    return (error["type"], type(error["input"])) in (("list_type", dict), ("dict_type", list)) and any(
        "[" in str(part) for part in error["loc"]
    )


def _shown(value: Json) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            return repr(value)


def _keys_of(table: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that the table at `path` inside that kind of table may have."""
    kind: type[BaseModel] = table
    for part in path:
        field = kind.model_fields.get(part)
        if field is None:
            continue  # the name of an action or the number of an element: its kind is that of the values
        inner = _table_in(field.annotation)
        if inner is None:
            return []
        kind = inner
    return [field.alias or name for name, field in kind.model_fields.items()]


def _table_in(annotation: Json) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (found := _table_in(argument)) is not None:
            return found
    return None
