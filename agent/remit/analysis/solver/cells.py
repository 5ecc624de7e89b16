"""Which values a fact can have, as far as some comparisons can tell them apart: a few examples for each fact.

Numbers fall into cells between the constants they are compared with; texts into those that hold, equal, precede or follow
the constants and have such a length; lists by what they hold. Facts that are compared with each other share as many
examples a cell as there are of them, so every order among them occurs. What this does not settle is named in `unsettled`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, pairwise
from typing import Final, get_args

from remit.analysis.solver.conditions import ABSENT, Atom, Dim, Truth, Value, truth
from remit.analysis.solver.segments import TooMany, distinguished
from remit.core import Confinement, Effect, Json
from remit.policy.language import same

MOST_HELD: Final = 8  # constants looked for in one list: every subset of them is an example
MOST_EXAMPLES: Final = 2000  # of one fact
LONGEST_WITHIN: Final = 24  # characters of a constant in which a fact is looked for
_LETTERS: Final = "x0abcdefghijklmnopqrstuvwyz123456789 -_.,:;!?/@+=#$%&()*ABCDEFGHIJKLMNOPQRSTUVWXYZ"
EFFECT: Final = "effect()"  # the key of `types` that gives the action's effect: no argument has such a name
_NESTED: Final[Json] = []


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Examples for each fact that some comparisons read, and the comparisons that these examples do not settle."""

    examples: Mapping[Dim, tuple[Value, ...]]
    unsettled: frozenset[Atom]


@dataclass
class _Uses:
    """With which constants facts of one class are compared, and how; `several` is how many facts there are."""

    several: int
    linked: bool
    equal: list[Json]
    ordered: list[Json]
    held: list[Json]
    within: list[Json]
    length: list[float]
    member: bool


def cells_of(atoms: Sequence[Atom], types: Mapping[str, str]) -> Cells:
    """Examples for the facts of `atoms`; `types` gives the JSON type of each argument that has one, and the action's effect.

    Raises:
        TooMany: a fact is compared in more ways than are looked at.
    """
    classes = _classes(atoms)
    unsettled = {atom for atom in atoms if atom.inexact}
    examples: dict[Dim, tuple[Value, ...]] = {}
    for dims in classes:
        about = [atom for atom in atoms if set(atom.dims) & dims]
        uses = _uses(about, len(dims))
        for dim in sorted(dims):
            kind = "string"
            if dim[0] in ("args", "effect"):
                kind = types.get(EFFECT if dim[0] == "effect" else dim[1], "any")
            found = _examples(dim, kind, uses, about)
            if len(found) > MOST_EXAMPLES:
                raise TooMany(f"{'.'.join(dim)} is compared in more ways than are looked at")
            examples[dim] = _distinct(dim, found, about) if not uses.linked and not uses.member else tuple(found)
            texts = [one for one in uses.ordered if isinstance(one, str)]
            if dim[0] in ("args", "env") and kind in ("string", "any"):
                mixed = (texts or uses.linked) and (uses.held or uses.length or uses.within)
                if mixed or any(isinstance(one, str) and len(one) > LONGEST_WITHIN for one in uses.within):
                    unsettled.update(about)
    return Cells(examples=examples, unsettled=frozenset(unsettled))


def _classes(atoms: Iterable[Atom]) -> list[set[Dim]]:
    """Facts that are compared with each other belong together."""
    classes: dict[Dim, set[Dim]] = {}
    looked_into: dict[str, Dim] = {}
    for atom in atoms:
        for dim in atom.dims:
            classes.setdefault(dim, {dim})
        linked = atom.linked
        if atom.member and atom.uses:  # two facts that are looked for in one set need not be the same text
            linked = (*atom.dims, looked_into.setdefault(atom.member, atom.dims[0]))
        whole = set[Dim]().union(*(classes[dim] for dim in linked))
        for dim in whole:
            classes[dim] = whole
    return list({id(one): one for one in classes.values()}.values())


def _uses(atoms: Iterable[Atom], several: int) -> _Uses:
    uses = _Uses(several, several > 1, [], [], [], [], [], False)
    for atom in atoms:
        for _, how, constant in atom.uses:
            if how == "len":
                if isinstance(constant, int | float) and not isinstance(constant, bool):
                    uses.length.append(constant)
            elif how == "member":
                uses.member = True
            else:
                {"==": uses.equal, "<": uses.ordered, "holds": uses.held, "within": uses.within}[how].append(constant)
    return uses


def _examples(dim: Dim, kind: str, uses: _Uses, atoms: Iterable[Atom]) -> list[Value]:
    match dim[0]:
        case "named" | "known" | "said" | "intended" | "labels" | "unknown" | "carries":
            return [False, True]
        case "approvals":
            return sorted({0, *(abs(atom.least) for atom in atoms if atom.role)})
        case "calls":
            return list(_numbers(uses, whole=True, least=0))
        case "confinement":
            return list(get_args(Confinement))
        case "effect":
            return [kind] if kind in get_args(Effect) else list(get_args(Effect))
        case "time":
            return _times(uses)
        case "env":
            return ["local", *_texts(uses)]
        case _:
            return list(_of_kind(kind, uses))


def _of_kind(kind: str, uses: _Uses) -> Iterator[Value]:
    every = kind not in ("string", "integer", "number", "boolean", "array", "object")
    if every or kind == "string":
        yield from _texts(uses)
    if every or kind in ("integer", "number"):
        yield from _numbers(uses, whole=kind == "integer", least=None)
    if every or kind == "boolean":
        yield from (False, True)
    if every or kind == "array":
        yield from _lists(uses)
    if every or kind == "object":
        yield from ({f"k{number}": 0 for number in range(size)} for size in _lengths(uses))
    if every:
        yield None
    yield ABSENT


def _numbers(uses: _Uses, *, whole: bool, least: int | None) -> Iterator[float]:
    """Every constant, and between and around them as many numbers as there are facts that compare."""
    constants = sorted({one for one in (*uses.equal, *uses.ordered) if _is_number(one)})
    several = uses.several
    usable = [one for one in constants if (not whole or one == int(one)) and (least is None or one >= least)]
    first = constants[0] if constants else 0
    if least is None:
        yield from (math.floor(first) - 1 - number for number in range(several))
    else:
        yield from range(least, min(least + several, math.ceil(max(first, least)) + 1))
    for one, following in pairwise(constants):
        start = math.floor(one) + 1
        if least is not None:
            start = max(start, least)
        found: list[float] = [number for number in range(start, start + several) if number < following]
        yield from found
        if not whole and len(found) < several:
            yield from (one + (following - one) * part / (several + 1) for part in range(1, several + 1))
    yield from usable
    last = math.floor(max(constants[-1] if constants else 0, -1 if least is None else least - 1))
    yield from (last + 1 + number for number in range(several))


def _times(uses: _Uses) -> list[Value]:
    every = [f"{hour:02}:{minute:02}" for hour in range(24) for minute in range(60)]
    if uses.held or uses.within:
        return ["12:00", *every]
    near = {"00:00", "23:59", *every[720 : 720 + uses.several]}
    for constant in (*uses.equal, *uses.ordered):
        if constant in every:
            at = every.index(constant)
            near.update(every[max(at - 1, 0) : at + 2])
    return ["12:00", *sorted(near)]


def _lengths(uses: _Uses) -> Iterator[int]:
    """A length in each cell between the lengths that are compared with."""
    bounds = sorted({max(0, math.floor(one)) for one in uses.length} | {max(0, math.ceil(one)) for one in uses.length})
    found = {1, 0}
    for bound in bounds:
        found.update(one for one in (bound - 1, bound, bound + 1) if one >= 0)
    yield from sorted(found, key=lambda one: (one == 0, one))


def _texts(uses: _Uses) -> Iterator[str]:
    equal = [one for one in (*uses.equal, *uses.ordered) if isinstance(one, str)]
    held = sorted({one for one in uses.held if isinstance(one, str) and one})
    inside = {
        one[start:end]
        for one in uses.within
        if isinstance(one, str) and len(one) <= LONGEST_WITHIN
        for start in range(len(one))
        for end in range(start + 1, len(one) + 1)
    }
    words = tuple(sorted({*equal, *inside} - {""}))
    wildcards = tuple(("", one, "") for one in held)
    used = {letter for one in (*held, *words) for letter in one}
    other = next((letter for letter in _LETTERS if letter not in used), "\u00f8")
    yield from words
    for text, _, word in distinguished(wildcards, words, _LETTERS) if (wildcards or words) else [("", (), "")]:
        if word:
            continue
        for length in _lengths(uses):
            if length >= len(text):
                padding = length - len(text)
                yield text + other * padding
                # Facts that are compared with each other need as many texts of a cell as there are of them.
                for number in range(uses.several - 1):
                    if padding:
                        yield text + other * (padding - 1) + _LETTERS[-1 - number]
        yield text
        yield from (text + other * (number + 1) for number in range(uses.several) if not uses.length)
    ordered = sorted({one for one in uses.ordered if isinstance(one, str)} | (set(equal) if uses.linked else set()))
    if ordered:
        yield from ("", *_before_and_after(ordered, uses.several))


def _before_and_after(constants: Sequence[str], several: int) -> Iterator[str]:
    """Texts that come between the constants, and after the last, as far as there are any."""
    for one, following in zip(constants, [*constants[1:], None], strict=True):
        tried = [one + tail * number for number in range(1, several + 1) for tail in ("a", "0", "!", " ", "\x01")]
        fitting = [text for text in tried if text > one and (following is None or text < following)]
        yield from fitting[: several + 4] or ([one + "\0"] if following is None or one + "\0" < following else [])
    first = constants[0]
    yield from (first[:-1] + chr(ord(first[-1]) - 1) + "x" * number for number in range(several) if first > "!")


def _lists(uses: _Uses) -> Iterator[Json]:
    """For every choice of what is looked for: a list that holds just that, in each length, also one holding lists."""
    held: list[Json] = [
        one for at, one in enumerate(uses.held) if not any(same(one, other) for other in uses.held[:at])
    ]
    if len(held) > MOST_HELD:
        raise TooMany(f"a list is searched for more than {MOST_HELD} values")
    subsets = chain.from_iterable(combinations(held, size) for size in range(len(held) + 1))
    for subset in subsets:
        for length in _lengths(uses):
            if length >= len(subset):
                yield [*subset, *(f"other {number}" for number in range(length - len(subset)))]
        if held:
            yield [*subset, _NESTED]


def _distinct(dim: Dim, found: Sequence[Value], atoms: Sequence[Atom]) -> tuple[Value, ...]:
    """One example for each way in which the comparisons come out, the first of each."""
    alone = [atom for atom in atoms if atom.dims == (dim,)]
    if len(alone) != len(atoms):
        return tuple(found)
    kept: dict[tuple[Truth, ...], Value] = {}
    for value in found:
        kept.setdefault(tuple(truth(atom, {dim: value}) for atom in alone), value)
    return tuple(kept.values())


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
