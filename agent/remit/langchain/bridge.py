"""Runs that an external graph drives: its turns are recorded, and its calls are decided, carried out and answered.

The graph may run in threads or in any event loop; the broker has its own. One turn of the model is one step. A turn is
recognized by its calls, so a graph that repeats a turn, resumes, or returns to an old checkpoint gets the recorded results, and
no effect happens twice. When the graph moves on to the next turn, the calls that it left out are cancelled. So each call has one
result, and the run can be replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from remit.broker import CALLS_PER_TURN, ApprovalPending, Broker, Hosted, receipt_of, too_many_calls
from remit.core import (
    ENDED,
    NEXT_STEPS,
    Call,
    Error,
    Failed,
    Message,
    ModelCode,
    ModelTurn,
    Principal,
    ReceiptItem,
    Refusal,
    Result,
    RunEnded,
    ToolSpec,
    UsageError,
    is_refused,
    same_person,
)
from remit.core.events import ApprovalRequested, ModelResponded, RunFinished
from remit.core.parsing import canonical_json, digest
from remit.journal import LiveRecord
from remit.langchain.graph_call import Function, GraphCall, GraphTool, NotEnforced
from remit.langchain.own_answer import check_mode
from remit.langchain.state import last_answer, messages_of, read_state, turn_key
from remit.runtime import (
    AgentGraph,
    ApprovalWaiter,
    Continuation,
    LivePorts,
    RunRequest,
    RunResult,
    acting_subject,
    new_run_id,
    resume_run,
    start_run,
)
from remit.workspace import Mode, WorkspaceSession, check_tenant, open_session, principal_of_process, tool_specs
from remit.workspace.manifest import ActionSchema

_T = TypeVar("_T")


class RunRegistry:
    """The open runs of one agent. Finds the run that a call belongs to, and starts or resumes it at the first call."""

    def __init__(self, session: WorkspaceSession, agent: str, user: str | None, wait: float) -> None:
        self._session = session
        self._agent = session.workspace.agents[agent]
        self._user = user
        self._principal = principal_of_process(session.workspace.settings)
        self._wait = wait
        self._runs: dict[str, ExternalRun] = {}
        self._opening = asyncio.Lock()
        self.specs: Sequence[ToolSpec] = tool_specs(session.workspace, self._agent)
        self.hosted = _hosted(session, agent)

    @staticmethod
    async def open(agent: str, user: str | None, workspace: Path | None, wait: float, mode: Mode | None) -> RunRegistry:
        session = open_session(workspace)
        if agent not in session.workspace.agents:
            known = ", ".join(sorted(session.workspace.agents)) or "none"
            raise UsageError(f"there is no agent {agent!r} here; agents: {known}")
        if session.workspace.agents[agent].answer is not None:
            raise UsageError(f"agent {agent!r} has an [answer], which only Remit's own graph can check: remove it")
        check_mode(session.workspace.agents[agent], mode)
        runs = RunRegistry(session, agent, user, wait)
        acting_subject(session, runs._principal, user)  # refused here, and not only at the first call
        return runs

    async def perform(self, call: GraphCall, tool: GraphTool | None) -> Result | ApprovalRequested | NotEnforced:
        """The one result of the call, or the request for approval that it waits for.

        `tool` carries out a call of a host tool; None: the function in the tool's module does.
        """
        run = await self._run(call)
        result = await run.perform(call.turn, call.index, tool, queued=call.queued)
        await run.commit()
        if isinstance(result, ApprovalRequested) or run.enforces(call.turn, call.index):
            return result
        return result if is_refused(result, enforced=False) else NotEnforced(result=result)

    async def refuse(self, call: GraphCall, requested: ApprovalRequested) -> Result:
        run = await self._run(call)
        result = await run.refuse(call.turn, call.index, requested)
        await run.commit()
        return result

    async def run_of(self, key: str) -> str | None:
        run = self._runs.get(key)
        return None if run is None else run.agent_graph.record.run

    async def receipt(self, key: str) -> tuple[ReceiptItem, ...]:
        run = self._runs.get(key)
        return () if run is None else receipt_of(run.agent_graph.record.every())

    async def waiting(self, key: str) -> list[ApprovalRequested]:
        run = self._runs.get(key)
        return [] if run is None else run.waiter(0.0).waiting()

    async def wait_for_approvals(self, key: str, seconds: float) -> bool:
        run = self._runs.get(key)
        return run is not None and await run.waiter(seconds).wait_for_change()

    async def finish(self, key: str, answer: str) -> RunResult | None:
        run = self._runs.pop(key, None)
        return None if run is None else await run.end(answer)

    async def answered(self, state: Any, thread: str | None) -> dict[str, Any]:
        """The receipt for the state of a graph that gave its answer. Ends the run of an invocation without a thread."""
        if thread:
            items = await self.receipt(f"thread:{thread}")
        else:
            key = read_state(state, "remit_invocation") or ""
            ended = await self.finish(key, last_answer(messages_of(state)))
            items = () if ended is None else ended.receipt
        return {"remit_receipt": [item.model_dump(mode="json") for item in items]}

    async def close(self) -> None:
        for key in list(self._runs):
            with suppress(RunEnded):  # the caller of the failed call has already got the error
                await self._runs.pop(key).end("", leave=key.startswith("thread:"))

    async def _run(self, call: GraphCall) -> ExternalRun:
        by = call.principal or self._principal
        check_tenant(self._session.workspace.settings, by)
        user = acting_subject(self._session, by, self._user)
        async with self._opening:
            run = self._runs.get(call.key)
            if run is None:
                run = self._runs[call.key] = await self._open_run(call, by, user)
        started = run.agent_graph.record.state.started
        assert started is not None  # `begin` has waited for it
        # A run of its own would not have the labels of what the thread has read, and in this run the second person could
        # approve calls that they have asked for.
        if started.subjects.user != user or not same_person(started.by, by):
            what = "this object" if call.thread is None else f"the thread {call.thread!r}"
            own = "give each person a thread of their own"
            raise UsageError(f"the run of {what} is of {started.by.subject}, not of {by.subject}: {own}")
        return run

    async def _open_run(self, call: GraphCall, by: Principal, user: str) -> ExternalRun:
        """INVARIANT: a thread has one run permanently, even after it has ended, so that its labels stay with the thread."""
        name = new_run_id()
        if call.thread is not None:
            identity = {"agent": self._agent.name, "user": user, "thread": call.thread}
            name = digest(identity).removeprefix("sha256:")[:32]
        run = ExternalRun(self._session, self._agent.model, self._wait)
        if await self._session.journal.run_in_thread(self._session.journal.head, name) is not None:
            work = resume_run(self._session, name, by=by, goes_on=Continuation(external_graph=run))
        elif not call.task:
            raise UsageError(
                "the run has no task: pass RemitMiddleware(…, task=…), or start the state with a human message"
            )
        else:
            thread, agent = call.thread or "", self._agent.name
            request = RunRequest(
                agent=agent, task=call.task, subject=user, by=by, model=run.model, run=name, thread=thread
            )
            work = start_run(self._session, request, external_graph=run)
        await run.begin(work)
        return run


def _hosted(session: WorkspaceSession, agent: str) -> dict[str, str]:
    """The agent's actions that are functions in the graph's process, by the name of the function."""
    hosted: dict[str, str] = {}
    for name in session.workspace.agents[agent].actions:
        tool, action = session.workspace.action(name)
        if tool.manifest.source == "host":
            if action.name in hosted:
                raise UsageError(
                    f"agent {agent!r} has {hosted[action.name]} and {name}, and a graph calls both {action.name!r}: "
                    "rename one of the two functions and its action"
                )
            hosted[action.name] = name
    return hosted


class _ExternalModel:
    """The model of an external graph. The graph asks it; `turn` is its latest turn, set before Remit's graph reads it."""

    scripted = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.turn = ModelTurn(text="", finish=ENDED)

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        return self.turn


class ExternalRun:
    """One run that an external graph drives. Implements `ExternalGraph` for the runner, and takes the calls of the graph."""

    def __init__(self, session: WorkspaceSession, model: str, wait: float) -> None:
        self._session = session
        self.model = _ExternalModel(model)
        self._wait = wait
        self._steps: dict[str, int] = {}  # by `turn_key`
        self._decided: set[int] = set()
        self._tools: dict[tuple[int, int], GraphTool | None] = {}
        self._running: dict[tuple[int, int], asyncio.Task[Result]] = {}
        self._turns, self._queue = asyncio.Lock(), asyncio.Lock()
        self._ended = asyncio.Event()
        self._failure: RunEnded | None = None
        self._opened: asyncio.Future[AgentGraph] = asyncio.get_running_loop().create_future()

    async def begin(self, work: Coroutine[Any, Any, RunResult]) -> None:
        """Open the run with `work`. Raises the error that keeps it from starting."""
        self._work = asyncio.ensure_future(work)
        either: set[asyncio.Future[Any]] = {self._work, self._opened}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._opened.done():
            await self._work
        self.agent_graph = self._opened.result()
        await self._look_up()
        for event in self.agent_graph.record.every():
            if isinstance(event, ModelResponded) and event.proposed_calls and not event.internal:
                self._steps[turn_key(event.proposed_calls)] = event.step

    async def _look_up(self) -> None:
        """Fill the agent's directory before the graph's first turn, with tools of the workspace.

        A resumed run starts at step 0 again, because the process before may have stopped between two look-ups.
        """
        record, step = self.agent_graph.record, -1
        while True:
            step += 1
            response = record.get(f"model.responded/{step}/-/-")
            if response is None and record.state.step < step:
                response = self.agent_graph.look_up(step)
            if not isinstance(response, ModelResponded) or not response.internal:
                return
            await self._broker.decide(response.step, response.proposed_calls)
            for index in range(len(response.proposed_calls)):
                self._tools[response.step, index] = None
                with suppress(ApprovalPending):  # a look-up that needs an approval adds nothing to the directory
                    await self._broker.perform(response.step, index)

    # -- called by the runner (`ExternalGraph`) --

    async def drive(self, agent_graph: AgentGraph) -> None:
        self._opened.set_result(agent_graph)
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    def function(self, call: Call) -> Function | None:
        place = (call.step, call.index)
        if place not in self._tools:
            raise _not_reviewed("the graph has not asked for this call")
        if (graph_tool := self._tools[place]) is None:
            return None
        tool, action = self._session.workspace.action(call.action)
        assert tool.pin is not None  # the broker refuses unpinned tools before it decides
        _check_reviewed(graph_tool, tool.pin.schemas[action.name], call.action)
        assert graph_tool.tool is not None  # a call of an unknown tool has a schema that no pin has
        decided = self._broker.latest_decision(*place)
        chosen = graph_tool.function if decided is None or decided.enforced else graph_tool.unchanged
        return Hosted(tool=graph_tool.tool, invoke=partial(chosen, tool.manifest.limits.wall))

    # -- called by the graph --

    def enforces(self, turn: ModelTurn, index: int) -> bool:
        """False if the call was only observed."""
        if (started := self.agent_graph.record.state.started) is None or started.observe is None:
            return True
        step = self._steps.get(self._key_of(turn))
        decided = None if step is None else self._broker.latest_decision(step, index)
        return decided is None or decided.enforced

    def waiter(self, wait: float) -> ApprovalWaiter:
        """Waits for approvals of this run for `wait` seconds."""
        ports = cast("LivePorts", self._broker.ports)
        return ApprovalWaiter(ports, cast("LiveRecord", self.agent_graph.record), self._broker, self.model, wait)

    async def perform(
        self, turn: ModelTurn, index: int, tool: GraphTool | None, *, queued: bool
    ) -> Result | ApprovalRequested:
        if index > CALLS_PER_TURN:  # only the first call over the limit is recorded
            return too_many_calls()
        if not queued:
            return await self._perform(turn, index, tool)
        async with self._queue:
            if (refused := await self._catch_up(turn)) is not None:
                return refused
            return await self._perform(turn, index, tool)

    async def refuse(self, turn: ModelTurn, index: int, requested: ApprovalRequested) -> Result:
        """Refuse a call whose approval did not come in time, in a graph that cannot be interrupted."""
        roles = ", ".join(missing.role for missing in requested.missing)
        refusal = Refusal(
            "approval_required",
            f"the call needs an approval by {roles}, which did not come in time",
            details={"missing": [missing.model_dump() for missing in requested.missing]},
            next_step="continue without this call, or make it again after a person has approved it",
        )
        return await self._broker.give_up(self._steps[self._key_of(turn)], index, refusal)

    async def commit(self) -> None:
        """Return when everything so far is recorded: only then may the graph read a result."""
        try:
            await self.agent_graph.record.commit()
        except RunEnded as ended:
            self._failure = self._failure or ended
            self._ended.set()
            raise

    async def end(self, answer: str, *, leave: bool = False) -> RunResult:
        """End the run with that answer. With `leave`, or if a call waits for approval, the run stays open for a later process."""
        async with self._turns:
            if self._running:
                await asyncio.wait(self._running.values())
            state = self.agent_graph.record.state
            if not (leave or state.finished or self._failure or any(call.waiting for call in state.open.values())):
                await self._cancel_rest()
                self.model.turn = ModelTurn(text=answer, finish=ENDED)
                await self.agent_graph.turn({"step": state.step})
        self._ended.set()
        return await self._work

    @property
    def _broker(self) -> Broker:
        return self.agent_graph.broker

    def _key_of(self, turn: ModelTurn) -> str:
        # Sanitized first, because the record has the sanitized calls, and a resumed run computes its keys from the record.
        return turn_key(
            [self._broker.sanitizer.proposed_call(call) for call in turn.proposed_calls[: CALLS_PER_TURN + 1]]
        )

    async def _perform(self, turn: ModelTurn, index: int, tool: GraphTool | None) -> Result | ApprovalRequested:
        async with self._turns:
            step = await self._decide_turn(turn)
        if not isinstance(step, int):
            return step
        place = (step, index)
        self._tools[place] = tool
        waiter = self.waiter(self._wait)
        while True:
            try:
                return await self._once(place)
            except ApprovalPending as pending:
                if not await waiter.wait_for_change():
                    return pending.requested
            except RunEnded as ended:
                self._failure = self._failure or ended
                self._ended.set()
                raise

    async def _once(self, place: tuple[int, int]) -> Result:
        """The result of the call. A second request for a call that is running waits for the same result."""
        if place not in self._running:
            self._running[place] = asyncio.ensure_future(self._broker.perform(*place))
            self._running[place].add_done_callback(lambda _: self._running.pop(place))
        return await self._running[place]

    async def _decide_turn(self, turn: ModelTurn) -> int | Failed:
        """Record the turn and decide its calls. Returns its step, or why none of its calls is carried out."""
        key = self._key_of(turn)
        if key not in self._steps:
            if (refused := self._refuse_turn()) is not None:
                return refused
            await self._cancel_rest()
            step = self.agent_graph.record.state.step + 1
            self.model.turn = turn
            await self.agent_graph.turn({"step": step - 1})
            if (refused := self._refuse_turn()) is not None:
                return refused
            self._steps[key] = step
        step = self._steps[key]
        if step not in self._decided:
            await self.agent_graph.decide({"step": step})
            self._decided.add(step)
        return step

    def _refuse_turn(self) -> Failed | None:
        """Why no turn is accepted now, as a result for the model; None: it is accepted. A refused turn is not recorded."""
        finished = self.agent_graph.record.get("run.finished/-/-/-")
        if isinstance(finished, RunFinished) or self._failure is not None:
            exhausted = isinstance(finished, RunFinished) and finished.code in ("budget_exhausted", "denial_loop")
            reason = finished.message if isinstance(finished, RunFinished) and finished.message else "no more calls run"
            code: ModelCode = "budget_exhausted" if exhausted else "cancelled"
            return Failed(error=Error(code=code, message=f"the run has ended: {reason}", next_step="stop"))
        if (hold := self.agent_graph.hold_reason()) is not None:
            return Failed(error=Error(code="held", message=hold, retryable=True, next_step=NEXT_STEPS["held"]))
        if self._running:
            next_step = "use a separate RemitMiddleware for an agent that runs inside a tool"
            message = "calls of another turn of this run are still running"
            return Failed(error=Error(code="cancelled", message=message, next_step=next_step))
        return None

    async def _cancel_rest(self) -> None:
        """Cancel the open calls of earlier turns, because the graph has moved on without them. Each call then has one result."""
        last = self.agent_graph.record.state.step
        if (
            last >= 0
            and last not in self._decided
            and self.agent_graph.record.get(f"model.responded/{last}/-/-") is not None
        ):
            await self.agent_graph.decide({"step": last})
        for step, index in self._open():
            reason = "the graph continued without this call"
            await self._broker.give_up(step, index, Refusal("cancelled", reason, details={"problem": "left_behind"}))

    async def _catch_up(self, turn: ModelTurn) -> Failed | None:
        """Carry out the open calls of earlier turns first. Returns a failure if one of them still waits for approval."""
        for step, index in () if self._key_of(turn) in self._steps else self._open():
            self._tools.setdefault((step, index), None)
            try:
                await self._once((step, index))
            except ApprovalPending:
                message = "an earlier call of this run waits for approval"
                return Failed(
                    error=Error(
                        code="cancelled", message=message, retryable=True, next_step="make the call again later"
                    )
                )
        return None

    def _open(self) -> list[tuple[int, int]]:
        return sorted(self.agent_graph.record.state.open)


def _check_reviewed(graph_tool: GraphTool, pinned: ActionSchema, action: str) -> None:
    if graph_tool.schema != canonical_json(pinned.model_dump(mode="json", include={"description", "input"})).decode():
        raise _not_reviewed(f"the graph's tool for {action} differs from the reviewed one")


def _not_reviewed(message: str) -> Refusal:
    return Refusal("policy_denied", message, details={"reason": "not_pinned"})
