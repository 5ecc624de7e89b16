"""The smallest single change that would turn a denial into an allow, found by trying and verified by deciding again.

What is tried are the values at which some condition of a matching row may change its answer, one fact at a time:
arguments first, the nearest value before others. Approvals are not here: a denial that they alone would turn is an
ask already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from remit.core import Context, Decision, Json, Request
from remit.policy.language.evaluation import Turn, is_list
from remit.policy.language.loader import RuleRow
from remit.policy.matching import Pair

MOST_TRIED: Final = 256  # changes of one denial

_USERS_WORDS: Final = {
    "named_by_user": "the user's own words named every resource",
    "identified": "the user's own words, or the directory, named every resource",
    "quoted_by_user": "the user's own words held every text in it",
    "requested_by_user": "the user's own words asked for such an act",
}


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """One change. `text` says it; `fact` is what changes, as decisions show it; `context` is what it leads to.

    `rows` are those whose conditions it turns: what it tells is theirs to disclose.
    """

    text: str
    fact: str
    context: Context
    rows: tuple[RuleRow, ...]


@dataclass(frozen=True, kw_only=True)
class _Change:
    """A change to try; the smaller `cost`, the sooner."""

    fact: str
    context: Context
    text: str
    cost: tuple[int, float]


def next_step(request: Request, refused: Sequence[Pair], decide: Callable[[Request], Decision]) -> NextStep | None:
    """The smallest change that `decide` allows, or None where no single one does."""
    if any(not pair.allows or any(row.condition.constant for row in pair.denying) for pair in refused):
        return None  # no fact turns these: no rule allows at all, or one denies whatever the facts
    changes = sorted(_changes(request.context, refused), key=lambda change: change.cost)
    for change in changes[:MOST_TRIED]:
        if not all(pair.allowed(change.context) for pair in refused):
            continue
        # The pairs that were allowed before may not be any more, so the whole request is decided again.
        if decide(request.model_copy(update={"context": change.context})).verdict == "allow":
            rows = tuple(
                row
                for pair in refused
                for row in (*pair.allows, *pair.denies)
                if row.condition.holds(request.context) != row.condition.holds(change.context)
            )
            return NextStep(text=change.text, fact=change.fact, context=change.context, rows=rows)
    return None


def _changes(context: Context, refused: Sequence[Pair]) -> Iterator[_Change]:
    seen: set[str] = set()
    for pair in refused:
        for row in (*pair.allows, *pair.denying):
            for turn in row.condition.turns:
                key = f"{turn.fact} {turn.absent} {turn.value!r}"
                if key not in seen:
                    seen.add(key)
                    if (change := _change(context, turn)) is not None:
                        yield change


def _change(context: Context, turn: Turn) -> _Change | None:
    """The change that gives a fact the value of `turn`; None where it has it, or no call could bring it about."""
    name = turn.fact.partition("(")[0].partition(".")[0]
    match name:
        case "args":
            return _argument(context, turn)
        case "len":
            return _shorter(context, turn)
        case "labels" | "unidentified" | "contains":
            return _without(context, turn, name)
        case "calls":
            return _fewer_calls(context, turn)
        case "named_by_user" | "identified" | "quoted_by_user" | "requested_by_user":
            return _in_users_words(context, turn, name)
        case "time" | "env" | "confinement":
            return _elsewhere(context, turn, name)
        case _:
            return None


def _without(context: Context, turn: Turn, name: Literal["labels", "unidentified", "contains"]) -> _Change | None:
    """The call with one item fewer in a set of facts. Adding one is never a remedy."""
    items: frozenset[str] = getattr(context, name)
    if not turn.absent or turn.value not in items:
        return None
    match name:
        case "labels":
            text, rank = f"the same call in a run without the label {turn.value!r} would be allowed", 2
        case "unidentified":
            named = f"the user's own words, or the directory, named every {turn.value} in it"
            text, rank = f"it would be allowed if {named}", 4
        case "contains":
            text, rank = f"the same call would be allowed if its texts carried no {turn.value} that nobody named", 1
    return _made(context, turn, {name: items - {turn.value}}, text, (rank, 0.0))


def _fewer_calls(context: Context, turn: Turn) -> _Change | None:
    """The call in a run that made fewer calls of an action: calls are not undone, but another run starts from none."""
    action = turn.fact[len("calls('") : -len("')")]
    now = context.calls.get(action, 0)
    if not isinstance(turn.value, int) or not 0 <= turn.value < now:
        return None
    text = f"the same call in a run with {turn.value} calls of {action} instead of {now} would be allowed"
    return _made(context, turn, {"calls": {**context.calls, action: turn.value}}, text, (3, now - turn.value))


def _in_users_words(context: Context, turn: Turn, name: str) -> _Change | None:
    """The call after the user said more."""
    if turn.value is not True or getattr(context, name):
        return None
    return _made(context, turn, {name: True}, f"it would be allowed if {_USERS_WORDS[name]}", (4, 0.0))


def _elsewhere(context: Context, turn: Turn, name: str) -> _Change | None:
    """The call at another time, in another environment or under another confinement."""
    if turn.value == getattr(context, name):
        return None
    if name == "time":
        return _made(context, turn, {name: turn.value}, f"the same call at {turn.value} UTC would be allowed", (5, 0.0))
    if turn.absent:
        return None
    text = f"the same call with {name} {turn.value!r} would be allowed"
    return _made(context, turn, {name: turn.value}, text, (6, 0.0))


def _argument(context: Context, turn: Turn) -> _Change | None:
    # INVARIANT: the text quotes no argument of the call, unless it is a number or a truth value: it may be a secret.
    name = turn.fact.removeprefix("args.")
    now = context.args.get(name)
    value, far = turn.value, 0.0
    if is_list(value) or turn.absent:  # an item that a list should hold, or should not
        if not is_list(now):
            return None
        value = [item for item in now if item != turn.value] if turn.absent else [*now, *value]
        said = f"{name} without {turn.value!r}" if turn.absent else f"{turn.value[0]!r} in {name}"
    elif _is_number(value) and _is_number(now):
        far = abs(value - now)
        said = f"{name} {value!r} instead of {now!r}"
    else:
        said = f"{name} {value!r}"
    if name in context.args and value == now and type(value) is type(now):
        return None
    args = {**context.args, name: value}
    return _made(context, turn, {"args": args}, f"the same call with {said} would be allowed", (0, far))


def _shorter(context: Context, turn: Turn) -> _Change | None:
    name = turn.fact[len("len(args.") : -len(")")]
    now = context.args.get(name)
    if not (isinstance(now, str) or is_list(now)) or not isinstance(turn.value, int):
        return None
    length = len(now)
    if not 0 <= turn.value < length:
        return None  # it can be cut, but nobody knows what to add
    what = "characters" if isinstance(now, str) else "items"
    text = f"the same call with {name} of {turn.value} {what} instead of {length} would be allowed"
    cut = {**context.args, name: now[: turn.value]}
    return _made(context, turn, {"args": cut}, text, (1, length - turn.value))


def _made(context: Context, turn: Turn, update: dict[str, Json], text: str, cost: tuple[int, float]) -> _Change:
    return _Change(fact=turn.fact, context=context.model_copy(update=update), text=text, cost=cost)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
