"""Drives a run that has been put together: to its end, or to where it waits for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from remit.broker import Broker, LiveExecutor
from remit.core import Call, Confinement, Json, Model, Result, RunEnded, UsageError
from remit.core.events import ApprovalRequested, CallAnswered, RunFinished, RunStarted
from remit.journal import RUN_LOCKED, AlreadyRecorded
from remit.runtime.approvals_wait import ApprovalWaiter
from remit.runtime.assembly import Recording, sanitizer_of
from remit.runtime.graph import AgentGraph, checkpoints, drive
from remit.runtime.live import LivePorts
from remit.sandbox import Sandbox
from remit.workspace import Agent, WorkspaceSession, tool_specs


class ExternalGraph(Protocol):
    """A graph that is not Remit's and drives a run in its place: LangChain's, for one."""

    @property
    def model(self) -> Model:
        """Who thinks in that graph."""
        ...

    def function(self, call: Call) -> Callable[..., Json] | None:
        """The function that this call of a host tool runs, where it is not its module's.

        Raises Refusal where it is not the one that was reviewed.
        """
        ...

    async def drive(self, agency: AgentGraph) -> None:
        """Return when the graph is through with the run; what it ended with is then in the record."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How far the run came. `finished` None: it waits, for `waiting` or until the hold that `held` tells of is lifted.

    `first` is the result of the first call, for a run of one. `unsent` spans have not arrived at the collector that the environment names; the trace file has them all.
    """

    run: str
    trace: Path
    finished: RunFinished | None
    waiting: tuple[ApprovalRequested, ...] = ()
    held: str | None = None
    first: Result | None = None
    unsent: int = 0


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Everything that one process needs to drive one run.

    `secrets` are values by name. `wait` is how many seconds the run waits for people. `foreign` drives the run in the place
    of Remit's graph; None: Remit's own does.
    """

    session: WorkspaceSession
    agent: Agent
    model: Model
    recording: Recording
    sandbox: Sandbox
    confinement: Confinement
    folder: Path
    secrets: Mapping[str, str]
    wait: float
    foreign: ExternalGraph | None


async def drive_run(context: RunContext) -> RunResult:
    """Take the run as far as it goes, and close its record; warm tools stay for other runs.

    Raises:
        RunEnded: the run cannot go on; that is recorded, unless recording is what failed.
        UsageError: another process drives the run.
    """
    record, recording = context.recording.record, context.recording
    agency, waiter = _put_together(context)
    try:
        if context.foreign is not None:
            await context.foreign.drive(agency)
        else:
            async with checkpoints(context.session.traces / "checkpoints.db") as saver:
                await drive(agency, saver, waiter.settle)
        if not record.state.finished and not context.session.workspace.settings.content:
            message = "nobody answered in time, and without content no other process can go on"
            record.append(RunFinished(outcome="stopped", code="cancelled", message=message), durable=True)
    except AlreadyRecorded as failure:  # INVARIANT: where no lock keeps two processes apart, a key does
        raise UsageError(RUN_LOCKED.format(record.run)) from failure
    except RunEnded as ended:
        ended.run = record.run
        if ended.code != "unrecorded" and not record.state.finished:
            record.append(RunFinished(outcome="failed", code=ended.code, message=ended.message), durable=True)
        elif recording.export is not None:
            recording.export.count_unrecorded()
        raise
    finally:
        recording.close()
    return _ended(recording, agency, waiter)


def _put_together(context: RunContext) -> tuple[AgentGraph, ApprovalWaiter]:
    session, record = context.session, context.recording.record
    started = record.get("run.started/-/-/-")
    assert isinstance(started, RunStarted)
    ports = LivePorts(session, record)
    host_function = None if context.foreign is None else context.foreign.function
    broker = Broker(
        workspace=session.workspace,
        agent=context.agent,
        subjects=started.subjects,
        record=record,
        executor=LiveExecutor(
            session.workspace,
            context.sandbox,
            context.folder,
            context.secrets,
            host_function=host_function,
            user=started.subjects.user,
        ),
        ports=ports,
        sanitizer=sanitizer_of(session, record.run, context.secrets.values()),
        confinement=context.confinement,
    )
    agency = AgentGraph(
        broker=broker,
        model=context.model,
        record=record,
        tools=tool_specs(session.workspace, context.agent),
        stopped=lambda: ports.held(f"run:{record.run}", started.subjects.agent),
    )
    return agency, ApprovalWaiter(ports, record, broker, context.model, context.wait)


def _ended(recording: Recording, agency: AgentGraph, waiter: ApprovalWaiter) -> RunResult:
    record = recording.record
    finished = record.get("run.finished/-/-/-")
    answered = record.get("call.answered/0/0/-")
    return RunResult(
        run=record.run,
        trace=recording.trace.path,
        finished=finished if isinstance(finished, RunFinished) else None,
        waiting=tuple(waiter.waiting()),
        held=agency.stopped(),
        first=answered.result if isinstance(answered, CallAnswered) else None,
        unsent=recording.export.lost if recording.export is not None else 0,
    )
