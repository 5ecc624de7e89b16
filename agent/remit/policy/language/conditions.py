"""Conditions of rules: one expression over a closed, typed set of facts, checked when loaded; evaluation never raises.

    args.<name>  subject.<name>  resource.<name>  has(args.<name>)  len(args.<name>)  labels  named_by_user  identified  unidentified  contains  quoted_by_user  requested_by_user
    effect  env  confinement  time  calls('mail.send')  calls('mail.send in conversation')  approved('role:lead')
    approvals('role:lead') >= 2  confirmed()  and  or  not  ==  !=  <  <=  >  >=  in  not in  'text'  12  True  False

`has(args.x)` is true if the call has that argument, so that a rule may ask before it reads it; likewise `has(resource.x)`.

A comparison with a fact that cannot be read is neither true nor false. `and` and `or` combine this third value independently
of order (false and ? is false, true or ? is true). If the whole condition has the third value, it counts as false on an allow
row and as true on a deny row, so an error never allows.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from remit.core import CONFIRMATION, IN_CONVERSATION, RENAMED, Context, Json, one_of, spelled
from remit.policy.language.evaluation import (
    TIME,
    ChangePoint,
    Evaluate,
    Kind,
    Read,
    Term,
    Unreadable,
    change_points,
    combine,
    is_contained,
    is_equal,
    is_ordered,
    is_true,
    kind_of_value,
)
from remit.policy.language.facts import (
    CLOSED,
    FACTS,
    KINDS,
    SIDES,
    argument,
    counted_calls,
    is_named,
    is_there,
    stated,
)
from remit.policy.language.hints import action_fix, approver_fix, fact_fix, syntax_fix, word_fix

LARGEST_NUMBER: Final = 2**53 - 1  # JSON keeps integers exactly up to here, so no argument is larger
LONGEST: Final = 1000  # characters
DEEPEST: Final = 32  # nested operators

# No square brackets, commas, double quotes or backslashes: so a condition is one CSV field, and texts have no escapes.
_TOKENS: Final = re.compile(
    r"[ ]+|[A-Za-z_][A-Za-z0-9_]*|(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?![A-Za-z0-9_.])|'[^'\"\\]*'(?!')|[=!<>]=|[<>().-]",
)
ROLE: Final = re.compile(r"role:[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", re.ASCII)

Effect: TypeAlias = Literal["allow", "deny"]
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


class ConditionError(ValueError):
    """A condition is not valid; `problems` are pairs: what is wrong, and what to write."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(what for what, _ in self.problems))


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The condition of one row.

    `text` is normalised. `reads` are the facts that it reads, by the name under which decisions show them. `thresholds` are,
    for each role whose approvals it counts, the counts at which its answer may change; `change_points` are the values of
    other facts at which it may. `constant`: True if the row always applies, False if never, None if that depends on facts.
    """

    text: str
    effect: Effect
    reads: Mapping[str, Read]
    thresholds: Mapping[str, frozenset[int]]
    _evaluate: Evaluate
    change_points: tuple[ChangePoint, ...] = ()
    constant: bool | None = None

    def answer(self, context: Context) -> bool | Unreadable:
        """True, False, or the reason why the condition cannot be evaluated."""
        return self._evaluate(context)

    def holds(self, context: Context) -> bool:
        """True if the row applies. An unreadable answer counts as false on an allow row and as true on a deny row."""
        answer = self._evaluate(context)
        return answer if isinstance(answer, bool) else self.effect == "deny"

    @cached_property
    def test(self) -> Callable[[Context], bool] | None:
        """`holds` as a plain function, shared by all rows with the same condition; None if the row always applies."""
        evaluate, if_unreadable, constant = self._evaluate, self.effect == "deny", self.constant
        if constant is not None:
            return None if constant else lambda _: False

        def test(context: Context) -> bool:
            answer = evaluate(context)
            return answer if isinstance(answer, bool) else if_unreadable

        return test

    def facts(self, context: Context) -> dict[str, Json]:
        """The values of the facts that it reads, as JSON; a fact that cannot be read is left out."""
        values: dict[str, Json] = {}
        for name, read in self.reads.items():
            try:
                value = read(context)
            except Unreadable:
                continue
            values[name] = sorted(cast("frozenset[str]", value)) if isinstance(value, frozenset) else value
        return values


def parse_condition(
    text: str,
    *,
    effect: Effect,
    arguments: Mapping[str, str] | None = None,
    actions: Iterable[str] | None = None,
) -> Condition:
    """Read the condition column of one row.

    `arguments` (name → JSON type) and `actions` are what exists in the workspace; None if not known.

    Raises:
        ConditionError: every problem of the condition.
    """
    _check_text(text)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConditionError([(f"condition {text!r} is not one complete expression", word_fix(text))]) from None
    reader = _ConditionReader(effect, arguments, None if actions is None else frozenset(actions))
    evaluate = reader.evaluator(tree.body, positive=True, depth=0)
    if reader.problems:
        raise ConditionError(reader.problems)
    condition = Condition(
        text=ast.unparse(tree),
        effect=effect,
        reads=reader.reads,
        thresholds={role: frozenset(counts) for role, counts in reader.thresholds.items()},
        _evaluate=evaluate,
        change_points=tuple(reader.change_points),
    )
    # Without facts the answer is the same for every request, so an empty context gives it.
    return condition if condition.reads else replace(condition, constant=condition.holds(Context()))


@lru_cache(maxsize=8192)
def read_condition(text: str, effect: Effect) -> Condition:
    """`parse_condition` without knowledge of arguments and actions; equal texts share one Condition."""
    return parse_condition(text, effect=effect)


@lru_cache(maxsize=4096)
def holds(text: str, effect: str) -> Callable[[Context], bool]:
    """The condition as a function for stock Casbin: it never raises, and an invalid condition never allows."""
    if effect not in get_args(Effect):
        return lambda _: False
    try:
        return parse_condition(text, effect=cast("Effect", effect)).holds
    except ConditionError:
        return lambda _: effect == "deny"


def _check_text(text: str) -> None:
    """Refuse characters outside the grammar before Python's parser reads the text."""
    if len(text) > LONGEST:
        raise ConditionError([(f"a condition is {len(text)} characters long", f"write at most {LONGEST}")])
    at = 0
    while at < len(text):
        token = _TOKENS.match(text, at)
        if token is None:
            raise ConditionError(
                [(f"condition {text!r} has a syntax error at {text[at : at + 20]!r}", syntax_fix(text, at))]
            )
        at = token.end()


@dataclass
class _ConditionReader:
    """Turns a syntax tree into functions, and checks names, types and the polarity of approvals."""

    effect: Effect
    arguments: Mapping[str, str] | None
    actions: frozenset[str] | None
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    reads: dict[str, Read] = field(default_factory=dict[str, Read])
    thresholds: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    change_points: list[ChangePoint] = field(default_factory=list[ChangePoint])

    # ── what is true or false ────────────────────────────────────────────────────────────────────────────────────────

    def evaluator(self, node: ast.expr, *, positive: bool, depth: int) -> Evaluate:
        """The function of a boolean expression. `positive` is False below an odd number of `not`."""
        if depth > DEEPEST:
            return self._report("a condition is nested too deeply", f"nest at most {DEEPEST} operators")
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.evaluator(value, positive=positive, depth=depth + 1) for value in values]
                return combine(parts, decisive=isinstance(op, ast.Or))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self.evaluator(operand, positive=not positive, depth=depth + 1)
                return lambda context: answer if isinstance(answer := part(context), Unreadable) else not answer
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                terms = [self.term(part) for part in (left, *comparators)]
                pairs = zip(ops, terms, terms[1:], strict=False)
                compared = [self._compared(_COMPARES.get(type(op), ""), a, b, positive) for op, a, b in pairs]
                return compared[0] if len(compared) == 1 else combine(compared, decisive=False)
            case ast.Call(func=ast.Name(id="approved")):
                role = self._role(node)
                return self._approvals_reach(role, 1, positive, f"approved({role!r})")
            case ast.Call(func=ast.Name(id="confirmed"), args=[], keywords=[]):
                return self._approvals_reach(CONFIRMATION, 1, positive, "confirmed()")
            case _:
                term = self.term(node)
                if term.kind not in ("boolean", "any"):
                    return self._report(f"{term.shown} is a {term.kind}, not true or false", "compare it with a value")
                if term.literal is None:
                    self.change_points.extend(ChangePoint(term.shown, value) for value in (True, False))
                return is_true(term)

    def _compared(self, sign: str, left: Term, right: Term, positive: bool) -> Evaluate:
        if not sign:
            return self._report("a condition compares by identity (is)", "write == or !=")
        if left.role or right.role:
            return self._approvals_compared(sign, left, right, positive)
        self._check_kinds(sign, left, right)
        self._check_values(left, right)
        self.change_points.extend(change_points(sign, left, right))
        if sign in _ORDERS:
            return is_ordered(_ORDERS[sign], left, right)
        if sign in ("in", "not in"):
            return is_contained(left, right, expected=sign == "in")
        return is_equal(left, right, expected=sign == "==")

    def _check_kinds(self, sign: str, left: Term, right: Term) -> None:
        """Refuse a comparison that the types of its sides make impossible or always false."""
        kinds = {left.kind, right.kind}
        shown = f"{left.shown} {sign} {right.shown}"
        if sign in ("in", "not in"):
            if right.kind not in ("set", "array", "string", "any"):
                self._report(
                    f"in {shown!r}, the right side is a {right.kind}, which contains nothing",
                    "use labels, unidentified, contains, a list or a text there",
                )
            elif left.kind not in ("string", "any") and right.kind in ("set", "string"):
                self._report(f"in {shown!r}, a {left.kind} is searched among texts", "search for a text")
            elif left.kind in ("set", "array", "object"):
                self._report(f"in {shown!r}, a whole {left.kind} is searched", "search for one value")
        elif kinds & {"set", "array", "object"}:
            self._report(f"{shown!r} compares a list or object as a whole", "use in, not in, or len(args.<name>)")
        elif sign in _ORDERS and "boolean" in kinds:
            self._report(f"{shown!r} orders true and false", "use == or !=")
        elif len(kinds - {"any"}) == 2:
            self._report(f"{shown!r} compares a {left.kind} with a {right.kind}", "compare values of the same type")

    def _check_values(self, left: Term, right: Term) -> None:
        """Refuse a literal that its fact can never equal."""
        for fact, literal in ((left.fact, right.literal), (right.fact, left.literal)):
            if not isinstance(literal, str):
                continue
            if fact == "time" and not TIME.fullmatch(literal):
                self._report(f"time is never {literal!r}", "write hours and minutes in UTC, as '09:30'")
            for name, values in CLOSED.items():
                if fact == name and literal not in values:
                    self._report(f"{name} is never {spelled(literal)}", one_of(literal, values))

    # ── approvals: allowed only where a further one cannot take an allow away ──────────────────────────────────────────

    def _approvals_compared(self, sign: str, left: Term, right: Term, positive: bool) -> Evaluate:
        if right.role and not left.role:
            left, right, sign = right, left, _MIRRORED.get(sign, "")
        shown = f"{left.shown} {sign} {right.shown}"
        number = right.literal
        if not isinstance(number, int) or isinstance(number, bool) or sign not in _ORDERS:
            return self._report(f"{shown!r} does not require a number of approvals", f"write {left.shown} >= 2")
        least = number if sign in (">=", "<") else number + 1
        if least < 1:
            return self._report(f"{shown!r} is always true: no count is below 0", "require at least 1")
        enough = self._approvals_reach(left.role, least, positive == (sign in (">=", ">")), shown)
        return enough if sign in (">=", ">") else lambda context: not enough(context)

    def _approvals_reach(self, role: str, least: int, positive: bool, shown: str) -> Evaluate:
        """True if at least `least` people approved.

        INVARIANT: approvals appear positively in allow rows and negated in deny rows only. Then a further approval never
        removes an allow, and `matching.find_approvals` may first test whether all approvals together would be enough.
        """
        if positive != (self.effect == "allow"):
            form = "without not" if self.effect == "allow" else "as not approved('role:…') or not confirmed()"
            self._report(f"in {shown!r}, an approval would forbid the call", f"in {self.effect} rows write it {form}")
        self.thresholds.setdefault(role, set()).add(least)
        fact = "confirmed()" if role == CONFIRMATION else f"approvals({role!r})"
        self.reads.setdefault(fact, lambda context: context.approvals.get(role, 0))
        return lambda context: context.approvals.get(role, 0) >= least

    def _role(self, node: ast.Call) -> str:
        role = self._text_argument(node)
        if not ROLE.fullmatch(role):
            self._report(f"{spelled(role)} is not a role", approver_fix(role))
        return role

    # ── what is compared ─────────────────────────────────────────────────────────────────────────────────────────────

    def term(self, node: ast.expr) -> Term:
        shown = ast.unparse(node)
        match node:
            case ast.Constant(value=int() as value) | ast.UnaryOp(operand=ast.Constant(value=int() as value)) if (
                value > LARGEST_NUMBER
            ):
                self._report(
                    f"a number is larger than {LARGEST_NUMBER}, which JSON readers do not keep exactly",
                    "write a smaller one, or a text",
                )
                return Term("number", lambda _: 0, "0", literal=0)
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return Term(kind_of_value(value), lambda _: value, shown, literal=value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if value is not True:
                return Term("number", lambda _: -value, shown, literal=-value)
            case ast.Name(id=name) if name in FACTS:
                return self._fact(name)
            case ast.Attribute(value=ast.Name(id=side), attr=name) if side in SIDES:
                return self._argument(name) if side == "args" else self._property(side, name)
            case ast.Call(func=ast.Name(id="has"), args=[named], keywords=[]):
                return self._has(named, shown)
            case ast.Call(func=ast.Name(id="calls")):
                return self._calls(node)
            case ast.Call(func=ast.Name(id="approvals")):
                role = self._role(node)
                return Term("number", lambda _: 0, shown, role=role)
            case ast.Call(func=ast.Name(id="len"), args=[argument], keywords=[]):
                return self._length(argument, shown)
            case _:
                fix = fact_fix(shown, FACTS, self.arguments or (), RENAMED["fact"].get(shown, ""))
                self._report(f"{spelled(shown)} is not a fact", fix)
                return Term("any", lambda _: None, shown)

    def _fact(self, name: str) -> Term:
        read: Read = operator.attrgetter(name)
        self.reads[name] = read
        return Term(FACTS[name], read, name, fact=name)

    def _argument(self, name: str) -> Term:
        shown = f"args.{name}"
        if self.arguments is not None and name not in self.arguments:
            fix = one_of(name, self.arguments, none="none, because no argument is common to all of them")
            self._report(f"{shown} is not an argument of the row's actions", fix)
        kind: Kind = KINDS.get((self.arguments or {}).get(name, "any"), "any")
        self.reads[shown] = argument(name)
        return Term(kind, self.reads[shown], shown)

    def _property(self, side: str, name: str) -> Term:
        shown = f"{side}.{name}"
        self.reads[shown] = stated(side, name)
        return Term("string" if name == "id" else "any", self.reads[shown], shown)

    def _has(self, node: ast.expr, shown: str) -> Term:
        reads_before = dict(self.reads)
        term = self.term(node)
        if not is_named(term.shown):
            self._report(
                f"{shown!r} asks for no argument or property", "write has(args.<name>) or has(resource.<name>)"
            )
            return Term("boolean", lambda _: False, shown)
        self.reads = {
            **reads_before,
            shown: is_there(term.shown),
        }  # a decision records whether it is there, not its value
        return Term("boolean", self.reads[shown], shown)

    def _calls(self, node: ast.Call) -> Term:
        counted = self._text_argument(node)
        action = counted.removesuffix(IN_CONVERSATION)
        if self.actions is not None and action not in self.actions:
            fix = f"{action_fix(action, self.actions)} Or 'tool.action{IN_CONVERSATION}'"
            self._report(f"calls({spelled(counted)}) does not name an action of this workspace", fix)
        shown = f"calls({counted!r})"
        self.reads[shown] = counted_calls(counted)
        return Term("number", self.reads[shown], shown)

    def _length(self, node: ast.expr, shown: str) -> Term:
        reads_before = dict(self.reads)
        term = self.term(node)
        if not is_named(term.shown) or term.kind not in ("string", "array", "object", "any"):
            self._report(f"{shown!r} has no length", "write len(args.<name>) of a text, list or object")

        def read(context: Context) -> Json:
            value = term.read(context)
            if not isinstance(value, str | list | dict):
                raise Unreadable(f"{term.shown} has no length")
            return len(cast("str | list[Json]", value))

        self.reads = {**reads_before, shown: read}  # a decision records the length, not the text
        return Term("number", read, shown)

    def _text_argument(self, node: ast.Call) -> str:
        match node:
            case ast.Call(args=[ast.Constant(value=str() as value)], keywords=[]):
                return value
            case _:
                self._report(
                    f"{ast.unparse(node)!r} does not have one name as argument", "write one name in single quotes"
                )
                return ""

    def _report(self, what: str, fix: str) -> Evaluate:
        if (what, fix) not in self.problems:
            self.problems.append((what, fix))
        return lambda _: False
