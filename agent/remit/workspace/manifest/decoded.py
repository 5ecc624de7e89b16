"""Compares the arguments that a tool decoded with those that were decided."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, cast

from remit.core import Json, Refusal, Undecoded
from remit.core.parsing import canonical_json
from remit.workspace.manifest.manifest import Action, ActionSchema

_LONGEST_SHOWN: Final = 200  # characters of a decoded value that the model reads


def named_arguments(action: Action) -> frozenset[str]:
    """The arguments that name resources of the action."""
    return frozenset(template.argument for template in action.templates if template.argument)


def check_decoded(
    action: Action,
    schema: ActionSchema,
    decided: Mapping[str, Json],
    decoded: Mapping[str, Json] | None,
    *,
    read: Collection[str] = (),
) -> None:
    """Raise Refusal `invalid_arguments` if a validator of the tool changed an argument that the decision is about.

    These are the arguments that name a resource, and those that a condition reads (`read`). If only a part of an argument
    names a resource, and no condition reads it, only that part counts. `decoded` None: all are as decided.
    """
    if decoded is None:
        return
    for name in sorted(named_arguments(action).union(read)):
        paths = [template.path for template in action.templates if template.argument == name]
        if name in read:
            paths = [()]
        unordered = _is_set(schema.input["properties"].get(name))
        if not all(
            _same(values_at(decided, (name, *path)), values_at(decoded, (name, *path)), unordered) for path in paths
        ):
            raise _changed(name, decoded.get(name))


def _changed(name: str, value: Json) -> Refusal:
    reason: Undecoded = "changed_by_validator"
    details: dict[str, Json] = {"argument": name, "reason": reason}
    next_step = "correct the arguments and send the call again"
    if isinstance(value, str | int | float) and len(str(value)) <= _LONGEST_SHOWN:
        details["decoded"] = value
        next_step = f"write the argument {name!r} as `decoded` has it, and send the call again"
    return Refusal(
        "invalid_arguments",
        f"a validator of the tool changes the argument {name!r}, which the call is decided by",
        details=details,
        next_step=next_step,
    )


def values_at(values: Json, path: Sequence[str]) -> list[Json]:
    """The values at the path: `*` stands for every item of a list."""
    if not path:
        return [values]
    first, rest = path[0], path[1:]
    if first == "*":
        items = cast("Iterable[Json]", values) if isinstance(values, list) else ()
        return [found for item in items for found in values_at(item, rest)]
    if not isinstance(values, Mapping):
        return []
    members = cast("Mapping[str, Json]", values)
    return values_at(members[first], rest) if first in members else []


def _same(decided: Sequence[Json], decoded: Sequence[Json], unordered: bool) -> bool:
    return len(decided) == len(decoded) and all(_equal(a, b, unordered) for a, b in zip(decided, decoded, strict=True))


def _equal(decided: Json, decoded: Json, unordered: bool) -> bool:
    """True for equal JSON. A number may have become the text of a decimal, and the items of a set another order."""
    if isinstance(decided, int | float) and not isinstance(decided, bool) and isinstance(decoded, str):
        try:
            return Decimal(decoded) == Decimal(str(decided))
        except InvalidOperation:
            return False
    if unordered and isinstance(decided, list) and isinstance(decoded, list):
        before, after = cast("Iterable[Json]", decided), cast("Iterable[Json]", decoded)
        return sorted(map(canonical_json, before)) == sorted(map(canonical_json, after))
    return canonical_json(decided) == canonical_json(decoded)


def _is_set(schema: Json) -> bool:
    """True if the schema of an argument is that of a set, or of an optional one."""
    if not isinstance(schema, Mapping):
        return False
    part = cast("Mapping[str, Json]", schema)
    return part.get("uniqueItems") is True or any(map(_is_set, part.get("anyOf", ())))
