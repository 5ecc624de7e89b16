"""Three-valued evaluation of conditions: true, false, or `Unreadable` with the reason; and the operands of comparisons.

`and` and `or` treat the third value independently of order (Kleene logic): one decisive part settles the result, wherever
it stands. So the answer never depends on which fact is read first, and a further approval never removes an allow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypeGuard

from remit.core import Context, Json

TIME: Final = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)

Kind: TypeAlias = Literal["boolean", "number", "string", "array", "object", "set", "any"]


class Unreadable(Exception):
    """A fact could not be read or compared. It is returned as a value, and raised only within one comparison."""


Evaluate: TypeAlias = Callable[[Context], "bool | Unreadable"]
Read: TypeAlias = Callable[[Context], Json]  # raises Unreadable


@dataclass(frozen=True)
class Term:
    """One operand: its static kind, how to read it, and its value if the rule itself states it."""

    kind: Kind
    read: Read
    shown: str  # as messages show it
    literal: Json = None
    fact: str = ""  # the name of a plain fact, as "time"
    role: str = ""  # set for approvals(role)


@dataclass(frozen=True)
class ChangePoint:
    """A value of one fact at which a comparison may change its answer: `next_step` tries it.

    With `absent`, the value is removed from the set or list instead.
    """

    fact: str  # as decisions show it: "args.n", "len(args.text)", "labels", "calls('mail.send')"
    value: Json
    absent: bool = False


def change_points(sign: str, left: Term, right: Term) -> Iterator[ChangePoint]:
    """The values at which a comparison of a fact with a literal may change its answer: the literal and its neighbours."""
    if sign in ("in", "not in"):
        if left.literal is not None and right.literal is None:
            yield ChangePoint(right.shown, left.literal, absent=True)
            if right.fact == "":
                yield ChangePoint(right.shown, [left.literal])
        return
    fact, literal = (left, right.literal) if right.literal is not None else (right, left.literal)
    if literal is None or fact.literal is not None:
        return
    yield ChangePoint(fact.shown, literal)
    if fact.fact == "time" and TIME.fullmatch(str(literal)):
        minutes = int(literal[:2]) * 60 + int(literal[3:])
        for neighbour in ((minutes + step) % 1440 for step in (-1, 1)):
            yield ChangePoint(fact.shown, f"{neighbour // 60:02}:{neighbour % 60:02}")
    elif isinstance(literal, bool):
        yield ChangePoint(fact.shown, not literal)
    elif isinstance(literal, int | float):
        yield from (ChangePoint(fact.shown, literal + step) for step in (-1, 1))


def combine(parts: list[Evaluate], *, decisive: bool) -> Evaluate:
    """`or` with decisive=True, `and` with decisive=False: one decisive part settles the result, wherever it stands."""

    def evaluate(context: Context) -> bool | Unreadable:
        unreadable: Unreadable | None = None
        for part in parts:
            answer = part(context)
            if isinstance(answer, Unreadable):
                unreadable = unreadable or answer
            elif answer is decisive:
                return decisive
        return unreadable or (not decisive)

    return evaluate


def is_true(term: Term) -> Evaluate:
    """The term itself, which must be a boolean."""

    def compare(context: Context) -> bool:
        value = term.read(context)
        if not isinstance(value, bool):
            raise Unreadable(f"{term.shown} is not true or false")
        return value

    return _unreadable_as_value(compare)


def is_equal(left: Term, right: Term, *, expected: bool) -> Evaluate:
    """`left == right`, or `left != right` if False is expected."""
    general = _unreadable_as_value(lambda context: same(left.read(context), right.read(context)) is expected)
    if not isinstance(right.literal, str):
        return general
    text = right.literal
    return _fast_path(left.read, str, lambda value: (value == text) is expected, general)


def is_ordered(order: Callable[[Any, Any], bool], left: Term, right: Term) -> Evaluate:
    """`order(left, right)` for two numbers or two texts; any other pair is unreadable."""

    def compare(context: Context) -> bool:
        a, b = left.read(context), right.read(context)
        if kind_of_value(a) != kind_of_value(b) or kind_of_value(a) not in ("number", "string"):
            raise Unreadable(f"{left.shown} and {right.shown} have no order")
        return order(a, b)

    general = _unreadable_as_value(compare)
    if isinstance(right.literal, bool) or not isinstance(right.literal, int | str):
        return general
    literal = right.literal
    return _fast_path(left.read, type(literal), lambda value: order(value, literal), general)


def is_contained(left: Term, right: Term, *, expected: bool) -> Evaluate:
    """`left in right`, or `left not in right` if False is expected."""

    def compare(context: Context) -> bool:
        item, container = left.read(context), right.read(context)
        if isinstance(container, str | frozenset) and not isinstance(item, str):
            raise Unreadable(f"{left.shown} is not a text")
        if is_list_value(container):
            return any(same(item, member) for member in container) is expected
        if not isinstance(container, str | frozenset):
            raise Unreadable(f"{right.shown} is not a list or text")
        return (item in container) is expected

    general = _unreadable_as_value(compare)
    if not isinstance(left.literal, str):
        return general
    text = left.literal
    return _fast_path(right.read, frozenset, lambda value: (text in value) is expected, general)


def _unreadable_as_value(compare: Callable[[Context], bool]) -> Evaluate:
    """`compare`, with a raised Unreadable returned instead."""

    def evaluate(context: Context) -> bool | Unreadable:
        try:
            return compare(context)
        except Unreadable as unreadable:
            return unreadable.with_traceback(None)  # kept as an answer, so it must not keep the frames alive

    return evaluate


def _fast_path(read: Read, kind: type, compare: Callable[[Any], bool], general: Evaluate) -> Evaluate:
    """`general`, faster for a fact of the literal's own type, which is nearly every fact."""

    def evaluate(context: Context) -> bool | Unreadable:
        try:
            value = read(context)
        except Unreadable as unreadable:
            return unreadable.with_traceback(None)
        # INVARIANT: an exact type check, because True is an int and must not be compared as a number.
        return compare(value) if type(value) is kind else general(context)

    return evaluate


def kind_of_value(value: Json) -> Kind:
    """The kind of a value; "any" for null, lists and objects, which have no order."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "any"


def is_list_value(value: Json) -> TypeGuard[list[Json]]:
    """True for a list, typed so that both type checkers agree."""
    return isinstance(value, list)


def same(left: Json, right: Json) -> bool:
    """Equality as in JSON: `1` equals `1.0`, and true is not 1.

    Raises:
        Unreadable: one of them is a list or object; these are not compared as a whole.
    """
    if isinstance(left, list | dict) or isinstance(right, list | dict):
        raise Unreadable("a list or object is not compared as a whole")
    return kind_of_value(left) == kind_of_value(right) and left == right
