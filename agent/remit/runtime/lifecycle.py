"""Drives a run whose parts have been built: to its end, or to where it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from remit import runtime
from remit.broker import Broker, LiveExecutor, ToolExecutor, receipt_of
from remit.core import (
    ENDED,
    NEXT_STEPS,
    Call,
    Confinement,
    Error,
    Failed,
    Json,
    Message,
    Model,
    ModelCode,
    ModelTurn,
    ReceiptItem,
    RemitError,
    Result,
    RunEnded,
    ToolSpec,
    UsageError,
)
from remit.core.events import (
    ApprovalRequested,
    CallAnswered,
    Driver,
    ModelFailed,
    Outcome,
    RunArm,
    RunFinished,
    RunStarted,
)
from remit.guardrails import RunSecrets, Sanitizer
from remit.journal import RUN_LOCKED, AlreadyRecorded, Record, note_server
from remit.rollout import CandidateRules, check_bars
from remit.runtime.approvals_wait import ApprovalWaiter
from remit.runtime.assembly import Recording, sanitizer_of
from remit.runtime.graph import AgentGraph, CustomGraph, drive_one_call
from remit.runtime.live import OF_RUN, EvaluationPorts, LivePorts
from remit.runtime.models.model_list import ModelList
from remit.runtime.models.model_wait import ModelWait
from remit.runtime.models.scripted import ScriptedApproval
from remit.runtime.one_call import OneCall
from remit.workspace import Agent, Workspace, WorkspaceSession, tool_specs


class ExternalModel:
    """The model of an external graph. The graph asks it; `turn` is its latest turn, set before Remit's graph reads it (`known_turn`)."""

    scripted = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.turn = ModelTurn(text="", finish=ENDED)

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        return self.turn


class ExternalGraph(Protocol):
    """A program outside of Remit that drives a run instead of Remit's own graph: a graph of LangChain, or an MCP client."""

    @property
    def driver(self) -> Driver:
        """Which kind of program it is."""
        ...

    @property
    def model(self) -> Model:
        """The model of that graph."""
        ...

    def function(self, call: Call) -> Callable[..., Json] | None:
        """The function of the graph that carries out this call of a host tool; None: the function in the tool's module.

        Raises Refusal if the graph's tool differs from the reviewed one.
        """
        ...

    async def drive(self, agent_graph: AgentGraph) -> None:
        """Return when the graph has ended or left the run. The outcome is then in the record."""
        ...


class OutsideRun:
    """What every `ExternalGraph` has in common: the run stays open until its program ends it, or something keeps it from going on."""

    def __init__(self) -> None:
        self._failure: RunEnded | None = None
        self._ended = asyncio.Event()
        self._opened: asyncio.Future[AgentGraph] = asyncio.get_running_loop().create_future()

    async def drive(self, agent_graph: AgentGraph) -> None:
        """See `ExternalGraph`."""
        self._opened.set_result(agent_graph)
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def _opened_by(self, work: asyncio.Future[Any]) -> AgentGraph:
        """Return once the runner, which is `work`, has opened the run. Raises the error that keeps it from starting."""
        either: set[asyncio.Future[Any]] = {work, self._opened}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._opened.done():
            await work
        return self._opened.result()

    def _refused_turn(self, agent_graph: AgentGraph, *, has_ended: bool) -> Failed | None:
        """Why no turn is accepted now, as a result for the model; None: it is accepted. A refused turn is not recorded.

        `has_ended`: the run takes no turn any more, although its record may not say so yet.
        """
        finished = agent_graph.record.get("run.finished/-/-/-")
        if isinstance(finished, RunFinished) or has_ended:
            exhausted = isinstance(finished, RunFinished) and finished.code in ("budget_exhausted", "denial_loop")
            reason = finished.message if isinstance(finished, RunFinished) and finished.message else "no more calls run"
            code: ModelCode = "budget_exhausted" if exhausted else "cancelled"
            return Failed(error=Error(code=code, message=f"the run has ended: {reason}", next_step="stop"))
        if (hold := agent_graph.hold_reason()) is not None:
            return Failed(error=Error(code="held", message=hold, retryable=True, next_step=NEXT_STEPS["held"]))
        return None

    def _end_with(self, failure: RunEnded) -> None:
        """Let the runner end the run with what keeps it from going on, the first one if there are several."""
        self._failure = self._failure or failure
        self._ended.set()

    @contextmanager
    def _failing(self) -> Generator[None]:
        """End the run with what keeps the block from going on."""
        try:
            yield
        except RunEnded as ended:
            self._end_with(ended)
            raise


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended or paused.

    `finished` is None if the run is paused: it waits for the approvals in `waiting`, for the model whose failure `model_wait` is,
    or, if `held` gives a reason, for the end of a hold. `first` is the result of the first call, for `remit call`. `receipt` is
    what the broker saw of each call of the model: the model wrote no part of it. `unsent` counts the spans that did not arrive at
    the OpenTelemetry collector; the trace file contains all spans.
    """

    run: str
    trace: Path
    finished: RunFinished | None
    waiting: tuple[ApprovalRequested, ...] = ()
    held: str | None = None
    model_wait: ModelFailed | None = None
    first: Result | None = None
    receipt: tuple[ReceiptItem, ...] = ()
    unsent: int = 0

    @property
    def outcome(self) -> Outcome | None:
        """`completed` if the model gave a valid answer; None if the run is paused."""
        return None if self.finished is None else self.finished.outcome

    @property
    def answer(self) -> str:
        """The answer of the model; "" if the run has none."""
        return "" if self.finished is None else self.finished.answer


@dataclass(frozen=True, kw_only=True)
class Driven:
    """Where a run is after it was driven: the end of it, if it has ended, or else what it waits for; see `RunResult`."""

    finished: RunFinished | None
    waiting: tuple[ApprovalRequested, ...]
    held: str | None
    model_wait: ModelFailed | None
    first: Result | None
    receipt: tuple[ReceiptItem, ...]


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """Everything that one process needs to drive one run.

    `model` is asked first, then `fallbacks`, in this order. `executor` carries out the calls. `secrets` are those of its tools. `wait` is how many seconds the run waits for approvals; in an evaluation, `approvals` answer in place of people.
    `external_graph` drives the run; None: Remit's own graph does. `arm` is its side of a rollout, and `candidate` are the rules of
    that rollout's candidate; None without them. `files` is that of `RunStarted`, for a new run.
    """

    session: WorkspaceSession
    agent: Agent
    model: Model
    recording: Recording
    executor: ToolExecutor
    confinement: Confinement
    folder: Path
    secrets: RunSecrets
    wait: float = 0.0
    external_graph: ExternalGraph | None = None
    fallbacks: Sequence[Model] = ()
    arm: RunArm | None = None
    candidate: CandidateRules | None = None
    approvals: Sequence[ScriptedApproval] = ()
    files: str = ""


async def drive_run(context: RunContext) -> Driven:
    """Drive the run to its end or to where it waits, and close its record. Warm tools stay ready for other runs.

    Raises:
        RunEnded: the run cannot continue. This is recorded, unless recording itself failed.
        UsageError: another process drives the run.
    """
    record, recording = context.recording.record, context.recording
    agent_graph, waiter = _build(context)
    try:
        if context.external_graph is not None:
            await context.external_graph.drive(agent_graph)
        elif isinstance(context.model, OneCall):
            await drive_one_call(agent_graph, _waiting(agent_graph, waiter))
        else:
            await runtime.drive(agent_graph, _waiting(agent_graph, waiter))
        if not record.state.finished and not context.session.workspace.settings.content:
            who = "the model did not come back" if record.state.model_wait is not None else "no approver answered"
            message = f"{who} in time, and a run without content cannot be resumed"
            record.append(RunFinished(outcome="stopped", code="cancelled", message=message), durable=True)
        await record.commit()
    except AlreadyRecorded as failure:  # another process took the lease over, and has come further
        raise UsageError(RUN_LOCKED.format(record.run)) from failure
    except RunEnded as ended:
        ended.run = record.run
        if ended.code != "unrecorded" and not record.state.finished:
            record.append(RunFinished(outcome="failed", code=ended.code, message=ended.message), durable=True)
            await record.commit()
        else:
            recording.count_unrecorded()
        raise
    finally:
        with suppress(RemitError):  # the failure that is raised already says why
            await record.commit()
        recording.close()
        await _check_rollout(context)
    receipt = await context.session.journal.run_in_thread(lambda: receipt_of(record.every()))
    return _driven(record, agent_graph, waiter, receipt)


async def _check_rollout(context: RunContext) -> None:
    """Take the candidate of a rollout back if the end of this run breaks one of its bars."""
    if context.arm is not None and context.recording.record.state.finished:
        journal = context.session.journal
        with suppress(RemitError):  # looked at again before the next run
            await journal.run_in_thread(check_bars, journal, context.arm.rollout)


def _build(context: RunContext) -> tuple[AgentGraph, ApprovalWaiter]:
    session, record = context.session, context.recording.record
    started = record.get("run.started/-/-/-")
    assert isinstance(started, RunStarted)
    ports = (EvaluationPorts if started.evaluation else LivePorts)(session, context.recording, context.candidate)
    sanitizer = sanitizer_of(session.workspace, record.run, context.secrets.values)
    context.secrets.watch(sanitizer.learn)
    if isinstance(context.executor, LiveExecutor):
        context.executor.on_server = partial(_compared, context, sanitizer)
    broker = Broker(
        workspace=session.workspace,
        agent=context.agent,
        subjects=started.subjects,
        record=record,
        executor=context.executor,
        ports=ports,
        sanitizer=sanitizer,
        confinement=context.confinement,
    )
    agent_graph = AgentGraph(
        broker=broker,
        models=ModelList((context.model, *context.fallbacks)),
        record=record,
        tools=tool_specs(session.workspace, context.agent),
        hold_reason=lambda: ports.held(f"{OF_RUN}{record.run}", started.subjects.agent),
        custom=custom_graph(session.workspace, started),
    )
    return agent_graph, ApprovalWaiter(ports, record, broker, context.model, context.wait, context.approvals)


async def _compared(context: RunContext, sanitizer: Sanitizer, tool: str, changes: Sequence[str]) -> None:
    """Note how the server of a tool differs from its pin."""
    journal, agent, run = context.session.journal, context.agent.name, context.recording.record.run
    texts = [sanitizer.text(line) for line in changes]
    await journal.run_in_thread(note_server, journal, tool=tool, agent=agent, run=run, changes=texts)


def custom_graph(workspace: Workspace, started: RunStarted) -> CustomGraph | None:
    """The graph of the agent's author that drives the run; None if Remit's own loop does. Raises UsageError if it is not reviewed."""
    factory = workspace.graph_of(started.agent) if started.graph else None
    return None if factory is None else CustomGraph(factory=factory, source=workspace.files[factory.file])


def _waiting(agent_graph: AgentGraph, approvals: ApprovalWaiter) -> Callable[[], Awaitable[bool]]:
    """A function that waits for what the run waits for: its model, or people."""
    model = ModelWait(agent_graph.record, agent_graph.broker, agent_graph.hold_reason)

    async def wait_for_change() -> bool:
        return await (model.wait_for_change() if model.waits else approvals.wait_for_change())

    return wait_for_change


def _driven(
    record: Record, agent_graph: AgentGraph, waiter: ApprovalWaiter, receipt: tuple[ReceiptItem, ...]
) -> Driven:
    finished = record.get("run.finished/-/-/-")
    first = record.get("call.answered/0/0/-")
    return Driven(
        finished=finished if isinstance(finished, RunFinished) else None,
        waiting=tuple(waiter.waiting()),
        held=agent_graph.hold_reason(),
        model_wait=record.state.model_wait,
        first=first.result if isinstance(first, CallAnswered) else None,
        receipt=receipt,
    )
