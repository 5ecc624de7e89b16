"""Runs an agent for a test, and gives everything that happened."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from remit.broker import hold_reason
from remit.broker.approvals import waiting_approvals
from remit.client import Remit
from remit.core import Json, Model, Principal
from remit.core.events import AnyEvent, ApprovalRequested, Recorded
from remit.journal import StoredRecord, resolve_run
from remit.runtime import RunRequest, open_fallbacks_of, open_model_of, run_in_memory, start_run
from remit.runtime.models import ScriptedModel
from remit.testing.fakes import FakeExecutor, NoAnswer
from remit.testing.scripted import Turn
from remit.tracing import trace_path
from remit.tracing.reports import CallTimeline, Timeline, build_timeline, needs_text
from remit.workspace import WorkspaceSession, open_session, principal_of_process

AnyWorkspace: TypeAlias = Path | str | WorkspaceSession | Remit
_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class LandedEffect:
    """One effect that landed: the action, the resources that the call touched, and its canonical arguments.

    `step` and `index` name the call.
    """

    action: str
    resources: tuple[str, ...]
    arguments: dict[str, Json]
    step: int
    index: int


@dataclass(frozen=True, kw_only=True, repr=False)
class CapturedRun:
    """One run of an agent, to its end or to where it waits.

    `run` is its id. `trace` is its trace file; None for a run with a `FakeExecutor`, whose record is in memory only. `held`
    says why an operator holds the run, or None.
    """

    run: str
    trace: Path | None
    waiting: tuple[ApprovalRequested, ...]
    held: str | None
    records: tuple[Recorded, ...]

    @cached_property
    def timeline(self) -> Timeline:
        """The turns, calls, attempts and approvals of the run."""
        return build_timeline(self.records)

    @property
    def events(self) -> tuple[AnyEvent, ...]:
        """The events of the run, in order."""
        return tuple(item.event for item in self.records if item.event is not None)

    @property
    def outcome(self) -> str:
        """`completed`, `failed`, `stopped`, `exhausted` or `escalated`; `waiting`, `waiting: model` or `held` for a paused run."""
        return "held" if self.held and self.timeline.finished is None else self.timeline.outcome

    @property
    def answer(self) -> str:
        """The answer of the model; "" if the run has none."""
        finished = self.timeline.finished
        return "" if finished is None else finished.answer

    def calls(self, action: str | None = None) -> list[CallTimeline]:
        """The calls of the run in the model's order, also the refused ones; with `action`, only those of that action."""
        return [call for call in self.timeline.calls if action in (None, call.action)]

    def call(self, step: int, index: int = 0) -> CallTimeline:
        """The call with that place in the turn `step`, both counted from 0.

        Raises:
            AssertionError: the run made no such call.
        """
        __tracebackhide__ = True
        found = [call for call in self.calls() if (call.step, call.index) == (step, index)]
        if not found:
            raise AssertionError(f"the run has no call {step}.{index}\n{self.describe()}")
        return found[0]

    @property
    def effects(self) -> list[LandedEffect]:
        """The effects that landed, in order. Effects whose outcome is unknown are in `in_doubt`."""
        return [_effect(call) for call in self.calls() if call.landed == "landed"]

    @property
    def in_doubt(self) -> list[LandedEffect]:
        """The effects that may have landed: their outcome is unknown."""
        return [_effect(call) for call in self.calls() if call.landed == "unknown"]

    def describe(self) -> str:
        """The run as a text of a few lines: its outcome, and each call with its result."""
        ended = self.timeline.finished
        reason = f": {ended.message}" if ended is not None and ended.message else ""
        lines = [f"run {self.run[:8]}: {self.outcome}{reason}"]
        lines += [f"  {describe_call(call)}" for call in self.calls()] or ["  it made no call"]
        if self.trace is not None:
            lines.append(f"  trace: {self.trace}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<CapturedRun {self.run[:8]}: {self.outcome}, {len(self.calls())} calls, {len(self.effects)} landed>"


def describe_call(call: CallTimeline) -> str:
    """One call in one line: its place, its action, its resources, and how it ended."""
    what = f"{call.place} {call.action}{' of ' if call.resources else ''}{', '.join(call.resources)}"
    if call.error is not None:
        return f"{what}: {call.error.code}, {call.error.message}"
    if call.waiting and call.approval is not None:
        return f"{what}: waits for {needs_text(call.approval.requested)}"
    if call.result is None:
        return f"{what}: not carried out"
    return f"{what}: {'landed' if call.landed == 'landed' else 'ok'}"


def capture_run(
    workspace: AnyWorkspace,
    agent: str,
    task: str,
    *,
    model: Model | Sequence[Turn] | None = None,
    executor: FakeExecutor | None = None,
    user: str | None = None,
    wait: float = 0.0,
) -> CapturedRun:
    """Run an agent to its end, or to where it waits for approval.

        run = capture_run(remit_workspace, "triage", "find the cause", model=[turn(files__list={}), turn("It is the pool.")])
        assert run.outcome == "completed"

    Args:
        workspace: the folder of a workspace, or one in it; an open session; or a client.
        agent: the name of the agent.
        task: what the user asks.
        model: a model, or the turns of a scripted one; None: the model of the agent.
        executor: answers in place of the tools. The run is then in memory only: journal, traces and shared limits of the
            workspace stay as they are. None: the tools run, confined, and the run is recorded like every run.
        user: for whom the agent acts, `user:NAME` or `NAME`; every user can be tried. None: the user of this account,
            or of the principal of the client.
        wait: seconds to wait for approvals of people.

    Raises:
        AssertionError: a call reached the executor, which has no answer for it.
        UsageError: there is no such agent, or a secret is missing.
        WorkspaceError: a file of the workspace or the script is not valid.
        RunEnded: the run cannot continue, for instance because this machine has no sandbox.
    """
    __tracebackhide__ = True
    session = _session(workspace)
    try:
        request = _request(session, _principal_of(workspace, session), agent, task, model, user)
        return _captured(session, request, executor, wait)
    except NoAnswer as failure:
        raise AssertionError(str(failure)) from None
    finally:
        if isinstance(workspace, Path | str):
            session.journal.close()


def _session(workspace: AnyWorkspace) -> WorkspaceSession:
    if isinstance(workspace, Path | str):
        return open_session(Path(workspace))
    return workspace.session if isinstance(workspace, Remit) else workspace


def _principal_of(workspace: AnyWorkspace, session: WorkspaceSession) -> Principal:
    return workspace.principal if isinstance(workspace, Remit) else principal_of_process(session.workspace.settings)


def _request(
    session: WorkspaceSession,
    by: Principal,
    agent: str,
    task: str,
    model: Model | Sequence[Turn] | None,
    user: str | None,
) -> RunRequest:
    fallbacks = open_fallbacks_of(session, agent) if model is None else ()
    if model is None:
        model = open_model_of(session, agent)
    elif isinstance(model, Sequence):
        model = ScriptedModel(model)
    subject = by.subject if user is None else user if user.startswith("user:") else f"user:{user}"
    return RunRequest(agent=agent, task=task, subject=subject, by=by, model=model, fallbacks=fallbacks)


def _captured(
    session: WorkspaceSession, request: RunRequest, executor: FakeExecutor | None, wait: float
) -> CapturedRun:
    if executor is None:
        return _recorded(session, _result_of(start_run(session, request, wait=wait)).run)
    executor.use(session.workspace)
    ended = _result_of(run_in_memory(session, request, executor, confinement=executor.confinement, wait=wait))
    return CapturedRun(run=ended.run, trace=None, waiting=ended.waiting, held=ended.held, records=ended.records)


def read_run(workspace: AnyWorkspace, run: str) -> CapturedRun:
    """A run that is recorded in the workspace, as it stands now: for instance after an approval and `Remit.resume`.

    Args:
        workspace: as for `capture_run`.
        run: its id, or a unique prefix of it.

    Raises:
        UsageError: the workspace has no such run.
    """
    session = _session(workspace)
    try:
        return _recorded(session, resolve_run(session.journal, run))
    finally:
        if isinstance(workspace, Path | str):
            session.journal.close()


def _recorded(session: WorkspaceSession, run: str) -> CapturedRun:
    record = StoredRecord(session.journal, run)
    agent = "" if record.state.started is None else record.state.started.subjects.agent
    return CapturedRun(
        run=run,
        trace=trace_path(session.traces, run),
        waiting=tuple(waiting_approvals(record)),
        held=hold_reason(session.journal.holds(), f"run:{run}", agent),
        records=tuple(session.journal.events(run)),
    )


def _result_of(running: Coroutine[Any, Any, _Value]) -> _Value:
    """The result of the coroutine; in a thread of its own if this thread has an event loop already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(running)
    with ThreadPoolExecutor(max_workers=1) as threads:
        return threads.submit(asyncio.run, running).result()


def _effect(call: CallTimeline) -> LandedEffect:
    return LandedEffect(
        action=call.action,
        resources=call.resources,
        arguments=dict(call.arguments),
        step=call.step,
        index=call.index,
    )
