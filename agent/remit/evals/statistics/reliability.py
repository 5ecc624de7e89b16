"""pass^k: the chance that k runs of a scenario all pass. An agent that is right 9 times of 10 is right 8 times in a row in 43 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from remit.evals.statistics.outcomes import ScenarioOutcomes


def pass_hat_k(passed: int, runs: int, k: int) -> float:
    """The unbiased estimate of pass^k from `passed` of `runs` runs: C(passed, k) / C(runs, k), as tau-bench (2024) defines it.

    The rate to the power of k would be too high. Raises ValueError unless 1 <= k <= runs and 0 <= passed <= runs.
    """
    if not (1 <= k <= runs and 0 <= passed <= runs):
        raise ValueError(f"pass^{k} is not defined for {passed} of {runs} runs")
    return math.comb(passed, k) / math.comb(runs, k)


def suite_pass_hat(scenarios: Sequence[ScenarioOutcomes]) -> tuple[float, ...]:
    """pass^1, pass^2, …: the mean over all scenarios, up to the number of runs of the scenario with the fewest."""
    fewest = min((len(scenario.outcomes) for scenario in scenarios), default=0)
    return tuple(
        fmean(pass_hat_k(scenario.passed, len(scenario.outcomes), k) for scenario in scenarios)
        for k in range(1, fewest + 1)
    )
