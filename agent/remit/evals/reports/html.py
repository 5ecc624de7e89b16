"""An evaluation as one self-contained page: it needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Final

from remit.evals.reports.figures import (
    COLUMNS,
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
from remit.evals.reports.plots import evidence_plot, pass_hat_plot, rates_plot
from remit.evals.reports.report import EvaluationReport
from remit.evals.statistics import Comparison, VariantSummary
from remit.tracing.reports import utc
from remit.tracing.reports.html import escaped, html_document

STYLE: Final = files("remit.evals.reports").joinpath("report.css").read_text()
_TONES: Final = {"passed": "good", "failed": "bad", "playing": "warn", "worse": "bad", "not_worse": "good"}


def render_html(report: EvaluationReport) -> str:
    """The page as HTML."""
    body = "\n".join(
        [
            *_head(report),
            *(line for comparison in report.comparisons for line in _comparison(report, comparison)),
            *_plots(report),
            *(line for variant in report.variants for line in _variant(variant)),
            *_runs(report),
        ]
    )
    return html_document(heading(report), body, style=STYLE)


def _head(report: EvaluationReport) -> Iterator[str]:
    done = report.evaluation
    tone = _TONES[report.verdict]
    yield f'<h1><span class="{tone}">{report.verdict}</span> · {escaped(done.agent)} · evaluation <code>{escaped(done.id)}</code></h1>'
    yield f'<div class="cause{" good-run" if report.verdict == "passed" else ""}">'
    if report.reasons:
        yield f"<ul>{''.join(f'<li>{escaped(reason)}</li>' for reason in report.reasons)}</ul>"
    else:
        yield (
            "No scenario is a reason to stop this change." if report.verdict == "passed" else "Not all runs are played."
        )
    yield "</div><dl>"
    ended = "" if done.ended is None else f" to {utc(done.ended)}"
    yield f"<dt>time</dt><dd>{utc(done.started)}{ended}</dd>"
    for variant in report.variants:
        yield f"<dt>{escaped(variant.variant.name)}</dt><dd>{escaped(_definition(variant))}</dd>"
    yield from (f"<dt>judge</dt><dd>{escaped(line)}</dd>" for line in judges(report))
    yield "</dl>"


def _definition(variant: VariantSummary) -> str:
    one = variant.variant
    return f"model {one.model}; {', '.join((*one.changes, f'definition {one.bundle}', f'policy {one.policy_digest}'))}"


def _comparison(report: EvaluationReport, comparison: Comparison) -> Iterator[str]:
    base = base_of(report, comparison)
    yield f"<h2>{escaped(comparison.candidate.name)} against {escaped(base)}</h2>"
    yield f'<p><span class="{_TONES[comparison.verdict]}">{escaped(verdict_of(comparison))}</span></p>'
    if comparison.left_out:
        yield f"<p>Not compared, because they changed or one side lacks them: {escaped(', '.join(comparison.left_out))}</p>"
    rows = [
        (
            change.name,
            f"{change.base} of {change.repeats}",
            f"{change.candidate} of {change.repeats}",
            "" if change.chance is None else f"{change.chance:.2g}",
            "worse" if change.worse else "",
        )
        for change in comparison.scenarios
    ]
    yield _table(
        f"Each scenario with {comparison.candidate.name} and with {base}",
        ("scenario", "before", "now", "p", "verdict"),
        rows,
    )
    yield evidence_plot(comparison)


def _plots(report: EvaluationReport) -> Iterator[str]:
    yield "<h2>Pass rates</h2>"
    yield rates_plot(report.variants)
    yield pass_hat_plot(report.variants)


def _variant(variant: VariantSummary) -> Iterator[str]:
    yield f"<h2>{escaped(variant.variant.name)}</h2>"
    yield (
        f"<p>{escaped(runs_of(variant))}; {with_interval(variant.rate, variant.interval)} over scenarios like these. "
        f"{escaped(sees(variant))}</p>"
    )
    rows = [(scenario.name, *cells(scenario)) for scenario in variant.scenarios]
    yield _table(f"Scenarios of {variant.variant.name}", ("scenario", *COLUMNS), rows)
    if variant.pass_hat:
        head = tuple(f"pass^{k}" for k in range(1, len(variant.pass_hat) + 1))
        yield _table(
            f"Chance that k runs of {variant.variant.name} all pass",
            head,
            [tuple(f"{chance:.2f}" for chance in variant.pass_hat)],
        )


def _runs(report: EvaluationReport) -> Iterator[str]:
    yield "<h2>Runs that did not pass</h2>"
    if not report.unsuccessful:
        yield "<p>None.</p>"
        return
    for grade in report.unsuccessful:
        tone = "warn" if grade.outcome == "infrastructure" else "bad"
        yield f'<p><b>{escaped(grade.scenario)}</b> {grade.repeat + 1} ({escaped(grade.variant)}): <span class="{tone}">{grade.outcome}</span></p>'
        yield f"<pre>{escaped(why(grade))}\n{escaped(next_command(grade))}</pre>"


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    columns = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escaped(cell)}</td>' for cell in row)}</tr>" for row in rows)
    # A wide table scrolls on a narrow screen, so the keyboard must reach it.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(caption)}"><table><caption>{escaped(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )
