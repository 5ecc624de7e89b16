"""`remit targets`: which targets of agents and actions are passed, or expected to be."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Final

import click

from remit.cli.monitoring.drift import check_agent
from remit.cli.output import echo, json_text, runs_read, style
from remit.cli.run_argument import open_for_person
from remit.cli.trace.filters import parse_time

if TYPE_CHECKING:
    from remit.core.events import Recorded

HISTORY_NS: Final = int(timedelta(weeks=9).total_seconds()) * 1_000_000_000
COLOURS: Final = {"passed": "red", "expected": "yellow", "met": "green"}


@click.command("targets", short_help="compare times and costs of runs with their targets")
@click.argument("agent", required=False)
@click.option("--since", default="7d", show_default=True, help="Compare runs since then: 24h, 7d, a date.")
@click.option(
    "--alert", "alerts", is_flag=True, help="Raise an alert for each target that is passed; close the others."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def targets_command(agent: str | None, since: str, alerts: bool, as_json: bool) -> None:
    """Compare runs of each agent, or of AGENT, with [target] in agent.toml and with [actions.NAME.target] in tool.toml.

    The 95th percentile and the money of a run need 20 calls or runs. The money of a month is that of the last 30 days, with a
    forecast for the next ones after two weeks of runs. Exit code 1 if a target is passed, or expected to be.

    \b
    Examples:
      remit targets
      remit targets triage --since 24h
      remit targets --alert          # every hour; then remit.alerts counts them
    """
    from remit.evals.monitoring import alert_of_targets, compare_with_targets, finished_runs

    opened = open_for_person()
    check_agent(opened, agent)
    now = opened.journal.clock()
    runs = finished_runs(opened.journal, since=now - HISTORY_NS, agent=agent or "")
    show, number = runs_read(), count(1)

    def events(run: str) -> list[Recorded]:
        show(next(number))
        return opened.journal.events(run)

    found = compare_with_targets(opened.workspace, runs, events, since=parse_time(since) or 0, now=now)
    raised = alert_of_targets(opened.journal, found, agent or "") if alerts else []
    if as_json:
        rows = [{**asdict(item), "state": item.state, "text": item.text} for item in found]
        echo(json_text({"targets": rows, "alerts": [alert.alert for alert in raised]}))
    else:
        for item in found:
            state = style(f"{item.state:8}", fg=COLOURS.get(item.state))
            echo(f"{state}  {item.agent}: {item.text} ({item.count} counted)")
        for alert in raised:
            echo(f"raised the alert {alert.alert}")
        if not found:
            echo("no agent with runs has a target: write [target] in agent.toml")
    if any(item.state in ("passed", "expected") for item in found):
        raise SystemExit(1)
