"""Validates a value against a JSON Schema, without coercion, with the keywords of JSON Schema 2020-12.

Two things are stricter than the standard: an object with `properties` accepts no others unless the schema allows them, and
a whole number must be written as one (5, not 5.0). `pattern` may match anywhere in the text, as in the standard; write `^…$`
for the whole text.

The time is linear in the size of the value, also for a hostile one: a union visits each part of the value once (see
`_union`), texts are matched by a linear engine, and equal items are found by hashing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias, cast

from remit.core.calls import Json
from remit.core.errors import Refusal
from remit.core.parsing.json_schema import TYPES, compiled, is_type, resolved, types_of
from remit.core.parsing.strict_json import canonical_json

MOST_BRANCHES: Final = 1_000_000  # branches of unions that the check of one value may visit

_Path: TypeAlias = tuple[str, ...]


class Mismatch(Exception):
    """The value does not match the schema. `path` has names of the schema only (`*` for any other), no text of the model."""

    def __init__(self, path: tuple[str, ...], problem: str, expected: Json = None) -> None:
        self.path = path
        self.problem = problem
        self.expected = expected
        super().__init__(f"{'.'.join(path) or 'the value'}: {problem}")


def validate(schema: Mapping[str, Json], value: Json, *, fill: bool = True) -> Json:
    """A copy of the value, with defaults filled in if `fill`; nothing is coerced and unknown properties are refused.

    Raises:
        Mismatch: the first difference from the schema.
    """
    try:
        own = _copied(value)
        check = _Check(schema, fill=fill)
        check.value(dict(schema), own, ())
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

    def __init__(self, root: Mapping[str, Json], *, fill: bool) -> None:
        self.defaults = _Defaults()
        self._root = root
        self._fill = fill
        self._inside = 0  # unions
        self._branches = 0  # visited so far
        self._known: dict[
            tuple[int, int], _Defaults | Mismatch
        ] = {}  # by union and part; their paths begin at the union
        self._choices: dict[int, frozenset[bytes]] = {}

    def value(self, schema: Json, value: Json, path: _Path) -> None:
        """Raise the first mismatch."""
        if schema is True:
            return
        if not isinstance(schema, dict):
            raise Mismatch(path, "no_schema")  # a value without a schema is refused, not accepted
        schema = cast("dict[str, Json]", schema)
        if "$ref" in schema:
            self.value(resolved(self._root, schema["$ref"]), value, path)
            return
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                self._union(schema[keyword], value, path, exactly_one=keyword == "oneOf")
        self._kind(schema, value, path)
        self._choice(schema, value, path)
        self._content(schema, value, path)

    def _kind(self, schema: Mapping[str, Json], value: Json, path: _Path) -> None:
        if "type" in schema:
            types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
            if not any(is_type(value, name) for name in types):
                raise Mismatch(path, "wrong_type", " or ".join(types))

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
        """Check the branches of a union, at most once for each part of the value.

        Without that, two branches that both check the same member would double the work at each level of the value.
        """
        known = self._known.get((id(branches), id(value)))
        if known is None:
            try:
                self._inside += 1
                known = self._matched(branches, value, path, exactly_one=exactly_one)
            except Mismatch as mismatch:
                known = Mismatch(mismatch.path[len(path) :], mismatch.problem, mismatch.expected)
            finally:
                self._inside -= 1
            if self._inside:
                self._known[id(branches), id(value)] = known
            else:
                self._known.clear()  # no union around it can visit the same part again
        if isinstance(known, Mismatch):
            raise Mismatch((*path, *known.path), known.problem, known.expected)
        if known.parts:
            self.defaults.parts.append(known)

    def _matched(self, branches: list[Json], value: Json, path: _Path, *, exactly_one: bool) -> _Defaults:
        """The defaults of the first branch that matches. If none does, the mismatch with the longest path is raised."""
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
            taken = self.defaults.take(start)
            if not exactly_one:
                return taken
            if matched is not None:
                raise Mismatch(path, "more_than_one_matches")
            matched = taken
        if matched is not None:
            return matched
        if len(furthest.path) > len(path):
            raise furthest
        raise Mismatch(path, "wrong_type", self._types(branches))

    def _types(self, branches: list[Json]) -> str:
        return " or ".join(sorted(types_of({"anyOf": branches, "$defs": self._root.get("$defs", {})})))

    def _differs(self, branch: Json, value: Json) -> bool:
        """True if a constant property of the branch, such as its type, has another value here: then the branch is not meant."""
        if not isinstance(value, dict) or not isinstance(branch, dict):
            return False
        members = cast("dict[str, Json]", value)
        inner = cast("Mapping[str, Json]", branch)
        if "$ref" in inner:
            inner = resolved(self._root, inner["$ref"]) or {}
        for name, schema in cast("Mapping[str, Json]", inner.get("properties", {})).items():
            tag = None if schema is True else cast("Mapping[str, Json]", schema).get("const")
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
                raise Mismatch(path, "too_long", len(first))
            if inner is not True:
                self.value(inner, item, (*path, str(number)))

    def _object(self, schema: Mapping[str, Json], value: dict[str, Json], path: _Path) -> None:
        _check_size(schema, "Properties", len(value), path)
        properties: Mapping[str, Json] = schema.get("properties", {})
        # JSON Schema accepts unknown properties; the function of a tool does not.
        others = schema.get("additionalProperties", "properties" not in schema)
        for name, item in value.items():
            if name in properties:
                self.value(properties[name], item, (*path, name))
            elif others is False:
                raise Mismatch(path, "unknown_property", sorted(properties))
            else:
                self.value(others, item, (*path, "*"))
        filled = self._absent(properties, value)
        for name in schema.get("required", ()):
            if name not in value and name not in filled:
                raise Mismatch((*path, name), "missing")

    def _absent(self, properties: Mapping[str, Json], value: dict[str, Json]) -> frozenset[str]:
        """The absent properties that have a default; each default is noted, to be filled in."""
        absent = [
            _Default(into=value, name=name, value=inner["default"])
            for name, inner in properties.items()
            if self._fill and name not in value and inner is not True and "default" in inner
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
        raise Mismatch(path, "too_short", schema[f"min{of}"])
    if size > schema.get(f"max{of}", size):
        raise Mismatch(path, "too_long", schema[f"max{of}"])


def _written(value: Json, path: _Path) -> bytes:
    """The canonical JSON of the value: equal values are written alike, and `true` differs from 1."""
    try:
        return canonical_json(value)
    except Refusal as refusal:
        raise Mismatch(path, str(refusal.details.get("problem", "not_json"))) from refusal


def _copied(value: Json) -> Json:
    """A copy of the value in which no two parts are the same object."""
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in cast("dict[str, Json]", value).items()}
    if isinstance(value, list):
        return [_copied(item) for item in cast("Sequence[Json]", value)]
    return value
