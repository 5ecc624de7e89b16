"""`remit replay`: replays a recorded run without effects."""

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
    from collections.abc import Collection, Mapping, Sequence

    from remit.journal import Chain
    from remit.policy import Policy
    from remit.replay import Divergence, LiveReads, ReplayResult
    from remit.tracing import Trace
    from remit.workspace import Bundle, Workspace

LINES = 24  # shown of one diff on a terminal


@click.command("replay", short_help="replay a recorded run without effects")
@click.argument("run")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Use the rules of this policy folder or workspace (`.` is today's) instead of the recorded ones.",
)
@click.option(
    "--tools",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Use the tools of this workspace (`.` is today's) instead of the recorded ones.",
)
@click.option("--live-reads", is_flag=True, help="Execute the reads of the run again now, in the sandbox.")
@click.option(
    "--fixed",
    metavar="FAILURE",
    help="Check whether this failure is fixed: code=CODE[:ACTION[:RESOURCE]], decision=VERDICT[:…].",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def replay_command(
    run: str, policy: Path | None, tools: Path | None, live_reads: bool, fixed: str | None, as_json: bool
) -> None:
    """Replay RUN under its own policy bundle, and show the first difference from its record.

    Model and tools are answered from the record, so nothing has an effect. Only --live-reads executes tools: it repeats the
    reads of the run, as a run of its own.

    Exit codes: 0 the run is reproduced (with --fixed: the failure is fixed), 1 it is not, 2 it cannot be replayed.

    \b
    Examples:
      remit replay 3f2a
      remit replay incident.jsonl
      remit replay 3f2a --policy .
      remit replay 3f2a --tools . --live-reads
      remit replay traces/golden/incident.jsonl --policy . --fixed code=policy_denied:files.read
    """
    from remit.replay import WhatIf, check_replayable, find_tampering, replay
    from remit.workspace import open_bundles

    if fixed is not None and policy is None and not live_reads:
        raise click.UsageError("--fixed needs a change to check: add --policy DIR or --live-reads")
    trace = open_run(run)
    check_replayable(trace.records)
    bundles = open_bundles(trace.bundles())
    what_if = WhatIf(policy=policy_in(policy) if policy else None, tools=tools_in(tools) if tools else None)
    faults = [fault for fault in trace.faults() if fault.broken]
    tampered = find_tampering(faults, trace.chain, _original(trace) if faults else None)
    reads = _read_live(trace, bundles, tools) if live_reads and not tampered else None
    if fixed is not None:
        _show_fixed(trace, bundles, what_if.policy, tampered, reads, fixed, as_json)
    graphs = _graphs(trace) if check_replayable(trace.records).graph else ()
    result = asyncio.run(replay(trace.records, bundles, tampering=tampered, what_if=what_if, graphs=graphs))
    if reads is not None:
        result = replace(result, divergences=(*result.divergences, *reads.divergences))
    if as_json:
        live = None if reads is None else {"run": reads.run, "read": len(reads.ends), "kept": reads.kept}
        echo(json_text({"ok": result.reproduced, **asdict(result), "live_reads": live}))
    else:
        _show(result, reads)
    sys.exit(0 if result.reproduced else 1)


def _show(result: ReplayResult, reads: LiveReads | None) -> None:
    from remit.cli.trace.diff import clipped

    counts = f"{result.decisions} decisions, {result.turns} model turns, {result.results} tool results compared"
    if reads is not None:
        echo(f"live reads: {reads.summary}")
    if result.reproduced:
        rest = "" if result.complete else "; the record ends before the run did"
        rest += f"; the steps before {result.since} are those of another run" if result.since else ""
        echo(f"{style('reproduced', fg='green')}: {counts}{rest}")
        return
    for item in result.divergences:
        place = "" if item.step is None else f" at step {item.step}" + ("" if item.index is None else f".{item.index}")
        echo(f"{style('diverged', fg='red')}{place}, {item.kind}: {item.what}")
        for line in item.diff[:LINES]:
            echo(f"    {clipped(line)}")
    echo(f"{counts} before the divergence")


def _show_fixed(
    trace: Trace,
    bundles: Mapping[str, Bundle],
    policy: Policy | None,
    tampered: Sequence[Divergence],
    reads: LiveReads | None,
    fixed: str,
    as_json: bool,
) -> None:
    """Replay the run with the change, print whether it still has the failure, and end the command."""
    from remit.replay import check_fixed, with_new_outcomes
    from remit.tracing.reports import parse_failure_selector

    if tampered:
        raise click.UsageError(
            f"the trace of this run fails its integrity check: {tampered[0].what}; see `remit trace verify`"
        )
    failing = parse_failure_selector(fixed)
    now = trace.records if reads is None else with_new_outcomes(trace.records, reads.ends)
    check = asyncio.run(check_fixed(trace.records, now, bundles, failing, policy))
    if as_json:
        echo(json_text({"ok": check.fixed, "what": check.what}))
    else:
        word = style("fixed", fg="green") if check.fixed else style("not fixed", fg="red")
        echo(f"{word}: {check.what}")
    sys.exit(0 if check.fixed else 1)


def policy_in(folder: Path) -> Policy:
    """The rules of a policy folder or of a workspace; agents and tools come from the run's own bundle."""
    from remit.policy import load_policy
    from remit.workspace import MARKER, policy_files

    whole = (folder / MARKER).exists()
    return load_policy(policy_files(folder, "policies" if whole else "."))


def tools_in(folder: Path) -> Workspace:
    """The workspace whose tools are used in place of the recorded ones."""
    from remit.workspace import find_workspace, load_workspace

    return load_workspace(find_workspace(folder))


def _original(trace: Trace) -> Chain | None:
    """The run's chain in the journal, if this workspace has the run."""
    from remit.core import RemitError
    from remit.workspace import open_session

    try:
        chain = open_session().journal.chain(trace.run)
    except RemitError:  # no workspace here: a file can be replayed anywhere
        return None
    return chain if chain.links else None


def _graphs(trace: Trace) -> Collection[str]:
    """The custom graphs that a replay may execute here; none without a workspace."""
    from remit.client import reviewed_graphs
    from remit.core import RemitError
    from remit.workspace import open_session

    try:
        return reviewed_graphs(open_session(), trace.run)
    except RemitError:
        return ()


def _read_live(trace: Trace, bundles: Mapping[str, Bundle], tools: Path | None) -> LiveReads:
    from remit.replay import read_live
    from remit.workspace import find_workspace, open_session, principal_of_process

    opened = open_session()
    if tools is not None and find_workspace(tools) != opened.root:
        raise click.UsageError(
            "--live-reads runs the tools of this workspace: use `--tools .`, or change to that workspace"
        )
    by = principal_of_process(opened.workspace.settings)
    return asyncio.run(read_live(trace.records, bundles, opened, by=by, other_version=tools is not None))
