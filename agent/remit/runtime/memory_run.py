"""Runs an agent with another executor in place of its tools, and keeps the record of the run in memory only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from remit.broker import ToolExecutor
from remit.core import Confinement
from remit.core.events import ApprovalRequested, Recorded
from remit.guardrails import RunSecrets
from remit.journal import LiveRecord, open_journal
from remit.runtime.assembly import Recording, folder_of, new_run_id, secret_names, secrets_in
from remit.runtime.lifecycle import RunContext, drive_run
from remit.runtime.runner import RunRequest, checked_agent, started_event
from remit.tracing import MemoryObjects
from remit.workspace import WorkspaceSession


@dataclass(frozen=True, kw_only=True)
class MemoryRun:
    """The whole record of a run in memory, and what the run waits for, if it is paused; see `RunResult`."""

    run: str
    records: tuple[Recorded, ...]
    waiting: tuple[ApprovalRequested, ...]
    held: str | None


async def run_in_memory(
    session: WorkspaceSession,
    request: RunRequest,
    executor: ToolExecutor,
    *,
    confinement: Confinement = "full",
    wait: float = 0.0,
    on_event: Callable[[Recorded], None] | None = None,
) -> MemoryRun:
    """Run an agent as `start_run` does, with `executor` in place of its tools.

    INVARIANT: no file of the workspace and no collector gets anything of this run: its record would claim effects that did not
    happen. So the run has a journal of its own, in memory: it starts without holds, open circuits or used shared limits.

    `confinement` is what rules read and what the record says. No sandbox, secret or working folder is needed.

    Raises:
        UsageError: there is no such agent, or the scope names an unknown action.
        WorkspaceError: the rules are not valid.
        RunEnded: the run cannot continue.
    """
    agent = checked_agent(session, request)
    run = request.run or new_run_id()
    with open_journal(None) as journal:
        async with journal.lease(run) as lease:
            record = LiveRecord(journal, lease, listeners=() if on_event is None else (on_event,))
            context = RunContext(
                session=replace(session, journal=journal),
                agent=agent,
                model=request.model,
                fallbacks=request.fallbacks,
                recording=Recording(record=record, objects=MemoryObjects()),
                executor=executor,
                confinement=confinement,
                folder=session.root / request.folder if request.folder else folder_of(session, agent, run),
                secrets=RunSecrets(secrets_in(session, request.subject).present(secret_names(session, agent))),
                wait=wait,
            )
            record.append(started_event(context, request))
            driven = await drive_run(context)
        return MemoryRun(run=run, records=tuple(journal.events(run)), waiting=driven.waiting, held=driven.held)
