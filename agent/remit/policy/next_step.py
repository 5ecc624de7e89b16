"""The smallest single change that would turn a denial into an allow, found by trying and confirmed by deciding again.

Only the values at which a condition of a matching row may change its answer are tried, one fact at a time: arguments first,
nearest values first. Approvals are not tried: a denial that approvals alone would change is already the verdict `ask`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from remit.core import Context, Decision, Json, Request
from remit.policy.language.evaluation import ChangePoint, is_list_value
from remit.policy.language.loader import RuleRow
from remit.policy.language.names import CONTENT_KINDS
from remit.policy.matching import Pair

MOST_TRIED: Final = 256  # changes for one denial

_ABOUT_THE_USER: Final = {
    "named_by_user": "use only resources that the user named",
    "identified": "use only resources that the user named or that the directory lists",
    "quoted_by_user": "use only texts that the user wrote",
    "requested_by_user": "call it only if the user asks for this action",
}


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """One change that would be allowed, as an instruction in `text`.

    `fact` is the fact that changes, as decisions show it; `context` is the changed context. `rows` are the rows whose
    conditions change their answer: their disclosure decides whether the model reads the text.
    """

    text: str
    fact: str
    context: Context
    rows: tuple[RuleRow, ...]


@dataclass(frozen=True, kw_only=True)
class _Change:
    """A change to try; lower `cost` first."""

    fact: str
    context: Context
    text: str
    cost: tuple[int, float]


def find_next_step(request: Request, denied: Sequence[Pair], decide: Callable[[Request], Decision]) -> NextStep | None:
    """The smallest change that `decide` allows, or None if no single change is enough."""
    if any(not pair.allows or any(row.condition.constant for row in pair.denying) for pair in denied):
        return None  # no fact can change these: no rule allows the pair at all, or one always denies it
    changes = sorted(_changes(request.context, denied), key=lambda change: change.cost)
    for change in changes[:MOST_TRIED]:
        if not all(pair.allowed(change.context) for pair in denied):
            continue
        # The change may deny pairs that were allowed before, so the whole request is decided again.
        if decide(request.model_copy(update={"context": change.context})).verdict == "allow":
            rows = tuple(
                row
                for pair in denied
                for row in (*pair.allows, *pair.denies)
                if row.condition.holds(request.context) != row.condition.holds(change.context)
            )
            return NextStep(text=change.text, fact=change.fact, context=change.context, rows=rows)
    return None


def _changes(context: Context, denied: Sequence[Pair]) -> Iterator[_Change]:
    seen: set[str] = set()
    for pair in denied:
        for row in (*pair.allows, *pair.denying):
            for point in row.condition.change_points:
                key = f"{point.fact} {point.absent} {point.value!r}"  # a text, because a value may be a list
                if key not in seen:
                    seen.add(key)
                    if (change := _change(context, point)) is not None:
                        yield change


def _change(context: Context, point: ChangePoint) -> _Change | None:
    """The change that gives a fact the value of `point`; None if it has it already, or no call could have it."""
    name = point.fact.partition("(")[0].partition(".")[0]
    match name:
        case "args":
            return _argument(context, point)
        case "len":
            return _shorter(context, point)
        case "has":
            return _left_out(context, point)
        case "labels" | "unidentified" | "contains":
            return _without(context, point, name)
        case "calls":
            return _fewer_calls(context, point)
        case "named_by_user" | "identified" | "quoted_by_user" | "requested_by_user":
            return _about_the_user(context, point, name)
        case "time" | "env" | "confinement":
            return _environment(context, point, name)
        case _:
            return None


def _without(
    context: Context, point: ChangePoint, name: Literal["labels", "unidentified", "contains"]
) -> _Change | None:
    """The call with one item fewer in a set of facts. Adding an item is never suggested."""
    items: frozenset[str] = getattr(context, name)
    if not point.absent or point.value not in items:
        return None
    match name:
        case "labels":
            text, rank = f"call it in a run without the label {point.value!r}", 2
        case "unidentified":
            text, rank = f"use only {point.value} resources that the user named or that the directory lists", 4
        case "contains":
            what = point.value if point.value in CONTENT_KINDS else f"text labelled {point.value!r}"
            text, rank = f"remove each {what} that neither the user nor the directory named", 1
    return _made(context, point, {name: items - {point.value}}, text, (rank, 0.0))


def _fewer_calls(context: Context, point: ChangePoint) -> _Change | None:
    """The call in a run with fewer calls of an action: calls cannot be undone, but another run starts from none."""
    action = point.fact[len("calls('") : -len("')")]
    now = context.calls.get(action, 0)
    if not isinstance(point.value, int) or not 0 <= point.value < now:
        return None
    text = f"call it in a run with {point.value} earlier calls of {action} instead of {now}"
    return _made(context, point, {"calls": {**context.calls, action: point.value}}, text, (3, now - point.value))


def _about_the_user(context: Context, point: ChangePoint, name: str) -> _Change | None:
    """The call with a fact about the user's own words that is now false."""
    if point.value is not True or getattr(context, name):
        return None
    return _made(context, point, {name: True}, _ABOUT_THE_USER[name], (4, 0.0))


def _environment(context: Context, point: ChangePoint, name: str) -> _Change | None:
    """The call at another time, in another environment or under another confinement."""
    if point.value == getattr(context, name):
        return None
    if name == "time":
        return _made(context, point, {name: point.value}, f"call it at {point.value} UTC", (5, 0.0))
    if point.absent:
        return None
    return _made(context, point, {name: point.value}, f"call it with {name} = {point.value!r}", (6, 0.0))


def _argument(context: Context, point: ChangePoint) -> _Change | None:
    # INVARIANT: the text quotes no argument of the call, except numbers and booleans: an argument may be a secret.
    name = point.fact.removeprefix("args.")
    now = context.args.get(name)
    value, distance = point.value, 0.0
    if is_list_value(value) or point.absent:  # an item that a list should or should not contain
        if not is_list_value(now):
            return None
        value = [item for item in now if item != point.value] if point.absent else [*now, *value]
        change = f"without {point.value!r} in {name}" if point.absent else f"with {point.value[0]!r} in {name}"
    elif _is_number(value) and _is_number(now):
        distance = abs(value - now)
        change = f"with {name} = {value!r} instead of {now!r}"
    else:
        change = f"with {name} = {value!r}"
    # Compared with the type, because True == 1 and 1 == 1.0 in Python.
    if name in context.args and value == now and type(value) is type(now):
        return None
    return _made(context, point, {"args": {**context.args, name: value}}, f"call it {change}", (0, distance))


def _left_out(context: Context, point: ChangePoint) -> _Change | None:
    """The call without an argument that a rule asks for."""
    name = point.fact.removeprefix("has(args.").removesuffix(")")
    if point.value is not False or name not in context.args:
        return None
    kept = {other: value for other, value in context.args.items() if other != name}
    return _made(context, point, {"args": kept}, f"call it without {name}", (1, 0.0))


def _shorter(context: Context, point: ChangePoint) -> _Change | None:
    name = point.fact[len("len(args.") : -len(")")]
    now = context.args.get(name)
    if not (isinstance(now, str) or is_list_value(now)) or not isinstance(point.value, int):
        return None
    length = len(now)
    if not 0 <= point.value < length:
        return None  # a value can be shortened, but nothing says what to add to it
    unit = "characters" if isinstance(now, str) else "items"
    text = f"call it with {point.value} {unit} in {name} instead of {length}"
    shortened = {**context.args, name: now[: point.value]}
    return _made(context, point, {"args": shortened}, text, (1, length - point.value))


def _made(context: Context, point: ChangePoint, update: dict[str, Json], text: str, cost: tuple[int, float]) -> _Change:
    return _Change(fact=point.fact, context=context.model_copy(update=update), text=text, cost=cost)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
