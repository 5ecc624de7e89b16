"""The structure of a condition: a tree over atoms (single comparisons), and which facts each atom reads.

The solver looks only at the structure: which facts an atom compares, with which constants, and how. Whether an atom
holds for given values is always computed by the policy's own evaluator. So the solver cannot disagree with the policy
about what a condition means; at worst it has too few examples, and `cells` reports those atoms as unsettled.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias, cast

from remit.core import CONFIRMATION, Context, Json
from remit.policy.language import SIDES, Condition, parse_condition

# One variable of the search: ("args", "path"), ("resource", "status"), ("labels", "untrusted"), ("calls", "mail.send"), ("time", "").
Fact: TypeAlias = tuple[str, str]
Truth: TypeAlias = bool | None  # None: the comparison cannot be evaluated, for example because an argument is absent

# Facts that are sets of texts. Each member that a condition names is one Boolean variable.
SETS: Final = ("labels", "unidentified", "contains")


class Absent:
    """The value of an argument or a property that is not there; of a property also: in doubt."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


_ORDERS: Final[Mapping[type[ast.cmpop], str]] = {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<="}
ABSENT: Final = Absent("ABSENT")
UNCLEAR: Final = Absent("UNCLEAR")
Value: TypeAlias = Json  # or ABSENT, or UNCLEAR


# Atoms are compared by identity. `_atom` is cached, so equal texts give the same atom, also in different conditions.
@dataclass(frozen=True, eq=False)
class Atom:
    """One comparison.

    `facts` are the variables that it reads. `searched_set` names the set in which it looks for a value ("" for none).
    `role` and `least` are set for approvals: it holds from `least` approvals on, or below `-least` if that is negative.
    `comparisons` are (fact, how, constant), where `how` is "==", "<", "holds", "within", "len" or "member".
    `linked` are the facts that it compares with each other. `inexact`: examples may not show every outcome.
    """

    text: str
    facts: tuple[Fact, ...]
    searched_set: str
    role: str
    least: int
    condition: Condition | None
    comparisons: tuple[tuple[Fact, str, Json], ...]
    linked: tuple[Fact, ...]
    inexact: bool


@dataclass(frozen=True, eq=False)
class ConditionTree:
    """A node of the tree. `op` is "and", "or", "not", "atom" or "const"."""

    op: str
    parts: tuple[ConditionTree, ...] = ()
    atom: Atom | None = None
    value: bool = False


@lru_cache(maxsize=65_536)
def tree_of(text: str) -> ConditionTree:
    """Build the tree of a condition. The loader has accepted the text before."""
    return _tree(ast.parse(text, mode="eval").body)


@lru_cache(maxsize=65_536)
def atoms_of(text: str) -> tuple[Atom, ...]:
    """List the atoms of a condition, each once, in their order."""
    found: dict[Atom, None] = {}
    ahead = [tree_of(text)]
    while ahead:
        tree = ahead.pop()
        if tree.atom is not None:
            found[tree.atom] = None
        ahead.extend(reversed(tree.parts))
    return tuple(found)


def _tree(node: ast.expr) -> ConditionTree:
    match node:
        case ast.BoolOp(op=op, values=values):
            return ConditionTree("or" if isinstance(op, ast.Or) else "and", tuple(map(_tree, values)))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ConditionTree("not", (_tree(operand),))
        case ast.Constant(value=bool() as value):
            return ConditionTree("const", value=value)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            # `a < b < c` is the conjunction of its neighbouring pairs.
            sides = (left, *comparators)
            pairs = [
                ConditionTree("atom", atom=_atom(ast.unparse(ast.Compare(left=a, ops=[op], comparators=[b]))))
                for a, op, b in zip(sides, ops, comparators, strict=False)
            ]
            return pairs[0] if len(pairs) == 1 else ConditionTree("and", tuple(pairs))
        case _:
            return ConditionTree("atom", atom=_atom(ast.unparse(node)))


@lru_cache(maxsize=65_536)
def _atom(text: str) -> Atom:
    node = ast.parse(text, mode="eval").body
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "approved":
        return _approval(text, str(cast("ast.Constant", node.args[0]).value), 1)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "confirmed":
        return _approval(text, CONFIRMATION, 1)
    if isinstance(node, ast.Compare):
        left, right, op = node.left, node.comparators[0], node.ops[0]
        for side, other, mirrored in ((left, right, False), (right, left, True)):
            if isinstance(side, ast.Call) and isinstance(side.func, ast.Name) and side.func.id == "approvals":
                number = int(cast("int", _literal(other)))
                role = str(cast("ast.Constant", side.args[0]).value)
                return _approvals(text, role, number, op, mirrored)
        return _comparison(text, left, op, right)
    fact = _fact_read_by(node)
    facts = () if fact is None else (fact,)
    return Atom(text, facts, "", "", 0, _condition(text), (), (), fact is None)


def _approval(text: str, role: str, least: int) -> Atom:
    return Atom(text, (("approvals", role),), "", role, least, None, (), (), False)


def _approvals(text: str, role: str, number: int, op: ast.cmpop, mirrored: bool) -> Atom:
    """Read `approvals(role) >= n` or its mirror. `least` is negative where the condition asks for fewer than so many."""
    sign = _ORDERS[type(op)]
    if mirrored:
        sign = {">": "<", ">=": "<=", "<": ">", "<=": ">="}[sign]
    least = number if sign in (">=", "<") else number + 1
    return _approval(text, role, least if sign in (">=", ">") else -least)


def _comparison(text: str, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Atom:
    condition = _condition(text)
    if not isinstance(op, ast.In | ast.NotIn):
        how = "==" if isinstance(op, ast.Eq | ast.NotEq) else "<"
        return _relation(text, left, how, right, condition)
    if isinstance(right, ast.Name) and right.id in SETS:
        return _membership(text, left, right.id, condition)
    return _containment(text, left, right, condition)


def _membership(text: str, item: ast.expr, name: str, condition: Condition) -> Atom:
    """Read `item in labels`.

    For a constant, its membership is the only fact. For an argument, the value of the argument is a fact too, and the
    search asks for the membership of that value once it is chosen.
    """
    fact = _fact_read_by(item)
    if fact is None:
        return Atom(text, ((name, str(_literal(item))),), name, "", 0, condition, (), (), False)
    # Sets hold texts, and a length is a number: examples of the argument do not show every outcome.
    return Atom(text, (fact,), name, "", 0, condition, ((fact, "member", None),), (), _is_length(item))


def _containment(text: str, item: ast.expr, whole: ast.expr, condition: Condition) -> Atom:
    """Read `item in whole`: a constant in a fact, or a fact in a constant. Anything else is inexact."""
    a, b = _fact_read_by(item), _fact_read_by(whole)
    if b is not None and a is None and not _is_length(whole):
        return Atom(text, (b,), "", "", 0, condition, ((b, "holds", _literal(item)),), (), False)
    if a is not None and b is None and not _is_length(item):
        return Atom(text, (a,), "", "", 0, condition, ((a, "within", _literal(whole)),), (), False)
    return _of_two_facts(text, a, b, condition, inexact=True)


def _relation(text: str, left: ast.expr, how: str, right: ast.expr, condition: Condition) -> Atom:
    """Read an equality or an order, of a fact and a constant or of two facts."""
    a, b = _fact_read_by(left), _fact_read_by(right)
    if a is not None and b is not None:
        # The examples occur in every order only among facts of one kind, and only if the values themselves are compared.
        lengths = _is_length(left) or _is_length(right)
        alike = (a[0] in SIDES and b[0] in SIDES) or a[0] == b[0] == "calls"
        return _of_two_facts(text, a, b, condition, inexact=lengths or not alike)
    if a is None and b is None:  # two constants
        return Atom(text, (), "", "", 0, condition, (), (), False)
    fact, constant, side = (a, _literal(right), left) if a is not None else (b, _literal(left), right)
    assert fact is not None
    uses = ((fact, "len" if _is_length(side) else how, constant),)
    return Atom(text, (fact,), "", "", 0, condition, uses, (), False)


def _of_two_facts(text: str, a: Fact | None, b: Fact | None, condition: Condition, *, inexact: bool) -> Atom:
    facts = tuple(dict.fromkeys(fact for fact in (a, b) if fact is not None))
    return Atom(text, facts, "", "", 0, condition, (), facts, inexact)


def _fact_read_by(node: ast.expr) -> Fact | None:
    """The fact that one side of a comparison reads; None for a constant."""
    match node:
        case ast.Name(id=name):
            return None if name in SETS else (name, "")
        case ast.Attribute(value=ast.Name(id=side), attr=name):
            return (side, name)
        case ast.Call(func=ast.Name(id="calls"), args=[ast.Constant(value=str() as action)]):
            return ("calls", action)
        case ast.Call(func=ast.Name(id="len" | "has"), args=[argument]):
            return _fact_read_by(argument)
        case _:
            return None


def _is_length(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len"


def _literal(node: ast.expr) -> Json:
    return ast.literal_eval(node)


def _condition(text: str) -> Condition:
    return parse_condition(text, effect="allow")


def context_of(values: Mapping[Fact, Value]) -> Context:
    """Build the policy's context from chosen values; every other fact has its default."""
    sides: dict[str, dict[str, Json]] = {side: {} for side in SIDES}
    unclear: set[str] = set()
    sets: dict[str, set[str]] = {name: set() for name in SETS}
    counts: dict[str, dict[str, int]] = {"calls": {}, "approvals": {}}
    plain: dict[str, Json] = {"time": "12:00"}
    for (kind, name), value in values.items():
        if kind in SIDES:
            if value is UNCLEAR:
                unclear.add(f"{kind}.{name}")
            elif value is not ABSENT:
                sides[kind][name] = value
        elif kind in SETS:
            if value:
                sets[kind].add(name)
        elif kind in counts:
            if value:
                counts[kind][name] = value
        else:
            plain[kind] = value
    return Context(
        args=sides["args"],
        subject=sides["subject"],
        resource=sides["resource"],
        unclear=frozenset(unclear),
        labels=frozenset(sets["labels"]),
        unidentified=frozenset(sets["unidentified"]),
        contains=frozenset(sets["contains"]),
        calls=counts["calls"],
        approvals=counts["approvals"],
        **plain,
    )


def evaluate_atom(atom: Atom, values: Mapping[Fact, Value]) -> Truth:
    """Evaluate the atom for those values, as the policy does; None where it cannot be evaluated."""
    if atom.role:
        given = int(values[("approvals", atom.role)])
        return given >= atom.least if atom.least > 0 else given < -atom.least
    assert atom.condition is not None
    answer = atom.condition.answer(context_of(values))
    return answer if isinstance(answer, bool) else None
