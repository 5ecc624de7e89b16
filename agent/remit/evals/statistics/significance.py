"""Three tests of whether a candidate is worse than its base. Together they call an equal one worse in at most 5 % of all comparisons.

What each of them tests, if it is no worse: no scenario's chance to pass has fallen.

1. Over scenarios (`sign_flip_test`): do more scenarios get worse than better, and by more? It sees small changes of everything.
2. In one scenario (`worse_scenarios`): a change of one scenario of many moves no mean. Its name is in the verdict.
3. At any look (`evidence`): pairs of runs that differ. It may be looked at after each run, while the others are played.

The chance of a false alarm is split between them, so they may all be asked. Every repeat counts, on both sides alike; an
infrastructure failure counts as one that did not pass. Leaving it out would compare runs that were chosen by how they failed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from remit.evals.statistics.outcomes import ScenarioOutcomes
from remit.rollout import EProcess

ALPHA: Final = 0.05
SUITE_ALPHA: Final = 0.02
SCENARIO_ALPHA: Final = 0.02
EVIDENCE_ALPHA: Final = 0.01
assert math.isclose(SUITE_ALPHA + SCENARIO_ALPHA + EVIDENCE_ALPHA, ALPHA)

# Differences of rates are counted in this unit, so that sums are exact. All repeats up to 6, and 8, 10, 12, 15, 16, 20, fit it.
_UNIT: Final = 240


def sign_flip_test(differences: Sequence[float]) -> float:
    """The chance that the mean of the differences is as low as this or lower, if each could as well have the opposite sign.

    `differences` has one number for each scenario: the candidate's rate less the base's, of equally many repeats. The chance
    is exact: every combination of signs is counted.
    """
    sizes = [round(difference * _UNIT) for difference in differences]
    sums: dict[int, int] = {0: 1}  # how many combinations of signs have this sum
    for size in filter(None, sizes):
        flipped: dict[int, int] = {}
        for total, ways in sums.items():
            flipped[total + size] = flipped.get(total + size, 0) + ways
            flipped[total - size] = flipped.get(total - size, 0) + ways
        sums = flipped
    observed = sum(sizes)
    return sum(ways for total, ways in sums.items() if total <= observed) / sum(sums.values())


def fisher_test(base: int, candidate: int, repeats: int) -> float:
    """The chance that of all passes of a scenario the candidate has this many or fewer, if both arms are alike (Fisher, 1935).

    `base` and `candidate` are the passes of `repeats` runs each.
    """
    failures = 2 * repeats - base - candidate
    ways = (
        math.comb(repeats, own) * math.comb(repeats, failures - own)
        for own in range(repeats - candidate, min(repeats, failures) + 1)
    )
    return sum(ways) / math.comb(2 * repeats, failures)


def worse_scenarios(chances: Mapping[str, float], least: Mapping[str, float]) -> frozenset[str]:
    """The scenarios that are worse by the test of each one alone, with `SCENARIO_ALPHA` for all of them together.

    `chances` are the results of `fisher_test`, `least` the lowest that each could have with as many failures. A scenario in which
    nothing failed can never be called worse, so it takes no part of alpha from the others (Tarone, 1990).
    """
    able = next(k for k in range(1, len(least) + 2) if sum(low <= SCENARIO_ALPHA / k for low in least.values()) <= k)
    return frozenset(name for name, chance in chances.items() if chance <= SCENARIO_ALPHA / able)


def evidence(pairs: Sequence[tuple[ScenarioOutcomes, ScenarioOutcomes]]) -> Iterator[EProcess]:
    """The evidence after each pair of runs of which one passed and the other did not.

    `pairs` has the base and the candidate of each scenario, with equally many repeats. If the candidate is no worse, the run that
    did not pass is the candidate's in at most every second pair. The pairs have a fixed order, repeat by repeat, and end at the
    first one that is not played yet.
    """
    process = EProcess()
    for repeat in range(max((after.repeats for _, after in pairs), default=0)):
        for before, after in pairs:
            if repeat >= after.repeats:
                continue
            if repeat >= min(len(before.outcomes), len(after.outcomes)):
                return
            passed = before.outcomes[repeat] == "passed"
            if passed != (after.outcomes[repeat] == "passed"):
                process = process.observe(passed, 0.5)
                yield process
