"""How far a measured rate may be from the true one, at 95 %.

The interval is Wilson's (1927): unlike rate ± 2 standard errors, it has a width for 8 of 8, never leaves 0 to 1, and contains the
true rate of few runs about as often as stated. The interval of a suite is about scenarios like these, so the scenario is
the unit: repeats of one scenario are alike, and 8 of them say less than 8 scenarios. It is Wilson's with the effective number of
runs of Korn and Graubard (1998). The interval of a difference puts both together as Newcombe does for pairs (1998, method 10): what
makes a scenario hard makes it hard on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, correlation, fmean, variance
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
    """The interval of the mean change from `base` to `candidate`: rates of the same scenarios, in `runs` runs on each side."""
    before, after = fmean(base), fmean(candidate)
    (base_low, base_high), (low, high) = suite_interval(base, runs), suite_interval(candidate, runs)
    alike = correlation(base, candidate) if len(set(base)) > 1 and len(set(candidate)) > 1 else 0.0
    return (
        after - before - _combined(after - low, base_high - before, alike),
        after - before + _combined(high - after, before - base_low, alike),
    )


def _combined(one: float, other: float, alike: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2 * alike * one * other + other**2))


def _effective_runs(rates: Sequence[float], runs: int) -> float:
    """How many independent runs say as much as these: between the number of scenarios and the number of runs."""
    mean, count = fmean(rates), len(rates)
    if count == 1:
        return runs
    spread = variance(rates)
    if mean in (0.0, 1.0):
        return count  # nothing shows how alike the repeats are, so they count as one
    return runs if not spread else min(float(runs), max(float(count), mean * (1 - mean) * count / spread))
