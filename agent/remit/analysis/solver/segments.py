"""Equivalence classes of segments: which segments some patterns can tell apart, with one example of each class.

A segment is one part of a resource between two `/`. The patterns `word`, `ab*` and `*b` divide all segments into the
classes "is `word`", "matches only `ab*`", "matches only `*b`", "matches both" and "matches neither". Two segments of one
class match the same patterns, so one example for each class is enough to try.

The classes are found with a product automaton over characters. Each pattern with `*` becomes a nondeterministic
automaton; subset construction runs all of them side by side, together with a trie of the literal words. A state of the
product says which patterns and which word match the text read so far. Breadth-first search over the reachable states
therefore finds every class that is not empty, with a shortest example. The search is complete unless more than
`MAX_STATES` states are reachable; then it raises `AnalysisLimitReached`, and the caller reports "unsettled".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from remit.core import Refusal
from remit.core.parsing import canonical
from remit.policy.language import segment_matches

Pieces: TypeAlias = tuple[str, ...]  # one segment of a pattern, split at each `*`
ANY: Final[Pieces] = ("", "")  # `*`
MAX_STATES: Final = 20_000  # of one product automaton; the patterns of real policies need tens

# The characters that examples of each kind are made of. The plainest come first, so examples read well.
_FILE_ALPHABET: Final = "x0abcdefghijklmnopqrstuvwyz123456789-_@+.,:;=%$&!'()~ ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ID_ALPHABET: Final = "x0abcdefghijklmnopqrstuvwyz123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_@+."
_ALPHABETS: Final = {
    "file": _FILE_ALPHABET,
    "": _FILE_ALPHABET,
    "http": "x0abcdefghijklmnopqrstuvwyz123456789-_.~ABCDEFGHIJKLMNOPQRSTUVWXYZ!$&'()+,;=:@",
    "https": "x0abcdefghijklmnopqrstuvwyz123456789-_.~ABCDEFGHIJKLMNOPQRSTUVWXYZ!$&'()+,;=:@",
    "table": "xabcdefghijklmnopqrstuvwyz_0123456789",
    "mail": "x0abcdefghijklmnopqrstuvwyz123456789-_+.@",
    "host": "x0abcdefghijklmnopqrstuvwyz123456789-.:",
}
_NOT_SEGMENTS: Final = frozenset((".", ".."))  # canonical names have no such segment


class AnalysisLimitReached(Exception):
    """The analysis reached one of its limits. The answer is unknown, and the caller reports it as unsettled."""


@dataclass(frozen=True)
class SegmentClass:
    """One equivalence class: an example segment, and the patterns with `*` that match every segment of the class."""

    segment: str
    matched: frozenset[Pieces]


@lru_cache(maxsize=65_536)
def segment_classes(kind: str, literals: frozenset[str], wildcards: frozenset[Pieces]) -> tuple[SegmentClass, ...]:
    """List every class of the canonical segments of that kind, the plainest example first.

    `literals` are the segments without `*`, `wildcards` those with it. `ANY` matches every segment and distinguishes none,
    so it is left out of `matched`.

    Raises:
        AnalysisLimitReached: the patterns overlap in more ways than the analysis tries.
    """
    wildcards = wildcards - {ANY}
    literal_classes = [
        SegmentClass(word, frozenset(pieces for pieces in wildcards if segment_matches(pieces, word)))
        for word in sorted(literals)
        if word not in _NOT_SEGMENTS
    ]
    if not wildcards:
        return (SegmentClass(_unmatched_segment(kind, literals), frozenset()), *literal_classes)
    # The words of the trie are no examples of a wildcard class. A literal that no wildcard matches needs no node there:
    # the unmatched class takes its example from `_unmatched_segment`, which avoids every literal.
    matched_words = [item.segment for item in literal_classes if item.matched]
    words = (*matched_words, *sorted(_NOT_SEGMENTS))
    wildcard_classes = [
        SegmentClass(segment, matched)
        for segment, matched, word in enumerate_match_classes(tuple(sorted(wildcards)), words, _alphabet_of(kind), kind)
        if not word and segment
    ]
    # For the class that nothing matches, a common word reads better than the shortest text that the automaton finds.
    unmatched = (
        [SegmentClass(_unmatched_segment(kind, literals, wildcards), frozenset[Pieces]())]
        if any(not item.matched for item in wildcard_classes)
        else []
    )
    return (*unmatched, *(item for item in wildcard_classes if item.matched), *literal_classes)


def enumerate_match_classes(
    wildcards: tuple[Pieces, ...], words: tuple[str, ...], alphabet: str, kind: str = ""
) -> Iterator[tuple[str, frozenset[Pieces], str]]:
    """Yield one text for each combination of wildcards and word that a text can match.

    Each item is the text, the wildcards that match it, and the word that it equals ("" for none).

    Raises:
        AnalysisLimitReached: more than `MAX_STATES` states are reachable.
    """
    examples: dict[tuple[tuple[bool, ...], str], str] = {}
    automaton = _ProductAutomaton(wildcards, words)
    letters = automaton.letters(alphabet)
    start = automaton.start
    # Breadth first, so the first text that reaches a signature is a shortest one.
    queue, visited = deque([(start, "")]), {start}
    while queue:
        state, text = queue.popleft()
        signature = automaton.signature(state)
        # A canonical name makes a better witness: it replaces an example that the policy would refuse to parse.
        if signature not in examples or (
            not _is_canonical_segment(kind, examples[signature]) and _is_canonical_segment(kind, text)
        ):
            examples[signature] = text
        for letter in letters:
            successor = automaton.step(state, letter)
            if successor not in visited:
                visited.add(successor)
                queue.append((successor, text + letter))
        if len(visited) > MAX_STATES:
            raise AnalysisLimitReached("the patterns overlap in too many ways to analyse")
    for (accepted, word), text in examples.items():
        matched = frozenset(pieces for pieces, accepts in zip(wildcards, accepted, strict=True) if accepts)
        example = _make_readable(text, matched, wildcards, words, kind) if not word else text
        yield example, matched, word


_State: TypeAlias = tuple[tuple[int, ...], int]  # the active positions of each wildcard, as bits; the trie node


class _ProductAutomaton:
    """All wildcards and words as one deterministic automaton over characters, built by subset construction.

    A wildcard of n tokens is a nondeterministic automaton with positions 0 to n; position n accepts. The set of its
    active positions is one integer, bit i for position i, so one step of all positions is a few shifts and masks.
    """

    def __init__(self, wildcards: tuple[Pieces, ...], words: tuple[str, ...]) -> None:
        tokens = [_tokens(pieces) for pieces in wildcards]
        # Bit i of `_stars` is set where token i is `*`; bit n of `_ends` is the accepting position.
        self._stars = [sum(1 << at for at, token in enumerate(row) if token is None) for row in tokens]
        self._ends = [1 << len(row) for row in tokens]
        self._positions_of: list[dict[str, int]] = []  # letter → the positions at which the wildcard expects it
        for row in tokens:
            table: dict[str, int] = {}
            for at, token in enumerate(row):
                if token is not None:
                    table[token] = table.get(token, 0) | 1 << at
            self._positions_of.append(table)
        self._trie: list[dict[str, int]] = [{}]
        self._word: dict[int, str] = {}
        for word in words:
            node = 0
            for letter in word:
                if letter not in self._trie[node]:
                    self._trie.append({})
                    self._trie[node][letter] = len(self._trie) - 1
                node = self._trie[node][letter]
            self._word[node] = word
        self.used = {letter for table in self._positions_of for letter in table} | {
            letter for word in words for letter in word
        }
        # A leading `*` may match nothing, so position 1 is active from the start as well.
        self.start: _State = (tuple(1 | (1 & stars) << 1 for stars in self._stars), 0)

    def letters(self, alphabet: str) -> list[str]:
        """List one letter for each equivalence class of letters.

        A letter that no pattern and no word contains comes first and stands for all such letters; each other is a class.
        """
        other = next((letter for letter in alphabet if letter not in self.used), "\u00f8")
        plain = [letter for letter in alphabet if letter in self.used]
        allowed = frozenset(alphabet)
        # File names may contain any character, so letters of patterns from outside the alphabet count as well.
        foreign = sorted(letter for letter in self.used if letter not in allowed and (alphabet == _FILE_ALPHABET))
        return [other, *plain, *foreign]

    def step(self, state: _State, letter: str) -> _State:
        """Read one letter. A position at a `*` stays active, and also activates the next one (`*` matches nothing)."""
        position_sets, node = state
        successors: list[int] = []
        for positions, stars, table in zip(position_sets, self._stars, self._positions_of, strict=True):
            reached = (positions & table.get(letter, 0)) << 1 | positions & stars
            # One shift is enough: patterns have no two adjacent `*`.
            successors.append(reached | (reached & stars) << 1)
        # -1: the text is no prefix of any word, and never becomes one again.
        return tuple(successors), self._trie[node].get(letter, -1) if node >= 0 else -1

    def signature(self, state: _State) -> tuple[tuple[bool, ...], str]:
        """Say which wildcards match the text read so far, and which word it equals ("" for none)."""
        position_sets, node = state
        accepted = tuple(bool(positions & end) for positions, end in zip(position_sets, self._ends, strict=True))
        return accepted, self._word.get(node, "")


def _tokens(pieces: Pieces) -> list[str | None]:
    """List the letters of one segment of a pattern, with None for each `*`."""
    tokens: list[str | None] = list(pieces[0])
    for piece in pieces[1:]:
        tokens.append(None)
        tokens.extend(piece)
    return tokens


def _alphabet_of(kind: str) -> str:
    return _ALPHABETS.get(kind, _ID_ALPHABET)


def _is_canonical_segment(kind: str, segment: str) -> bool:
    """True if a canonical name of that kind may have this segment."""
    if not kind:
        return True
    if kind in ("http", "https"):
        return bool(segment) and segment not in _NOT_SEGMENTS
    return _is_canonical_name(kind, segment)


@lru_cache(maxsize=65_536)
def _is_canonical_name(kind: str, name: str) -> bool:
    try:
        return canonical(kind, name) == name
    except Refusal:
        return False


_PLAIN_NAMES: Final = ("other", "x", "another", "else", "something")
_PLAIN_NAMES_OF_KIND: Final = {"mail": ("someone@other.example", "x@x.example"), "host": ("other.example", "x.example")}


def _unmatched_segment(kind: str, literals: Iterable[str], wildcards: Iterable[Pieces] = ()) -> str:
    """Find a segment that none of the patterns matches."""
    taken, patterns = frozenset(literals), tuple(wildcards)
    for name in _candidate_names(kind):
        if name not in taken and not any(segment_matches(pieces, name) for pieces in patterns):
            return name
    raise AnalysisLimitReached("no plain name is left that the patterns do not match")


def _candidate_names(kind: str) -> Iterator[str]:
    yield from _PLAIN_NAMES_OF_KIND.get(kind, _PLAIN_NAMES)
    tail = {"mail": "@other.example", "host": ".example"}.get(kind, "")
    for letter in _alphabet_of(kind):
        if letter.isalpha():
            yield letter * 3 + tail
            yield f"{letter}x{tail}"
    yield from (f"other{number}{tail}" for number in range(100_000))


def _make_readable(
    text: str, matched: frozenset[Pieces], wildcards: tuple[Pieces, ...], words: tuple[str, ...], kind: str
) -> str:
    """Return a text of the same class that reads better than the shortest: `INC-1` for `INC-*`, a whole mail address.

    Each candidate is checked against all patterns and words, so a bad guess is skipped and never changes the class.
    """

    def in_same_class(candidate: str) -> bool:
        return candidate not in words and all(
            (pieces in matched) is segment_matches(pieces, candidate) for pieces in wildcards
        )

    constructions: list[Callable[[str], str]] = [
        lambda fill: fill.join(sorted(matched, key=len)[-1]) if matched else fill,
        lambda fill: text + fill,
        lambda fill: fill + text,
    ]
    fills = ("1", "x", "@other.example", "x@other.example", "other.example", "z", "00")
    for construct in constructions:
        for fill in fills:
            candidate = construct(fill)
            if candidate and in_same_class(candidate) and _is_canonical_segment(kind, candidate):
                return candidate
    return text
