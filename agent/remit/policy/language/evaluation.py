"""Three answers: true, false, and why neither can be said; and what conditions are made of.

`and` and `or` weigh the third answer without regard to order: one decisive part settles it, wherever it stands. So the
answer never depends on which fact is read first, and further approvals can never take an allow away again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeGuard

from remit.core import Context, Json

Kind: TypeAlias = Literal["boolean", "number", "string", "array", "object", "set", "any"]


class Unreadable(Exception):
    """A fact could not be read, or not compared: an answer, raised within one comparison only."""


Truth: TypeAlias = Callable[[Context], "bool | Unreadable"]
Read: TypeAlias = Callable[[Context], Json]  # raises Unreadable


@dataclass(frozen=True)
class Term:
    """One operand: its static kind, how to read it, and its value where that is written in the rule itself."""

    kind: Kind
    read: Read
    shown: str
    literal: Json = None
    fact: str = ""
    role: str = ""  # set where it is approvals(role)


@dataclass(frozen=True)
class Turn:
    """A value of one fact at which a comparison may turn: what a remedy tries. `absent` tries without it instead."""

    fact: str  # as decisions show it: "args.n", "len(args.text)", "labels", "calls('mail.send')"
    value: Json
    absent: bool = False


def weighed(parts: list[Truth], *, decisive: bool) -> Truth:
    """`or` where true is decisive, `and` where false is: one decisive part settles it, wherever it stands."""

    def truth(context: Context) -> bool | Unreadable:
        unreadable: Unreadable | None = None
        for part in parts:
            answer = part(context)
            if isinstance(answer, Unreadable):
                unreadable = unreadable or answer
            elif answer is decisive:
                return decisive
        return unreadable or (not decisive)

    return truth


def asserted(term: Term) -> Truth:
    def compare(context: Context) -> bool:
        value = term.read(context)
        if not isinstance(value, bool):
            raise Unreadable(f"{term.shown} is not true or false")
        return value

    return _caught(compare)


def equal(left: Term, right: Term, *, wanted: bool) -> Truth:
    whole = _caught(lambda context: same(left.read(context), right.read(context)) is wanted)
    if not isinstance(right.literal, str):
        return whole
    text = right.literal
    return _quick(left.read, str, lambda value: (value == text) is wanted, whole)


def ordered(order: Callable[[Any, Any], bool], left: Term, right: Term) -> Truth:
    def compare(context: Context) -> bool:
        a, b = left.read(context), right.read(context)
        if kind_of(a) != kind_of(b) or kind_of(a) not in ("number", "string"):
            raise Unreadable(f"{left.shown} and {right.shown} have no order")
        return order(a, b)

    whole = _caught(compare)
    if isinstance(right.literal, bool) or not isinstance(right.literal, int | str):
        return whole
    literal = right.literal
    return _quick(left.read, type(literal), lambda value: order(value, literal), whole)


def contained(left: Term, right: Term, *, wanted: bool) -> Truth:
    def compare(context: Context) -> bool:
        item, whole = left.read(context), right.read(context)
        if isinstance(whole, str | frozenset) and not isinstance(item, str):
            raise Unreadable(f"{left.shown} is not a text")
        if is_list(whole):
            return any(same(item, one) for one in whole) is wanted
        if not isinstance(whole, str | frozenset):
            raise Unreadable(f"{right.shown} holds nothing")
        return (item in whole) is wanted

    every = _caught(compare)
    if not isinstance(left.literal, str):
        return every
    text = left.literal
    return _quick(right.read, frozenset, lambda value: (text in value) is wanted, every)


def _caught(compare: Callable[[Context], bool]) -> Truth:
    def truth(context: Context) -> bool | Unreadable:
        try:
            return compare(context)
        except Unreadable as unreadable:
            return unreadable.with_traceback(None)  # kept as an answer, so it must not keep the frames alive

    return truth


def _quick(read: Read, kind: type, compare: Callable[[Any], bool], whole: Truth) -> Truth:
    """`whole`, sooner where the fact is there and of the literal's own type, which it nearly always is."""

    def truth(context: Context) -> bool | Unreadable:
        try:
            value = read(context)
        except Unreadable as unreadable:
            return unreadable.with_traceback(None)
        return compare(value) if type(value) is kind else whole(context)

    return truth


def kind_of(value: Json) -> Kind:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "any"


def is_list(value: Json) -> TypeGuard[list[Json]]:
    """Whether it is a list, in words that both type checkers read alike."""
    return isinstance(value, list)


def same(one: Json, other: Json) -> bool:
    """Equality as JSON has it: `1` is `1.0`, and true is not 1."""
    if isinstance(one, list | dict) or isinstance(other, list | dict):
        raise Unreadable("a list or object is not compared whole")
    return kind_of(one) == kind_of(other) and one == other
