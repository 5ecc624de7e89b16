"""Opens what a command reads: this workspace for a person, and the run or trace file that its argument RUN names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remit.tracing import Trace
    from remit.workspace import WorkspaceSession


def open_for_person(root: Path | None = None) -> WorkspaceSession:
    """The workspace, for a command that shows something of runs. Raises Refusal `policy_denied` if who runs it is disabled."""
    from remit.workspace import check_enabled, open_session, principal_of_process

    opened = open_session(root)
    check_enabled(opened.journal, principal_of_process(opened.workspace.settings))
    return opened


def open_run(run: str) -> Trace:
    """The trace that RUN names: a run id, a unique prefix of one, or a trace file. A file is read without a workspace.

    Raises UsageError where there is no such run.
    """
    from remit.tracing import is_trace_file, read_trace

    if is_trace_file(run):
        return read_trace(Path(run))
    from remit.client import open_trace_of
    from remit.workspace import open_session, principal_of_process

    opened = open_session()
    return open_trace_of(opened, run, by=principal_of_process(opened.workspace.settings))
