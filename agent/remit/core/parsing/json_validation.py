"""A value checked against a JSON Schema, without coercion: keywords mean what JSON Schema 2020-12 says.

Two things differ, and both refuse more: an object with `properties` takes no others unless the schema says so, and a whole
number is written as one. `pattern` is found anywhere in the text, as the standard says; write `^…$` for all of it.

The work grows with the value and never faster, whatever the value is: a union looks at each part of the value once
(see `_union`), texts are matched by a linear engine, and equal items are found by hashing.
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

MOST_BRANCHES: Final = 1_000_000  # branches of unions that one value may make the check look at

_Path: TypeAlias = tuple[str, ...]


class Mismatch(Exception):
    """`path` names properties that the schema names (`*` for any other), never what the model wrote."""

    def __init__(self, path: tuple[str, ...], problem: str, expected: Json = None) -> None:
        self.path = path
        self.problem = problem
        self.expected = expected
        super().__init__(f"{'.'.join(path) or 'the value'}: {problem}")


def validate(schema: Mapping[str, Json], value: Json, *, fill: bool = True) -> Json:
    """A copy of the value with absent defaults filled in; nothing is coerced and no unknown property passes.

    Raises:
        Mismatch: the first way in which the value is not what the schema says.
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
    """A property that is absent, and what the schema says stands for it."""

    into: dict[str, Json]
    name: str
    value: Json


class _Defaults:
    """The defaults that were found; those of one union are one part, which two readings of a value may share."""

    def __init__(self) -> None:
        self.parts: list[object] = []

    def take(self, start: int) -> _Defaults:
        """Take out what was added since there were `start` parts."""
        taken = _Defaults()
        taken.parts, self.parts = self.parts[start:], self.parts[:start]
        return taken

    def fill(self) -> None:
        """Write each where it is absent, as a copy."""
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
    """One check of one value. INVARIANT: the value is not changed until the check is over, so that a part of it is known
    by its identity."""

    def __init__(self, root: Mapping[str, Json], *, fill: bool) -> None:
        self.defaults = _Defaults()
        self._root = root
        self._fill = fill
        self._inside = 0  # unions
        self._branches = 0  # looked at so far
        self._known: dict[tuple[int, int], _Defaults | Mismatch] = {}  # a path in it begins at the union
        self._choices: dict[int, frozenset[bytes]] = {}

    def value(self, schema: Json, value: Json, path: _Path) -> None:
        """Raise the first mismatch."""
        if schema is True:
            return
        if not isinstance(schema, dict):
            raise Mismatch(path, "no_schema")  # nothing is accepted because its schema says nothing
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
        if id(schema) not in self._choices:  # for each of many items, the whole list would be gone through
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
        """Look at the branches, each union at each part of the value once.

        Without that, two branches that both look into the same member double the work at each level of the value.
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
                self._known.clear()  # nothing around it looks at the same part again
        if isinstance(known, Mismatch):
            raise Mismatch((*path, *known.path), known.problem, known.expected)
        if known.parts:
            self.defaults.parts.append(known)

    def _matched(self, branches: list[Json], value: Json, path: _Path, *, exactly_one: bool) -> _Defaults:
        """The defaults of the first branch that fits. Of those that do not, the one that came furthest says why."""
        furthest, found = Mismatch(path, "wrong_type"), None
        for branch in [one for one in branches if not self._differs(one, value)] or branches:
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
            if found is not None:
                raise Mismatch(path, "more_than_one_matches")
            found = taken
        if found is not None:
            return found
        if len(furthest.path) > len(path):
            raise furthest
        raise Mismatch(path, "wrong_type", self._types(branches))

    def _types(self, branches: list[Json]) -> str:
        return " or ".join(sorted(types_of({"anyOf": branches, "$defs": self._root.get("$defs", {})})))

    def _differs(self, branch: Json, value: Json) -> bool:
        """Whether a text that tells the branches apart says that it is another one."""
        if not isinstance(value, dict) or not isinstance(branch, dict):
            return False
        members = cast("dict[str, Json]", value)
        inner = cast("Mapping[str, Json]", branch)
        if "$ref" in inner:
            inner = resolved(self._root, inner["$ref"]) or {}
        for name, one in cast("Mapping[str, Json]", inner.get("properties", {})).items():
            tag = None if one is True else cast("Mapping[str, Json]", one).get("const")
            said = members.get(name)
            if isinstance(tag, str) and isinstance(said, str) and said != tag:
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
        # Plain JSON Schema lets unknown properties pass; a tool's signature does not.
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
        """The absent properties that have a default, each of which is noted."""
        absent = [
            _Default(into=value, name=name, value=inner["default"])
            for name, inner in properties.items()
            if self._fill and name not in value and inner is not True and "default" in inner
        ]
        self.defaults.parts += absent
        return frozenset(one.name for one in absent)


def _check_number(schema: Mapping[str, Json], value: float, path: _Path) -> None:
    if ("minimum" in schema and value < schema["minimum"]) or (
        "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]
    ):
        raise Mismatch(path, "too_small")
    if ("maximum" in schema and value > schema["maximum"]) or (
        "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]
    ):
        raise Mismatch(path, "too_large")
    # As both are written: the binary 0.3 is no multiple of the binary 0.1.
    if "multipleOf" in schema and (_decimal(value, path) / _decimal(schema["multipleOf"], path)).denominator != 1:
        raise Mismatch(path, "not_a_multiple", schema["multipleOf"])


def _decimal(value: float, path: _Path) -> Fraction:
    try:
        return Fraction(value) if isinstance(value, int) else Fraction(repr(value))
    except ValueError:  # NaN or infinity, which is no JSON
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
    """The one way to write the value: equal values of JSON are written alike, and `true` is not 1."""
    try:
        return canonical_json(value)
    except Refusal as refusal:
        raise Mismatch(path, str(refusal.details.get("problem", "not_json"))) from refusal


def _copied(value: Json) -> Json:
    """The value, of which no two parts are one object."""
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in cast("dict[str, Json]", value).items()}
    if isinstance(value, list):
        return [_copied(item) for item in cast("Sequence[Json]", value)]
    return value
