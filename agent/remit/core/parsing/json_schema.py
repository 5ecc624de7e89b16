"""Checks that Remit can validate against a JSON Schema: `json_validation.py` must support each of its keywords.

A schema with any other keyword is refused when its tool is pinned, so that no value is accepted because a keyword was
ignored. The supported keywords mean what JSON Schema 2020-12 says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Final, cast
from urllib.parse import unquote

from pydantic_core import SchemaError, SchemaValidator, core_schema

from remit.core.calls import Json

DEEPEST: Final = 64  # schemas inside each other
TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
ANNOTATIONS: Final = frozenset(
    {
        "$comment",
        "$schema",
        "x-mcp-header",  # of MCP: a header that repeats the argument
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "default",
        "deprecated",
        "description",
        "discriminator",
        "examples",
        "format",
        "readOnly",
        "title",
        "writeOnly",
    }
)
COMBINING: Final = ("anyOf", "oneOf", "allOf")  # lists of schemas for the same value
_TABLES: Final = ("properties", "patternProperties", "$defs", "definitions")
_LISTS: Final = (*COMBINING, "prefixItems")
_INNER: Final = ("items", "additionalProperties", "propertyNames")
# In these dialects, the supported keywords mean the same as in 2020-12, except for the keywords beside a `$ref`.
_DIALECTS: Final = {
    "https://json-schema.org/draft/2020-12/schema": True,
    "https://json-schema.org/draft/2019-09/schema": True,
    "http://json-schema.org/draft-07/schema": False,
}


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_count(value: Json) -> bool:
    return is_type(value, "integer") and value >= 0


def _is_number(value: Json) -> bool:
    return is_type(value, "number")


def _is_table(value: Json) -> bool:
    return isinstance(value, dict)


def _is_list(value: Json) -> bool:
    return isinstance(value, list) and bool(cast("Sequence[Json]", value))


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in cast("Sequence[Json]", value))


def _are_texts_by_name(value: Json) -> bool:
    return isinstance(value, dict) and all(_are_texts(item) for item in cast("dict[str, Json]", value).values())


def _is_type(value: Json) -> bool:
    return value in TYPES if isinstance(value, str) else _are_texts(value) and set(value) <= set(TYPES)


def _is_pattern(value: Json) -> bool:
    try:
        compiled(value)
    except (SchemaError, TypeError):  # a list has no hash
        return False
    return isinstance(value, str)


def _are_patterns(value: Json) -> bool:
    return isinstance(value, dict) and all(map(_is_pattern, cast("dict[str, Json]", value)))


@lru_cache(maxsize=256)
def compiled(pattern: str) -> SchemaValidator:
    """A matcher that finds the pattern anywhere in a text, in time linear in the text: the Rust engine that pydantic uses.

    Raises:
        SchemaError: the pattern has a lookaround or a backreference, or compiles to a program that is too large.
    """
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


# Every supported keyword, and the check of its value: a schema comes from the tool and may be anything.
_SHAPES: Final[Mapping[str, Callable[[Json], bool]]] = {
    "type": _is_type,
    "$ref": _is_text,
    "pattern": _is_pattern,
    "patternProperties": _are_patterns,
    "required": _are_texts,
    "dependentRequired": _are_texts_by_name,
    "uniqueItems": lambda value: isinstance(value, bool),
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "const": lambda value: True,
    "enum": lambda value: isinstance(value, list),
    **dict.fromkeys(_INNER, lambda value: True),
    **dict.fromkeys(("properties", "$defs", "definitions"), _is_table),
    **dict.fromkeys(_LISTS, _is_list),
    **dict.fromkeys((f"{end}{of}" for end in ("min", "max") for of in ("Length", "Items", "Properties")), _is_count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
}
KEYWORDS: Final = frozenset(_SHAPES)
_LINEAR: Final = "a pattern that cannot be matched in linear time"
_INVALID: Final = {"pattern": _LINEAR, "patternProperties": _LINEAR}


def check_schema(schema: Json) -> tuple[str, ...]:
    """Everything in the schema that Remit cannot validate; empty if the schema can be pinned."""
    places: dict[str, Json] = {}
    return tuple(_faults(schema, places, "", ())) or tuple(_lost(places)) or tuple(_loops(places))


def types_of(schema: Json) -> frozenset[str]:
    """The JSON types that a value of this schema may have; all of them if the schema does not restrict them."""
    return types_in(schema, schema)


def types_in(schema: Json, root: Json) -> frozenset[str]:
    """As `types_of`, for a schema inside `root`."""
    try:
        types = _types(schema, root, {})
    except RecursionError:
        return frozenset(TYPES)
    return types - {"integer"} if "number" in types and types != frozenset(TYPES) else types


def _types(schema: Json, root: Json, known: dict[str, frozenset[str]]) -> frozenset[str]:
    """As `types_of`, for a part of `root`; `known` has each definition that was visited, so that it is visited once."""
    types = frozenset(TYPES) if isinstance(schema, dict) or schema is True else frozenset[str]()
    if not isinstance(schema, dict):
        return types
    inner = cast("Mapping[str, Json]", schema)
    if (reference := inner.get("$ref")) is not None:
        if reference not in known:
            known[reference] = frozenset()  # while it is visited
            known[reference] = _types(resolved(root, reference), root, known)
        types &= known[reference]
    for keyword in ("anyOf", "oneOf"):
        if keyword in inner:
            types &= frozenset[str]().union(*(_types(branch, root, known) for branch in inner[keyword]))
    for branch in inner.get("allOf", ()):
        types &= _types(branch, root, known)
    if "const" in inner or "enum" in inner:
        types &= {type_name(choice) for choice in inner.get("enum", [inner.get("const")])}
    if "type" in inner:
        named = {inner["type"]} if isinstance(inner["type"], str) else set(inner["type"])
        types &= named | ({"integer"} if "number" in named else set())
    return types


def _faults(schema: Json, places: dict[str, Json], pointer: str, path: tuple[str, ...]) -> Iterator[str]:
    """The faults of this schema and of those inside it; `places` gets all of them, by JSON pointer."""
    where = "/".join(path) or "the schema"
    places[pointer] = schema
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict) or len(path) > DEEPEST:
        yield f"{where} is not a schema, or is nested deeper than {DEEPEST} levels"
        return
    schema = cast("dict[str, Json]", schema)
    faulty = tuple(_keyword_faults(schema, where))
    yield from faulty
    if not faulty:
        for step, name, inner in _inside(schema):
            yield from _faults(inner, places, f"{pointer}/{step}", (*path, *name))


def _keyword_faults(schema: Mapping[str, Json], where: str) -> Iterator[str]:
    dialect = schema.get("$schema", "https://json-schema.org/draft/2020-12/schema")
    if not isinstance(dialect, str) or dialect.removesuffix("#") not in _DIALECTS:
        yield f"{where} has a '$schema' that is not {' or '.join(_DIALECTS)}"
    elif not _DIALECTS[dialect.removesuffix("#")] and "$ref" in schema and set(schema) - ANNOTATIONS - {"$ref"}:
        yield f"{where} has other keywords beside its '$ref', which {dialect} ignores"
    for keyword in sorted(set(schema) - ANNOTATIONS):
        if keyword not in _SHAPES:
            yield f"{where} uses the keyword {keyword!r}, which Remit does not support"
        elif not _SHAPES[keyword](schema[keyword]):
            yield f"{where} has a {keyword!r} that is {_INVALID.get(keyword, 'not a valid value')}"


def _inside(schema: Mapping[str, Json]) -> Iterator[tuple[str, tuple[str, ...], Json]]:
    """The schemas directly inside: the steps of the JSON pointer, the name that a person reads, the schema."""
    for keyword in _TABLES:
        for name, inner in cast("Mapping[str, Json]", schema.get(keyword, {})).items():
            yield f"{keyword}/{name.replace('~', '~0').replace('/', '~1')}", (name,), inner
    for keyword in _LISTS:
        for number, inner in enumerate(cast("Sequence[Json]", schema.get(keyword, ()))):
            yield f"{keyword}/{number}", (str(number),), inner
    for keyword in _INNER:
        if keyword in schema:
            yield keyword, ("*",), schema[keyword]


def _pointer(reference: str) -> str | None:
    """The JSON pointer of a `$ref`; None if it names another document or an anchor."""
    pointer = unquote(reference[1:])
    return pointer if reference.startswith("#") and pointer[:1] in ("", "/") else None


def _lost(places: Mapping[str, Json]) -> Iterator[str]:
    """References that do not lead to a schema inside this one."""
    for place, schema in places.items():
        inner = cast("Mapping[str, Json]", schema if isinstance(schema, dict) else {})
        if "$ref" in inner and _pointer(inner["$ref"]) not in places:
            yield f"{place.lstrip('/') or 'the schema'} has a '$ref' that leads to no schema of the same document"


def _loops(places: Mapping[str, Json]) -> Iterator[str]:
    """Schemas that refer to themselves without consuming a part of the value: validation would not end."""
    targets: dict[str, list[str]] = {}
    for place, schema in places.items():
        if isinstance(schema, dict):
            inner = cast("Mapping[str, Json]", schema)
            targets[place] = [f"{place}/{step}" for step, _, _ in _inside(inner) if step.startswith(COMBINING)]
            if "$ref" in inner:
                targets[place].append(cast("str", _pointer(inner["$ref"])))
    try:
        TopologicalSorter(targets).prepare()
    except CycleError as error:
        place = min(cast("list[str]", error.args[1]), key=len)
        yield f"the definition {place.rpartition('/')[2]!r} refers directly to itself"


def resolved(root: Json, reference: str) -> Json:
    """The schema that a `$ref` names; None if `root` does not have it."""
    pointer = _pointer(reference)
    found: Json = None if pointer is None else root
    for token in () if pointer is None else pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = cast("Mapping[str, Json]", found).get(name)
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(cast("Sequence[Json]", found)):
            found = cast("Sequence[Json]", found)[int(name)]
        else:
            return None
    return cast("Json", found) if isinstance(found, dict | bool) else None


def closed(schema: dict[str, Json]) -> dict[str, Json]:
    """A copy in which each object with declared properties says that it has no others, unless it says something else.

    JSON Schema accepts undeclared properties; the function of a tool does not. A schema that combines objects stays as it
    is, because the properties of one part would be undeclared in the other.
    """
    combined = _combines(schema)
    return cast("dict[str, Json]", schema if combined else _closed(schema))


def _combines(schema: Json) -> bool:
    if not isinstance(schema, dict):
        return False
    inner = cast("Mapping[str, Json]", schema)
    parts = [keyword for keyword in (*COMBINING, "$ref", "properties") if keyword in inner]
    many = len(parts) > 1 or len(cast("Sequence[Json]", inner.get("allOf", ()))) > 1
    return many or any(_combines(part) for _, _, part in _inside(inner))


def _closed(schema: Json) -> Json:
    if not isinstance(schema, dict):
        return schema
    inner = dict(cast("Mapping[str, Json]", schema))
    for keyword in _TABLES:
        if keyword in inner:
            inner[keyword] = {name: _closed(part) for name, part in inner[keyword].items()}
    for keyword in _LISTS:
        if keyword in inner:
            inner[keyword] = [_closed(part) for part in inner[keyword]]
    for keyword in _INNER:
        if keyword in inner:
            inner[keyword] = _closed(inner[keyword])
    if "properties" in inner:
        inner.setdefault("additionalProperties", False)
    return inner


def type_name(value: Json) -> str:
    """The JSON type of a value."""
    return next(name for name in TYPES if is_type(value, name))


def is_type(value: Json, name: str) -> bool:
    """True if the value has the JSON type `name`. A number without a fraction is an integer, as 2020-12 says."""
    match name:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            return whole and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)
