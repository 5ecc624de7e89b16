"""BM25 over the passages that a reader may see, and whether anything was found.

INVARIANT: every number here is computed from visible passages alone, and equal scores are ordered by names and places. So nothing
that a reader may not see changes a result, a score or an order.
"""

import heapq
import math
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retrieval.shelf import Shelf, Version
from retrieval.terms import terms_of

MOST_TERMS = 32
K1, B = 1.2, 0.75
TIES = 100
# Where the errors of both kinds are equally frequent for the questions `tuned` of tests/benchmarks/search_questions.yaml.
EVIDENCE = 0.635
LOOKED_AT = 3  # of the best passages, one must be evidence
RARE = 5  # a word of fewer passages is no better evidence than one of so many


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
    """The best passages, and how far they are evidence that the documents answer the question: from 0 to 1."""

    hits: list[Hit]
    evidence: float


_Postings = Mapping[str, tuple["array[int]", bytes]]  # of each term its passages, in order, and how often each has it


def rank(shelves: Sequence[Shelf], query: str, most: int) -> Ranked:
    """The passages with the highest BM25 scores for a query."""
    terms = list(dict.fromkeys(terms_of(query)))[:MOST_TERMS]
    postings: list[_Postings] = [shelf.postings(terms) if terms else {} for shelf in shelves]
    total = sum(shelf.passages for shelf in shelves)
    frequencies = {
        term: sum(shelf.visible(own[term][0]) for shelf, own in zip(shelves, postings, strict=True) if term in own)
        for term in terms
    }
    weights = {term: math.log(1 + (total - count + 0.5) / (count + 0.5)) for term, count in frequencies.items()}
    mean = sum(shelf.terms for shelf in shelves) / max(total, 1) or 1.0
    scorer = _Scorer({term: weights[term] for term, count in frequencies.items() if count}, mean)
    hits = [
        _hit(shelves[number], postings[number], passage, score)
        for score, number, passage in _best(scorer, shelves, postings, max(most, LOOKED_AT))
    ]
    hits.sort(key=lambda hit: (-hit.score, hit.version.name, hit.start))
    return Ranked(hits=hits[:most], evidence=_evidence(hits[:LOOKED_AT], weights, total))


def _best(
    scorer: "_Scorer", shelves: Sequence[Shelf], postings: Sequence[_Postings], most: int
) -> list[tuple[float, int, int]]:
    """The best passages, with those that equal the last of them: score, number of the shelf, passage.

    Of very many equal ones the first are taken. What a reader may not see does not change which of two passages comes first.
    """
    best: list[tuple[float, int, int]] = []
    bar = 0.0  # what a passage must have, at least, to be among the best
    for number in sorted(range(len(shelves)), key=lambda each: -shelves[each].passages):
        found = scorer.scores(shelves[number], postings[number], bar)
        best += [(score, number, passage) for score, passage in found]
        if len(best) > most:
            bar = heapq.nlargest(most, (score for score, _, _ in best))[-1]
            best = [each for each in best if each[0] >= bar]
    equal = heapq.nsmallest(TIES, (each for each in best if each[0] == bar))
    return [each for each in best if each[0] > bar] + equal


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
        # What this term and later ones add to a score, at most.
        self._rest = [sum(self._weights[at:]) for at in range(len(self._terms))]
        self._base, self._slope = K1 * (1 - B), K1 * B / mean

    def scores(self, shelf: Shelf, postings: _Postings, bar: float) -> list[tuple[float, int]]:
        """The score and the number of each visible passage that has a word of the query and reaches the bar, and of some that do not.

        Once the terms that remain cannot lift another passage to the bar, they are looked up for those that can still reach it.
        """
        lengths, mask = shelf.lengths, shelf.mask
        scores = [0.0] * len(lengths)
        touched: set[int] = set()
        at = 0
        while at < len(self._terms) and self._rest[at] >= bar:
            passages, counts = postings.get(self._terms[at], _NONE)
            weight, base, slope = self._weights[at], self._base, self._slope
            for passage, count in zip(passages, counts, strict=True):
                scores[passage] += weight * count / (count + base + slope * lengths[passage])
            touched.update(passages)
            at += 1
        least = bar - self._rest[at] if at < len(self._terms) else bar
        left = {
            passage: scores[passage]
            for passage in touched
            if scores[passage] >= least and (mask is None or mask[passage])
        }
        for later in range(at, len(self._terms)):
            left = {passage: score for passage, score in left.items() if score + self._rest[later] >= bar}
            self._look_up(later, left, lengths, postings)
        return [(score, passage) for passage, score in left.items()]

    def _look_up(self, at: int, scores: dict[int, float], lengths: "array[int]", postings: _Postings) -> None:
        """Add what one term adds to the scores of some passages."""
        passages, counts = postings.get(self._terms[at], _NONE)
        for passage in scores:
            place = _at(passages, passage)
            if place >= 0:
                count = counts[place]
                scores[passage] += self._weights[at] * count / (count + self._base + self._slope * lengths[passage])


_NONE: tuple["array[int]", bytes] = (array("I"), b"")


def answers(ranked: Ranked) -> bool:
    """Whether one of the best passages is evidence enough that the documents answer the question."""
    return bool(ranked.hits) and ranked.evidence >= EVIDENCE


def _evidence(hits: Sequence[Hit], weights: Mapping[str, float], passages: int) -> float:
    """How many of the words of the question one of these passages has, weighed.

    A word weighs the more, the fewer visible passages have it, down to `RARE`. So the same question may be answered from one set of
    documents and not from another; and where they are few, one word that they do not use does not decide alone.
    """
    most = math.log(1 + passages / RARE)
    capped = {term: min(weight, most) for term, weight in weights.items()}
    matched = [sum(weight for term, weight in capped.items() if term in hit.matched) for hit in hits]
    return max(matched, default=0.0) / (sum(capped.values()) or 1.0)
