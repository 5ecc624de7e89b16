"""Validates a value against a JSON Schema, without coercion, with the keywords of JSON Schema 2020-12.

`pattern` may match anywhere in the text, as the standard says; write `^…$` for the whole text.

The time is linear in the size of the value, also for a hostile one: a definition visits each part of the value once (see
`_referred`), texts are matched by a linear engine, and equal items are found by hashing.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias, cast

from remit.core.calls import Json
from remit.core.errors import Refusal
from remit.core.parsing.json_schema import TYPES, compiled, is_type, resolved, type_name, types_of
from remit.core.parsing.strict_json import LARGEST_INTEGER, canonical_json

MOST_BRANCHES: Final = 1_000_000  # branches of unions that the check of one value may visit
_LARGEST_FLOAT: Final = 10**308

_Path: TypeAlias = tuple[str, ...]


# The keyword that each problem is about; for every other problem it is `type`.
_KEYWORDS: Final[Mapping[str, str]] = {
    "not_allowed_value": "enum",
    "more_than_one_matches": "oneOf",
    "not_unique": "uniqueItems",
    "missing": "required",
    "unknown_property": "additionalProperties",
    "property_name": "propertyNames",
    "too_small": "minimum",
    "too_large": "maximum",
    "not_a_multiple": "multipleOf",
    "pattern": "pattern",
    "too_short": "minLength",
    "too_long": "maxLength",
}


class Mismatch(Exception):
    """The value does not match the schema. `path` has names of the schema only (`*` for any other), no text of the model.

    `got` is the JSON type of the value, if `problem` is about its type.
    """

    def __init__(
        self, path: tuple[str, ...], problem: str, expected: Json = None, keyword: str = "", got: str = ""
    ) -> None:
        self.path = path
        self.problem = problem
        self.expected = expected
        self.got = got
        self.keyword = keyword or _KEYWORDS.get(problem, "type")
        super().__init__(f"{'.'.join(path) or 'the value'}: {problem}")

    def at(self, path: tuple[str, ...]) -> Mismatch:
        """The same mismatch at another path."""
        return Mismatch(path, self.problem, self.expected, self.keyword, self.got)

    @property
    def place(self) -> dict[str, Json]:
        """The place as a JSON pointer (RFC 6901) and the keyword, as `SchemaMismatch` records them."""
        names = (name.replace("~", "~0").replace("/", "~1") for name in self.path)
        return {"pointer": "".join(f"/{name}" for name in names), "keyword": self.keyword}


def validate(schema: Json, value: Json, *, fill: bool = True) -> Json:
    """A copy of the value, with defaults filled in if `fill`; nothing is coerced and unknown properties are refused.

    Raises:
        Mismatch: the first difference from the schema.
    """
    try:
        own = _copied(value)
        check = _Check(schema, fill=fill)
        check.value(schema, own, ())
    except RecursionError:
        raise Mismatch((), "too_deep") from None
    check.defaults.fill()
    return own


@dataclass(frozen=True, kw_only=True, slots=True)
class _Default:
    """An absent property and its default."""

    into: dict[str, Json]
    name: str
    value: Json


class _Defaults:
    """The defaults to fill in. Those of one union are one part, which two checks of the same value may share."""

    def __init__(self) -> None:
        self.parts: list[object] = []

    def take(self, start: int) -> _Defaults:
        """Remove and return the parts after the first `start`."""
        taken = _Defaults()
        taken.parts, self.parts = self.parts[start:], self.parts[:start]
        return taken

    def fill(self) -> None:
        """Write a copy of each default where it is absent."""
        ahead: list[_Defaults] = [self]
        seen = {id(self)}
        while ahead:
            for part in ahead.pop().parts:
                if isinstance(part, _Default):
                    if part.name not in part.into:
                        part.into[part.name] = copy.deepcopy(part.value)
                elif isinstance(part, _Defaults) and id(part) not in seen:
                    seen.add(id(part))
                    ahead.append(part)


class _Check:
    """One check of one value.

    INVARIANT: the value does not change before the check ends, so that a part of it is identified by its `id`.
    """

    def __init__(self, root: Json, *, fill: bool) -> None:
        self.defaults = _Defaults()
        self._root = root
        self._fill = fill
        self._inside = 0  # keywords that may apply two schemas to the same part
        self._branches = 0  # visited so far
        self._known: dict[
            tuple[int, int], _Defaults | Mismatch
        ] = {}  # by definition and part; their paths begin at the part
        self._targets: dict[str, Json] = {}
        self._choices: dict[int, frozenset[bytes]] = {}

    def value(self, schema: Json, value: Json, path: _Path) -> None:
        """Raise the first mismatch."""
        if schema is True:
            return
        if schema is False:
            raise Mismatch(path, "not_allowed")
        if not isinstance(schema, dict):
            raise Mismatch(path, "no_schema")  # a value without a schema is refused, not accepted
        schema = cast("dict[str, Json]", schema)
        if "$ref" in schema:
            if len(schema) == 1:
                self._referred(schema["$ref"], value, path)
                return
            with self._applied_again():
                self._referred(schema["$ref"], value, path)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                with self._applied_again():
                    self._union(schema[keyword], value, path, exactly_one=keyword == "oneOf")
        for branch in schema.get("allOf", ()):
            with self._applied_again():
                self.value(branch, value, path)
        self._kind(schema, value, path)
        self._choice(schema, value, path)
        self._content(schema, value, path)

    @contextmanager
    def _applied_again(self) -> Generator[None]:
        """While another schema may be applied to the same part of the value, results of definitions are kept."""
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._known.clear()

    def _referred(self, reference: str, value: Json, path: _Path) -> None:
        """Check a definition, at most once for each part of the value.

        Without that, two branches that both check the same member would double the work at each level of the value. Only a
        definition can apply to a level below its own, so the parts of one definition need not be kept.
        """
        if reference not in self._targets:
            self._targets[reference] = resolved(self._root, reference)
        schema = self._targets[reference]
        if not self._inside:
            self.value(schema, value, path)
            return
        known = self._known.get((id(schema), id(value)))
        if known is None:
            start = len(self.defaults.parts)
            try:
                self.value(schema, value, path)
                known = self.defaults.take(start)
            except Mismatch as mismatch:
                self.defaults.take(start)
                known = mismatch.at(mismatch.path[len(path) :])
            self._known[id(schema), id(value)] = known
        if isinstance(known, Mismatch):
            raise known.at((*path, *known.path))
        if known.parts:
            self.defaults.parts.append(known)

    def _kind(self, schema: Mapping[str, Json], value: Json, path: _Path) -> None:
        if "type" in schema:
            types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
            if not any(is_type(value, name) for name in types):
                raise Mismatch(path, "wrong_type", " or ".join(types), got=type_name(value))

    def _choice(self, schema: Mapping[str, Json], value: Json, path: _Path) -> None:
        for choices in ([schema["const"]] if "const" in schema else None, schema.get("enum")):
            if choices is not None and _written(value, path) not in self._written_choices(schema, choices):
                raise Mismatch(path, "not_allowed_value", choices)

    def _written_choices(self, schema: Mapping[str, Json], choices: Sequence[Json]) -> frozenset[bytes]:
        if len(choices) == 1:
            return frozenset((_written(choices[0], ()),))
        if id(schema) not in self._choices:  # without this, every item would be compared with the whole list
            self._choices[id(schema)] = frozenset(_written(choice, ()) for choice in choices)
        return self._choices[id(schema)]

    def _content(self, schema: Mapping[str, Json], value: Json, path: _Path) -> None:
        match value:
            case bool() | None:
                pass
            case int() | float():
                _check_number(schema, value, path)
            case str():
                _check_text(schema, value, path)
            case list():
                self._array(schema, cast("Sequence[Json]", value), path)
            case dict():
                self._object(schema, cast("dict[str, Json]", value), path)
            case _:
                raise Mismatch(path, "wrong_type", " or ".join(TYPES))

    def _union(self, branches: list[Json], value: Json, path: _Path, *, exactly_one: bool) -> None:
        """Keep the defaults of the first branch that matches. If none does, raise the mismatch with the longest path."""
        furthest, matched = Mismatch(path, "wrong_type"), None
        for branch in [item for item in branches if not self._differs(item, value)] or branches:
            self._branches += 1
            if self._branches > MOST_BRANCHES:
                raise Mismatch(path, "too_complex", f"at most {MOST_BRANCHES} branches of unions")
            start = len(self.defaults.parts)
            try:
                self.value(branch, value, path)
            except Mismatch as mismatch:
                furthest = mismatch if len(mismatch.path) > len(furthest.path) else furthest
                self.defaults.take(start)
                continue
            if matched is not None:
                raise Mismatch(path, "more_than_one_matches")
            matched = self.defaults.take(start)
            if not exactly_one:
                break
        if matched is None:
            here = Mismatch(path, "wrong_type", self._types(branches), got=type_name(value))
            raise furthest if len(furthest.path) > len(path) else here
        if matched.parts:
            self.defaults.parts.append(matched)

    def _types(self, branches: list[Json]) -> str:
        return " or ".join(
            sorted(types_of({"anyOf": branches, "$defs": cast("Mapping[str, Json]", self._root).get("$defs", {})}))
        )

    def _differs(self, branch: Json, value: Json) -> bool:
        """True if a constant property of the branch, such as its type, has another value here: then the branch is not meant."""
        if not isinstance(value, dict) or not isinstance(branch, dict):
            return False
        members = cast("dict[str, Json]", value)
        inner = cast("Mapping[str, Json]", branch)
        if "$ref" in inner:
            inner = cast("Mapping[str, Json]", resolved(self._root, inner["$ref"]) or {})
        for name, schema in cast("Mapping[str, Json]", inner.get("properties", {})).items():
            tag = cast("Mapping[str, Json]", schema).get("const") if isinstance(schema, dict) else None
            member = members.get(name)
            if isinstance(tag, str) and isinstance(member, str) and member != tag:
                return True
        return False

    def _array(self, schema: Mapping[str, Json], value: Sequence[Json], path: _Path) -> None:
        _check_size(schema, "Items", len(value), path)
        if schema.get("uniqueItems") and len({_written(item, path) for item in value}) < len(value):
            raise Mismatch(path, "not_unique")
        first = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        for number, item in enumerate(value):
            inner = first[number] if number < len(first) else rest
            if inner is False:
                raise Mismatch(path, "too_long", len(first), "items")
            if inner is not True:
                self.value(inner, item, (*path, str(number)))

    def _object(self, schema: Mapping[str, Json], value: dict[str, Json], path: _Path) -> None:
        _check_size(schema, "Properties", len(value), path)
        filled = self._absent(schema.get("properties", {}), value)
        patterns: Mapping[str, Json] = schema.get("patternProperties", {})
        if patterns:
            with self._applied_again():
                self._members(schema, patterns, value, path)
        else:
            self._members(schema, patterns, value, path)
        needed = list(schema.get("required", ()))
        for name, others in schema.get("dependentRequired", {}).items():
            needed += others if name in value else ()
        for name in needed:
            if name not in value and name not in filled:
                raise Mismatch((*path, name), "missing")

    def _members(
        self, schema: Mapping[str, Json], patterns: Mapping[str, Json], value: dict[str, Json], path: _Path
    ) -> None:
        """Check each member with the schema of its name, with those of matching patterns, or with that of the others."""
        properties: Mapping[str, Json] = schema.get("properties", {})
        others, names = schema.get("additionalProperties", True), schema.get("propertyNames", True)
        for name, item in value.items():
            matching = [inner for pattern, inner in patterns.items() if compiled(pattern).isinstance_python(name)]
            if name in properties:
                self.value(properties[name], item, (*path, name))
            elif others is False and not matching:
                raise Mismatch(path, "unknown_property", sorted(properties))
            elif not matching:
                self.value(others, item, (*path, "*"))
            for inner in matching:
                self.value(inner, item, (*path, "*"))
            if names is not True:
                self._name(names, name, path)

    def _name(self, schema: Json, name: str, path: _Path) -> None:
        try:
            self.value(schema, name, path)
        except Mismatch as mismatch:
            raise Mismatch(path, "property_name", mismatch.expected) from mismatch

    def _absent(self, properties: Mapping[str, Json], value: dict[str, Json]) -> frozenset[str]:
        """The absent properties that have a default; each default is noted, to be filled in."""
        absent = [
            _Default(into=value, name=name, value=inner["default"])
            for name, inner in properties.items()
            if self._fill and name not in value and isinstance(inner, dict) and "default" in inner
        ]
        self.defaults.parts += absent
        return frozenset(default.name for default in absent)


def _check_number(schema: Mapping[str, Json], value: float, path: _Path) -> None:
    if ("minimum" in schema and value < schema["minimum"]) or (
        "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]
    ):
        raise Mismatch(path, "too_small")
    if ("maximum" in schema and value > schema["maximum"]) or (
        "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]
    ):
        raise Mismatch(path, "too_large")
    # Compared as decimal numbers: in binary, 0.3 is not a multiple of 0.1.
    if "multipleOf" in schema and (_decimal(value, path) / _decimal(schema["multipleOf"], path)).denominator != 1:
        raise Mismatch(path, "not_a_multiple", schema["multipleOf"])


def _decimal(value: float, path: _Path) -> Fraction:
    try:
        return Fraction(value) if isinstance(value, int) else Fraction(repr(value))
    except ValueError:  # NaN or infinity, which are not JSON
        raise Mismatch(path, "not_finite") from None


def _check_text(schema: Mapping[str, Json], value: str, path: _Path) -> None:
    _check_size(schema, "Length", len(value), path)
    if "pattern" in schema and not compiled(schema["pattern"]).isinstance_python(value):
        raise Mismatch(path, "pattern", schema["pattern"])


def _check_size(schema: Mapping[str, Json], of: str, size: int, path: _Path) -> None:
    if size < schema.get(f"min{of}", size):
        raise Mismatch(path, "too_short", schema[f"min{of}"], f"min{of}")
    if size > schema.get(f"max{of}", size):
        raise Mismatch(path, "too_long", schema[f"max{of}"], f"max{of}")


def _written(value: Json, path: _Path) -> bytes:
    """The canonical JSON of the value: equal values are written alike, and `true` differs from 1."""
    try:
        return canonical_json(value)
    except Refusal:
        pass
    try:
        return canonical_json(_large_as_float(value))
    except Refusal as refusal:
        raise Mismatch(path, str(refusal.details.get("problem", "not_json"))) from refusal


def _large_as_float(value: Json) -> Json:
    """The value with integers beyond ±2**53 as the floats that are equal to them, which canonical JSON can write."""
    if isinstance(value, dict):
        return {name: _large_as_float(item) for name, item in cast("dict[str, Json]", value).items()}
    if isinstance(value, list):
        return [_large_as_float(item) for item in cast("Sequence[Json]", value)]
    large = type(value) is int and LARGEST_INTEGER < abs(value) < _LARGEST_FLOAT
    return float(value) if large and float(value) == value else value


def _copied(value: Json) -> Json:
    """A copy of the value in which no two parts are the same object."""
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in cast("dict[str, Json]", value).items()}
    if isinstance(value, list):
        return [_copied(item) for item in cast("Sequence[Json]", value)]
    return value
