"""Repairs arguments that a model wrote slightly wrong, where exactly one reading fits the schema.

A repair is tried only for arguments that do not fit, and kept only if all of them fit afterwards. So valid arguments never
change, and arguments with any other fault are refused as they were written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, cast

from remit.core import Json, Refusal, Repair, called_action
from remit.core.parsing import (
    COMBINING,
    Mismatch,
    is_type,
    leaves,
    parse_arguments,
    parse_json,
    resolved,
    types_in,
    validate,
)

MOST_REPAIRS: Final = 64  # of one call
DEEPEST_REPAIR: Final = 16  # levels of arguments

_ENCODED: Final = re.compile(r"\s*[\[{]")
# What models write before or after the name of a tool: namespaces of providers, and tokens of a chat template.
_BEFORE: Final = re.compile(r"(?:functions?|tools?|default_api)(?:\.|::?|/|__)")
_AFTER: Final = re.compile(r"<\|.*|\(\s*\)", re.DOTALL)

_Path = tuple[str, ...]


class _Unrepairable(Exception):
    """More than one reading, or too many repairs."""


def repaired_name(name: str, actions: Sequence[str], *, repair: bool) -> tuple[str, tuple[Repair, ...]]:
    """The action that the name of a call stands for, and the repair of the name.

    A name of no action is returned as an action without a repair, unless it has a known prefix, suffix or space around the name
    of exactly one of `actions`, and `repair` is True.
    """
    action = called_action(name)
    if action in actions or not repair:
        return action, ()
    bare = name.strip()
    bare = bare[: match.start()] if (match := _AFTER.search(bare)) else bare
    readings = {bare.strip(), bare[match.end() :].strip() if (match := _BEFORE.match(bare)) else bare.strip()}
    found = {called_action(reading) for reading in readings} & set(actions)
    return (found.pop(), (Repair(kind="name"),)) if len(found) == 1 else (action, ())


def read_arguments(
    text: str, schema: Mapping[str, Json], *, repair: bool
) -> tuple[dict[str, Json], tuple[Repair, ...]]:
    """The arguments that the model wrote, and what was repaired; only parsed if not `repair`.

    Raises:
        Refusal: `invalid_arguments`, as `parse_arguments` does. Arguments that do not fit the schema are returned as they are.
    """
    if not repair:
        return parse_arguments(text), ()
    arguments, decoded = _parsed(text)
    found, repairs = _repaired(schema, arguments)
    return found, (*decoded, *repairs)


def _parsed(text: str) -> tuple[dict[str, Json], tuple[Repair, ...]]:
    """As `parse_arguments`, for an object that may be written as JSON text inside a JSON string."""
    try:
        return parse_arguments(text), ()
    except Refusal as refusal:
        if refusal.details.get("problem") != "not_object" or not isinstance(inner := parse_json(text), str):
            raise
        return parse_arguments(inner), (Repair(kind="decoded"),)


def _repaired(schema: Mapping[str, Json], arguments: dict[str, Json]) -> tuple[dict[str, Json], tuple[Repair, ...]]:
    """The arguments as the schema accepts them, and what was repaired; unchanged if that is not possible."""
    if not _looks_wrong(arguments) or _fits(schema, arguments):
        return arguments, ()
    repairing = _Repairing(schema)
    try:
        found = repairing.value(schema, arguments, ())
    except (_Unrepairable, RecursionError):
        return arguments, ()
    fits = bool(repairing.repairs) and _fits(schema, found)
    return (found, tuple(repairing.repairs)) if fits else (arguments, ())


def _looks_wrong(arguments: Json) -> bool:
    """True if they have something that could be repaired: JSON in a text, or null for a member that is absent."""
    return any(
        leaf is None or (isinstance(leaf, str) and _ENCODED.match(leaf)) for leaf in leaves(arguments, keys=False)
    )


def _fits(schema: Mapping[str, Json], arguments: Json) -> bool:
    try:
        validate(schema, arguments)
    except Mismatch:
        return False
    return True


class _Repairing:
    """One pass over the arguments. `repairs` are those made so far."""

    def __init__(self, root: Json) -> None:
        self.repairs: list[Repair] = []
        self._root = root
        self._types: dict[int, frozenset[str]] = {}  # by schema
        self._parts: dict[tuple[int, str], Mapping[str, Json]] = {}  # by schema and type

    def value(self, schema: Json, value: Json, path: _Path) -> Json:
        """The value, repaired where the schema refuses its type."""
        if not isinstance(schema, dict) or len(path) > DEEPEST_REPAIR:
            return value
        if isinstance(value, str) and "string" not in (types := self._types_of(schema)):
            value = self._read(value, types, path)
        if not isinstance(value, dict | list):
            return value
        kind = "object" if isinstance(value, dict) else "array"
        key = (id(cast("object", schema)), kind)
        if key not in self._parts:
            self._parts[key] = self._part(cast("Mapping[str, Json]", schema), kind)
        part = self._parts[key]
        if isinstance(value, dict):
            return self._object(part, cast("dict[str, Json]", value), path)
        return self._array(part, list(cast("Sequence[Json]", value)), path)

    def _types_of(self, schema: Json) -> frozenset[str]:
        if id(schema) not in self._types:
            self._types[id(schema)] = types_in(schema, self._root)
        return self._types[id(schema)]

    def _note(self, kind: Literal["absent", "decoded"], path: _Path) -> None:
        if len(self.repairs) == MOST_REPAIRS:
            raise _Unrepairable
        self.repairs.append(Repair(kind=kind, at=".".join(path)))

    def _read(self, text: str, types: frozenset[str], path: _Path) -> Json:
        """The object or list that the text encodes, if its type is one of these. A number as text stays text: `5` may be an id."""
        if not _ENCODED.match(text):
            return text
        try:
            value = parse_json(text)
        except Refusal:
            return text
        if not any(is_type(value, name) for name in types):
            return text
        self._note("decoded", path)
        return value

    def _part(self, schema: Mapping[str, Json], kind: str) -> Mapping[str, Json]:
        """The schema of the members or items: that of the definition or of the one branch that accepts this type."""
        for _ in range(DEEPEST_REPAIR):
            branches = [branch for keyword in COMBINING for branch in schema.get(keyword, ())]
            fitting = [branch for branch in branches if kind in self._types_of(branch)]
            ahead = (
                resolved(self._root, schema["$ref"]) if "$ref" in schema else fitting[0] if len(fitting) == 1 else None
            )
            if not isinstance(ahead, dict):
                return {} if branches else schema
            schema = cast("Mapping[str, Json]", ahead)
        return {}

    def _object(self, schema: Mapping[str, Json], value: dict[str, Json], path: _Path) -> dict[str, Json]:
        properties: Mapping[str, Json] = schema.get("properties", {})
        others: Json = schema.get("additionalProperties", {})
        required = schema.get("required", ())
        members: dict[str, Json] = {}
        for name, item in value.items():
            inner = properties.get(name, others)
            at = (*path, name if name in properties else "*")
            refused = item is None and name in properties and "null" not in self._types_of(inner)
            if refused and name not in required:
                self._note("absent", at)
                continue
            members[name] = self.value(inner, item, at)
        return members

    def _array(self, schema: Mapping[str, Json], value: list[Json], path: _Path) -> list[Json]:
        def inner() -> Iterator[Json]:
            yield from schema.get("prefixItems", ())
            while True:
                yield schema.get("items", {})

        return [
            self.value(part, item, (*path, str(at)))
            for at, (part, item) in enumerate(zip(inner(), value, strict=False))
        ]
