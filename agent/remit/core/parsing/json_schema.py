"""Checks that Remit can validate against a JSON Schema: `json_validation.py` must support each of its keywords.

A schema with any other keyword is refused when its tool is pinned, so that no value is accepted because a keyword was
ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, cast

from pydantic_core import SchemaError, SchemaValidator, core_schema

from remit.core.calls import Json

DEEPEST: Final = 64  # schemas inside each other
TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
_ANNOTATIONS: Final = {
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "format",
    "discriminator",
    "$schema",
}
_DEFINITIONS: Final = "#/$defs/"


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_table(value: Json) -> bool:
    return isinstance(value, dict)


def _is_list(value: Json) -> bool:
    return isinstance(value, list) and bool(cast("Sequence[Json]", value))


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in cast("Sequence[Json]", value))


def _is_type(value: Json) -> bool:
    return value in TYPES if isinstance(value, str) else _are_texts(value) and set(value) <= set(TYPES)


def _is_pattern(value: Json) -> bool:
    try:
        compiled(value)
    except (SchemaError, TypeError):  # a list has no hash
        return False
    return isinstance(value, str)


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
    "required": _are_texts,
    "uniqueItems": lambda value: isinstance(value, bool),
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "const": lambda value: True,
    "items": lambda value: True,
    "additionalProperties": lambda value: True,
    **dict.fromkeys(("properties", "$defs"), _is_table),
    **dict.fromkeys(("enum", "anyOf", "oneOf", "prefixItems"), _is_list),
    **dict.fromkeys((f"{end}{of}" for end in ("min", "max") for of in ("Length", "Items", "Properties")), _is_count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
}


def check_schema(schema: Json) -> tuple[str, ...]:
    """Everything in the schema that Remit cannot validate; empty if the schema can be pinned."""
    return tuple(_faults(schema, schema, ())) or tuple(_loops(schema))


def types_of(schema: Json) -> frozenset[str]:
    """The JSON types that a value of this schema may have; all of them if the schema does not restrict them."""
    found, seen, ahead = set[str](), set[str](), [schema]
    while ahead:
        inner: Json = ahead.pop()
        if inner is True:
            found.update(TYPES)
        elif "$ref" in inner:
            if inner["$ref"] not in seen:  # a definition that many branches share is visited once
                seen.add(inner["$ref"])
                ahead.append(resolved(schema, inner["$ref"]) or {})
        elif branches := inner.get("anyOf") or inner.get("oneOf"):
            ahead.extend(branches)
        elif "const" in inner or "enum" in inner:
            found.update(type_name(choice) for choice in inner.get("enum", [inner.get("const")]))
        elif "type" in inner:
            found.update([inner["type"]] if isinstance(inner["type"], str) else inner["type"])
        else:
            found.update(TYPES)
    return frozenset(found)


def _faults(schema: Json, root: Json, path: tuple[str, ...]) -> Iterator[str]:
    where = "/".join(path) or "the schema"
    if schema is True:
        return
    if not isinstance(schema, dict) or len(path) > DEEPEST:
        yield f"{where} is not a schema, or is nested deeper than {DEEPEST} levels"
        return
    schema = cast("dict[str, Json]", schema)
    for keyword in sorted(set(schema) - _ANNOTATIONS):
        if keyword not in _SHAPES:
            yield f"{where} uses the keyword {keyword!r}, which Remit does not support"
        elif not _SHAPES[keyword](schema[keyword]):
            what = "a pattern that cannot be matched in linear time" if keyword == "pattern" else "not a valid value"
            yield f"{where} has a {keyword!r} that is {what}"
            return
    if "$ref" in schema and resolved(root, schema["$ref"]) is None:
        yield f"{where} has a '$ref' to something outside of its '$defs'"
    if "$ref" in schema and set(schema) - _ANNOTATIONS - {"$ref", "$defs"}:
        yield f"{where} has other keywords beside its '$ref', which Remit does not support"
    for keyword in ("properties", "$defs"):
        for name, inner in schema.get(keyword, {}).items():
            yield from _faults(inner, root, (*path, name))
    for keyword in ("anyOf", "oneOf", "prefixItems"):
        for number, inner in enumerate(schema.get(keyword, [])):
            yield from _faults(inner, root, (*path, str(number)))
    for keyword in ("items", "additionalProperties"):
        if schema.get(keyword, False) is not False:
            yield from _faults(schema[keyword], root, (*path, "*"))


def _loops(schema: Json) -> Iterator[str]:
    """Definitions that refer to themselves without consuming a part of the value: validation would not end."""
    definitions: Mapping[str, Json] = {} if schema is True else schema.get("$defs", {})

    def direct(inner: Json) -> Iterator[str]:
        if inner is not True:
            if "$ref" in inner:
                yield inner["$ref"].removeprefix(_DEFINITIONS)
            for branch in (*inner.get("anyOf", ()), *inner.get("oneOf", ())):
                yield from direct(branch)

    for name in definitions:
        reached, ahead = set[str](), [name]
        while ahead:
            new = set(direct(definitions[ahead.pop()])) - reached
            reached |= new
            ahead.extend(new)
        if name in reached:
            yield f"the definition {name!r} refers directly to itself"


def resolved(root: Mapping[str, Json], reference: str) -> Mapping[str, Json] | None:
    """The definition that a `$ref` names; None if the schema does not have it."""
    definition: Mapping[str, Json] | None = root.get("$defs", {}).get(reference.removeprefix(_DEFINITIONS))
    return definition if reference.startswith(_DEFINITIONS) else None


def type_name(value: Json) -> str:
    """The JSON type of a value."""
    return next(name for name in TYPES if is_type(value, name))


def is_type(value: Json, name: str) -> bool:
    """True if the value has the JSON type `name`."""
    match name:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)
