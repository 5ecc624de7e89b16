"""How far a measured rate may be from the true one, at 95 %.

The interval is Wilson's (1927): unlike rate ± 2 standard errors, it has a width for 8 of 8, never leaves 0 to 1, and contains the
true rate of few runs about as often as stated. The interval of a suite is about scenarios like these, so the scenario is
the unit: repeats of one scenario are alike, and 8 of them say less than 8 scenarios. It is Wilson's with the effective number of
runs of Korn and Graubard (1998).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev, variance
from typing import Final, TypeAlias

Interval: TypeAlias = tuple[float, float]

_Z: Final = NormalDist().inv_cdf(0.975)


def wilson_interval(rate: float, runs: float) -> Interval:
    """The interval of a rate that was measured in `runs` independent runs; all of 0 to 1 without a run."""
    if not runs:
        return 0.0, 1.0
    shrunk = 1 + _Z**2 / runs
    middle = (rate + _Z**2 / (2 * runs)) / shrunk
    half = _Z / shrunk * math.sqrt(rate * (1 - rate) / runs + _Z**2 / (4 * runs**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def suite_interval(rates: Sequence[float], runs: int) -> Interval:
    """The interval of the mean of the scenarios' rates, which were measured in `runs` runs in all."""
    return wilson_interval(fmean(rates), _effective_runs(rates, runs)) if rates else (0.0, 1.0)


def difference_interval(base: Sequence[float], candidate: Sequence[float], runs: int) -> Interval:
    """The interval of the mean change from `base` to `candidate`: rates of the same scenarios, in `runs` runs on each side.

    The wider one of two: Newcombe's (1998, method 10), which has a width even if nothing changed, and Student's over the
    changes of the scenarios, which may differ.
    """
    before, after = fmean(base), fmean(candidate)
    (base_low, base_high), (low, high) = wilson_interval(before, runs), wilson_interval(after, runs)
    changes = [late - early for early, late in zip(base, candidate, strict=True)]
    half = _student(len(changes) - 1) * stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else 0.0
    return (
        after - before - max(half, math.hypot(after - low, base_high - before)),
        after - before + max(half, math.hypot(high - after, before - base_low)),
    )


def _effective_runs(rates: Sequence[float], runs: int) -> float:
    """How many independent runs say as much as these: about between the number of scenarios and the number of runs."""
    mean, count = fmean(rates), len(rates)
    if count == 1:
        return runs
    if mean in (0.0, 1.0):
        return count  # nothing shows how alike the repeats are, so they count as one
    spread = variance(rates)
    equal = runs if not spread else min(float(runs), max(float(count), mean * (1 - mean) * count / spread))
    return equal * (_Z / _student(count - 1)) ** 2  # the spread itself is only estimated


def _student(freedom: int) -> float:
    """The quantile of Student's t at 97.5 %, by the series of Cornish and Fisher (Abramowitz and Stegun, 26.7.5)."""
    first = (_Z**3 + _Z) / 4
    second = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    third = (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384
    return _Z + first / freedom + second / freedom**2 + third / freedom**3
