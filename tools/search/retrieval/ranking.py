"""BM25 over the passages that a reader may see, and whether anything was found.

INVARIANT: every number here is computed from visible passages alone, and equal scores are ordered by names and places. So nothing
that a reader may not see changes a result, a score or an order.
"""

import heapq
import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from retrieval.shelf import Shelf, Version
from retrieval.terms import terms_of

MOST_TERMS = 32
K1, B = 1.2, 0.75
TIES = 100
# The highest that refuses at most 5 % of the questions `tuned` of tests/benchmarks/search_questions.yaml that have an answer.
HEAVIEST, EVIDENCE = 0.5, 0.62


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
    passages: int


_Postings = Mapping[str, tuple["array[int]", bytes]]  # of each term its passages, in order, and how often each has it


def rank(shelves: Sequence[Shelf], query: str, most: int) -> Ranked:
    """The passages with the highest BM25 scores for a query."""
    terms = list(dict.fromkeys(terms_of(query)))[:MOST_TERMS]
    postings: list[_Postings] = [shelf.postings(terms) if terms else {} for shelf in shelves]
    total = sum(shelf.passages for shelf in shelves)
    frequencies = {term: sum(len(own[term][0]) for own in postings if term in own) for term in terms}
    weights = {term: math.log(1 + (total - count + 0.5) / (count + 0.5)) for term, count in frequencies.items()}
    mean = sum(shelf.terms for shelf in shelves) / max(total, 1) or 1.0
    scorer = _Scorer({term: weights[term] for term, count in frequencies.items() if count}, mean)
    hits = [
        _hit(shelves[number], postings[number], passage, score)
        for score, number, passage in _best(scorer, shelves, postings, most)
    ]
    hits.sort(key=lambda hit: (-hit.score, hit.version.name, hit.start))
    return Ranked(hits=hits[:most], weights=weights, passages=total)


def _best(
    scorer: "_Scorer", shelves: Sequence[Shelf], postings: Sequence[_Postings], most: int
) -> list[tuple[float, int, int]]:
    """The best passages, with those that equal the last of them: score, number of the shelf, passage.

    Of very many equal ones the first are taken. What a reader may not see does not change which of two passages comes first.
    """
    best: list[tuple[float, int, int]] = []
    bar = 0.0  # what a passage must have, at least, to be among the best
    for number, (shelf, own) in enumerate(zip(shelves, postings, strict=True)):
        best += [(score, number, passage) for passage, score in scorer.scores(shelf.lengths, own, most, bar)]
        if len(best) > most:
            bar = heapq.nlargest(most, best)[-1][0]
            equal = [each for each in best if each[0] == bar][:TIES]
            best = [each for each in best if each[0] > bar] + equal
    return best


def _hit(shelf: Shelf, postings: _Postings, passage: int, score: float) -> Hit:
    version, section, start, stop = shelf.place(passage)
    matched = frozenset(term for term, (passages, _) in postings.items() if _at(passages, passage) >= 0)
    return Hit(shelf=shelf, version=version, section=section, start=start, stop=stop, score=score, matched=matched)


def _at(passages: "array[int]", passage: int) -> int:
    at = bisect_left(passages, passage)
    return at if at < len(passages) and passages[at] == passage else -1


class _Scorer:
    """The scores of passages, term by term, the rarest first; so equal passages have equal sums."""

    def __init__(self, weights: Mapping[str, float], mean: float) -> None:
        self._terms = sorted(weights, key=lambda term: (-weights[term], term))
        self._weights = [weights[term] * (K1 + 1) for term in self._terms]
        self._rest = [
            sum(self._weights[at:]) for at in range(len(self._terms))
        ]  # what these and later terms add at most
        self._base, self._slope = K1 * (1 - B), K1 * B / mean

    def scores(self, lengths: "array[int]", postings: _Postings, most: int, bar: float) -> Iterator[tuple[int, float]]:
        """The best passages of a shelf, with those that equal the last of them and have a score of `bar`, at least.

        Once the terms that remain cannot lift another passage to the bar, they are looked up for those that can still reach it.
        """
        scores = [0.0] * len(lengths)
        at = 0
        while at < len(self._terms) and self._rest[at] >= bar:
            passages, counts = postings.get(self._terms[at], _NONE)
            weight, base, slope = self._weights[at], self._base, self._slope
            for passage, count in zip(passages, counts, strict=True):
                scores[passage] += weight * count / (count + base + slope * lengths[passage])
            at += 1
        bar = max([bar, *heapq.nlargest(most, scores)[most - 1 :]])
        least = bar - self._rest[at] if at < len(self._terms) else bar
        for passage, score in enumerate(scores):
            if score >= least and score:
                whole = self._completed(score, passage, lengths[passage], postings, at)
                if whole >= bar:
                    yield passage, whole

    def _completed(self, score: float, passage: int, length: int, postings: _Postings, first: int) -> float:
        for at in range(first, len(self._terms)):
            passages, counts = postings.get(self._terms[at], _NONE)
            place = _at(passages, passage)
            if place >= 0:
                count = counts[place]
                score += self._weights[at] * count / (count + self._base + self._slope * length)
        return score


_NONE: tuple["array[int]", bytes] = (array("I"), b"")


def answers(ranked: Ranked) -> bool:
    """Whether the best passage is evidence enough that the documents answer the question."""
    return bool(ranked.hits) and evidence(ranked) >= EVIDENCE


def evidence(ranked: Ranked) -> float:
    """How many of the words of the question the best passage has, weighed: from 0 to 1.

    A word weighs the more, the fewer visible passages have it, up to `HEAVIEST` of what a word in none of them would weigh. So one name, or
    one word that these documents do not use, decides nothing alone; and the same question may be answered from one set of documents
    and not from another.
    """
    heaviest = HEAVIEST * math.log(1 + ranked.passages)
    weights = {term: min(weight, heaviest) for term, weight in ranked.weights.items()}
    matched = ranked.hits[0].matched if ranked.hits else frozenset[str]()
    return sum(weight for term, weight in weights.items() if term in matched) / (sum(weights.values()) or 1.0)
