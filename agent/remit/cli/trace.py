"""`remit trace`: the on-call engineer's room."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from remit.cli.compare import diff_command
from remit.cli.runs import open_run
from remit.cli.shrink import shrink_command


@click.group("trace", short_help="read, verify and export what runs did")
def trace_command() -> None:
    """Read, verify and export what runs did. RUN is a run id, a unique beginning of one, or a trace file.

    \b
    Examples:
      remit trace list
      remit trace show 3f2a
      remit trace export 3f2a -o incident.jsonl
      remit trace verify incident.jsonl
    """


@trace_command.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_command(limit: int, as_json: bool) -> None:
    """List runs, newest first.

    \b
    Examples:
      remit trace list --limit 5
    """
    from remit import house

    rows = house.open_house().journal.runs()[:limit]
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
        return
    for row in rows:
        began = datetime.fromtimestamp(row.started_at / 1e9, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
        word = row.outcome or row.state
        colour = "green" if word == "completed" else "yellow" if row.outcome is None else "red"
        click.echo(
            f"{row.run[:8]}  {began}Z  {click.style(f'{word:<10}', fg=colour)} {row.agent} for {row.user}  {_short(row.task)}"
        )
    if not rows:
        click.echo("no runs yet")


@trace_command.command("show")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON.")
def show_command(run: str, as_json: bool) -> None:
    """Show a run: verdict, first cause, effects landed, not landed and unknown, then the waterfall.

    \b
    Examples:
      remit trace show 3f2a
      remit trace show incident.jsonl
    """
    from remit.cli.show import show
    from remit.story import tell

    trace = open_run(run)
    if as_json:
        click.echo(json.dumps([item.model_dump(mode="json") for item in trace.records], ensure_ascii=False))
        return
    show(tell(trace.records))


@trace_command.command("export")
@click.argument("run")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to write; RUN.jsonl if left out."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def export_command(run: str, output: Path | None, as_json: bool) -> None:
    """Pack a run and its rulebook into one portable file, still OTLP JSON Lines, that replays anywhere.

    \b
    Examples:
      remit trace export 3f2a -o incident.jsonl
    """
    from remit.trace import write_portable

    trace = open_run(run)
    target = output or Path(f"{trace.run}.jsonl")
    write_portable(trace, target)
    click.echo(
        json.dumps({"ok": True, "file": str(target)})
        if as_json
        else f"wrote {target}; replay it with: remit replay {target}"
    )


@trace_command.command("verify")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def verify_command(run: str, as_json: bool) -> None:
    """Check the chain of a run: missing, edited, reordered and erased events are told apart.

    \b
    Examples:
      remit trace verify 3f2a
    """
    trace = open_run(run)
    faults = trace.faults()
    if as_json:
        click.echo(
            json.dumps(
                {
                    "ok": not any(fault.broken for fault in faults),
                    "events": len(trace.records),
                    "faults": [asdict(fault) for fault in faults],
                }
            )
        )
    else:
        for fault in faults:
            click.echo(f"{click.style(fault.kind, fg='red')}: {fault.what}")
        click.echo(
            f"{len(trace.records)} events, chain {'is broken' if any(fault.broken for fault in faults) else 'holds'}"
        )
    sys.exit(1 if any(fault.broken for fault in faults) else 0)


def _short(text: str) -> str:
    from remit.cli.show import short

    return short(text, 60)


for _command in (diff_command, shrink_command):
    trace_command.add_command(_command)
