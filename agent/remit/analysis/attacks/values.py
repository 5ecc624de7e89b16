"""Calls with an attacker's values: an example of each argument, and of each place that an argument can name.

The attacker knows the rules. So a place is first one that no rule names, and then one of each pattern that a rule allows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Final, cast

from remit.core import Json
from remit.core.parsing import SCHEMES, URL_KINDS, resolved
from remit.workspace.manifest import Action, Template

# Documentation names and numbers (RFC 2606, RFC 6761), which belong to nobody.
OUTSIDE: Final[Mapping[str, str]] = {
    "mail": "mallory@evil.example",
    "host": "evil.example",
    "url": "https://evil.example/take",
    "https": "https://evil.example/take",
    "http": "http://evil.example/take",
    "account": "GB33BUKB20201555555555",
    "file": "mallory/take.txt",
}
NUMBER: Final = 7734512  # about what an id is where it is a number
HELD: Final = "K7-482913-QX"  # a value in the results that were read: a text that repeats it contains their labels
PLAIN: Final = "As agreed, please go ahead."
REVEALING: Final = f"{HELD} https://evil.example/take mallory@evil.example GB33BUKB20201555555555"
SHORT: Final = "ok"
TEXTS: Final = (REVEALING, HELD, PLAIN, SHORT)  # what a free text is, the one that a rule stops most often first
MOST_VALUES: Final = 40  # of one argument
MOST_CALLS: Final = 400  # of one action with one text
DEEPEST: Final = 8  # levels of an example
MOST_PARTS: Final = 500  # values inside of one example; a schema that refers to itself has no end


@dataclass(frozen=True, kw_only=True)
class Material:
    """What calls of one action are made from: its schema, patterns of resources, and constants that rules compare arguments with."""

    action: Action
    schema: Mapping[str, Json]
    patterns: tuple[str, ...] = ()
    constants: tuple[tuple[str, Json], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Arguments as JSON text. `complete` is False if there are more places, or combinations of them, than are tried."""

    arguments: tuple[str, ...]
    complete: bool


def calls_of(material: Material, text: str) -> Calls:
    """Calls of the action; `text` stands in each argument that is a free text."""
    about: Mapping[str, Json] = material.schema.get("properties", {})
    required: Sequence[str] = material.schema.get("required", ())
    aims: dict[str, list[Template]] = {}
    for template in material.action.templates:
        if template.argument in about:
            aims.setdefault(template.argument, []).append(template)
    examples = _Examples(material.schema, text)
    places = {name: list(_placed(examples, about[name], found, material.patterns)) for name, found in aims.items()}
    base = {name: examples.of(about[name]) for name in required if name in about}
    needed = [name for name in places if name in base]
    further = list(_further(material, examples, base, places))
    made = (
        {**base, **dict(zip(needed, chosen, strict=True)), **more}
        for more in further
        for chosen in product(*(places[name] for name in needed))
    )
    tried = list(islice(made, MOST_CALLS + 1))
    complete = len(tried) <= MOST_CALLS and all(len(each) <= MOST_VALUES for each in places.values())
    texts = dict.fromkeys(json.dumps(arguments, ensure_ascii=False) for arguments in tried[:MOST_CALLS])
    return Calls(arguments=tuple(texts), complete=complete)


def _further(
    material: Material, examples: _Examples, base: Mapping[str, Json], places: Mapping[str, Sequence[Json]]
) -> Iterator[dict[str, Json]]:
    """What calls have beside required arguments and their places: nothing, another place, what a rule compares, and other texts."""
    about: Mapping[str, Json] = material.schema.get("properties", {})
    yield {}
    for name, values in places.items():
        if name not in base:
            yield from ({name: value} for value in values)
    compared = [(name, constant) for name, constant in material.constants if name in about and name not in places]
    for name, constant in compared:
        yield from ({name: value} for value in _around(constant))
    if len(compared) > 1:
        yield dict(compared)
    unused = (name for name in about if name not in base and name not in places)
    if others := {name: examples.of(about[name]) for name in unused if examples.is_text(about[name])}:
        yield others


def _around(constant: Json) -> Iterator[Json]:
    if isinstance(constant, int | float) and not isinstance(constant, bool):
        yield from (constant + 1, constant, constant - 1)
    else:
        yield constant


def _placed(examples: _Examples, about: Json, templates: Iterable[Template], patterns: Sequence[str]) -> Iterator[Json]:
    names = dict.fromkeys(name for template in templates for name in _names(template, patterns))
    template = next(iter(templates))
    for name in islice(names, MOST_VALUES + 1):
        value = examples.with_name(about, template.path, _spelled(template, name), _number(template.kind))
        if value is not None:
            yield value


def _names(template: Template, patterns: Iterable[str]) -> Iterator[str]:
    """Names for the place that a template names: the attacker's own, and one that each pattern covers."""
    # INVARIANT: a name of its own for each kind, so that a task which names one place of a call names no other.
    yield OUTSIDE.get(template.kind, f"mallory-{template.kind}")
    for pattern in patterns:
        kind, _, rest = pattern.partition(":")
        if template.kind in URL_KINDS:
            if kind in (SCHEMES if template.kind == "url" else (template.kind,)):
                yield _url(kind, rest)
        elif kind == template.kind:
            inside = rest.removeprefix(f"{template.group}/") if template.group else rest
            if inside not in ("*", "**"):
                yield _without_wildcards(inside.removesuffix("/**") if template.form == "set" else inside)


def _url(scheme: str, rest: str) -> str:
    host, _, path = rest.removeprefix("//").partition("/")
    name = "evil.example" if host.strip("*") == "" else host.replace("**", "mallory").replace("*", "mallory")
    return f"{scheme}://{name}/{_without_wildcards(path)}"


def _without_wildcards(text: str) -> str:
    return text.replace("**", "mallory").replace("*", "mallory")


def _number(kind: str) -> int:
    return NUMBER + sum(kind.encode())


def _spelled(template: Template, name: str) -> str:
    if template.form != "sql":
        return name
    return f"SELECT * FROM {name.replace('-', '_').lower()}"  # noqa: S608 - the query is decided, and never run


class _Examples:
    """Values that a schema accepts. `text` stands in each free text."""

    def __init__(self, root: Mapping[str, Json], text: str) -> None:
        self._root = root
        self._text = text
        self._left = MOST_PARTS

    def is_text(self, about: Json) -> bool:
        """True for a text of any words."""
        shape = self._shape(about)
        return shape.get("type") == "string" and not {"enum", "const", "format", "pattern"} & {*shape}

    def of(self, about: Json) -> Json:
        """The smallest value that the schema seems to accept; the broker checks it as it checks each argument."""
        self._left = MOST_PARTS
        return self._of(about, 0)

    def _of(self, about: Json, depth: int) -> Json:
        self._left -= 1
        if self._left <= 0 or depth == DEEPEST:
            return None
        shape = self._shape(about)
        if "const" in shape:
            return shape["const"]
        if "enum" in shape:
            return shape["enum"][0]
        match shape.get("type"):
            case "integer" | "number":
                return shape.get("minimum", shape.get("exclusiveMinimum", 0) + 1)
            case "boolean":
                return False
            case "array":
                many = min(int(shape.get("minItems", 0)), MOST_VALUES)
                return [self._of(shape.get("items", {}), depth + 1) for _ in range(many)]
            case "object":
                inner: Mapping[str, Json] = shape.get("properties", {})
                needed: Sequence[str] = shape.get("required", ())
                return {name: self._of(inner[name], depth + 1) for name in needed if name in inner}
            case "null":
                return None
            case _:
                return self._text_for(shape)

    def _text_for(self, shape: Mapping[str, Json]) -> str:
        if "format" in shape:
            return _FORMATS.get(str(shape["format"]), self._text)
        least, most = int(shape.get("minLength", 0)), int(shape.get("maxLength", len(self._text)))
        return self._text.ljust(min(least, 10_000), ".")[: max(most, least)]

    def with_name(self, about: Json, path: Sequence[str], name: str, number: int) -> Json:
        """The value in which `name` stands at the path, or `number` where it must be one; None if the schema has no such place."""
        self._left = MOST_PARTS
        return self._with_name(about, path, name, number)

    def _with_name(self, about: Json, path: Sequence[str], name: str, number: int) -> Json:
        self._left -= 1
        if self._left <= 0:
            return None
        shape = self._shape(about)
        kind = shape.get("type")
        if path and path[0] != "*":
            inner: Mapping[str, Json] = shape.get("properties", {})
            if kind != "object" or path[0] not in inner:
                return None
            whole = cast("dict[str, Json]", self._of(shape, 0))
            return {**whole, path[0]: self._with_name(inner[path[0]], path[1:], name, number)}
        if kind == "array":
            return [self._with_name(shape.get("items", {}), path[1:], name, number)]
        if kind in ("integer", "number"):
            return int(name) if name.isdecimal() and name.isascii() and len(name) < 16 else number
        return name

    def _shape(self, about: Json) -> Mapping[str, Json]:
        """The schema without references and alternatives: the first branch that is not null. Empty if it accepts anything."""
        shape = _table(about)
        for _ in range(DEEPEST):
            if "$ref" in shape:
                shape = _table(resolved(self._root, shape["$ref"]))
                continue
            branches: Sequence[Json] = shape.get("anyOf", shape.get("oneOf", shape.get("allOf", ())))
            if not branches:
                break
            tables = list(map(_table, branches))
            shape = next((one for one in tables if one.get("type") != "null"), tables[0])
        types = shape.get("type")
        if isinstance(types, list):
            names = cast("Sequence[str]", types)
            return {**shape, "type": next((one for one in names if one != "null"), "null")}
        return shape


def _table(schema: Json) -> Mapping[str, Json]:
    """The keywords of a schema; a schema may also be True or False."""
    return cast("Mapping[str, Json]", schema) if isinstance(schema, dict) else {}


_FORMATS: Final[Mapping[str, str]] = {
    "date": "2024-05-15",
    "date-time": "2024-05-15T12:00:00Z",
    "time": "12:00:00Z",
    "email": OUTSIDE["mail"],
    "uri": OUTSIDE["url"],
    "uuid": "00000000-0000-4000-8000-000000000000",
}
