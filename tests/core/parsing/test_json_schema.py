"""JSON Schemas of pydantic types: values are accepted exactly if pydantic accepts them in strict mode."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal, NotRequired

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from remit.core.parsing import Mismatch, check_schema, types_of, validate

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    model_config = ConfigDict(extra="forbid")

    x: int
    y: int = 0


class Row(TypedDict):
    id: int
    note: NotRequired[str]


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    children: list[Tree] = []


class Cat(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["dog"]


TYPES: list[Any] = [
    int,
    float,
    str,
    bool,
    None,
    str | None,
    int | str,
    list[int],
    list[str | None],
    dict[str, int],
    tuple[int, str],
    Literal["a", "b", 1],
    Point,
    Row,
    Tree,
    list[Point],
    Annotated[Cat | Dog, Field(discriminator="kind")],
    Annotated[str, Field(min_length=1, max_length=3)],
    Annotated[int, Field(ge=0, lt=10, multiple_of=2)],
    Annotated[float, Field(gt=0, le=1)],
    Annotated[list[int], Field(min_length=1, max_length=2)],
]

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.sampled_from([0.5, 1.5, -1.0])
    | st.sampled_from(["", "a", "b", "cat", "dog", "red", "abcd"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["x", "y", "id", "note", "name", "children", "kind", "lives"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def accepts(schema: dict[str, Any], value: Any) -> bool:
    try:
        validate(schema, value)
    except Mismatch:
        return False
    return True


def pydantic_accepts(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_json(TypeAdapter(Any).dump_json(value), strict=True)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_every_schema_that_pydantic_writes_for_ordinary_types_can_be_pinned(kind: Any) -> None:
    assert check_schema(TypeAdapter(kind).json_schema()) == ()


ADAPTERS = [(adapter := TypeAdapter(kind), adapter.json_schema()) for kind in TYPES]


@UNHURRIED
@given(st.sampled_from(ADAPTERS), VALUES)
def test_a_value_is_accepted_exactly_if_strict_pydantic_accepts_it(
    adapter: tuple[TypeAdapter[Any], dict[str, Any]], value: Any
) -> None:
    kind, schema = adapter
    if isinstance(value, bool) and "enum" in schema:
        return  # to pydantic `true` is the number 1 in a list of choices; here it is not
    closed = isinstance(value, dict) and set(value) - {"id", "note"}  # an open TypedDict is closed here
    if pydantic_accepts(kind, value) and not (closed and schema.get("title") == "Row"):
        assert accepts(schema, value)
    elif accepts(schema, value):
        assert isinstance(
            value, float | int
        )  # 1.0 is a whole number to JSON Schema's readers and never reaches a tool here
        assert pydantic_accepts(kind, float(value))


def test_defaults_are_filled_at_every_depth() -> None:
    schema = TypeAdapter(list[Point]).json_schema()
    assert validate(schema, [{"x": 1}]) == [{"x": 1, "y": 0}]
    assert validate(schema, [{"x": 1}], fill=False) == [{"x": 1}]


def test_a_filled_default_is_a_copy() -> None:
    schema = {"type": "object", "properties": {"tags": {"type": "array", "default": []}}}
    validate(schema, {})["tags"].append(1)
    assert validate(schema, {}) == {"tags": []}


def test_true_is_not_one() -> None:
    assert not accepts({"enum": [1]}, True)
    assert not accepts({"const": False}, 0)
    assert not accepts({"type": "integer"}, True)
    assert not accepts({"type": "boolean"}, 1)


def test_a_pattern_matches_anywhere_in_the_text_unless_it_is_anchored() -> None:
    """As in JSON Schema and pydantic: `^…$` is the whole text, including a final line end."""
    assert accepts({"type": "string", "pattern": "[a-z]+"}, "abc")
    assert accepts({"type": "string", "pattern": "[a-z]+"}, "abc; rm")
    assert not accepts({"type": "string", "pattern": "^[a-z]+$"}, "abc; rm")
    assert not accepts({"type": "string", "pattern": "^[a-z]+$"}, "abc\n")


def test_unknown_properties_are_refused_unless_the_schema_allows_them() -> None:
    assert not accepts({"type": "object", "properties": {"a": {}}}, {"b": 1})
    assert accepts({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, {"b": 1})
    assert accepts({"type": "object"}, {"b": 1})
    assert not accepts({"type": "object", "additionalProperties": {"type": "string"}}, {"b": 1})


@pytest.mark.parametrize(
    "schema",
    [
        {"if": {}},
        {"not": {"type": "string"}},
        {"patternProperties": {}},
        {"type": "strin"},
        {"$ref": "https://example.com/x"},
        {"$ref": "#/$defs/Missing"},
        {"type": "string", "pattern": "("},
        {"properties": {"a": {"dependentRequired": {}}}},
        {"anyOf": [{"contains": {}}]},
        {"items": {"x": 1}},
        {"$defs": {"A": {"allOf": []}}},
        {"type": "object", "additionalProperties": {"unevaluatedProperties": False}},
        {"$ref": "#/$defs/A", "minimum": 1, "$defs": {"A": {"type": "integer"}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/B"}, True]}, "B": {"oneOf": [{"$ref": "#/$defs/A"}]}}},
        {"properties": []},
        {"required": "a"},
        {"required": [1]},
        {"enum": 5},
        {"anyOf": []},
        {"anyOf": {"a": 1}},
        {"type": ["string", "strin"]},
        {"type": {}},
        {"minLength": -1},
        {"minLength": "1"},
        {"multipleOf": 0},
        {"pattern": 5},
        {"properties": {"a": False}},
        False,
        None,
        [],
    ],
)
def test_an_unsupported_part_of_a_schema_is_named(schema: Any) -> None:
    assert check_schema(schema)


def test_a_schema_that_a_hostile_tool_makes_deep_or_circular_stops_nothing() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"items": deep}
    assert check_schema(deep)
    nested: Any = 1
    for _ in range(700):
        nested = [nested]
    tree = {
        "$ref": "#/$defs/A",
        "$defs": {"A": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/A"}}, {"type": "integer"}]}},
    }
    assert check_schema(tree) == ()
    assert accepts(tree, [[1], 2])
    assert not accepts(tree, nested)
    assert not accepts({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, 1)
    assert not accepts({"$ref": "#/$defs/Missing"}, 1)


@UNHURRIED
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["type", "properties", "$ref", "$defs", "anyOf", "enum", "items", "required", "pattern", "A"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ),
    VALUES,
)
def test_every_schema_that_can_be_pinned_decides_every_value(schema: Any, value: Any) -> None:
    if check_schema(schema) == () and schema is not True:
        assert accepts(schema, value) in (True, False)


def test_a_mismatch_names_the_schema_and_never_the_value() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object", "additionalProperties": {"type": "integer"}}}}
    with pytest.raises(Mismatch) as mismatch:
        validate(schema, {"a": {"secret": "word"}})
    assert mismatch.value.path == ("a", "*")
    assert str(mismatch.value) == "a.*: wrong_type"


def test_the_types_of_a_schema_are_known() -> None:
    assert types_of(TypeAdapter(str | None).json_schema()) == {"string", "null"}
    assert types_of(TypeAdapter(Colour).json_schema()) == {"string"}
    assert types_of(TypeAdapter(Tree).json_schema()) == {"object"}
    assert "object" in types_of({})
