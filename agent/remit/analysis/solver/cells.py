"""Example values for each fact that conditions read: enough that every outcome of the comparisons occurs.

The comparisons of a fact divide its values into cells (equivalence classes). Within a cell every comparison has the same
outcome, so one example of each cell is enough to try. This turns satisfiability over infinitely many values into a
search over finitely many:

- numbers: each constant, and the gaps before, between and after the constants;
- texts: what equals, contains, lies within, precedes or follows the constants, and has the lengths that are compared;
- lists: each subset of the values that are looked for, in each length.

Facts that are compared with each other are linked and form one class. With n facts in a class, each of them gets n
examples of every cell, so that every order and every equality among them occurs.

The examples are not complete for every combination of comparisons, for instance an order of texts together with their
lengths. `Cells.unsettled` names those atoms, and `search` treats them as free Boolean variables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, pairwise
from typing import Final, get_args

from remit.analysis.solver.conditions import ABSENT, UNCLEAR, Atom, Fact, Truth, Value, evaluate_atom
from remit.analysis.solver.segments import AnalysisLimitReached, enumerate_match_classes
from remit.core import Confinement, Effect, Json
from remit.policy.language import SIDES, same

MAX_LIST_CONSTANTS: Final = 8  # looked for in one list: every subset of them is an example, so at most 256 subsets
MAX_EXAMPLES: Final = 2000  # of one fact
MAX_CONTAINER_LENGTH: Final = (
    24  # characters of a constant in which a fact is looked for: every substring is an example
)
_LETTERS: Final = "x0abcdefghijklmnopqrstuvwyz123456789 -_.,:;!?/@+=#$%&()*ABCDEFGHIJKLMNOPQRSTUVWXYZ"
EFFECT: Final = "effect()"  # the key of `types` that gives the action's effect: no argument has such a name
_NESTED: Final[Json] = []  # a member that the policy cannot compare


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Examples for each fact that some atoms read, and the atoms whose outcomes the examples may not all show."""

    examples: Mapping[Fact, tuple[Value, ...]]
    unsettled: frozenset[Atom]


@dataclass
class _Constants:
    """The constants with which the facts of one class are compared, by how they are compared.

    `contained` are looked for in the fact, `containers` are those in which the fact is looked for. `class_size` is the
    number of linked facts. `in_set`: the fact itself is looked for in a set, such as `labels`.
    """

    class_size: int
    linked: bool
    equal: list[Json]
    ordered: list[Json]
    contained: list[Json]
    containers: list[Json]
    lengths: list[float]
    in_set: bool


def cells_of(atoms: Sequence[Atom], types: Mapping[str, str]) -> Cells:
    """Compute examples for all facts that `atoms` read.

    `types` gives the JSON type of each argument that has one, and under `EFFECT` the action's effect.

    Raises:
        AnalysisLimitReached: a fact has more than `MAX_EXAMPLES` examples, or a list more than `MAX_LIST_CONSTANTS`.
    """
    unsettled = {atom for atom in atoms if atom.inexact}
    examples: dict[Fact, tuple[Value, ...]] = {}
    for facts in _linked_classes(atoms):
        related = [atom for atom in atoms if set(atom.facts) & facts]
        constants = _constants_of(related, len(facts))
        for fact in sorted(facts):
            kind = _json_type(fact, types)
            values = _examples_of_fact(fact, kind, constants, related)
            if len(values) > MAX_EXAMPLES:
                raise AnalysisLimitReached(f"{'.'.join(fact)} is compared with too many values to analyse")
            # Only a fact that stands alone may lose examples of a cell: among linked facts each gives another order.
            examples[fact] = (
                tuple(values) if constants.linked or constants.in_set else _without_equivalent(fact, values, related)
            )
            if fact[0] in (*SIDES, "env") and kind in ("string", "any") and not _text_examples_are_complete(constants):
                unsettled.update(related)
    return Cells(examples=examples, unsettled=frozenset(unsettled))


def _json_type(fact: Fact, types: Mapping[str, str]) -> str:
    """The JSON type of an argument, or the action's effect; "any" where it is unknown. Other facts are texts."""
    match fact[0]:
        case "args":
            return types.get(fact[1], "any")
        case "subject" | "resource":
            return "string" if fact[1] == "id" else "any"
        case "effect":
            return types.get(EFFECT, "any")
        case _:
            return "string"


def _text_examples_are_complete(constants: _Constants) -> bool:
    """True if the example texts show every combination of outcomes of the comparisons.

    An order of texts combined with what they contain or how long they are has cells without an example. So has a long
    constant in which the text is looked for, because not all of its substrings are tried.
    """
    in_order = constants.linked or any(isinstance(value, str) for value in constants.ordered)
    if in_order and (constants.contained or constants.lengths or constants.containers):
        return False
    return not any(isinstance(value, str) and len(value) > MAX_CONTAINER_LENGTH for value in constants.containers)


def _linked_classes(atoms: Iterable[Atom]) -> list[set[Fact]]:
    """Group facts that are compared with each other, directly or through other facts (union of classes)."""
    classes: dict[Fact, set[Fact]] = {}
    looked_into: dict[str, Fact] = {}
    for atom in atoms:
        for fact in atom.facts:
            classes.setdefault(fact, {fact})
        linked = atom.linked
        if atom.searched_set and atom.comparisons:  # facts looked for in one set need different texts: link them
            linked = (*atom.facts, looked_into.setdefault(atom.searched_set, atom.facts[0]))
        whole = set[Fact]().union(*(classes[fact] for fact in linked))
        for fact in whole:
            classes[fact] = whole
    return list({id(facts): facts for facts in classes.values()}.values())


def _constants_of(atoms: Iterable[Atom], count: int) -> _Constants:
    constants = _Constants(count, count > 1, [], [], [], [], [], False)
    for atom in atoms:
        for _, how, constant in atom.comparisons:
            if how == "len":
                if isinstance(constant, int | float) and not isinstance(constant, bool):
                    constants.lengths.append(constant)
            elif how == "member":
                constants.in_set = True
            else:
                {
                    "==": constants.equal,
                    "<": constants.ordered,
                    "holds": constants.contained,
                    "within": constants.containers,
                }[how].append(constant)
    return constants


def _examples_of_fact(fact: Fact, kind: str, constants: _Constants, atoms: Iterable[Atom]) -> list[Value]:
    match fact[0]:
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
            # Conditions only ask for at least (or fewer than) n approvals, so 0 and each n are one example of every cell.
            return sorted({0, *(abs(atom.least) for atom in atoms if atom.role)})
        case "calls":
            return list(_number_examples(constants, whole=True, least=0))
        case "confinement":
            return list(get_args(Confinement))
        case "effect":
            return [kind] if kind in get_args(Effect) else list(get_args(Effect))
        case "time":
            return _time_examples(constants)
        case "env":
            return ["local", *_text_examples(constants)]
        case "subject" | "resource":
            return [*_examples_of_type(kind, constants), UNCLEAR]
        case _:
            return list(_examples_of_type(kind, constants))


def _examples_of_type(kind: str, constants: _Constants) -> Iterator[Value]:
    # Without a known type every type is possible; a value of the wrong type is an outcome too (unreadable).
    every = kind not in ("string", "integer", "number", "boolean", "array", "object")
    if every or kind == "string":
        yield from _text_examples(constants)
    if every or kind in ("integer", "number"):
        yield from _number_examples(constants, whole=kind == "integer", least=None)
    if every or kind == "boolean":
        yield from (False, True)
    if every or kind == "array":
        yield from _list_examples(constants)
    if every or kind == "object":
        yield from ({f"k{number}": 0 for number in range(size)} for size in _length_examples(constants))
    if every:
        yield None
    # An absent argument or property makes its comparisons unreadable, which is an outcome of its own.
    yield ABSENT


def _number_examples(constants: _Constants, *, whole: bool, least: int | None) -> Iterator[float]:
    """Yield every constant, and `class_size` numbers in each gap before, between and after the constants.

    With `whole` only integers are possible values; with `least` only numbers from there on.
    """
    numbers = sorted({value for value in (*constants.equal, *constants.ordered) if _is_number(value)})
    count = constants.class_size
    yield from _numbers_before(numbers[0] if numbers else 0, count, least)
    for low, high in pairwise(numbers):
        yield from _numbers_between(low, high, count, whole=whole, least=least)
    yield from (value for value in numbers if (not whole or value == int(value)) and (least is None or value >= least))
    last = math.floor(max(numbers[-1] if numbers else 0, -1 if least is None else least - 1))
    yield from (last + 1 + number for number in range(count))


def _numbers_before(first: float, count: int, least: int | None) -> Iterable[int]:
    if least is None:
        return (math.floor(first) - 1 - number for number in range(count))
    return range(least, min(least + count, math.ceil(max(first, least)) + 1))


def _numbers_between(low: float, high: float, count: int, *, whole: bool, least: int | None) -> Iterator[float]:
    """Yield integers first, because they read well in an example, then fractions where the gap has too few integers."""
    start = math.floor(low) + 1
    if least is not None:
        start = max(start, least)
    integers = [number for number in range(start, start + count) if number < high]
    yield from integers
    if not whole and len(integers) < count:
        yield from (low + (high - low) * part / (count + 1) for part in range(1, count + 1))


def _time_examples(constants: _Constants) -> list[Value]:
    every = [f"{hour:02}:{minute:02}" for hour in range(24) for minute in range(60)]
    # There are only 1,440 times of day. Where parts of the text are compared, trying all of them is simplest.
    if constants.contained or constants.containers:
        return ["12:00", *every]
    examples = {"00:00", "23:59", *every[720 : 720 + constants.class_size]}
    for constant in (*constants.equal, *constants.ordered):
        if constant in every:
            at = every.index(constant)
            examples.update(every[max(at - 1, 0) : at + 2])
    return ["12:00", *sorted(examples)]


def _length_examples(constants: _Constants) -> Iterator[int]:
    """Yield a length in each cell between the lengths that are compared. 0 comes last: an empty text reads badly."""
    bounds = {max(0, rounded(value)) for value in constants.lengths for rounded in (math.floor, math.ceil)}
    lengths = {1, 0}
    for bound in bounds:
        lengths.update(length for length in (bound - 1, bound, bound + 1) if length >= 0)
    yield from sorted(lengths, key=lambda length: (length == 0, length))


def _text_examples(constants: _Constants) -> Iterator[str]:
    """Yield texts for every cell: the constants, then texts that contain each possible set of constants."""
    equal = [value for value in (*constants.equal, *constants.ordered) if isinstance(value, str)]
    contained = sorted({value for value in constants.contained if isinstance(value, str) and value})
    words = tuple(sorted({*equal, *_substrings(constants.containers)} - {""}))
    used = {letter for text in (*contained, *words) for letter in text}
    # A letter that no constant has makes a text longer, and the text neither contains nor equals another constant.
    filler = next((letter for letter in _LETTERS if letter not in used), "\u00f8")
    yield from words
    for text in _texts_by_contained_constants(contained, words):
        yield from _padded_to_each_length(text, filler, constants)
    # Linked facts are compared with each other, so texts between the constants matter even without an order.
    ordered = sorted(
        {value for value in constants.ordered if isinstance(value, str)} | (set(equal) if constants.linked else set())
    )
    if ordered:
        yield from ("", *_texts_between(ordered, constants.class_size))


def _substrings(containers: Iterable[Json]) -> Iterator[str]:
    """Yield every text that lies within one of the constants, if these are short enough."""
    for text in containers:
        if isinstance(text, str) and len(text) <= MAX_CONTAINER_LENGTH:
            yield from (text[start:end] for start, end in combinations(range(len(text) + 1), 2))


def _texts_by_contained_constants(contained: Sequence[str], words: tuple[str, ...]) -> Iterator[str]:
    """Yield a shortest text, other than the words, for each set of the constants that one text can contain.

    Constants may overlap ("ab" and "ba" in "aba"), so not every set is possible. To contain a constant is to match
    `*constant*`; the product automaton of `segments` finds exactly the possible sets.
    """
    if not contained and not words:
        yield ""
        return
    wildcards = tuple(("", text, "") for text in contained)
    for text, _, word in enumerate_match_classes(wildcards, words, _LETTERS):
        if not word:
            yield text


def _padded_to_each_length(text: str, filler: str, constants: _Constants) -> Iterator[str]:
    """Yield the text padded to each length that is compared, and the text itself.

    Linked facts need as many different texts of a cell as there are facts in the class.
    """
    for length in _length_examples(constants):
        padding = length - len(text)
        if padding >= 0:
            yield text + filler * padding
        if padding > 0:
            yield from (
                text + filler * (padding - 1) + _LETTERS[-1 - number] for number in range(constants.class_size - 1)
            )
    yield text
    if not constants.lengths:
        yield from (text + filler * (number + 1) for number in range(constants.class_size))


def _texts_between(texts: Sequence[str], count: int) -> Iterator[str]:
    """Yield texts in the gaps before, between and after the constants, as far as the gaps have any.

    Between "a" and "a\\0" there is no text at all: the gap is an empty cell and needs no example.
    """
    for low, high in zip(texts, [*texts[1:], None], strict=True):
        candidates = [low + tail * number for number in range(1, count + 1) for tail in ("a", "0", "!", " ", "\x01")]
        in_gap = [text for text in candidates if text > low and (high is None or text < high)]
        yield from in_gap[: count + 4] or ([low + "\0"] if high is None or low + "\0" < high else [])
    first = texts[0]
    yield from (first[:-1] + chr(ord(first[-1]) - 1) + "x" * number for number in range(count) if first > "!")


def _list_examples(constants: _Constants) -> Iterator[Json]:
    """Yield, for each subset of the values that are looked for, a list with just these, in each length.

    A list that holds a list comes as well: the policy cannot compare nested values, so the atom is unreadable there.
    """
    members: list[Json] = [
        value
        for at, value in enumerate(constants.contained)
        if not any(same(value, earlier) for earlier in constants.contained[:at])
    ]
    if len(members) > MAX_LIST_CONSTANTS:
        raise AnalysisLimitReached(f"a list is searched for more than {MAX_LIST_CONSTANTS} values")
    subsets = chain.from_iterable(combinations(members, size) for size in range(len(members) + 1))
    for subset in subsets:
        for length in _length_examples(constants):
            if length >= len(subset):
                yield [*subset, *(f"other {number}" for number in range(length - len(subset)))]
        if members:
            yield [*subset, _NESTED]


def _without_equivalent(fact: Fact, values: Sequence[Value], atoms: Sequence[Atom]) -> tuple[Value, ...]:
    """Keep one example, the first, for each combination of outcomes of the atoms."""
    alone = [atom for atom in atoms if atom.facts == (fact,)]
    if len(alone) != len(atoms):
        return tuple(values)
    kept: dict[tuple[Truth, ...], Value] = {}
    for value in values:
        kept.setdefault(tuple(evaluate_atom(atom, {fact: value}) for atom in alone), value)
    return tuple(kept.values())


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
