"""`remit eval list`: the evaluations of the workspace."""

from __future__ import annotations

from dataclasses import asdict

import click

from remit.cli.output import echo, json_text
from remit.cli.run_argument import open_for_person


@click.command("list", short_help="list the latest evaluations")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Show the newest N evaluations."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_command(limit: int, as_json: bool) -> None:
    """List evaluations, the newest first. `remit trace list --evaluation ID` lists the runs of one.

    \b
    Examples:
      remit eval list
      remit eval list --limit 5 --json
    """
    from remit.journal import list_evaluations
    from remit.tracing.reports import utc

    rows = list_evaluations(open_for_person().journal, limit=limit)
    if as_json:
        echo(json_text([asdict(row) for row in rows]))
        return
    for row in rows:
        graded = row.passed + row.failed + row.infrastructure
        counts = f"{row.passed} passed, {row.failed} failed, {row.infrastructure} infrastructure"
        left = "" if row.ended is not None else f", {row.runs - graded} left: remit eval --resume {row.evaluation}"
        echo(f"{row.evaluation}  {utc(row.started)}  {row.agent}  {counts}{left}")
    if not rows:
        echo("no evaluations yet")
