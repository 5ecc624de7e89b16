"""A condition as a tree over single comparisons (atoms), and what each of these reads.

Only the shape of a condition is analysed here: which facts an atom compares, with which constants, and how. Whether
an atom holds for some values is always asked of the condition itself, as it runs, so the solver cannot read it
otherwise.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias, cast

from remit.core import Context, Json
from remit.policy.language import Condition, parse_condition

Dim: TypeAlias = tuple[str, str]  # ("args", "path"), ("labels", "untrusted"), ("calls", "mail.send"), ("time", "")
Truth: TypeAlias = bool | None  # None: it cannot be read

SETS: Final = ("labels", "unidentified", "contains")
VALUES: Final = (
    "args",
    "env",
    "confinement",
    "effect",
    "time",
)  # a dimension of these holds the value that a place in a set is of


class Absent:
    """An argument that is not there."""

    def __repr__(self) -> str:
        return "ABSENT"


_ORDERS: Final[Mapping[type[ast.cmpop], str]] = {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<="}
ABSENT: Final = Absent()
Value: TypeAlias = Json  # or ABSENT


@dataclass(frozen=True, eq=False)
class Atom:
    """One comparison. `literals` are the constants it compares with, by how; `member` names a set it looks into."""

    text: str
    dims: tuple[Dim, ...]
    member: str
    role: str
    least: int
    condition: Condition | None
    uses: tuple[tuple[Dim, str, Json], ...]  # (dimension, "==" | "<" | "holds" | "within" | "len" | "member", constant)
    linked: tuple[Dim, ...]
    inexact: bool


@dataclass(frozen=True, eq=False)
class Tree:
    """`op` is "and", "or", "not", "atom" or "const"."""

    op: str
    parts: tuple[Tree, ...] = ()
    atom: Atom | None = None
    value: bool = False


@lru_cache(maxsize=65_536)
def tree_of(text: str) -> Tree:
    """The tree of a condition that was read before."""
    return _tree(ast.parse(text, mode="eval").body)


@lru_cache(maxsize=65_536)
def atoms_of(text: str) -> tuple[Atom, ...]:
    """The comparisons of a condition, each once."""
    found: dict[Atom, None] = {}
    ahead = [tree_of(text)]
    while ahead:
        tree = ahead.pop()
        if tree.atom is not None:
            found[tree.atom] = None
        ahead.extend(reversed(tree.parts))
    return tuple(found)


def _tree(node: ast.expr) -> Tree:
    match node:
        case ast.BoolOp(op=op, values=values):
            return Tree("or" if isinstance(op, ast.Or) else "and", tuple(map(_tree, values)))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return Tree("not", (_tree(operand),))
        case ast.Constant(value=bool() as value):
            return Tree("const", value=value)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = (left, *comparators)
            pairs = [
                Tree("atom", atom=_atom(ast.unparse(ast.Compare(left=a, ops=[op], comparators=[b]))))
                for a, op, b in zip(sides, ops, comparators, strict=False)
            ]
            return pairs[0] if len(pairs) == 1 else Tree("and", tuple(pairs))
        case _:
            return Tree("atom", atom=_atom(ast.unparse(node)))


@lru_cache(maxsize=65_536)
def _atom(text: str) -> Atom:
    node = ast.parse(text, mode="eval").body
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "approved":
        return _approval(text, str(cast("ast.Constant", node.args[0]).value), 1)
    if isinstance(node, ast.Compare):
        left, right, op = node.left, node.comparators[0], node.ops[0]
        for side, other, mirrored in ((left, right, False), (right, left, True)):
            if isinstance(side, ast.Call) and isinstance(side.func, ast.Name) and side.func.id == "approvals":
                number = int(cast("int", _literal(other)))
                role = str(cast("ast.Constant", side.args[0]).value)
                return _approvals(text, role, number, op, mirrored)
        return _comparison(text, left, op, right)
    dim = _dim(node)
    dims = () if dim is None else (dim,)
    return Atom(text, dims, "", "", 0, _condition(text), (), (), dim is None)


def _approval(text: str, role: str, least: int) -> Atom:
    return Atom(text, (("approvals", role),), "", role, least, None, (), (), False)


def _approvals(text: str, role: str, number: int, op: ast.cmpop, mirrored: bool) -> Atom:
    """`approvals(role) >= n` and its mirror; `least` is negative where fewer than so many are asked for."""
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
    """`item in labels`: of a constant, whether the set holds it is the fact; of an argument, both are facts."""
    dim = _dim(item)
    if dim is None:
        return Atom(text, ((name, str(_literal(item))),), name, "", 0, condition, (), (), False)
    # A set holds texts, and a length is a number: examples of the argument itself do not settle such a comparison.
    return Atom(text, (dim,), name, "", 0, condition, ((dim, "member", None),), (), _is_length(item))


def _containment(text: str, item: ast.expr, whole: ast.expr, condition: Condition) -> Atom:
    """`item in whole` where a constant is looked for in a fact, or a fact in a constant; anything else is inexact."""
    a, b = _dim(item), _dim(whole)
    if b is not None and a is None and not _is_length(whole):
        return Atom(text, (b,), "", "", 0, condition, ((b, "holds", _literal(item)),), (), False)
    if a is not None and b is None and not _is_length(item):
        return Atom(text, (a,), "", "", 0, condition, ((a, "within", _literal(whole)),), (), False)
    return _between(text, a, b, condition, inexact=True)


def _relation(text: str, left: ast.expr, how: str, right: ast.expr, condition: Condition) -> Atom:
    """An equality or an order, of a fact and a constant or of two facts."""
    a, b = _dim(left), _dim(right)
    if a is not None and b is not None:
        # Examples come in every order only among facts of one sort whose values themselves are compared.
        lengths = _is_length(left) or _is_length(right)
        return _between(text, a, b, condition, inexact=lengths or a[0] != b[0] or a[0] not in ("args", "calls"))
    if a is None and b is None:  # two constants
        return Atom(text, (), "", "", 0, condition, (), (), False)
    dim, constant, side = (a, _literal(right), left) if a is not None else (b, _literal(left), right)
    assert dim is not None
    uses = ((dim, "len" if _is_length(side) else how, constant),)
    return Atom(text, (dim,), "", "", 0, condition, uses, (), False)


def _between(text: str, a: Dim | None, b: Dim | None, condition: Condition, *, inexact: bool) -> Atom:
    dims = tuple(dict.fromkeys(dim for dim in (a, b) if dim is not None))
    return Atom(text, dims, "", "", 0, condition, (), dims, inexact)


def _dim(node: ast.expr) -> Dim | None:
    """What a side of a comparison reads; None for a constant."""
    match node:
        case ast.Name(id=name):
            return None if name in SETS else (name, "")
        case ast.Attribute(attr=name):
            return ("args", name)
        case ast.Call(func=ast.Name(id="calls"), args=[ast.Constant(value=str() as action)]):
            return ("calls", action)
        case ast.Call(func=ast.Name(id="len"), args=[argument]):
            return _dim(argument)
        case _:
            return None


def _is_length(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len"


def _literal(node: ast.expr) -> Json:
    return ast.literal_eval(node)


def _condition(text: str) -> Condition:
    return parse_condition(text, effect="allow")


def context_of(values: Mapping[Dim, Value]) -> Context:
    """The facts that say just that."""
    args: dict[str, Json] = {}
    sets: dict[str, set[str]] = {name: set() for name in SETS}
    counts: dict[str, dict[str, int]] = {"calls": {}, "approvals": {}}
    plain: dict[str, Json] = {"time": "12:00"}
    for (kind, name), value in values.items():
        if kind == "args":
            if value is not ABSENT:
                args[name] = value
        elif kind in SETS:
            if value:
                sets[kind].add(name)
        elif kind in counts:
            if value:
                counts[kind][name] = value
        else:
            plain[kind] = value
    return Context(
        args=args,
        labels=frozenset(sets["labels"]),
        unidentified=frozenset(sets["unidentified"]),
        contains=frozenset(sets["contains"]),
        calls=counts["calls"],
        approvals=counts["approvals"],
        **plain,
    )


def truth(atom: Atom, values: Mapping[Dim, Value]) -> Truth:
    """Whether the comparison holds for those values, as the policy evaluates it; None where it cannot be read."""
    if atom.role:
        given = int(values[("approvals", atom.role)])
        return given >= atom.least if atom.least > 0 else given < -atom.least
    assert atom.condition is not None
    answer = atom.condition.answer(context_of(values))
    return answer if isinstance(answer, bool) else None
