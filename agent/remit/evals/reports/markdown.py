"""An evaluation as a comment on a pull request, in the Markdown of GitHub and GitLab.

Texts of models and tools are code there: they become no link, no mention of a person, and no markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from remit.core.parsing import visible
from remit.evals.reports.figures import (
    COLUMNS,
    MOST_RUNS,
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
from remit.evals.reports.report import EvaluationReport, comparison_of

LONGEST: Final = 300  # characters of one text


def render_markdown(report: EvaluationReport) -> str:
    """The comment."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: EvaluationReport) -> Iterator[str]:
    yield f"### Evaluation {code(heading(report))}"
    yield ""
    yield from (f"- {code(reason)}" for reason in report.reasons)
    yield from (f"- judge {code(line)}" for line in judges(report))
    for comparison in report.comparisons:
        base = "the baseline" if report.against_baseline else code(comparison.base.name)
        yield f"- {code(comparison.candidate.name)} against {base}: {verdict_of(comparison)}"
    for variant in report.variants:
        yield ""
        yield f"**{code(variant.variant.name)}**: {runs_of(variant)}; {with_interval(variant.rate, variant.interval)}. {sees(variant)}"
        yield ""
        compared = comparison_of(variant, report.comparisons)
        before = (
            {change.name: f"{change.base} of {change.repeats}" for change in compared.scenarios} if compared else {}
        )
        yield from _table(
            ("scenario", "before", *COLUMNS),
            [(code(each.name), before.get(each.name, ""), *cells(each)) for each in variant.scenarios],
        )
    yield from _runs(report)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _runs(report: EvaluationReport) -> Iterator[str]:
    grades = report.unsuccessful
    if not grades:
        return
    yield ""
    yield f"<details><summary>{len(grades)} runs did not pass</summary>"
    yield ""
    for grade in grades[:MOST_RUNS]:
        command = f" {code(next_command(grade))}" if grade.run else ""
        yield f"- {code(f'{grade.scenario} {grade.repeat + 1}')}: {code(why(grade))}{command}"
    if len(grades) > MOST_RUNS:
        yield f"- and {len(grades) - MOST_RUNS} more"
    yield ""
    yield "</details>"


def code(text: str) -> str:
    """The text as code in one line, also in a cell of a table: a fence that it does not contain, and no bar."""
    shown = visible(" ".join(text.split()), but="")
    shown = (shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…").replace("|", "¦")
    longest = max(map(len, re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{shown}{space}{fence}"
