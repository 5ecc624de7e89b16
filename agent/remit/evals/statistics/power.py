"""Which drop a suite can see. 20 scenarios of one run each miss a drop of 20 points three times in four, and say nothing of it.

The drop is the same in every scenario. The chance to see it is that of `sign_flip_test`, by the normal approximation of both sides
of it; simulations agree to a few points (`tests/evals/test_statistics.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

from remit.evals.statistics.outcomes import ScenarioOutcomes
from remit.evals.statistics.significance import SUITE_ALPHA

OFTEN: Final = 0.8  # a drop is visible if it is seen in 4 of 5 comparisons

_NORMAL: Final = NormalDist()


def chance_to_see(scenarios: Sequence[ScenarioOutcomes], drop: float) -> float:
    """The chance that a comparison with as many repeats finds that every scenario's chance to pass has fallen by `drop` (0 to 1).

    The chance to pass that each scenario has now is taken from its outcomes, a little towards 1/2: 8 of 8 are no proof of 1.
    """
    if 0.5 ** len(scenarios) > SUITE_ALPHA:
        return 0.0  # even if all of them get worse, it could be chance
    mean = spread = squares = 0.0
    for scenario in scenarios:
        runs = len(scenario.outcomes)
        before = (scenario.passed + 0.5) / (runs + 1)
        after = max(0.0, before - drop)
        noise = (before * (1 - before) + after * (1 - after)) / max(1, runs)
        mean += before - after
        spread += noise
        squares += noise + (before - after) ** 2
    needed = _NORMAL.inv_cdf(1 - SUITE_ALPHA) * math.sqrt(squares)
    return _NORMAL.cdf((mean - needed) / math.sqrt(spread))


def visible_drop(scenarios: Sequence[ScenarioOutcomes]) -> float | None:
    """The smallest drop, in whole hundredths, that a comparison sees in `OFTEN` of all cases. None: no drop is visible."""
    return next((points / 100 for points in range(1, 101) if chance_to_see(scenarios, points / 100) >= OFTEN), None)
