"""Opens the trace of a run and replays it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import remit.replay
from remit.core import Principal
from remit.journal import Chain, StoredRecord, resolve_run
from remit.policy import Policy
from remit.tracing import Trace, is_trace_file, objects_of, open_trace, read_trace
from remit.tracing.reports import reconcile
from remit.workspace import Workspace, WorkspaceSession, authorize_run, open_bundles

if TYPE_CHECKING:  # who only reads a trace does not load what plays it again
    from remit.replay import ReplayResult


def open_trace_of(session: WorkspaceSession, run: str, *, by: Principal, damaged: bool = False) -> Trace:
    """The trace that `run` names: a run id, a unique prefix of one, or a trace file. `by` is who reads it.

    Completes the trace file of a run that a killed process left short. With `damaged`, what cannot be read is left out, and named
    in `Trace.damage`.

    Raises:
        Refusal: `policy_denied`: the rules do not let the person read the run.
        UsageError: there is no such run or file, or several runs match, or an event of the journal is damaged.
        WorkspaceError: lines of the file are damaged.
    """
    if is_trace_file(run):
        return read_trace(Path(run), damaged=damaged)
    run = resolve_run(session.journal, run)
    authorize_run(session.policy, session.journal, run, by, "remit.read", f"read run {run[:8]}")
    trace = open_trace(session.traces, session.journal, run, damaged=damaged, store=objects_of(session))
    reconcile(session.traces, session.journal, trace.chain)
    return trace


def reviewed_graphs(session: WorkspaceSession, run: str) -> frozenset[str]:
    """The digests of the custom graphs that a replay of that run may execute: those that are pinned here, and the one that it had here."""
    started = StoredRecord(session.journal, run).state.started
    return frozenset({*session.workspace.graph_pins.values(), *((started.graph,) if started is not None else ())})


async def replay_trace(
    trace: Trace,
    *,
    original: Chain | None = None,
    policy: Policy | None = None,
    tools: Workspace | None = None,
    graphs: Collection[str] = (),
) -> ReplayResult:
    """Replay a trace without effects, and compare it with its record.

    `original` is the run's chain in the journal, if it is known: then the result shows what was changed in the trace.
    `policy` and `tools` replace the recorded ones. `graphs` are the custom graphs that it may execute: see `reviewed_graphs`.

    Raises:
        UsageError: the record does not hold all that a replay needs.
    """
    remit.replay.check_replayable(trace.records)
    bundles = open_bundles(trace.bundles())
    faults = [fault for fault in trace.faults() if fault.broken]
    tampering = remit.replay.find_tampering(faults, trace.chain, original if faults else None)
    what_if = remit.replay.WhatIf(policy=policy, tools=tools)
    return await remit.replay.replay(trace.records, bundles, tampering=tampering, what_if=what_if, graphs=graphs)
