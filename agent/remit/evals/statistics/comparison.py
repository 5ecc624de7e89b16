"""A candidate beside its base: what changed in each scenario, and whether the candidate is worse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Literal, TypeAlias

from remit.core import FrozenModel, UsageError
from remit.evals.results import Variant
from remit.evals.statistics.intervals import Interval, difference_interval
from remit.evals.statistics.outcomes import ScenarioOutcomes, VariantOutcomes
from remit.evals.statistics.significance import (
    EVIDENCE_ALPHA,
    SUITE_ALPHA,
    evidence,
    fisher_test,
    sign_flip_test,
    worse_scenarios,
)

Verdict: TypeAlias = Literal[
    "worse",  # at least one of the three tests says so
    "not_worse",  # all repeats are played, and none does. No proof that nothing changed: see `visible_drop`
    "playing",  # not all repeats are played, and no test says so yet
]


class ScenarioChange(FrozenModel):
    """One scenario on both sides, in equally many repeats. `chance` is that of `fisher_test`, None while it is played."""

    name: str
    repeats: int
    base: int  # repeats that passed
    candidate: int
    base_infrastructure: int  # repeats that have no grade of the agent; they did not pass
    candidate_infrastructure: int
    chance: float | None
    worse: bool


class Comparison(FrozenModel):
    """A candidate beside its base, and the verdict.

    `left_out` are the scenarios that cannot be compared: their row or world is not the same, or they are on one side only.
    `difference` is the mean change of the pass rate, -1 to 1, with its interval. `chance` is that of `sign_flip_test`. `evidence` is the
    decimal logarithm of the e-value after each pair of runs that differ. `reasons` say why it is worse, one sentence each.
    """

    base: Variant
    candidate: Variant
    verdict: Verdict
    reasons: tuple[str, ...]
    scenarios: tuple[ScenarioChange, ...]
    left_out: tuple[str, ...]
    difference: float
    interval: Interval
    chance: float | None
    evidence: tuple[float, ...]


def compare(base: VariantOutcomes, candidate: VariantOutcomes) -> Comparison:
    """Compare two variants in the scenarios that both have, with as many repeats as both have.

    Raises UsageError if there is none: a comparison without data is no success.
    """
    pairs = list(_pairs(base, candidate))
    if not pairs:
        raise UsageError(
            f"no scenario of {candidate.agent!r} is as it was in the base of the comparison: "
            "write the baseline again with --write-baseline"
        )
    played = all(len(each.outcomes) == each.repeats for pair in pairs for each in pair)
    changes = _changes(pairs, played=played)
    rates = [(_rate(before), _rate(after)) for before, after in pairs]
    before, after = [one for one, _ in rates], [one for _, one in rates]
    chance = sign_flip_test([late - early for early, late in rates]) if played else None
    looks = [process.log_value / math.log(10) for process in evidence(pairs)]
    names = {each.name for each, _ in pairs}
    reasons = (*_suite_reason(chance, before, after), *_scenario_reasons(changes), *_evidence_reason(looks))
    return Comparison(
        base=base.variant,
        candidate=candidate.variant,
        verdict="worse" if reasons else "not_worse" if played else "playing",
        reasons=reasons,
        scenarios=changes,
        left_out=tuple(sorted({each.name for side in (base, candidate) for each in side.scenarios} - names)),
        difference=fmean(after) - fmean(before),
        interval=difference_interval(before, after, sum(len(each.outcomes) for _, each in pairs)),
        chance=chance,
        evidence=tuple(looks),
    )


def comparable(base: VariantOutcomes, candidate: VariantOutcomes) -> bool:
    """True if both have a scenario that is the same on both sides."""
    return any(True for _ in _pairs(base, candidate))


def _pairs(base: VariantOutcomes, candidate: VariantOutcomes) -> Iterator[tuple[ScenarioOutcomes, ScenarioOutcomes]]:
    """The scenarios that are the same on both sides.

    Equally many repeats on both sides: with fewer in the base, chance alone makes most scenarios look a little worse.
    """
    known = {each.name: each for each in base.scenarios}
    for after in candidate.scenarios:
        before = known.get(after.name)
        if before is not None and before.digest == after.digest:
            repeats = min(before.repeats, after.repeats)
            yield before.first(repeats), after.first(repeats)


def _rate(scenario: ScenarioOutcomes) -> float:
    return scenario.passed / max(1, len(scenario.outcomes))


def _changes(pairs: Sequence[tuple[ScenarioOutcomes, ScenarioOutcomes]], *, played: bool) -> tuple[ScenarioChange, ...]:
    chances = {
        after.name: fisher_test(before.passed, after.passed, after.repeats) if played else None
        for before, after in pairs
    }
    known = {name: chance for name, chance in chances.items() if chance is not None}
    least = {
        after.name: fisher_test(*_furthest(before.passed + after.passed, after.repeats), after.repeats)
        for before, after in pairs
        if after.name in known
    }
    worse = worse_scenarios(known, least)
    return tuple(
        ScenarioChange(
            name=after.name,
            repeats=after.repeats,
            base=before.passed,
            candidate=after.passed,
            base_infrastructure=before.outcomes.count("infrastructure"),
            candidate_infrastructure=after.outcomes.count("infrastructure"),
            chance=chances[after.name],
            worse=after.name in worse,
        )
        for before, after in pairs
    )


def _furthest(passed: int, repeats: int) -> tuple[int, int]:
    """As many passes as possible of the base, the rest of the candidate."""
    return min(passed, repeats), max(0, passed - repeats)


def _suite_reason(chance: float | None, before: Sequence[float], after: Sequence[float]) -> Iterator[str]:
    if chance is not None and chance <= SUITE_ALPHA:
        fell = f"from {100 * fmean(before):.1f} % to {100 * fmean(after):.1f} %"
        yield f"the pass rate over {len(after)} scenarios fell {fell} (p = {chance:.2g}, limit {SUITE_ALPHA})"


def _scenario_reasons(changes: Sequence[ScenarioChange]) -> Iterator[str]:
    for change in changes:
        if change.worse:
            fell = f"from {change.base} to {change.candidate} of {change.repeats} passed"
            yield f"scenario {change.name!r} fell {fell} (p = {change.chance:.2g}){_infrastructure(change)}"


def _infrastructure(change: ScenarioChange) -> str:
    lost = change.candidate_infrastructure
    return f"; {lost} of them are infrastructure failures: repair their cause, and play it again" if lost else ""


def _evidence_reason(looks: Sequence[float]) -> Iterator[str]:
    limit = -math.log10(EVIDENCE_ALPHA)
    crossed = next((at for at, value in enumerate(looks, 1) if value >= limit), None)
    if crossed is not None:
        yield (
            f"of the runs that differ, too many failed with the candidate: "
            f"the e-value reached {1 / EVIDENCE_ALPHA:.0f} at pair {crossed} of {len(looks)}"
        )
