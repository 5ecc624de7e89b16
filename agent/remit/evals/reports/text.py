"""An evaluation for a terminal. The caller writes out hidden characters, as for every text."""

from __future__ import annotations

from collections.abc import Iterator

from remit.evals.reports.figures import (
    COLUMNS,
    MOST_RUNS,
    base_of,
    cells,
    heading,
    judges,
    next_command,
    runs_of,
    sees,
    verdict_of,
    why,
    with_interval,
)
from remit.evals.reports.report import EvaluationReport
from remit.evals.statistics import VariantSummary


def render_text(report: EvaluationReport) -> str:
    """The report as lines of plain text."""
    return "\n".join(_lines(report))


def _lines(report: EvaluationReport) -> Iterator[str]:
    yield heading(report)
    yield from (f"  {reason}" for reason in report.reasons)
    yield from (f"  judge {line}" for line in judges(report))
    for variant in report.variants:
        yield ""
        yield from _variant(variant)
    for comparison in report.comparisons:
        yield ""
        yield f"{comparison.candidate.name} against {base_of(report, comparison)}: {verdict_of(comparison)}"
        if comparison.left_out:
            yield f"  not compared, because they changed or one side lacks them: {', '.join(comparison.left_out)}"
    if report.unsuccessful:
        yield ""
        yield "runs that did not pass"
        for grade in report.unsuccessful[:MOST_RUNS]:
            yield f"  {grade.scenario} {grade.repeat + 1} ({grade.variant}): {why(grade)}"
            if command := next_command(grade):
                yield f"    {command}"
        if len(report.unsuccessful) > MOST_RUNS:
            yield f"  and {len(report.unsuccessful) - MOST_RUNS} more: the page and the JSON report have all of them"


def _variant(variant: VariantSummary) -> Iterator[str]:
    changes = f", {', '.join(variant.variant.changes)}" if variant.variant.changes else ""
    yield f"{variant.variant.name}: model {variant.variant.model}{changes}"
    rows = [("scenario", *COLUMNS), *((scenario.name, *cells(scenario)) for scenario in variant.scenarios)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield f"  {runs_of(variant)}; {with_interval(variant.rate, variant.interval)} over scenarios like these"
    if variant.pass_hat:
        yield "  pass^k: " + ", ".join(f"{k}: {chance:.2f}" for k, chance in enumerate(variant.pass_hat, 1))
    yield f"  {sees(variant)}"
