"""The figures of one variant: rates with their intervals, pass^k, time and cost, and what the suite can see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from remit.core import FrozenModel
from remit.evals.results import Evaluation, Grade, GradeOutcome, ScenarioInfo, Variant
from remit.evals.statistics.intervals import Interval, suite_interval, wilson_interval
from remit.evals.statistics.outcomes import outcomes_of
from remit.evals.statistics.power import visible_drop
from remit.evals.statistics.reliability import suite_pass_hat
from remit.tracing.reports import percentile


class ScenarioSummary(FrozenModel):
    """One scenario. `rate` is the share of all its runs that passed. `calls`, `tokens` and `money` are means of one run.

    `p95_s` is a time in seconds that 95 % of the graded runs did not exceed, and `p95_limit` what the scenario allows, None without a
    limit. `money` is None if it is unknown for a run.
    """

    name: str
    note: str
    repeats: int  # planned
    passed: int
    failed: int
    infrastructure: int
    rate: float
    interval: Interval
    p95_s: float
    p95_limit: float | None
    calls: float
    tokens: float
    money: float | None

    @property
    def runs(self) -> int:
        """How many runs have an outcome."""
        return self.passed + self.failed + self.infrastructure

    @property
    def slow(self) -> bool:
        """True if all runs are played, and they exceed the limit."""
        return self.p95_limit is not None and self.runs == self.repeats and self.p95_s > self.p95_limit


class HardFailure(FrozenModel):
    """An effect that must never land, and did."""

    scenario: str
    run: str
    detail: str


class VariantSummary(FrozenModel):
    """One variant over all scenarios. `rate` is the mean of their rates; `pass_hat` is pass^1, pass^2, …

    `visible_drop` is the smallest drop that a comparison with as many runs sees in 4 of 5 cases, None if it sees none.
    """

    variant: Variant
    scenarios: tuple[ScenarioSummary, ...]
    passed: int
    failed: int
    infrastructure: int
    planned: int
    rate: float
    interval: Interval
    pass_hat: tuple[float, ...]
    visible_drop: float | None
    hard_failures: tuple[HardFailure, ...]
    money: float | None  # of all runs together


def summarize(evaluation: Evaluation) -> tuple[VariantSummary, ...]:
    """The figures of each variant, in the order of the evaluation."""
    return tuple(_variant(evaluation, variant) for variant in evaluation.variants)


def _variant(evaluation: Evaluation, variant: Variant) -> VariantSummary:
    grades = [grade for grade in evaluation.grades if grade.variant == variant.name]
    scenarios = tuple(
        _scenario(info, [grade for grade in grades if grade.scenario == info.name]) for info in evaluation.scenarios
    )
    played = [scenario for scenario in scenarios if scenario.runs]
    outcomes = [each for each in outcomes_of(evaluation, variant.name).scenarios if each.outcomes]
    return VariantSummary(
        variant=variant,
        scenarios=scenarios,
        passed=_count(grades, "passed"),
        failed=_count(grades, "failed"),
        infrastructure=_count(grades, "infrastructure"),
        planned=sum(info.repeats for info in evaluation.scenarios),
        rate=fmean(scenario.rate for scenario in played) if played else 0.0,
        interval=suite_interval([scenario.rate for scenario in played], len(grades)),
        pass_hat=suite_pass_hat(outcomes),
        visible_drop=visible_drop(outcomes),
        hard_failures=tuple(
            HardFailure(scenario=grade.scenario, run=grade.run, detail=check.detail)
            for grade in grades
            for check in grade.checks
            if check.hard and not check.passed
        ),
        money=_money(grades, sum),
    )


def _scenario(info: ScenarioInfo, grades: Sequence[Grade]) -> ScenarioSummary:
    passed, runs = _count(grades, "passed"), len(grades)
    rate = passed / runs if runs else 0.0
    return ScenarioSummary(
        name=info.name,
        note=info.note,
        repeats=info.repeats,
        passed=passed,
        failed=_count(grades, "failed"),
        infrastructure=_count(grades, "infrastructure"),
        rate=rate,
        interval=wilson_interval(rate, runs),
        p95_s=percentile([grade.seconds for grade in grades if grade.outcome != "infrastructure"], 95),
        p95_limit=info.p95,
        calls=fmean(grade.calls for grade in grades) if runs else 0.0,
        tokens=fmean(grade.tokens for grade in grades) if runs else 0.0,
        money=_money(grades, fmean),
    )


def _count(grades: Sequence[Grade], outcome: GradeOutcome) -> int:
    return sum(grade.outcome == outcome for grade in grades)


def _money(grades: Sequence[Grade], over: Callable[[list[float]], float]) -> float | None:
    """The money of the runs, put together by `over`; None if it is unknown for one of them, or if there is none."""
    known = [grade.money for grade in grades if grade.money is not None]
    return over(known) if known and len(known) == len(grades) else None
