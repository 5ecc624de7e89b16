"""What RUN names on a command line: a run of the workspace around here, or a file from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remit.tracing import Trace
    from remit.workspace import WorkspaceSession


def open_run(run: str) -> Trace:
    """The trace that RUN names: a run id, a unique beginning of one, or a trace file."""
    from remit.workspace import open_session

    if is_file(run):
        from remit.tracing import read_trace

        return read_trace(Path(run))
    return open_run_of(open_session(), run)


def open_run_of(opened: WorkspaceSession, run: str) -> Trace:
    """The same, for a house that is open already; what a kill cut off of the run's own file is written again."""
    from remit.tracing import open_trace, read_trace
    from remit.tracing.reports import reconcile

    if is_file(run):
        return read_trace(Path(run))
    found = open_trace(opened.traces, opened.journal, opened.journal.resolve_run(run))
    reconcile(opened.traces, found.chain)
    return found


def is_file(run: str) -> bool:
    """Whether RUN names a file, and no run of this workspace."""
    return run.endswith(".jsonl") or Path(run).is_file()
