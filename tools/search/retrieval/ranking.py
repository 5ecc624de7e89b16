"""BM25 over the passages that a reader may see, and whether anything was found.

INVARIANT: every number here is computed from visible passages alone, and equal scores are ordered by names and places. So nothing
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
FREQUENT = 0.25  # a term in a larger part of the passages orders nothing
TIES = 100
ENOUGH = 200  # passages with the rarer half of the words: none without one of these can be evidence
# The highest that refuses at most 5 % of the questions `tuned` of tests/benchmarks/search_questions.yaml that have an answer.
HEAVIEST, EVIDENCE = 0.5, 0.62
SMALL = 1_000  # in so few passages, every term counts


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage that was found. `matched` are the terms of the query that it has."""

    shelf: Shelf
    version: Version
    section: str
    start: int
    stop: int
    score: float
    matched: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """The best passages, and the weight of each term of the query among all visible passages."""

    hits: list[Hit]
    weights: dict[str, float]
    frequencies: dict[str, int]
    passages: int


_Lists = list[tuple[int, "array[int]", bytes]]  # the number of the shelf, its passages, and the counts


def rank(shelves: Sequence[Shelf], query: str, most: int) -> Ranked:
    """The best passages for a query."""
    terms = list(dict.fromkeys(terms_of(query)))[:MOST_TERMS]
    lists: dict[str, _Lists] = {term: [] for term in terms}
    for number, shelf in enumerate(shelves):
        for term, (passages, counts) in (shelf.postings(terms) if terms else {}).items():
            lists[term].append((number, passages, counts))
    total = sum(shelf.passages for shelf in shelves)
    frequencies = {term: sum(len(passages) for _, passages, _ in found) for term, found in lists.items()}
    weights = {term: math.log(1 + (total - count + 0.5) / (count + 0.5)) for term, count in frequencies.items()}
    mean = sum(shelf.terms for shelf in shelves) / max(total, 1)
    best = _Scores(shelves, lists, weights, mean or 1.0).best(_ordering(frequencies, weights, total), most)
    hits = [_hit(shelves, lists, key, score) for key, score in best]
    hits.sort(key=lambda hit: (-hit.score, hit.version.name, hit.start))
    return Ranked(hits=hits[:most], weights=weights, frequencies=frequencies, passages=total)


def _ordering(frequencies: dict[str, int], weights: dict[str, float], total: int) -> list[str]:
    """The terms that order passages, the rarest first. If all are frequent, all of them."""
    found = [term for term, count in frequencies.items() if count]
    rare = [term for term in found if total <= SMALL or frequencies[term] <= FREQUENT * total]
    return sorted(rare or found, key=lambda term: (-weights[term], term))


def _hit(shelves: Sequence[Shelf], lists: dict[str, _Lists], key: int, score: float) -> Hit:
    number, passage = key >> 32, key & 0xFFFFFFFF
    version, section, start, stop = shelves[number].place(passage)
    matched = frozenset(term for term, found in lists.items() if _has(found, number, passage))
    return Hit(
        shelf=shelves[number],
        version=version,
        section=section,
        start=start,
        stop=stop,
        score=score,
        matched=matched,
    )


def _has(lists: _Lists, number: int, passage: int) -> bool:
    return any(_at(passages, passage) >= 0 for own, passages, _ in lists if own == number)


def _at(passages: "array[int]", passage: int) -> int:
    at = bisect_left(passages, passage)
    return at if at < len(passages) and passages[at] == passage else -1


class _Scores:
    """Adds up the scores of passages, the rarest term first, and drops those that can no longer be among the best.

    Passages that have only the more frequent half of the words, by weight, count if there are few others.
    """

    def __init__(
        self, shelves: Sequence[Shelf], lists: dict[str, _Lists], weights: dict[str, float], mean: float
    ) -> None:
        self._lengths = [shelf.lengths for shelf in shelves]
        self._lists = lists
        self._weights = weights
        self._slope = K1 * B / mean

    def best(self, terms: list[str], most: int) -> list[tuple[int, float]]:
        """The best passages, with those that equal the last of them: shelf number and passage number in one number, and the score.

        Of very many equal ones the first are taken. What a reader may not see does not change which of two passages comes first.
        """
        rest = [sum(self._weights[term] for term in terms[at:]) * (K1 + 1) for at in range(len(terms) + 1)]
        scores: defaultdict[int, float] = defaultdict(float)
        closed = False  # True: further terms add no passages, but only to the scores of those that have an earlier term
        for at, term in enumerate(terms):
            closed = closed or (len(scores) >= ENOUGH and rest[at] <= rest[0] / 2)
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
        for number, passages, counts in self._lists[term]:
            lengths, high = self._lengths[number], number << 32
            for passage, count in zip(passages, counts, strict=True):
                scores[high | passage] += weight * count / (count + base + slope * lengths[passage])

    def _look_up(self, term: str, scores: "defaultdict[int, float]") -> None:
        weight, slope, base = self._weights[term] * (K1 + 1), self._slope, K1 * (1 - B)
        lists = {number: (passages, counts, len(passages)) for number, passages, counts in self._lists[term]}
        for key in scores:
            number, passage = key >> 32, key & 0xFFFFFFFF
            if number not in lists:
                continue
            passages, counts, size = lists[number]
            at = bisect_left(passages, passage)
            if at < size and passages[at] == passage:
                count = counts[at]
                scores[key] += weight * count / (count + base + slope * self._lengths[number][passage])


def answers(ranked: Ranked) -> bool:
    """Whether the best passage is evidence: whether it has enough of the words of the question, weighed.

    A word weighs the more, the fewer visible passages have it, up to `HEAVIEST` of what a word in none of them would weigh. So one name, or
    one word that these documents do not use, decides nothing alone; and the same question may be answered from one set of documents
    and not from another.
    """
    heaviest = HEAVIEST * math.log(1 + ranked.passages)
    weights = {term: min(weight, heaviest) for term, weight in ranked.weights.items()}
    if not ranked.hits or not weights:
        return False
    return sum(weights[term] for term in ranked.hits[0].matched) >= EVIDENCE * sum(weights.values())
