"""Figures as the reports write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from remit.evals.reports.report import EvaluationReport
from remit.evals.results import Grade
from remit.evals.statistics import Comparison, ScenarioSummary, VariantSummary

MOST_RUNS: Final = 20  # runs that a comment or a terminal lists; the other reports have all of them


def percent(rate: float) -> str:
    """`92 %`; with a decimal where whole percents would hide a difference from 0 or 100."""
    whole = f"{100 * rate:.0f} %"
    return whole if whole not in ("0 %", "100 %") or rate in (0.0, 1.0) else f"{100 * rate:.1f} %"


def with_interval(rate: float, interval: tuple[float, float]) -> str:
    """`92 % (81 to 97)`."""
    return f"{percent(rate)} ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})"


def points(difference: float, interval: tuple[float, float]) -> str:
    """`-4.2 points (-9.0 to +0.8)`."""
    return f"{100 * difference:+.1f} points ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})"


def money(amount: float | None) -> str:
    """`0.0042`, in the currency of the prices; `?` if it is unknown."""
    return "?" if amount is None else f"{amount:.4g}"


def runs_of(variant: VariantSummary) -> str:
    """`93 of 96 passed, 2 failed, 1 infrastructure failure`."""
    runs = variant.passed + variant.failed + variant.infrastructure
    lost = f", {variant.infrastructure} infrastructure failure{'s'[: variant.infrastructure != 1]}"
    return f"{variant.passed} of {runs} passed, {variant.failed} failed{lost if variant.infrastructure else ''}"


def sees(variant: VariantSummary) -> str:
    """What a comparison with this suite can see."""
    if variant.visible_drop is None:
        return "This suite is too small: a comparison with it sees no drop of the pass rate. Add scenarios or repeats."
    return (
        f"A comparison with this suite sees a drop of {100 * variant.visible_drop:.0f} points or more in 4 of 5 cases."
    )


def verdict_of(comparison: Comparison) -> str:
    """One sentence about a comparison, with the mean change and its interval."""
    change = f"mean change {points(comparison.difference, comparison.interval)}"
    match comparison.verdict:
        case "worse":
            return f"worse: {change}"
        case "not_worse":
            return f"no significant drop: {change}, p = {comparison.chance:.2g}"
        case "playing":
            return f"not all runs are played: {change} so far"


def base_of(report: EvaluationReport, comparison: Comparison) -> str:
    """With what the candidate is compared."""
    return "the baseline" if report.against_baseline else comparison.base.name


def heading(report: EvaluationReport) -> str:
    """`failed: triage, 96 runs of 12 scenarios`."""
    done, scenarios = report.evaluation, len(report.evaluation.scenarios)
    return f"{report.verdict}: {done.agent}, {len(done.grades)} runs of {scenarios} scenario{'s'[: scenarios != 1]}"


def judges(report: EvaluationReport) -> list[str]:
    """Of each judge, how often it agrees with people."""
    return list(dict.fromkeys(line for scenario in report.evaluation.scenarios for line in scenario.judges))


def why(grade: Grade) -> str:
    """Why a run did not pass, in one text."""
    if grade.outcome == "infrastructure":
        return f"infrastructure: {grade.reason}"
    return "; ".join(f"{check.name}: {check.detail}" for check in grade.checks if not check.passed)


def next_command(grade: Grade) -> str:
    """The command that shows what the run did; "" if it has none."""
    return f"remit replay {grade.run}" if grade.run else ""


def cells(scenario: ScenarioSummary) -> Iterator[str]:
    """The figures of one scenario, in the order of `COLUMNS`."""
    yield f"{scenario.passed} of {scenario.runs}"
    yield with_interval(scenario.rate, scenario.interval)
    yield str(scenario.infrastructure)
    yield f"{scenario.p95_s:.1f} s"
    yield f"{scenario.calls:.1f}"
    yield f"{scenario.tokens:.0f}"
    yield money(scenario.money)


COLUMNS: Final = ("passed", "rate, 95 % interval", "infrastructure", "p95", "calls", "tokens", "money")
