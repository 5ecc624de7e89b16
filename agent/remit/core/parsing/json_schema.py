"""JSON Schema as pydantic writes it, checked without coercion.

Only the keywords in `check_schema` exist here; a schema with any other is refused when its tool is pinned, so that nothing
is ever accepted because a keyword was not understood.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, cast

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
        re.compile(value)
    except (re.error, TypeError, OverflowError, RecursionError):
        return False
    return isinstance(value, str)


# Every keyword that is checked, and what may stand behind it: a schema comes from the tool, and may be anything.
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


class Mismatch(Exception):
    """`path` names properties that the schema names (`*` for any other), never what the model wrote."""

    def __init__(self, path: tuple[str, ...], problem: str, expected: Json = None) -> None:
        self.path = path
        self.problem = problem
        self.expected = expected
        super().__init__(f"{'.'.join(path) or 'the value'}: {problem}")


def check_schema(schema: Json) -> tuple[str, ...]:
    """Everything in the schema that this module would not check; empty means that it can be pinned."""
    return tuple(_faults(schema, schema, ())) or tuple(_loops(schema))


def validate(schema: Mapping[str, Json], value: Json, *, fill: bool = True) -> Json:
    """The value, with absent defaults filled in; nothing is coerced and no unknown property passes.

    Raises:
        Mismatch: the first way in which the value is not what the schema says.
    """
    try:
        return _Check(schema, fill=fill).value(dict(schema), value, ())
    except RecursionError:
        raise Mismatch((), "too_deep") from None


def types_of(schema: Json, root: Json = None) -> frozenset[str]:
    """The JSON types that a value of this schema may have; all of them where it does not say."""
    root = schema if root is None else root
    if schema is True:
        return frozenset(TYPES)
    if "$ref" in schema:
        return types_of(_resolved(root, schema["$ref"]) or {}, root)
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        return frozenset[str]().union(*(types_of(branch, root) for branch in branches))
    if "const" in schema or "enum" in schema:
        return frozenset(_type_name(choice) for choice in schema.get("enum", [schema.get("const")]))
    if "type" in schema:
        return frozenset([schema["type"]] if isinstance(schema["type"], str) else schema["type"])
    return frozenset(TYPES)


def _faults(schema: Json, root: Json, path: tuple[str, ...]) -> Iterator[str]:
    where = "/".join(path) or "the schema"
    if schema is True:
        return
    if not isinstance(schema, dict) or len(path) > DEEPEST:
        yield f"{where} is no schema"
        return
    schema = cast("dict[str, Json]", schema)
    for keyword in sorted(set(schema) - _ANNOTATIONS):
        if keyword not in _SHAPES:
            yield f"{where} uses {keyword!r}, which is not checked"
        elif not _SHAPES[keyword](schema[keyword]):
            yield f"{where} has a {keyword!r} that means nothing"
            return
    if "$ref" in schema and _resolved(root, schema["$ref"]) is None:
        yield f"{where} refers to something outside its $defs"
    if "$ref" in schema and set(schema) - _ANNOTATIONS - {"$ref", "$defs"}:
        yield f"{where} says more than its '$ref', which is not checked"
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
    """Definitions that refer to themselves before anything of the value is looked at."""
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
            yield f"{name} is defined by itself"


class _Check:
    def __init__(self, root: Mapping[str, Json], *, fill: bool) -> None:
        self._root = root
        self._fill = fill

    def value(self, schema: Json, value: Json, path: tuple[str, ...]) -> Json:
        if schema is True:
            return value
        if not isinstance(schema, dict):
            raise Mismatch(path, "no_schema")  # nothing is accepted because its schema says nothing
        schema = cast("dict[str, Json]", schema)
        if "$ref" in schema:
            return self.value(_resolved(self._root, schema["$ref"]), value, path)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                value = self._branch(schema[keyword], value, path)
        if "type" in schema:
            types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
            if not any(_is(value, name) for name in types):
                raise Mismatch(path, "wrong_type", " or ".join(types))
        if "const" in schema and not _same(value, schema["const"]):
            raise Mismatch(path, "not_allowed_value", [schema["const"]])
        if "enum" in schema and not any(_same(value, choice) for choice in schema["enum"]):
            raise Mismatch(path, "not_allowed_value", schema["enum"])
        match value:
            case bool() | None:
                return value
            case int() | float():
                self._number(schema, value, path)
            case str():
                self._size(schema, "Length", len(value), path)
                if "pattern" in schema and re.fullmatch(schema["pattern"], value) is None:
                    raise Mismatch(path, "pattern", schema["pattern"])
            case list():
                return self._array(schema, cast("Sequence[Json]", value), path)
            case dict():
                return self._object(schema, cast("dict[str, Json]", value), path)
            case _:
                raise Mismatch(path, "wrong_type", " or ".join(TYPES))
        return value

    def _branch(self, branches: list[Json], value: Json, path: tuple[str, ...]) -> Json:
        furthest: Mismatch | None = None
        for branch in branches:
            try:
                return self.value(branch, value, path)
            except Mismatch as mismatch:
                if furthest is None or len(mismatch.path) > len(furthest.path):
                    furthest = mismatch
        if furthest is not None and len(furthest.path) > len(path):
            raise furthest
        raise Mismatch(path, "wrong_type", " or ".join(sorted(types_of({"anyOf": branches}, self._root))))

    def _number(self, schema: Mapping[str, Json], value: float, path: tuple[str, ...]) -> None:
        too_small = value < schema.get("minimum", value) or value <= schema.get("exclusiveMinimum", value - 1)
        too_large = value > schema.get("maximum", value) or value >= schema.get("exclusiveMaximum", value + 1)
        if too_small or too_large:
            raise Mismatch(path, "too_small" if too_small else "too_large")
        if "multipleOf" in schema and value % schema["multipleOf"]:
            raise Mismatch(path, "not_a_multiple", schema["multipleOf"])

    def _size(self, schema: Mapping[str, Json], of: str, size: int, path: tuple[str, ...]) -> None:
        if size < schema.get(f"min{of}", size):
            raise Mismatch(path, "too_short", schema[f"min{of}"])
        if size > schema.get(f"max{of}", size):
            raise Mismatch(path, "too_long", schema[f"max{of}"])

    def _array(self, schema: Mapping[str, Json], value: Sequence[Json], path: tuple[str, ...]) -> list[Json]:
        self._size(schema, "Items", len(value), path)
        if schema.get("uniqueItems") and any(_same(a, b) for at, a in enumerate(value) for b in value[:at]):
            raise Mismatch(path, "not_unique")
        first = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        checked: list[Json] = []
        for number, item in enumerate(value):
            inner = first[number] if number < len(first) else rest
            if inner is False:
                raise Mismatch(path, "too_long", len(first))
            checked.append(self.value(inner, item, (*path, str(number))))
        return checked

    def _object(self, schema: Mapping[str, Json], value: dict[str, Json], path: tuple[str, ...]) -> dict[str, Json]:
        self._size(schema, "Properties", len(value), path)
        properties: Mapping[str, Json] = schema.get("properties", {})
        # Plain JSON Schema lets unknown properties pass; a tool's signature does not.
        others = schema.get("additionalProperties", "properties" not in schema)
        checked: dict[str, Json] = {}
        for name, item in value.items():
            if name in properties:
                checked[name] = self.value(properties[name], item, (*path, name))
            elif others is False:
                raise Mismatch(path, "unknown_property", sorted(properties))
            else:
                checked[name] = self.value(others, item, (*path, "*"))
        for name, inner in properties.items():
            if name not in checked and self._fill and inner is not True and "default" in inner:
                checked[name] = copy.deepcopy(inner["default"])
        for name in schema.get("required", ()):
            if name not in checked:
                raise Mismatch((*path, name), "missing")
        return checked


def _resolved(root: Mapping[str, Json], reference: str) -> Mapping[str, Json] | None:
    found: Mapping[str, Json] | None = root.get("$defs", {}).get(reference.removeprefix(_DEFINITIONS))
    return found if reference.startswith(_DEFINITIONS) else None


def _type_name(value: Json) -> str:
    return next(name for name in TYPES if _is(value, name))


def _is(value: Json, name: str) -> bool:
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


def _same(a: Json, b: Json) -> bool:
    """Equal as JSON: `true` is not 1."""
    return type(a) is type(b) and a == b if isinstance(a, bool) or isinstance(b, bool) else bool(a == b)
