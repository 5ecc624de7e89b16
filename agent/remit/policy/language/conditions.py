"""Conditions: one expression over a closed, typed set of facts, read once and total ever after.

    args.<name>  labels  named  known  unknown  carries  said  intended  effect  calls('mail.send')  approved('role:lead')
    approvals('role:lead') >= 2  env  confinement  time  len(args.<name>)  and or not == != < <= > >= in, not in  'text'  12  True  False

A fact that cannot be read makes its comparison neither true nor false. `and` and `or` weigh that third answer without
regard to order (false and ? is false, true or ? is true); what remains of it is false on an allow row and true on a
deny row, so that an error never allows.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from remit.core import Confinement, Context, Json
from remit.core import Effect as DoneTo
from remit.policy.language.evaluation import (
    Kind,
    Read,
    Term,
    Truth,
    Turn,
    Unreadable,
    asserted,
    contained,
    equal,
    kind_of,
    ordered,
    weighed,
)

LARGEST_NUMBER: Final = 2**53 - 1  # what JSON keeps exactly, so no argument is larger
LONGEST: Final = 1000  # characters
DEEPEST: Final = 32  # nested operators

_TOKENS: Final = re.compile(
    r"[ ]+|[A-Za-z_][A-Za-z0-9_]*|(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?![A-Za-z0-9_.])|'[^'\"\\]*'(?!')|[=!<>]=|[<>().-]",
)
ROLE: Final = re.compile(r"role:[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", re.ASCII)
TIME: Final = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)

Effect: TypeAlias = Literal["allow", "deny"]
_KINDS: Final[Mapping[str, Kind]] = {
    "boolean": "boolean",
    "integer": "number",
    "number": "number",
    "string": "string",
    "array": "array",
    "object": "object",
}
_FACTS: Final[Mapping[str, Kind]] = {
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
_CLOSED: Final = {"confinement": get_args(Confinement), "effect": get_args(DoneTo)}
_COMPARES: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED: Final[Mapping[str, str]] = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_GRAMMAR: Final = "write facts, 'text', numbers, and, or, not, comparisons and in"


class ConditionError(ValueError):
    """A condition is not one that policy reads; `problems` holds (what is wrong, what to write)."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(what for what, _ in self.problems))


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition of a row. `text` is normalised; `reads` are the facts it reads, by the name they are shown under.

    `thresholds` says, for each role it asks approvals of, at which numbers of them the answer may change; `turns` are
    values of the other facts at which it may. `constant` is whether the row always or never applies; None: by the facts.
    """

    text: str
    effect: Effect
    reads: Mapping[str, Read]
    thresholds: Mapping[str, frozenset[int]]
    _truth: Truth
    turns: tuple[Turn, ...] = ()
    constant: bool | None = None

    def answer(self, context: Context) -> bool | Unreadable:
        """True, false, or why neither can be said."""
        return self._truth(context)

    def holds(self, context: Context) -> bool:
        """Whether the row applies: an answer that cannot be given is false on an allow row and true on a deny row."""
        answer = self._truth(context)
        return answer if isinstance(answer, bool) else self.effect == "deny"

    @cached_property
    def test(self) -> Callable[[Context], bool] | None:
        """`holds` as one function for all rows that ask the same; None: the row always applies."""
        truth, otherwise, constant = self._truth, self.effect == "deny", self.constant
        if constant is not None:
            return None if constant else lambda _: False

        def test(context: Context) -> bool:
            answer = truth(context)
            return answer if isinstance(answer, bool) else otherwise

        return test

    def facts(self, context: Context) -> dict[str, Json]:
        """What it reads, as JSON; a fact that cannot be read is left out."""
        found: dict[str, Json] = {}
        for name, read in self.reads.items():
            try:
                value = read(context)
            except Unreadable:
                continue
            found[name] = sorted(cast("frozenset[str]", value)) if isinstance(value, frozenset) else value
        return found


def parse_condition(
    text: str,
    *,
    effect: Effect,
    arguments: Mapping[str, str] | None = None,
    actions: Iterable[str] | None = None,
) -> Condition:
    """Read the condition column of one row. `arguments` (name → JSON type) and `actions` are what exists, None if unknown.

    Raises:
        ConditionError: with everything wrong in it.
    """
    _check_text(text)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConditionError([(f"condition {text!r} is not one whole expression", _GRAMMAR)]) from None
    reader = _Reader(effect, arguments, None if actions is None else frozenset(actions))
    truth = reader.truth(tree.body, positive=True, depth=0)
    if reader.problems:
        raise ConditionError(reader.problems)
    asked = Condition(
        text=ast.unparse(tree),
        effect=effect,
        reads=reader.reads,
        thresholds={role: frozenset(counts) for role, counts in reader.thresholds.items()},
        _truth=truth,
        turns=tuple(reader.turns),
    )
    return asked if asked.reads else replace(asked, constant=asked.holds(Context()))


def _turns(sign: str, left: Term, right: Term) -> Iterator[Turn]:
    """The values around a written one, where a comparison of a fact with it may change its answer."""
    if sign in ("in", "not in"):
        if left.literal is not None and right.literal is None:
            yield Turn(right.shown, left.literal, absent=True)
            if right.fact == "":
                yield Turn(right.shown, [left.literal])
        return
    fact, literal = (left, right.literal) if right.literal is not None else (right, left.literal)
    if literal is None or fact.literal is not None:
        return
    yield Turn(fact.shown, literal)
    if fact.fact == "time" and TIME.fullmatch(str(literal)):
        minutes = int(literal[:2]) * 60 + int(literal[3:])
        for near in ((minutes + step) % 1440 for step in (-1, 1)):
            yield Turn(fact.shown, f"{near // 60:02}:{near % 60:02}")
    elif isinstance(literal, bool):
        yield Turn(fact.shown, not literal)
    elif isinstance(literal, int | float):
        yield from (Turn(fact.shown, literal + step) for step in (-1, 1))


@lru_cache(maxsize=8192)
def read_condition(text: str, effect: Effect) -> Condition:
    """`parse_condition` where nobody knows which arguments and actions exist: equal conditions are one, over all files."""
    return parse_condition(text, effect=effect)


@lru_cache(maxsize=4096)
def holds(text: str, effect: str) -> Callable[[Context], bool]:
    """The condition as a stock Casbin enforcer asks for it: total, and closed against what it cannot read."""
    if effect not in get_args(Effect):
        return lambda _: False
    try:
        return parse_condition(text, effect=cast("Effect", effect)).holds
    except ConditionError:
        return lambda _: effect == "deny"


def _check_text(text: str) -> None:
    """Refuse what the grammar has no word for, before Python's parser sees it."""
    if len(text) > LONGEST:
        raise ConditionError([(f"a condition is {len(text)} characters long", f"write at most {LONGEST}")])
    at = 0
    while at < len(text):
        token = _TOKENS.match(text, at)
        if token is None:
            raise ConditionError([(f"condition {text!r} goes wrong at {text[at : at + 20]!r}", _GRAMMAR)])
        at = token.end()


@dataclass
class _Reader:
    """Turns a syntax tree into functions, checking names, types and the polarity of approvals on the way."""

    effect: Effect
    arguments: Mapping[str, str] | None
    actions: frozenset[str] | None
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    reads: dict[str, Read] = field(default_factory=dict[str, Read])
    thresholds: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    turns: list[Turn] = field(default_factory=list[Turn])

    # ── what is true or false ────────────────────────────────────────────────────────────────────────────────────────

    def truth(self, node: ast.expr, *, positive: bool, depth: int) -> Truth:
        if depth > DEEPEST:
            return self._wrong("a condition is nested too deeply", f"nest at most {DEEPEST} operators")
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.truth(value, positive=positive, depth=depth + 1) for value in values]
                return weighed(parts, decisive=isinstance(op, ast.Or))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self.truth(operand, positive=not positive, depth=depth + 1)
                return lambda context: answer if isinstance(answer := part(context), Unreadable) else not answer
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                terms = [self.term(part) for part in (left, *comparators)]
                pairs = zip(ops, terms, terms[1:], strict=False)
                compared = [self._compared(_COMPARES.get(type(op), ""), a, b, positive) for op, a, b in pairs]
                return compared[0] if len(compared) == 1 else weighed(compared, decisive=False)
            case ast.Call(func=ast.Name(id="approved")):
                role = self._role(node)
                return self._approvals_reach(role, 1, positive, f"approved({role!r})")
            case _:
                term = self.term(node)
                if term.kind not in ("boolean", "any"):
                    return self._wrong(f"{term.shown} is a {term.kind}, not true or false", "compare it with something")
                if term.literal is None:
                    self.turns.extend(Turn(term.shown, value) for value in (True, False))
                return asserted(term)

    def _compared(self, sign: str, left: Term, right: Term, positive: bool) -> Truth:
        if not sign:
            return self._wrong("a condition compares by identity", "write == or !=")
        if left.role or right.role:
            return self._approvals_compared(sign, left, right, positive)
        self._check_kinds(sign, left, right)
        self._check_values(left, right)
        self.turns.extend(_turns(sign, left, right))
        if sign in _ORDERS:
            return ordered(_ORDERS[sign], left, right)
        if sign in ("in", "not in"):
            return contained(left, right, wanted=sign == "in")
        return equal(left, right, wanted=sign == "==")

    def _check_kinds(self, sign: str, left: Term, right: Term) -> None:
        """Refuse a comparison that cannot hold, or cannot be made, by the types of its sides."""
        kinds = {left.kind, right.kind}
        shown = f"{left.shown} {sign} {right.shown}"
        if sign in ("in", "not in"):
            if right.kind not in ("set", "array", "string", "any"):
                self._wrong(
                    f"in {shown!r}, a {right.kind} holds nothing",
                    "put labels, unknown, carries, a list or a text there",
                )
            elif left.kind not in ("string", "any") and right.kind in ("set", "string"):
                self._wrong(f"in {shown!r}, a {left.kind} is looked for among texts", "look for a text")
            elif left.kind in ("set", "array", "object"):
                self._wrong(f"in {shown!r}, a {left.kind} is looked for", "look for one value")
        elif kinds & {"set", "array", "object"}:
            self._wrong(f"{shown!r} compares a list or object whole", "use in, not in, or len(args.<name>)")
        elif sign in _ORDERS and "boolean" in kinds:
            self._wrong(f"{shown!r} puts true and false in order", "use == or !=")
        elif len(kinds - {"any"}) == 2:
            self._wrong(f"{shown!r} compares a {left.kind} with a {right.kind}", "compare like with like")

    def _check_values(self, left: Term, right: Term) -> None:
        """Refuse a written value that its fact can never have."""
        for fact, other in ((left.fact, right.literal), (right.fact, left.literal)):
            if not isinstance(other, str):
                continue
            if fact == "time" and not TIME.fullmatch(other):
                self._wrong(f"time is never {other!r}", "write UTC hours and minutes, as '09:30'")
            for name, values in _CLOSED.items():
                if fact == name and other not in values:
                    self._wrong(f"{name} is never {other!r}", f"write one of {', '.join(values)}")

    # ── approvals: only where more of them can only help ─────────────────────────────────────────────────────────────

    def _approvals_compared(self, sign: str, left: Term, right: Term, positive: bool) -> Truth:
        if right.role and not left.role:
            left, right, sign = right, left, _MIRRORED.get(sign, "")
        shown = f"{left.shown} {sign} {right.shown}"
        number = right.literal
        if not isinstance(number, int) or isinstance(number, bool) or sign not in _ORDERS:
            return self._wrong(f"{shown!r} does not ask for a number of approvals", f"write {left.shown} >= 2")
        least = number if sign in (">=", "<") else number + 1
        if least < 1:
            return self._wrong(f"{shown!r} says nothing: no approval is ever fewer than none", "ask for at least 1")
        enough = self._approvals_reach(left.role, least, positive == (sign in (">=", ">")), shown)
        return enough if sign in (">=", ">") else lambda context: not enough(context)

    def _approvals_reach(self, role: str, least: int, positive: bool, shown: str) -> Truth:
        """Whether enough people approved.

        Approvals stand positively in allow rows and negated in deny rows only: then a further approval never takes
        away, and "would every approval together be enough" is an exact question.
        """
        if positive != (self.effect == "allow"):
            wanted = "without not" if self.effect == "allow" else "as not approved('role:…')"
            self._wrong(
                f"{shown!r} would make an approval forbid something", f"in {self.effect} rows write it {wanted}"
            )
        self.thresholds.setdefault(role, set()).add(least)
        self.reads.setdefault(f"approvals({role!r})", lambda context: context.approvals.get(role, 0))
        return lambda context: context.approvals.get(role, 0) >= least

    def _role(self, node: ast.Call) -> str:
        role = self._text_argument(node)
        if not ROLE.fullmatch(role):
            self._wrong(f"{role!r} is not a role", "write role:<name> in single quotes")
        return role

    # ── what is compared ─────────────────────────────────────────────────────────────────────────────────────────────

    def term(self, node: ast.expr) -> Term:
        shown = ast.unparse(node)
        match node:
            case ast.Constant(value=int() as value) | ast.UnaryOp(operand=ast.Constant(value=int() as value)) if (
                value > LARGEST_NUMBER
            ):
                self._wrong("a number is larger than JSON readers keep exactly", "write a smaller one, or a text")
                return Term("number", lambda _: 0, "0", literal=0)
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return Term(kind_of(value), lambda _: value, shown, literal=value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if value is not True:
                return Term("number", lambda _: -value, shown, literal=-value)
            case ast.Name(id=name) if name in _FACTS:
                return self._fact(name)
            case ast.Attribute(value=ast.Name(id="args"), attr=name):
                return self._argument(name)
            case ast.Call(func=ast.Name(id="calls")):
                return self._calls(node)
            case ast.Call(func=ast.Name(id="approvals")):
                role = self._role(node)
                return Term("number", lambda _: 0, shown, role=role)
            case ast.Call(func=ast.Name(id="len"), args=[argument], keywords=[]):
                return self._length(argument, shown)
            case _:
                self._wrong(
                    f"{shown!r} is not a fact", f"use one of args.<name>, calls('tool.action'), {', '.join(_FACTS)}"
                )
                return Term("any", lambda _: None, shown)

    def _fact(self, name: str) -> Term:
        read: Read = operator.attrgetter(name)
        self.reads[name] = read
        return Term(_FACTS[name], read, name, fact=name)

    def _argument(self, name: str) -> Term:
        shown = f"args.{name}"
        if self.arguments is not None and name not in self.arguments:
            known = ", ".join(sorted(self.arguments)) or "none that every action of the row has"
            self._wrong(f"{shown} is no argument of the row's actions", f"use one of: {known}")
        kind: Kind = _KINDS.get((self.arguments or {}).get(name, "any"), "any")

        def read(context: Context) -> Json:
            if name not in context.args:
                raise Unreadable(f"{shown} is not there")
            return context.args[name]

        self.reads[shown] = read
        return Term(kind, read, shown)

    def _calls(self, node: ast.Call) -> Term:
        action = self._text_argument(node)
        if self.actions is not None and action not in self.actions:
            self._wrong(f"calls({action!r}) counts no action of this workspace", "write tool.action, as tools/ has it")
        shown = f"calls({action!r})"
        self.reads[shown] = lambda context: context.calls.get(action, 0)
        return Term("number", self.reads[shown], shown)

    def _length(self, node: ast.expr, shown: str) -> Term:
        already = dict(self.reads)
        term = self.term(node)
        if not term.shown.startswith("args.") or term.kind not in ("string", "array", "object", "any"):
            self._wrong(f"{shown!r} has no length", "write len(args.<name>) of a text, list or object")

        def read(context: Context) -> Json:
            value = term.read(context)
            if not isinstance(value, str | list | dict):
                raise Unreadable(f"{term.shown} has no length")
            return len(cast("str | list[Json]", value))

        self.reads = {**already, shown: read}  # the length is what was read, not the whole text
        return Term("number", read, shown)

    def _text_argument(self, node: ast.Call) -> str:
        match node:
            case ast.Call(args=[ast.Constant(value=str() as value)], keywords=[]):
                return value
            case _:
                self._wrong(f"{ast.unparse(node)!r} does not name one thing", "write its name in single quotes")
                return ""

    def _wrong(self, what: str, fix: str) -> Truth:
        if (what, fix) not in self.problems:
            self.problems.append((what, fix))
        return lambda _: False
