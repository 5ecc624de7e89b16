"""`remit drift`: which measures of an agent changed, since which run, and which change of the workspace fits."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import click

from remit.cli.output import echo, json_text, progress, style
from remit.cli.run_argument import open_for_person
from remit.cli.trace.filters import parse_time

if TYPE_CHECKING:
    from remit.evals.monitoring import Drift
    from remit.workspace import WorkspaceSession

HISTORY_NS: Final = int(timedelta(days=90).total_seconds()) * 1_000_000_000


@click.command("drift", short_help="say which measures of an agent changed, and what fits the change")
@click.argument("agent", required=False)
@click.option(
    "--since", default="7d", show_default=True, help="Report drifts that were seen since then: 24h, 7d, a date."
)
@click.option(
    "--one-in",
    default=1000,
    show_default=True,
    type=click.IntRange(min=20),
    metavar="RUNS",
    help="The rate of false alarms: at most one in so many runs of an agent, on average. A lower number sees more.",
)
@click.option("--alert", "alerts", is_flag=True, help="Raise an alert for each drift that has none yet.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def drift_command(agent: str | None, since: str, one_in: int, alerts: bool, as_json: bool) -> None:
    """Compare the runs of each agent, or of AGENT, with those before: refusals, failures, approvals, latency, cost, actions.

    Looks at the runs of the last 90 days. Names the first run after a change, runs to compare, and the change of model, prompt,
    policy or tools that fits best. Exit code 1 if something has drifted.

    \b
    Examples:
      remit drift
      remit drift triage --since 24h --one-in 200
      remit drift --alert          # every quarter of an hour; then remit.alerts counts it
    """
    from remit.evals.monitoring import alert_of_drifts

    opened = open_for_person()
    check_agent(opened, agent)
    found = _find(opened, agent or "", parse_time(since) or 0, one_in)
    raised = alert_of_drifts(opened.journal, found) if alerts else []
    if as_json:
        rows = [{**asdict(drift), "text": drift.text} for drift in found]
        echo(json_text({"drifts": rows, "alerts": [alert.alert for alert in raised]}))
    else:
        for drift in found:
            _show(drift)
        for alert in raised:
            echo(f"raised the alert {alert.alert}")
        if not found:
            echo(f"nothing has drifted since {since}")
    if found:
        raise SystemExit(1)


def check_agent(opened: WorkspaceSession, agent: str | None) -> None:
    """Raise UsageError for an agent that the workspace does not have."""
    if agent is not None:
        opened.workspace.agent(agent)


def _find(opened: WorkspaceSession, agent: str, since: int, one_in: int) -> list[Drift]:
    """The drifts that were seen since that time (Unix nanoseconds)."""
    from remit.evals.monitoring import Definitions, find_drifts, finished_runs
    from remit.tracing import objects_of

    definitions = Definitions(objects_of(opened))
    found: list[Drift] = []
    for name, runs in finished_runs(opened.journal, since=opened.journal.clock() - HISTORY_NS, agent=agent).items():
        if sys.stderr.isatty():
            progress(f"{name}: {len(runs)} runs ")
        found += [drift for drift in find_drifts(runs, definitions, one_in=one_in) if drift.seen_at >= since]
    return found


def _show(drift: Drift) -> None:
    echo(style(f"{drift.agent}: {drift.text}", bold=True))
    for cause in drift.causes:
        echo(f"  fits: {cause}")
    for name, runs in (("before", drift.before), ("after", drift.after)):
        if runs:
            echo(f"  {name}: {' '.join(run[:12] for run in runs)}")
