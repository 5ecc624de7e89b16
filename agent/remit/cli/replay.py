"""`remit replay`: a recorded run again, without effects."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remit.policy import Policy
    from remit.replay import Replayed
    from remit.rulebook import Rulebook
    from remit.trace import Trace

LINES = 24  # of one diff on a terminal


@click.command("replay", short_help="run a recorded run again, without effects")
@click.argument("run")
@click.option(
    "--policy",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="What would these rules do? A policy folder, or a workspace (`.`: today's).",
)
@click.option(
    "--gone",
    metavar="FAILURE",
    help="Is that failure gone under --policy? code=CODE[:ACTION[:RESOURCE]], decision=VERDICT[:…].",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def replay_command(run: str, folder: Path | None, gone: str | None, as_json: bool) -> None:
    """Run RUN again under its own rulebook, with model and tools answered from the record: reproduced, or where not.

    Ends with 0 where it is reproduced (with --gone: where the failure is gone), with 1 where not, with 2 where it cannot
    be replayed.

    \b
    Examples:
      remit replay 3f2a
      remit replay incident.jsonl
      remit replay 3f2a --policy .
      remit replay traces/golden/incident.jsonl --policy . --gone code=policy_denied:files.read
    """
    from remit.replay import replay

    trace = open_run(run)
    rulebooks = open_rulebooks(trace)
    policy = _policy(folder) if folder is not None else None
    if gone is not None:
        if policy is None:
            raise click.UsageError("--gone asks about other rules: add --policy DIR")
        _tell_gone(trace, rulebooks, policy, gone, as_json)
    found = asyncio.run(replay(trace.records, rulebooks, faults=trace.faults(), policy=policy))
    if as_json:
        click.echo(json.dumps({"ok": found.reproduced, **asdict(found)}, ensure_ascii=False))
    else:
        _show(found)
    sys.exit(0 if found.reproduced else 1)


def open_rulebooks(trace: Trace) -> Mapping[str, Rulebook]:
    """The rulebooks that a run stood on, loaded, by digest."""
    from remit.rulebook import open_rulebook

    return {digest: open_rulebook(files) for digest, files in trace.rulebooks().items()}


def _show(found: Replayed) -> None:
    from remit.cli.compare import clipped

    counts = f"{found.decisions} decisions, {found.turns} model turns, {found.results} tool results compared"
    if found.reproduced:
        rest = "" if found.complete else "; the run itself was cut off there"
        click.echo(f"{click.style('reproduced', fg='green')}: {counts}{rest}")
        return
    for fault in found.faults:
        click.echo(f"{click.style('tampered', fg='red')}: {fault.what}")
    for item in found.divergences:
        place = "" if item.step is None else f" at step {item.step}" + ("" if item.index is None else f".{item.index}")
        click.echo(f"{click.style('diverged', fg='red')}{place}, {item.kind}: {item.what}")
        for line in item.diff[:LINES]:
            click.echo(f"    {clipped(line)}")
    click.echo(f"{counts} until there")


def _tell_gone(trace: Trace, rulebooks: Mapping[str, Rulebook], policy: Policy, gone: str, as_json: bool) -> None:
    """Tell the run again under other rules, as far as it is recorded, and end the command with whether it still fails."""
    from remit.failing import parse_failing
    from remit.shrink import is_gone

    faults = [fault for fault in trace.faults() if fault.broken]
    if faults:
        raise click.UsageError(f"the record is not the one that was written: {faults[0]}")
    found = asyncio.run(is_gone(trace.records, rulebooks, parse_failing(gone), policy))
    if as_json:
        click.echo(json.dumps({"ok": found.gone, "what": found.what}, ensure_ascii=False))
    else:
        click.echo(
            f"{click.style('gone' if found.gone else 'not gone', fg='green' if found.gone else 'red')}: {found.what}"
        )
    sys.exit(0 if found.gone else 1)


def _policy(folder: Path) -> Policy:
    """The rules in `folder`, or in the workspace that it is, whose other rooms do not matter: the run brings its own."""
    from remit import policy, workspace
    from remit.house import policy_files

    whole = (folder / workspace.MARKER).exists()
    return policy.load(policy_files(folder, "policies" if whole else "."))
