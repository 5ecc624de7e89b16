"""Finds what the argument RUN of a command names: a run of this workspace, or a trace file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remit.tracing import Trace
    from remit.workspace import WorkspaceSession


def open_run(run: str) -> Trace:
    """The trace that RUN names: a run id, a unique prefix of one, or a trace file.

    Raises UsageError where there is no such run.
    """
    from remit.workspace import open_session

    if is_file(run):
        from remit.tracing import read_trace

        return read_trace(Path(run))
    return open_run_of(open_session(), run)


def open_run_of(opened: WorkspaceSession, run: str) -> Trace:
    """Like `open_run`, in a session that is already open. Completes the run's trace file if a killed process left it short."""
    from remit.tracing import open_trace, read_trace
    from remit.tracing.reports import reconcile

    if is_file(run):
        return read_trace(Path(run))
    trace = open_trace(opened.traces, opened.journal, opened.journal.resolve_run(run))
    reconcile(opened.traces, trace.chain)
    return trace


def is_file(run: str) -> bool:
    """True if RUN names a file rather than a run of this workspace."""
    return run.endswith(".jsonl") or Path(run).is_file()
