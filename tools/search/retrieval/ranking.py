"""BM25 over the chunks that a reader may see, and whether anything was found.

INVARIANT: every number here is computed from visible chunks alone, and equal scores are ordered by names and places. So nothing
that a reader may not see changes a result, a score or an order.
"""

import heapq
import math
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.shelf import Shelf, Version
from retrieval.terms import terms_of

MOST_TERMS = 32
K1, B = 1.2, 0.75
FREQUENT = 0.25  # a term in a larger part of the chunks orders nothing
TIES = 100
SMALL = 1_000  # in so few chunks, every term counts


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A chunk that was found. `matched` are the terms of the query that it has."""

    shelf: Shelf
    version: Version
    section: str
    start: int
    stop: int
    score: float
    matched: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The best chunks, and the weight of each term of the query among all visible chunks."""

    hits: list[Hit]
    weights: dict[str, float]
    frequencies: dict[str, int]
    chunks: int


_Lists = list[tuple[int, "array[int]", bytes]]  # the number of the shelf, its chunks, and the counts


def rank(shelves: Sequence[Shelf], query: str, most: int) -> Ranked:
    """The best chunks for a query."""
    terms = list(dict.fromkeys(terms_of(query)))[:MOST_TERMS]
    lists: dict[str, _Lists] = {term: [] for term in terms}
    for number, shelf in enumerate(shelves):
        for term, (chunks, counts) in (shelf.postings(terms) if terms else {}).items():
            lists[term].append((number, chunks, counts))
    total = sum(shelf.chunks for shelf in shelves)
    frequencies = {term: sum(len(chunks) for _, chunks, _ in found) for term, found in lists.items()}
    weights = {term: math.log(1 + (total - count + 0.5) / (count + 0.5)) for term, count in frequencies.items()}
    used = [
        term for term in terms if frequencies[term] > 0 and (total <= SMALL or frequencies[term] <= FREQUENT * total)
    ]
    used = used or [term for term in terms if frequencies[term]]
    used.sort(key=lambda term: (-weights[term], term))
    mean = sum(shelf.terms for shelf in shelves) / max(total, 1)
    scored = _Scores(shelves, lists, weights, mean or 1.0).best(used, most)
    found = [(score, *_place(shelves, key)) for key, score in scored]
    found.sort(key=lambda each: (-each[0], each[2].name, each[4]))
    hits = [
        Hit(
            shelf=shelf, version=version, section=section, start=start, stop=stop, score=score,
            matched=frozenset(term for term in terms if _has(lists[term], shelves.index(shelf), chunk)),
        )
        for score, shelf, version, section, start, stop, chunk in found[:most]
    ]  # fmt: skip
    return Ranked(hits=hits, weights=weights, frequencies=frequencies, chunks=total)


def _place(shelves: Sequence[Shelf], key: int) -> tuple[Shelf, Version, str, int, int, int]:
    shelf, chunk = shelves[key >> 32], key & 0xFFFFFFFF
    return shelf, *shelf.place(chunk), chunk


def _has(lists: _Lists, number: int, chunk: int) -> bool:
    return any(_at(chunks, chunk) >= 0 for own, chunks, _ in lists if own == number)


def _at(chunks: "array[int]", chunk: int) -> int:
    at = bisect_left(chunks, chunk)
    return at if at < len(chunks) and chunks[at] == chunk else -1


class _Scores:
    """Adds up the scores of chunks, the rarest term first, and drops those that can no longer be among the best."""

    def __init__(
        self, shelves: Sequence[Shelf], lists: dict[str, _Lists], weights: dict[str, float], mean: float
    ) -> None:
        self._lengths = [shelf.lengths for shelf in shelves]
        self._lists = lists
        self._weights = weights
        self._slope = K1 * B / mean

    def best(self, terms: list[str], most: int) -> list[tuple[int, float]]:
        """The best chunks, with those that equal the last of them: shelf number and chunk number in one number, and the score.

        Of very many equal ones the first are taken. What a reader may not see does not change which of two chunks comes first.
        """
        rest = [sum(self._weights[term] for term in terms[at:]) * (K1 + 1) for at in range(len(terms) + 1)]
        scores: defaultdict[int, float] = defaultdict(float)
        closed = False  # True: no chunk that has none of the terms so far can be among the best
        for at, term in enumerate(terms):
            if len(scores) >= most:
                bar = heapq.nlargest(most, scores.values())[-1]
                if rest[at] < bar:
                    closed = True
                    scores = defaultdict(
                        float, {key: score for key, score in scores.items() if score + rest[at] >= bar}
                    )
            (self._look_up if closed else self._add)(term, scores)
        if len(scores) <= most:
            return list(scores.items())
        bar = heapq.nlargest(most, scores.values())[-1]
        equal = heapq.nsmallest(TIES, (key for key, score in scores.items() if score == bar))
        return [(key, score) for key, score in scores.items() if score > bar] + [(key, bar) for key in equal]

    def _add(self, term: str, scores: "defaultdict[int, float]") -> None:
        weight, slope, base = self._weights[term] * (K1 + 1), self._slope, K1 * (1 - B)
        for number, chunks, counts in self._lists[term]:
            lengths, high = self._lengths[number], number << 32
            for chunk, count in zip(chunks, counts, strict=True):
                scores[high | chunk] += weight * count / (count + base + slope * lengths[chunk])

    def _look_up(self, term: str, scores: "defaultdict[int, float]") -> None:
        weight, slope, base = self._weights[term] * (K1 + 1), self._slope, K1 * (1 - B)
        lists = {number: (chunks, counts) for number, chunks, counts in self._lists[term]}
        for key in scores:
            number, chunk = key >> 32, key & 0xFFFFFFFF
            if number in lists and (at := _at(lists[number][0], chunk)) >= 0:
                count = lists[number][1][at]
                scores[key] += weight * count / (count + base + slope * self._lengths[number][chunk])


def answers(ranked: Ranked) -> bool:
    """Whether the best chunk is evidence."""
    return bool(ranked.hits)
