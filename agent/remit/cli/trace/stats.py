"""`remit trace list --stats`: latency, tokens and cost of runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from remit.cli.output import echo, json_text, style

if TYPE_CHECKING:
    from remit.tracing.reports import ActionStatistics

COLUMNS = ("agent", "action", "calls", "refused", "failed", "p50", "p95", "tokens in", "tokens out", "cost")


def show_stats(since: int | None, evaluation: str, as_json: bool) -> None:
    """Print a row for each agent and action, from runs that began at `since` (Unix nanoseconds) or later; None: from all.

    The runs are live, or those of the evaluation with the id `evaluation`.
    """
    from remit.journal import RunQuery, list_runs
    from remit.tracing.reports import tool_statistics
    from remit.workspace import check_enabled, open_session, principal_of_process, readable

    opened = open_session()
    found = list_runs(opened.journal, RunQuery(since=since, evaluation=evaluation))
    by = principal_of_process(opened.workspace.settings)
    check_enabled(opened.journal, by)
    runs = readable(opened.policy, found, by)
    rows = tool_statistics(item for row in runs for item in opened.journal.events(row.run))
    if as_json:
        echo(json_text([asdict(row) for row in rows]))
        return
    table = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(COLUMNS))]
    for number, line in enumerate(table):
        cells = [cell.ljust(widths[at]) if at < 2 else cell.rjust(widths[at]) for at, cell in enumerate(line)]
        text = "  ".join(cells).rstrip()
        echo(style(text, bold=True) if number == 0 else text)
    if not rows:
        echo("no runs yet")


def _cells(row: ActionStatistics) -> tuple[str, ...]:
    cost = "-" if row.cost is None else f"{row.cost:.4f}"
    counts = (row.calls, row.refused, row.failed)
    times = (f"{row.p50_s:.3f} s", f"{row.p95_s:.3f} s")
    return (row.agent, row.action, *map(str, counts), *times, str(row.input_tokens), str(row.output_tokens), cost)
