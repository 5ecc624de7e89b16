"""Starts a run and leaves it to the workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from remit.core import UsageError
from remit.journal import QUEUE, count_queued
from remit.runtime import RunRequest, RunResult, start_run
from remit.workspace import WorkspaceSession

PRIORITY: Final = 5  # of a run whose request names none: 9 comes first


class QueueFull(UsageError):
    """As many runs wait for workers as the settings allow. Nothing is recorded."""


async def enqueue_run(
    session: WorkspaceSession, request: RunRequest, *, progress: Callable[[str], None] | None = None
) -> RunResult:
    """Record the start of a run, which a worker then drives. Everything that `start_run` checks is checked now.

    Raises:
        QueueFull: too many runs wait.
        Otherwise as `start_run`.
    """
    journal, most = session.journal, session.workspace.settings.worker.queue
    waiting = await journal.run_in_thread(count_queued, journal)
    if waiting >= most:
        raise QueueFull(
            f"{waiting} runs wait for workers, as many as [worker] queue allows: start a worker, or try again later"
        )
    result = await start_run(session, replace(request, priority=request.priority or PRIORITY), progress=progress)
    # Its start has woken the workers, but then this process still had its lease.
    await journal.run_in_thread(journal.announce, QUEUE)
    return result
