"""Which segments there are, as far as some patterns can tell them apart: one example of each, and which patterns match it.

`word`, `ab*` and `*b` part all segments into `word`, those that match `ab*` only, `*b` only, both, and neither. A small
automaton over characters finds every such part that is not empty, so nothing hides between two patterns.
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

Pieces: TypeAlias = tuple[str, ...]  # what stands between the `*` of one segment of a pattern
ANY: Final[Pieces] = ("", "")  # `*`
MOST_STATES: Final = 20_000  # of one automaton over characters; the patterns of real policies need tens

_FRESH: Final = "x0abcdefghijklmnopqrstuvwyz123456789-_@+.,:;=%$&!'()~ ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_IDS: Final = "x0abcdefghijklmnopqrstuvwyz123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-_@+."
_ALPHABETS: Final = {
    "file": _FRESH,
    "": _FRESH,
    "http": "x0abcdefghijklmnopqrstuvwyz123456789-_.~ABCDEFGHIJKLMNOPQRSTUVWXYZ!$&'()+,;=:@",
    "https": "x0abcdefghijklmnopqrstuvwyz123456789-_.~ABCDEFGHIJKLMNOPQRSTUVWXYZ!$&'()+,;=:@",
    "table": "xabcdefghijklmnopqrstuvwyz_0123456789",
    "mail": "x0abcdefghijklmnopqrstuvwyz123456789-_+.@",
    "host": "x0abcdefghijklmnopqrstuvwyz123456789-.:",
}
_NEVER: Final = frozenset((".", ".."))  # no canonical name has them as a segment


class TooMany(Exception):
    """There is more to look at than the budget allows: the answer is not known, and must be told so."""


@dataclass(frozen=True)
class Part:
    """Segments that no pattern tells apart: one of them, and the patterns with `*` that match it."""

    segment: str
    matched: frozenset[Pieces]


@lru_cache(maxsize=65_536)
def parts(kind: str, literals: frozenset[str], wildcards: frozenset[Pieces]) -> tuple[Part, ...]:
    """Every part of all canonical segments of that kind, plainest first; `ANY` is left out of the answer.

    Raises:
        TooMany: the patterns overlap in more ways than are looked at.
    """
    real = wildcards - {ANY}
    found = [
        Part(word, frozenset(one for one in real if segment_matches(one, word)))
        for word in sorted(literals)
        if word not in _NEVER
    ]
    if not real:
        return (Part(_unlike(kind, literals), frozenset()), *found)
    hit = [one.segment for one in found if one.matched]
    others = [
        Part(segment, matched)
        for segment, matched, word in distinguished(tuple(sorted(real)), (*hit, *sorted(_NEVER)), _alphabet(kind), kind)
        if not word and segment
    ]
    nothing = frozenset[Pieces]()
    plain = [Part(_unlike(kind, literals, real), nothing)] if any(not one.matched for one in others) else []
    return (*plain, *(one for one in others if one.matched), *found)


def distinguished(
    wildcards: tuple[Pieces, ...], words: tuple[str, ...], alphabet: str, kind: str = ""
) -> Iterator[tuple[str, frozenset[Pieces], str]]:
    """A shortest text for each set of wildcards and word that a text can match, with that set and word ("" for none)."""
    seen: dict[tuple[tuple[bool, ...], str], str] = {}
    machine = _Machine(wildcards, words)
    letters = machine.letters(alphabet)
    start = machine.start
    queue, visited = deque([(start, "")]), {start}
    while queue:
        state, text = queue.popleft()
        signature = machine.signature(state)
        if signature not in seen or (not _spelled(kind, seen[signature]) and _spelled(kind, text)):
            seen[signature] = text
        for letter in letters:
            following = machine.step(state, letter)
            if following not in visited:
                visited.add(following)
                queue.append((following, text + letter))
        if len(visited) > MOST_STATES:
            raise TooMany("patterns overlap in more ways than are looked at")
    for (accepted, word), text in seen.items():
        chosen = frozenset(one for one, is_in in zip(wildcards, accepted, strict=True) if is_in)
        better = _readable(text, chosen, wildcards, words, kind) if not word else text
        yield better, chosen, word


_State: TypeAlias = tuple[tuple[int, ...], int]  # the places in each wildcard, as bits; the node of the trie of words


class _Machine:
    """Reads a segment letter by letter, and knows at every point which patterns match what was read."""

    def __init__(self, wildcards: tuple[Pieces, ...], words: tuple[str, ...]) -> None:
        tokens = [_tokens(pieces) for pieces in wildcards]
        self._stars = [sum(1 << at for at, token in enumerate(one) if token is None) for one in tokens]
        self._ends = [1 << len(one) for one in tokens]
        self._on: list[dict[str, int]] = []
        for one in tokens:
            table: dict[str, int] = {}
            for at, token in enumerate(one):
                if token is not None:
                    table[token] = table.get(token, 0) | 1 << at
            self._on.append(table)
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
        self.used = {letter for table in self._on for letter in table} | {letter for word in words for letter in word}
        self.start: _State = (tuple(1 | (1 & stars) << 1 for stars in self._stars), 0)

    def letters(self, alphabet: str) -> list[str]:
        """Every letter that some pattern knows, after one that none does: it stands for all others."""
        other = next((letter for letter in alphabet if letter not in self.used), "\u00f8")
        plain = [letter for letter in alphabet if letter in self.used]
        legal = frozenset(alphabet)
        foreign = sorted(letter for letter in self.used if letter not in legal and (alphabet == _FRESH))
        return [other, *plain, *foreign]

    def step(self, state: _State, letter: str) -> _State:
        places, node = state
        following: list[int] = []
        for place, stars, table in zip(places, self._stars, self._on, strict=True):
            reached = (place & table.get(letter, 0)) << 1 | place & stars
            following.append(reached | (reached & stars) << 1)
        return tuple(following), self._trie[node].get(letter, -1) if node >= 0 else -1

    def signature(self, state: _State) -> tuple[tuple[bool, ...], str]:
        places, node = state
        accepted = tuple(bool(place & end) for place, end in zip(places, self._ends, strict=True))
        return accepted, self._word.get(node, "")


def _tokens(pieces: Pieces) -> list[str | None]:
    """The letters of one segment of a pattern, with None for each `*`."""
    tokens: list[str | None] = list(pieces[0])
    for piece in pieces[1:]:
        tokens.append(None)
        tokens.extend(piece)
    return tokens


def _alphabet(kind: str) -> str:
    return _ALPHABETS.get(kind, _IDS)


def _spelled(kind: str, segment: str) -> bool:
    """Whether a canonical name of that kind has such a segment."""
    if not kind:
        return True
    if kind in ("http", "https"):
        return bool(segment) and segment not in _NEVER
    return _canonical(kind, segment)


@lru_cache(maxsize=65_536)
def _canonical(kind: str, name: str) -> bool:
    try:
        return canonical(kind, name) == name
    except Refusal:
        return False


_NAMES: Final = ("other", "x", "another", "else", "something")
_KIND_NAMES: Final = {"mail": ("someone@other.example", "x@x.example"), "host": ("other.example", "x.example")}


def _unlike(kind: str, literals: Iterable[str], wildcards: Iterable[Pieces] = ()) -> str:
    """A segment that none of them matches; one always exists where the automaton says so."""
    taken, patterns = frozenset(literals), tuple(wildcards)
    for name in _names(kind):
        if name not in taken and not any(segment_matches(one, name) for one in patterns):
            return name
    raise TooMany("no plain name is left")


def _names(kind: str) -> Iterator[str]:
    yield from _KIND_NAMES.get(kind, _NAMES)
    tail = {"mail": "@other.example", "host": ".example"}.get(kind, "")
    for letter in _alphabet(kind):
        if letter.isalpha():
            yield letter * 3 + tail
            yield f"{letter}x{tail}"
    yield from (f"other{number}{tail}" for number in range(100_000))


def _readable(
    text: str, chosen: frozenset[Pieces], wildcards: tuple[Pieces, ...], words: tuple[str, ...], kind: str
) -> str:
    """A text of the same part that reads better than the shortest: `INC-1` for `INC-*`, a whole address for a mail."""

    def same(candidate: str) -> bool:
        return candidate not in words and all((one in chosen) is segment_matches(one, candidate) for one in wildcards)

    tried: list[Callable[[str], str]] = [
        lambda fill: fill.join(sorted(chosen, key=len)[-1]) if chosen else fill,
        lambda fill: text + fill,
        lambda fill: fill + text,
    ]
    fills = ("1", "x", "@other.example", "x@other.example", "other.example", "z", "00")
    for make in tried:
        for fill in fills:
            candidate = make(fill)
            if candidate and same(candidate) and _spelled(kind, candidate):
                return candidate
    return text
