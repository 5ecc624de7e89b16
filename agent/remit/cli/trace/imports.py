"""`remit trace import`: traces of other tools as runs of this workspace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import counted, echo, json_text, progress, style

if TYPE_CHECKING:
    from collections.abc import Callable

    from remit.client import Imported
    from remit.tracing import Coverage

SHOWN = 10  # unknown tools


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--as", "name", required=True, metavar="NAME", help="The name of the import: `--imported NAME` reads it again."
)
@click.option("--agent", required=True, help="The agent of this workspace that the runs count as.")
@click.option("--user", default="none", show_default=True, help="The user for whom the runs acted.")
@click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="TOOL=ACTION",
    help="The action that a tool of the other system stands for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def import_command(
    files: tuple[Path, ...], name: str, agent: str, user: str, pairs: tuple[str, ...], as_json: bool
) -> None:
    """Import traces that other tools wrote: OTLP JSON with the attributes of GenAI, OpenInference or OpenLLMetry.

    FILES have one document, an array of documents, or one document a line; they may be compressed with gzip. Each trace becomes a run,
    which `remit trace list --imported NAME` shows. Nothing runs, and live runs, limits, alerts and figures do not count it.

    \b
    Examples:
      remit trace import july.jsonl.gz --as july --agent triage --user ann
      remit trace import spans.json --as desk --agent triage --map read_file=files.read
      remit policy backtest --imported july
    """
    from remit.client import import_traces
    from remit.tracing import ImportedAs
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    what = ImportedAs(
        name=name,
        agent=agent.removeprefix("agent:"),
        user=f"user:{user.removeprefix('user:')}",
        actions=dict(map(_pair, pairs)),
    )
    found = import_traces(
        opened,
        files,
        what,
        by=principal_of_process(opened.workspace.settings),
        progress=_progress(as_json),
    )
    if as_json:
        echo(
            json_text(
                {"ok": True, "import": found.name, "runs": found.runs, "known": found.known, **_body(found.coverage)}
            )
        )
        return
    for line in coverage_lines(found.coverage):
        echo(line)
    _show(found)


def coverage_lines(found: Coverage) -> list[str]:
    """How much of an import can be decided, one thing a line."""
    share = 100 * found.decidable / found.calls if found.calls else 0.0
    lines = [
        f"{counted(found.traces, 'trace')}, {counted(found.turns, 'turn')}, {counted(found.calls, 'call')}, of which {share:.0f}% can be decided again"
    ]
    lines += [f"  not decided: {count} ({why})" for why, count in found.left_out.most_common()]
    tools = found.unknown_tools.most_common(SHOWN)
    lines += [f"    {tool}: {counted(count, 'call')}; --map {tool}=ACTION" for tool, count in tools]
    if found.not_executed:
        lines.append(f"  asked for by a model, without a span of the tool: {found.not_executed}")
    return lines


def _show(found: Imported) -> None:
    before = f"; {counted(found.known, 'run')} imported before" if found.known else ""
    echo(f"{style('imported', fg='green')} {counted(len(found.runs), 'run')} as {found.name}{before}")
    echo(f"see them with: remit trace list --imported {found.name}")


def _body(found: Coverage) -> dict[str, object]:
    return {
        "traces": found.traces,
        "turns": found.turns,
        "calls": found.calls,
        "decidable": found.decidable,
        "not_executed": found.not_executed,
        "left_out": dict(found.left_out),
        "unknown_tools": dict(found.unknown_tools),
    }


def _pair(text: str) -> tuple[str, str]:
    tool, _, action = text.partition("=")
    if not tool or not action:
        raise click.BadParameter(f"{text!r} is not TOOL=ACTION: write read_file=files.read", param_hint="--map")
    return tool, action


def _progress(as_json: bool) -> Callable[[int], None]:
    """Shows on a terminal how many traces are converted."""
    is_shown = sys.stderr.isatty() and not as_json

    def show(number: int) -> None:
        if is_shown and number % 100 == 0:
            progress(f"{number} traces converted")

    return show
