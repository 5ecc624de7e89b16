"""Example values for each fact that conditions read: enough that every outcome of the comparisons occurs.

The comparisons of a fact cut its values into cells, and within a cell no comparison tells two values apart. So one
example of each cell is enough to try:

- numbers: each constant, and the gaps before, between and after the constants;
- texts: what equals, holds, lies within, precedes or follows the constants, and has the lengths that are compared with;
- lists: each subset of the values that are looked for, in each length.

Facts that are compared with each other form one class. Each of them gets as many examples of a cell as the class has
facts, so every order among them occurs. Comparisons that these examples do not settle are named in `unsettled`.
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
    """Examples for the facts that `atoms` read.

    `types` gives the JSON type of each argument that has one, and under `EFFECT` the action's effect.

    Raises:
        TooMany: a fact is compared in more ways than are looked at.
    """
    unsettled = {atom for atom in atoms if atom.inexact}
    examples: dict[Dim, tuple[Value, ...]] = {}
    for dims in _classes(atoms):
        about = [atom for atom in atoms if set(atom.dims) & dims]
        uses = _uses(about, len(dims))
        for dim in sorted(dims):
            kind = _json_type(dim, types)
            found = _examples(dim, kind, uses, about)
            if len(found) > MOST_EXAMPLES:
                raise TooMany(f"{'.'.join(dim)} is compared in more ways than are looked at")
            # Only a fact that stands alone may lose examples: among compared facts each gives another order.
            examples[dim] = tuple(found) if uses.linked or uses.member else _distinct(dim, found, about)
            if dim[0] in ("args", "env") and kind in ("string", "any") and not _texts_suffice(uses):
                unsettled.update(about)
    return Cells(examples=examples, unsettled=frozenset(unsettled))


def _json_type(dim: Dim, types: Mapping[str, str]) -> str:
    """The JSON type of an argument or the action's own effect; "any" where that is not known. Other facts are texts."""
    match dim[0]:
        case "args":
            return types.get(dim[1], "any")
        case "effect":
            return types.get(EFFECT, "any")
        case _:
            return "string"


def _texts_suffice(uses: _Uses) -> bool:
    """Whether the example texts show every way in which the comparisons can come out.

    An order of texts together with what they hold or how long they are has cells that no example here lies in; so has a
    long constant in which the text is looked for, because not all of its parts are tried.
    """
    in_order = uses.linked or any(isinstance(one, str) for one in uses.ordered)
    if in_order and (uses.held or uses.length or uses.within):
        return False
    return not any(isinstance(one, str) and len(one) > LONGEST_WITHIN for one in uses.within)


def _classes(atoms: Iterable[Atom]) -> list[set[Dim]]:
    """The facts in classes: facts that are compared with each other, directly or through others, are in one class."""
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
        case (
            "named_by_user"
            | "identified"
            | "quoted_by_user"
            | "requested_by_user"
            | "labels"
            | "unidentified"
            | "contains"
        ):
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
    """Every constant, and as many numbers as there are compared facts in each gap before, between and after them.

    With `whole` only integers are possible values; with `least` only numbers from there on.
    """
    constants = sorted({one for one in (*uses.equal, *uses.ordered) if _is_number(one)})
    yield from _numbers_before(constants[0] if constants else 0, uses.several, least)
    for one, following in pairwise(constants):
        yield from _numbers_between(one, following, uses.several, whole=whole, least=least)
    yield from (one for one in constants if (not whole or one == int(one)) and (least is None or one >= least))
    last = math.floor(max(constants[-1] if constants else 0, -1 if least is None else least - 1))
    yield from (last + 1 + number for number in range(uses.several))


def _numbers_before(first: float, several: int, least: int | None) -> Iterable[int]:
    if least is None:
        return (math.floor(first) - 1 - number for number in range(several))
    return range(least, min(least + several, math.ceil(max(first, least)) + 1))


def _numbers_between(one: float, following: float, several: int, *, whole: bool, least: int | None) -> Iterator[float]:
    """Integers first, because they read well in an example; fractions where too few integers lie in the gap."""
    start = math.floor(one) + 1
    if least is not None:
        start = max(start, least)
    found = [number for number in range(start, start + several) if number < following]
    yield from found
    if not whole and len(found) < several:
        yield from (one + (following - one) * part / (several + 1) for part in range(1, several + 1))


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
    """Texts for every cell: the constants, then one or more of each set of constants that a text may hold."""
    equal = [one for one in (*uses.equal, *uses.ordered) if isinstance(one, str)]
    held = sorted({one for one in uses.held if isinstance(one, str) and one})
    words = tuple(sorted({*equal, *_parts_of(uses.within)} - {""}))
    used = {letter for one in (*held, *words) for letter in one}
    # A letter that no constant has lengthens a text without making it hold or equal another constant.
    filler = next((letter for letter in _LETTERS if letter not in used), "\u00f8")
    yield from words
    for text in _by_what_they_hold(held, words):
        yield from _in_each_length(text, filler, uses)
    ordered = sorted({one for one in uses.ordered if isinstance(one, str)} | (set(equal) if uses.linked else set()))
    if ordered:
        yield from ("", *_before_and_after(ordered, uses.several))


def _parts_of(constants: Iterable[Json]) -> Iterator[str]:
    """Every text that lies within one of the constants, as far as these are short."""
    for one in constants:
        if isinstance(one, str) and len(one) <= LONGEST_WITHIN:
            yield from (one[start:end] for start, end in combinations(range(len(one) + 1), 2))


def _by_what_they_hold(held: Sequence[str], words: tuple[str, ...]) -> Iterator[str]:
    """A shortest text, other than the words, for each set of the constants in `held` that one text can hold."""
    if not held and not words:
        yield ""
        return
    wildcards = tuple(("", one, "") for one in held)  # to hold a text is to match `*text*`
    for text, _, word in distinguished(wildcards, words, _LETTERS):
        if not word:
            yield text


def _in_each_length(text: str, filler: str, uses: _Uses) -> Iterator[str]:
    """The text made longer, up to each length that is compared with, and then itself.

    Facts that are compared with each other need as many texts of a cell as there are facts.
    """
    for length in _lengths(uses):
        padding = length - len(text)
        if padding >= 0:
            yield text + filler * padding
        if padding > 0:
            yield from (text + filler * (padding - 1) + _LETTERS[-1 - number] for number in range(uses.several - 1))
    yield text
    if not uses.length:
        yield from (text + filler * (number + 1) for number in range(uses.several))


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
