"""`remit replay`: a recorded run again, without effects."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from remit.cli.output import echo, json_text, style
from remit.cli.run_argument import open_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from remit.journal import Chain
    from remit.policy import Policy
    from remit.replay import Divergence, LiveReads, ReplayResult
    from remit.tracing import Trace
    from remit.workspace import Bundle, Workspace

LINES = 24  # of one diff on a terminal


@click.command("replay", short_help="run a recorded run again, without effects")
@click.argument("run")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="What would these rules do? A policy folder, or a workspace (`.`: today's).",
)
@click.option(
    "--tools",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="What would the tools of this workspace make of it? `.`: today's.",
)
@click.option("--live-reads", is_flag=True, help="Read again, for real and confined, what the run read.")
@click.option(
    "--gone",
    metavar="FAILURE",
    help="Is that failure gone then? code=CODE[:ACTION[:RESOURCE]], decision=VERDICT[:…].",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def replay_command(
    run: str, policy: Path | None, tools: Path | None, live_reads: bool, gone: str | None, as_json: bool
) -> None:
    """Run RUN again under its own rulebook, with model and tools answered from the record: reproduced, or where not.

    Nothing has an effect: what reads may be read again by --live-reads, as a run of its own; everything else is from the
    record. Ends with 0 where the run is reproduced (with --gone: where the failure is gone), with 1 where not, with 2
    where it cannot be replayed.

    \b
    Examples:
      remit replay 3f2a
      remit replay incident.jsonl
      remit replay 3f2a --policy .
      remit replay 3f2a --tools . --live-reads
      remit replay traces/golden/incident.jsonl --policy . --gone code=policy_denied:files.read
    """
    from remit.replay import WhatIf, check_replayable, find_tampering, replay

    if gone is not None and policy is None and not live_reads:
        raise click.UsageError("--gone asks what would be otherwise: add --policy DIR or --live-reads")
    trace = open_run(run)
    check_replayable(trace.records)
    bundles = open_bundles(trace)
    what_if = WhatIf(policy=_policy(policy) if policy else None, tools=_tools(tools) if tools else None)
    faults = [fault for fault in trace.faults() if fault.broken]
    tampered = find_tampering(faults, trace.chain, _original(trace) if faults else None)
    again = _read_live(trace, bundles, tools) if live_reads and not tampered else None
    if gone is not None:
        _show_fixed(trace, bundles, what_if.policy, tampered, again, gone, as_json)
    found = asyncio.run(replay(trace.records, bundles, tampering=tampered, what_if=what_if))
    if again is not None:
        found = replace(found, divergences=(*found.divergences, *again.divergences))
    if as_json:
        live = None if again is None else {"run": again.run, "read": len(again.ends), "kept": again.kept}
        echo(json_text({"ok": found.reproduced, **asdict(found), "live_reads": live}))
    else:
        _show(found, again)
    sys.exit(0 if found.reproduced else 1)


def open_bundles(trace: Trace) -> Mapping[str, Bundle]:
    """The rulebooks that a run stood on, loaded, by digest."""
    from remit.workspace import open_bundle

    return {digest: open_bundle(files) for digest, files in trace.bundles().items()}


def _show(found: ReplayResult, again: LiveReads | None) -> None:
    from remit.cli.trace.diff import clipped

    counts = f"{found.decisions} decisions, {found.turns} model turns, {found.results} tool results compared"
    if again is not None:
        echo(f"read {again.told}")
    if found.reproduced:
        rest = "" if found.complete else "; the run itself was cut off there"
        echo(f"{style('reproduced', fg='green')}: {counts}{rest}")
        return
    for item in found.divergences:
        place = "" if item.step is None else f" at step {item.step}" + ("" if item.index is None else f".{item.index}")
        echo(f"{style('diverged', fg='red')}{place}, {item.kind}: {item.what}")
        for line in item.diff[:LINES]:
            echo(f"    {clipped(line)}")
    echo(f"{counts} until there")


def _show_fixed(
    trace: Trace,
    bundles: Mapping[str, Bundle],
    policy: Policy | None,
    tampered: Sequence[Divergence],
    again: LiveReads | None,
    gone: str,
    as_json: bool,
) -> None:
    """Tell the run again as it would be, as far as that is known, and end the command with whether it still fails."""
    from remit.replay import check_fixed, with_new_outcomes
    from remit.tracing.reports import parse_failure_selector

    if tampered:
        raise click.UsageError(f"the record is not the one that was written: {tampered[0].what}")
    failing = parse_failure_selector(gone)
    now = trace.records if again is None else with_new_outcomes(trace.records, again.ends)
    found = asyncio.run(check_fixed(trace.records, now, bundles, failing, policy))
    if as_json:
        echo(json_text({"ok": found.gone, "what": found.what}))
    else:
        word = style("gone", fg="green") if found.gone else style("not gone", fg="red")
        echo(f"{word}: {found.what}")
    sys.exit(0 if found.gone else 1)


def _policy(folder: Path) -> Policy:
    """The rules in `folder`, or in the workspace that it is, whose other rooms do not matter: the run brings its own."""
    from remit.policy import load_policy
    from remit.workspace import MARKER, policy_files

    whole = (folder / MARKER).exists()
    return load_policy(policy_files(folder, "policies" if whole else "."))


def _tools(folder: Path) -> Workspace:
    from remit.workspace import find_workspace, load_workspace

    return load_workspace(find_workspace(folder))


def _original(trace: Trace) -> Chain | None:
    """The journal's own record of the run, where this workspace has it."""
    from remit.core import RemitError
    from remit.workspace import open_session

    try:
        chain = open_session().journal.chain(trace.run)
    except RemitError:  # a file can be replayed anywhere
        return None
    return chain if chain.links else None


def _read_live(trace: Trace, bundles: Mapping[str, Bundle], tools: Path | None) -> LiveReads:
    from remit.replay import read_live
    from remit.workspace import find_workspace, open_session

    opened = open_session()
    if tools is not None and find_workspace(tools) != opened.root:
        raise click.UsageError("--live-reads runs the tools of this workspace: add `--tools .`, or go to the other one")
    return asyncio.run(read_live(trace.records, bundles, opened, other_version=tools is not None))
