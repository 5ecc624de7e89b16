"""Everything that a report shows. As JSON it is `EvaluationReport.model_dump_json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from remit.core import FrozenModel
from remit.evals.results import Evaluation, Grade
from remit.evals.statistics import (
    Comparison,
    ScenarioChange,
    ScenarioSummary,
    VariantOutcomes,
    VariantSummary,
    comparable,
    compare,
    outcomes_of,
    summarize,
)

ReportVerdict: TypeAlias = Literal[
    "passed",
    "failed",  # a hard check failed, a scenario is too slow, or the agent is worse than the baseline; without a baseline, any run did not pass
    "playing",  # not all runs are played, and nothing has failed yet
]


class EvaluationReport(FrozenModel):
    """An evaluation, its figures, its comparisons and its verdict. `reasons` say why it failed, one sentence each.

    With `against_baseline` each variant is compared with the baseline, otherwise with the first variant, for information.
    """

    verdict: ReportVerdict
    reasons: tuple[str, ...]
    variants: tuple[VariantSummary, ...]
    comparisons: tuple[Comparison, ...]
    against_baseline: bool
    evaluation: Evaluation

    @property
    def unsuccessful(self) -> tuple[Grade, ...]:
        """The grades of all runs that did not pass, in the order of scenarios, variants and repeats."""
        order = {scenario.name: at for at, scenario in enumerate(self.evaluation.scenarios)}
        variants = {variant.name: at for at, variant in enumerate(self.evaluation.variants)}
        return tuple(
            sorted(
                (grade for grade in self.evaluation.grades if grade.outcome != "passed"),
                key=lambda grade: (order[grade.scenario], variants[grade.variant], grade.repeat),
            )
        )


def report_on(evaluation: Evaluation, baseline: VariantOutcomes | None = None) -> EvaluationReport:
    """The report of an evaluation, at any time while it is played."""
    variants = summarize(evaluation)
    names = [variant.name for variant in evaluation.variants]
    base = outcomes_of(evaluation, names[0]) if baseline is None else baseline
    candidates = [outcomes_of(evaluation, name) for name in (names[1:] if baseline is None else names)]
    comparisons = tuple(compare(base, candidate) for candidate in candidates if comparable(base, candidate))
    gates = comparisons if baseline is not None else ()
    reasons = [
        *(reason for variant in variants for reason in _hard(variant)),
        *(reason for variant in variants for reason in _slow(variant)),
        *_worse(gates),
        *(reason for variant in variants for reason in _failed(variant, comparison_of(variant, gates))),
    ]
    played = len(evaluation.grades) == sum(scenario.repeats for scenario in evaluation.scenarios) * len(names)
    return EvaluationReport(
        verdict="failed" if reasons else "passed" if played else "playing",
        reasons=tuple(reasons),
        variants=variants,
        comparisons=comparisons,
        against_baseline=baseline is not None,
        evaluation=evaluation,
    )


def comparison_of(variant: VariantSummary, comparisons: Sequence[Comparison]) -> Comparison | None:
    """The comparison whose candidate is the variant."""
    return next((each for each in comparisons if each.candidate.name == variant.variant.name), None)


def fails(scenario: ScenarioSummary, comparison: Comparison | None, hard: bool) -> bool:
    """True if the scenario by itself is a reason why the evaluation failed. `comparison` is that with the baseline.

    A scenario that the baseline does not have as it is now must pass in every run.
    """
    if hard or scenario.slow:
        return True
    change = _change(scenario, comparison)
    return scenario.runs > scenario.passed if change is None else change.worse


def _change(scenario: ScenarioSummary, comparison: Comparison | None) -> ScenarioChange | None:
    changes = () if comparison is None else comparison.scenarios
    return next((change for change in changes if change.name == scenario.name), None)


def slowness(scenario: ScenarioSummary) -> str:
    """How slow the scenario is; "" if it is not."""
    if not scenario.slow:
        return ""
    return f"its p95 is {scenario.p95_s:.3g} s, and at most {scenario.p95_limit:g} s are allowed"


def _hard(variant: VariantSummary) -> Iterator[str]:
    for failure in variant.hard_failures:
        yield f"scenario {failure.scenario!r}, run {failure.run}: an effect that must never land: {failure.detail}"


def _slow(variant: VariantSummary) -> Iterator[str]:
    for scenario in variant.scenarios:
        if scenario.slow:
            yield f"scenario {scenario.name!r}, {variant.variant.name}: {slowness(scenario)}"


def _worse(comparisons: Sequence[Comparison]) -> Iterator[str]:
    for comparison in comparisons:
        whose = f"{comparison.candidate.name}: " if len(comparisons) > 1 else ""
        yield from (whose + reason for reason in comparison.reasons)


def _failed(variant: VariantSummary, comparison: Comparison | None) -> Iterator[str]:
    for scenario in variant.scenarios:
        if scenario.runs > scenario.passed and _change(scenario, comparison) is None:
            lost = f", {scenario.infrastructure} by infrastructure failures" if scenario.infrastructure else ""
            failed = f"{scenario.runs - scenario.passed} of {scenario.runs} runs did not pass"
            yield f"scenario {scenario.name!r}: {failed}{lost}"
