"""Expressions of Casbin's matchers and of its `eval` columns, as alternatives of atoms that must all hold.

Read by precedence as pycasbin reads them: `!` binds weaker than a comparison. What is not understood is refused, never skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from remit.analysis.importing.outcome import Unreadable

LONGEST: Final = 4000  # characters
DEEPEST: Final = 40  # parentheses and negations inside each other
MOST_ALTERNATIVES: Final = 32

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)|(?P<number>[0-9]+(?:\.[0-9]+)?)"
    r"|'(?P<single>[^'\"\\]*)'|\"(?P<double>[^'\"\\]*)\"|(?P<sign>&&|\|\||==|!=|<=|>=|[<>!(),]))"
)
_WORDS: Final[Mapping[str, str]] = {"and": "&&", "or": "||", "not": "!"}
_COMPARES: Final = ("==", "!=", "<", "<=", ">", ">=")
_OPPOSITE: Final[Mapping[str, str]] = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
# What Casbin replaces in its texts too, so that they compare with something else.
_REPLACED: Final = re.compile(r"&&|\|\||!|\b[rp][0-9]*\.")


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of the request (side "r") or of the row (side "p"), or an attribute of one."""

    side: str
    name: str
    attribute: str = ""


@dataclass(frozen=True, kw_only=True)
class Literal:
    """A text, a number as it is written, or True or False."""

    value: str
    is_text: bool


Value: TypeAlias = Field | Literal


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`left operator right`."""

    operator: str
    left: Value
    right: Value


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function with its arguments; a negated one has no counterpart."""

    name: str
    arguments: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True)
class Membership:
    """`value in (…)`."""

    value: Value
    options: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True)
class Readable:
    """True if the comparison can be made at all: Casbin comes to what follows `||` only then."""

    comparison: Comparison


Atom: TypeAlias = Comparison | Function | Membership | Readable
Alternatives: TypeAlias = tuple[tuple[Atom, ...], ...]  # one of them must hold, with all of its atoms


def alternatives_of(text: str, columns: Callable[[str], str] | None = None) -> Alternatives:
    """The expression in disjunctive form. `columns` returns the text of the column that an `eval(p.…)` names.

    Raises:
        Unreadable: the expression, or a text that it evaluates, is not understood, or is too large.
    """
    return _Reader(text, columns).all()


@dataclass
class _Reader:
    text: str
    columns: Callable[[str], str] | None
    _tokens: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    _at: int = 0
    _depth: int = 0

    def all(self) -> Alternatives:
        self._tokens = list(_tokens(self.text))
        found = self._either(negated=False)
        if self._at < len(self._tokens):
            raise Unreadable(f"{self._tokens[self._at][1]!r} is not expected in {self.text[:200]!r}")
        return found

    def _either(self, *, negated: bool) -> Alternatives:
        found = self._both(negated=negated)
        while self._takes("||"):
            following = self._both(negated=negated)
            found = _and(found, following) if negated else _or(found, following)
        return found

    def _both(self, *, negated: bool) -> Alternatives:
        found = self._one(negated=negated)
        while self._takes("&&"):
            following = self._one(negated=negated)
            found = _or(found, following) if negated else _and(found, following)
        return found

    def _one(self, *, negated: bool) -> Alternatives:
        self._depth += 1
        if self._depth > DEEPEST:
            raise Unreadable(f"it is nested more than {DEEPEST} levels deep")
        if self._takes("!"):
            found = self._one(negated=not negated)
        elif self._takes("("):
            found = self._either(negated=negated)
            self._expect(")")
        else:
            found = self._atom(negated=negated)
        self._depth -= 1
        return found

    def _atom(self, *, negated: bool) -> Alternatives:
        kind, text = self._next()
        if kind == "name" and self._takes("("):
            arguments = self._list()
            return self._evaluated(arguments, negated) if text == "eval" else _function(text, arguments, negated)
        left = _value(kind, text)
        kind, sign = self._next()
        if kind == "name" and sign == "in":
            self._expect("(")
            if negated:
                raise Unreadable("a negated `in` has no counterpart")
            return ((Membership(value=left, options=self._list()),),)
        if sign not in _COMPARES:
            raise Unreadable(f"{sign!r} is not expected in {self.text[:200]!r}")
        right = _value(*self._next())
        return ((Comparison(operator=_OPPOSITE[sign] if negated else sign, left=left, right=right),),)

    def _evaluated(self, arguments: tuple[Value, ...], negated: bool) -> Alternatives:
        if negated or self.columns is None or len(arguments) != 1:
            raise Unreadable("eval() stands where it cannot be read")
        (column,) = arguments
        if not isinstance(column, Field) or column.side != "p" or column.attribute:
            raise Unreadable("eval() reads something other than a column of the row")
        # INVARIANT: the text of a row is read by itself, so it cannot close a parenthesis of the matcher.
        return alternatives_of(self.columns(column.name))

    def _list(self) -> tuple[Value, ...]:
        values = [_value(*self._next())]
        while self._takes(","):
            if self._takes(")"):
                return tuple(values)
            values.append(_value(*self._next()))
        self._expect(")")
        return tuple(values)

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise Unreadable(f"{self.text[:200]!r} ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _takes(self, sign: str) -> bool:
        taken = self._at < len(self._tokens) and self._tokens[self._at] == ("sign", sign)
        self._at += taken
        return taken

    def _expect(self, sign: str) -> None:
        if not self._takes(sign):
            raise Unreadable(f"{sign!r} is missing in {self.text[:200]!r}")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    if len(text) > LONGEST:
        raise Unreadable(f"it is longer than {LONGEST} characters")
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise Unreadable(f"{text[at : at + 20]!r} is not understood")
        found = match[match.lastgroup]
        at = match.end()
        if match.lastgroup in ("single", "double"):
            if _REPLACED.search(found):
                raise Unreadable(f"Casbin rewrites a part of the text {found!r}")
            yield "text", found
        elif match.lastgroup == "name" and found in _WORDS:
            yield "sign", _WORDS[found]
        else:
            yield match.lastgroup, found


def _value(kind: str, text: str) -> Value:
    if kind in ("text", "number"):
        return Literal(value=text, is_text=kind == "text")
    if kind == "name" and text in ("True", "False"):
        return Literal(value=text, is_text=False)
    parts = text.split(".")
    if kind != "name" or parts[0] not in ("r", "p") or len(parts) not in (2, 3):
        raise Unreadable(f"{text!r} is not a field of a request or of a row")
    return Field(side=parts[0], name=parts[1], attribute=parts[2] if len(parts) == 3 else "")


def _function(name: str, arguments: tuple[Value, ...], negated: bool) -> Alternatives:
    if negated:
        raise Unreadable(f"a negated {name}() has no counterpart")
    return ((Function(name=name, arguments=arguments),),)


def _and(left: Alternatives, right: Alternatives) -> Alternatives:
    return _bounded(tuple(tuple(dict.fromkeys((*one, *other))) for one in left for other in right))


def _or(left: Alternatives, right: Alternatives) -> Alternatives:
    """Casbin comes to `right` only if it could evaluate `left`: a missing attribute on the left allows nothing."""
    read = tuple(
        dict.fromkeys(
            Readable(comparison=atom)
            for one in left
            for atom in one
            if isinstance(atom, Comparison) and _reads_attribute(atom)
        )
    )
    return _bounded((*left, *(tuple(dict.fromkeys((*read, *one))) for one in right)))


def _reads_attribute(atom: Comparison) -> bool:
    return any(isinstance(value, Field) and value.attribute for value in (atom.left, atom.right))


def _bounded(alternatives: Alternatives) -> Alternatives:
    if len(alternatives) > MOST_ALTERNATIVES:
        raise Unreadable(f"it has more than {MOST_ALTERNATIVES} alternatives")
    return alternatives
