"""JSON Schema: the official suite of draft 2020-12, and pydantic types, whose values are those of pydantic in strict mode."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal, NotRequired

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from generator.codes import REFUSED
from remit.core.parsing import ANNOTATIONS, KEYWORDS, Mismatch, check_schema, closed, types_of, validate
from support.json_schema_suite import Group, groups

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


def accepts(schema: Any, value: Any, *, fill: bool = True) -> bool:
    try:
        validate(schema, value, fill=fill)
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


ADAPTERS = [(adapter := TypeAdapter(kind), closed(adapter.json_schema())) for kind in TYPES]


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
        # To JSON Schema, 1.0 and 1 are the same number, and strict pydantic distinguishes them.
        assert pydantic_accepts(kind, whole(value)) or pydantic_accepts(kind, float(value))


def whole(value: Any) -> Any:
    """The value with each number without a fraction as an integer."""
    if isinstance(value, dict):
        return {name: whole(item) for name, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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


def test_unknown_properties_of_a_published_schema_are_refused_unless_it_allows_them() -> None:
    assert not accepts(closed({"type": "object", "properties": {"a": {}}}), {"b": 1})
    assert not accepts(closed({"anyOf": [{"items": {"properties": {"a": {}}}}]}), [{"b": 1}])
    assert not accepts(closed({"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {}}}}}), {"b": 1})
    assert accepts(closed({"type": "object", "properties": {"a": {}}, "additionalProperties": True}), {"b": 1})
    assert accepts(closed({"type": "object"}), {"b": 1})
    assert not accepts(closed({"type": "object", "additionalProperties": {"type": "string"}}), {"b": 1})


def test_a_schema_that_combines_objects_accepts_the_properties_of_each_part() -> None:
    parts = [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "integer"}}}]
    assert accepts(closed({"allOf": parts}), {"a": 1, "b": 2})
    assert not accepts(closed({"allOf": parts}), {"a": 1, "b": "x"})
    assert accepts(closed({"properties": {"c": {}}, "anyOf": parts}), {"a": 1, "c": 2})


GROUPS = groups()


@pytest.mark.parametrize("file", sorted({group.file for group in GROUPS}))
def test_every_case_of_the_official_suite_is_decided_as_the_standard_says_or_its_schema_is_refused(file: str) -> None:
    for group in (group for group in GROUPS if group.file == file and not refused(group)):
        assert check_schema(group.schema) == (), group.name
        for name, value, valid in group.cases:
            assert accepts(group.schema, value, fill=False) is valid, f"{group.name}: {name}"


def test_a_schema_of_the_suite_is_refused_for_a_keyword_that_the_reference_lists_or_for_another_document() -> None:
    for group in filter(refused, GROUPS):
        assert check_schema(group.schema) != (), f"{group.file}: {group.name}"
    decided = [group for group in GROUPS if not refused(group)]
    assert (len(decided), sum(len(group.cases) for group in decided)) == (193, 784)


def test_the_keywords_of_the_standard_are_either_validated_or_annotations_or_refused() -> None:
    assert not KEYWORDS & REFUSED
    assert not (KEYWORDS | REFUSED) & ANNOTATIONS
    for keyword in REFUSED:
        assert check_schema({keyword: {}}) != ()


def refused(group: Group) -> bool:
    """True if the schema uses a keyword that Remit refuses, refers to another document, or is of another dialect."""
    return any(
        name in REFUSED
        or (name == "$ref" and isinstance(value, str) and not value.startswith("#"))
        or (name == "$schema" and "json-schema.org/draft/2020-12/" not in value)
        for name, value in keywords(group.schema)
    )


def keywords(schema: Any) -> list[tuple[str, Any]]:
    """Each keyword of the schema and of those inside it, with its value; values of `const` and `enum` are no schemas."""
    if isinstance(schema, list):
        return [found for item in schema for found in keywords(item)]
    if not isinstance(schema, dict):
        return []
    found: list[tuple[str, Any]] = []
    for name, value in schema.items():
        found.append((name, value))
        if name in ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"):
            found += [inner for item in value.values() for inner in keywords(item)]
        elif name not in ("const", "enum", "default", "examples", "dependentRequired"):
            found += keywords(value)
    return found


def test_a_number_without_a_fraction_is_an_integer_and_multiples_are_compared_as_decimals() -> None:
    assert accepts({"type": "integer"}, 5.0)
    assert not accepts({"type": "integer"}, 5.5)
    cents = {"type": "number", "multipleOf": 0.01}
    assert all(accepts(cents, value) for value in (19.99, 0.58, 150.0, 1.1, 4.35))
    assert not accepts(cents, 19.999)


def test_two_schemas_for_one_part_cost_no_more_at_each_level_of_a_value() -> None:
    """Without keeping the result of a definition, each of these would need 2**30 steps."""
    value: Any = 1
    for _ in range(30):
        value = {"a": value}
    again = {"$ref": "#/$defs/A"}
    for schema in (
        {"allOf": [{"properties": {"a": again}}, {"properties": {"a": again}}]},
        {"anyOf": [{"properties": {"a": again}, "maxProperties": 0}, {"properties": {"a": again}}]},
        {"properties": {"a": again}, "patternProperties": {"^a": again}},
        {"patternProperties": {"a": again, "^a": again}},
        {"$ref": "#/$defs/B", "properties": {"a": again}},
    ):
        assert accepts({**again, "$defs": {"A": schema, "B": {"properties": {"a": again}}}}, value)


@pytest.mark.parametrize(
    "schema",
    [
        {"if": {}},
        {"not": {"type": "string"}},
        {"patternProperties": {"(": {}}},
        {"patternProperties": []},
        {"dependentRequired": {"a": "b"}},
        {"type": "strin"},
        {"$ref": "https://example.com/x"},
        {"$ref": "#/$defs/Missing"},
        {"type": "string", "pattern": "("},
        {"anyOf": [{"contains": {}}]},
        {"items": {"x": 1}},
        {"$defs": {"A": {"allOf": []}}},
        {"type": "object", "additionalProperties": {"unevaluatedProperties": False}},
        {"$ref": "#a", "$defs": {"a": {"type": "integer"}}},
        {"$ref": "#/default", "default": {"type": "integer"}},
        {"$ref": "#/$defs/A", "$schema": "http://json-schema.org/draft-07/schema#", "minimum": 1, "$defs": {"A": {}}},
        {"$schema": "https://example.com/dialect"},
        {"properties": {"a": {"dependentSchemas": {}}}},
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
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
        {"properties": {"a": None}},
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
