"""Finds the runs at which a measure of an agent changed, with a stated rate of false alarms.

The detector compares each run with all runs before it, by rank only, so it needs no limit, no unit and no time to learn what is
usual. While runs are alike, the place of a run among those before it is uniform and independent of the places before (a conformal
p-value, with ties broken at random). A bet that the highest or the lowest few per cent become more or less frequent is then worth 1
on average. The statistic is that of Shiryaev and Roberts: the sum, over every run at which the change could have begun, of what the
bets since then have won. Without a change it grows by 1 a run on average, so it reaches N after N runs on average, or later.

Sources: Shin, Ramdas, Rinaldo, "E-detectors" (2022); Vovk, "Testing randomness online" (2021).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from remit.core.parsing import digest
from remit.rollout import bet


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What one run says of a measure. `run` is its id, which also breaks ties; `value` is 0 or 1, seconds, or money."""

    run: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a measure. Numbers are positions in the observations.

    The detector looked from `begin` on. The values most likely differ from `at` on, and the evidence was enough at `seen`. `more` is
    True if values became higher. `hits` says of each run from `begin` to `seen` whether its value is one of those that became
    more frequent.
    """

    begin: int
    at: int
    seen: int
    more: bool
    hits: tuple[bool, ...]


@dataclass(frozen=True)
class _Bet:
    """A bet that the highest `part` of the values (the lowest, if `lowest`) now has the chance `alternative`.

    Small parts see a rare event become frequent, large parts see a shift of all values.
    """

    part: float
    alternative: float
    lowest: bool = False

    def is_hit(self, place: float) -> bool:
        return place > 1 - self.part if self.lowest else place <= self.part

    def factor(self, place: float) -> float:
        return bet(self.is_hit(place), self.part, self.alternative)

    @property
    def grows(self) -> bool:
        """True if hits become more frequent."""
        return self.alternative > self.part


_BETS: Final = (
    *(_Bet(0.02, 0.05), _Bet(0.02, 0.12), _Bet(0.1, 0.22), _Bet(0.1, 0.4), _Bet(0.3, 0.5), _Bet(0.3, 0.7)),
    *(_Bet(0.1, 0.02), _Bet(0.3, 0.07), _Bet(0.3, 0.15)),  # a frequent event becomes rare
    *(_Bet(0.02, 0.12, lowest=True), _Bet(0.1, 0.3, lowest=True), _Bet(0.3, 0.6, lowest=True)),
)
# All places between two cuts have the same factors: those of each bet.
_CUTS: Final = sorted({1 - item.part if item.lowest else item.part for item in _BETS})
_FACTORS: Final = [
    [item.factor((low + high) / 2) for item in _BETS] for low, high in zip((0.0, *_CUTS), (*_CUTS, 1.0), strict=True)
]


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many of some runs are hits."""

    runs: int
    hits: int

    def evidence_of(self, part: Share) -> float:
        """How much likelier the hits are if this part of the runs has a higher share of its own: a logarithm, 0 if it is not higher."""
        rest = Share(runs=self.runs - part.runs, hits=self.hits - part.hits)
        if part.hits * rest.runs <= rest.hits * part.runs:
            return 0.0
        return part._likelihood + rest._likelihood - self._likelihood

    @property
    def _likelihood(self) -> float:
        """The logarithm of the likelihood of these hits, if each run is one with the chance of the share."""
        return sum(count * math.log(count / self.runs) for count in (self.hits, self.runs - self.hits) if count)


def find_changes(observations: Sequence[Observation], *, runs: float, first: int = 0) -> list[Change]:
    """The changes, in order.

    While runs are alike, there is on average at most one false change in so many `runs`. After each change the detector forgets
    everything up to there, and learns what is usual from the runs that follow. No change is seen before `first`, which may depend
    on the observations before it only.
    """
    changes: list[Change] = []
    begin = 0
    while (change := _next_change(observations, begin, first, runs)) is not None:
        changes.append(change)
        begin = change.seen + 1
    return changes


def _next_change(observations: Sequence[Observation], begin: int, first: int, runs: float) -> Change | None:
    earlier: list[float] = []
    places: list[float] = []
    sums = [0.0] * len(_BETS)
    enough = runs * len(_BETS)  # the statistic is the mean over the bets
    for number, observation in enumerate(observations[begin:], begin):
        places.append(place := _place(earlier, observation))
        if number < first:
            continue
        factors = _FACTORS[bisect_left(_CUTS, place)]
        sums = [(1 + won) * factor for won, factor in zip(sums, factors, strict=True)]
        if sum(sums) >= enough:
            return _change(begin, places, _BETS[sums.index(max(sums))])
    return None


def _place(earlier: list[float], observation: Observation) -> float:
    """The share of the runs so far, this one included, with a higher value: uniform between 0 and 1 while runs are alike.

    Equal values are put in order by a number that follows from the id of the run, so the same runs always give the same places.
    """
    first, last = bisect_left(earlier, observation.value), bisect_right(earlier, observation.value)
    higher, equal = len(earlier) - last, last - first
    insort(earlier, observation.value)
    return (higher + _chance(observation.run) * (equal + 1)) / len(earlier)


def _chance(run: str) -> float:
    """A number between 0 and 1: as if at random, and always the same for one run."""
    return int(digest(run)[-13:], 16) / 16**13


def _change(begin: int, places: Sequence[float], best: _Bet) -> Change:
    """The change that the best bet saw. It began at the run that divides the runs into the two parts that differ most."""
    hits = tuple(best.is_hit(place) is best.grows for place in places)
    whole = Share(runs=len(hits), hits=sum(hits))
    before = accumulate(hits, initial=0)
    evidence = [
        whole.evidence_of(Share(runs=whole.runs - at, hits=whole.hits - count)) for at, count in enumerate(before)
    ]
    return Change(
        begin=begin,
        at=begin + evidence.index(max(evidence)),
        seen=begin + len(places) - 1,
        more=best.grows is not best.lowest,
        hits=hits,
    )
