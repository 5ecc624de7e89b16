"""The facts that a condition may name, their types, and how each is read from the context of a request."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Final, get_args

from remit.core import Confinement, Context, Effect, Json
from remit.policy.language.evaluation import Kind, Read, Unreadable

FACTS: Final[Mapping[str, Kind]] = {
    "labels": "set",
    "named_by_user": "boolean",
    "identified": "boolean",
    "unidentified": "set",
    "contains": "set",
    "quoted_by_user": "boolean",
    "requested_by_user": "boolean",
    "effect": "string",
    "env": "string",
    "confinement": "string",
    "time": "string",
}
# Facts with names of their own: arguments of the call, properties of the one for whom it is made and of its resources.
SIDES: Final = ("args", "subject", "resource")
CLOSED: Final = {"confinement": get_args(Confinement), "effect": get_args(Effect)}
KINDS: Final[Mapping[str, Kind]] = {
    "boolean": "boolean",
    "integer": "number",
    "number": "number",
    "string": "string",
    "array": "array",
    "object": "object",
}


def is_named(shown: str) -> bool:
    """True for an argument or a property: `args.to`, `resource.status`."""
    side, _, name = shown.partition(".")
    return side in SIDES and name.isidentifier()


def argument(name: str) -> Read:
    """`args.name`."""

    def read(context: Context) -> Json:
        if name not in context.args:
            raise Unreadable(f"the call has no args.{name}")
        return context.args[name]

    return read


def stated(side: str, name: str) -> Read:
    """`subject.name` or `resource.name`."""
    shown = f"{side}.{name}"
    values: Callable[[Context], Mapping[str, Json]] = operator.attrgetter(side)

    def read(context: Context) -> Json:
        if context.unclear:
            _check_clear(context, shown)
        known = values(context)
        if name not in known:
            raise Unreadable(f"nothing states {shown}")
        return known[name]

    return read


def is_there(shown: str) -> Read:
    """`has(…)` of an argument or a property: whether it is there, and unreadable if that is in doubt."""
    side, _, name = shown.partition(".")
    values: Callable[[Context], Mapping[str, Json]] = operator.attrgetter(side)

    def read(context: Context) -> Json:
        if context.unclear:
            _check_clear(context, shown)
        return name in values(context)

    return read


def counted_calls(counted: str) -> Read:
    """`calls('mail.send')`."""
    return lambda context: context.calls.get(counted, 0)


def _check_clear(context: Context, shown: str) -> None:
    """INVARIANT: a property in doubt is neither there nor absent, so a deny that reads it applies, also one behind `has`."""
    if not context.unclear.isdisjoint((shown, f"{shown.partition('.')[0]}.*")):
        raise Unreadable(f"{shown} is in doubt: it has several values, or who states it may not")
