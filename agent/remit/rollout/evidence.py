"""Says, after every run, how strongly the events speak against a candidate. The same bets serve suites and drift alarms.

An e-value starts at 1. While the candidate is no worse, it is 1 on average at every look; so it reaches 1/alpha with a chance of
at most alpha, however often it is looked at (Ville's inequality). A test of a fixed size does not have this property.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# How many times as often the event may happen on the candidate's side. Each ratio gets an equal part of the first stake, so that
# a small harm is seen in the end and a large one at once.
RATIOS: Final = (1.5, 2.5, 5.0, 10.0)


def bet(hit: bool, null: float, alternative: float) -> float:
    """Factor of a stake on the probability `alternative`, where the probability is at most `null`, after one outcome.

    On average at most 1 for every true probability up to `null`, if `alternative` is not below it. Both lie between 0 and 1.
    """
    return alternative / null if hit else (1 - alternative) / (1 - null)


def chance_of_arm(share: float, ratio: float) -> float:
    """Chance that an event is the candidate's, if the candidate has `share` of the runs and has the event `ratio` times as often."""
    return ratio * share / (ratio * share + 1 - share)


@lru_cache(maxsize=64)  # a stage has one share
def _factors(candidate: bool, share: float, ratios: tuple[float, ...]) -> tuple[float, ...]:
    """The logarithm of the factor of each stake after one event."""
    return tuple(math.log(bet(candidate, share, chance_of_arm(share, ratio))) for ratio in ratios)


@dataclass(frozen=True, slots=True)
class EProcess:
    """Evidence against "an event is the candidate's with a chance of at most its share of the runs".

    Only runs with the event count, and of them only the arm: the rate of the event may be anything and may change over time.
    Each observation has the share in force when the run began, so that the evidence of stages with different shares multiplies.
    Of two runs that differ, one is the candidate's with a chance of 1/2: with `share` 0.5 this is the test of discordant pairs.
    """

    stakes: tuple[float, ...] = tuple(
        -math.log(len(RATIOS)) for _ in RATIOS
    )  # natural logarithms, one for each of `ratios`
    ratios: tuple[float, ...] = RATIOS

    def observe(self, candidate: bool, share: float, *, times: int = 1) -> EProcess:
        """The evidence after so many more events. A share of 0 or 1 has nothing to compare with, and changes nothing."""
        if not 0 < share < 1 or not times:
            return self
        factors = _factors(candidate, share, self.ratios)
        stakes = tuple(stake + times * factor for stake, factor in zip(self.stakes, factors, strict=True))
        return EProcess(stakes, self.ratios)

    @property
    def log_value(self) -> float:
        """Natural logarithm of the e-value, which may itself be too large for a float."""
        largest = max(self.stakes)
        return largest + math.log(sum(math.exp(stake - largest) for stake in self.stakes))

    def rejects(self, alpha: float) -> bool:
        """True if the e-value is at least 1/alpha: a candidate that is no worse ever gets there with a chance of at most `alpha`."""
        return self.log_value >= -math.log(alpha)
