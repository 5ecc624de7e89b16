"""Runs that an external graph drives: its turns are recorded, and its calls are decided, carried out and answered.

The graph may run in threads or in any event loop; the broker has its own. One turn of the model is one step. A turn is
recognized by its calls, so a graph that repeats a turn, resumes, or returns to an old checkpoint gets the recorded results, and
no effect happens twice. When the graph moves on to the next turn, the calls that it left out are cancelled. So each call has one
result, and the run can be replayed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

from remit.broker import CALLS_PER_TURN, ApprovalPending, Broker, Hosted, too_many_calls
from remit.core import (
    ENDED,
    NEXT_STEPS,
    Call,
    Error,
    Failed,
    Message,
    ModelCode,
    ModelTurn,
    ProposedCall,
    Refusal,
    Result,
    RunEnded,
    ToolSpec,
)
from remit.core.events import ApprovalRequested, ModelResponded, RunFinished
from remit.core.parsing import canonical_json, digest
from remit.guardrails import Sanitizer
from remit.journal import LiveRecord
from remit.langchain.graph_call import Function, GraphTool
from remit.runtime import AgentGraph, ApprovalWaiter, LivePorts, RunResult
from remit.workspace import WorkspaceSession
from remit.workspace.manifest import ActionSchema


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
                self._steps[recorded_key(event.proposed_calls)] = event.step

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
        return Hosted(tool=graph_tool.tool, invoke=partial(graph_tool.function, tool.manifest.limits.wall))

    # -- called by the graph --

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

    async def end(self, answer: str, *, leave: bool = False, moved_on: bool = False) -> RunResult:
        """End the run with that answer. With `leave`, or if a call waits for approval, the run stays open for a later process.

        With `moved_on` the calls that wait are cancelled: the person has written something else.
        """
        async with self._turns:
            if self._running:
                await asyncio.wait(self._running.values())
            state = self.agent_graph.record.state
            waits = not moved_on and any(call.waiting for call in state.open.values())
            if not (leave or state.finished or self._failure or waits):
                await self._cancel_rest()
                self.model.turn = ModelTurn(text=answer, finish=ENDED)
                await self.agent_graph.turn({"step": state.step})
        self._ended.set()
        return await self._work

    @property
    def message(self) -> str:
        """The digest of the message that began the run; "" for a run on its own."""
        place = self.agent_graph.record.state.conversation
        return place.message if place else ""

    @property
    def is_busy(self) -> bool:
        """True while a call is carried out."""
        return bool(self._running)

    def knows(self, turn: ModelTurn) -> bool:
        """True if the turn is one of this run."""
        return self._key_of(turn) in self._steps

    @property
    def _broker(self) -> Broker:
        return self.agent_graph.broker

    def _key_of(self, turn: ModelTurn) -> str:
        return turn_key(turn, self._broker.sanitizer)

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


def turn_key(turn: ModelTurn, sanitizer: Sanitizer) -> str:
    """A digest of the calls of a turn, by which it is recognized. They are sanitized first, as the record has them."""
    return recorded_key([sanitizer.proposed_call(call) for call in turn.proposed_calls[: CALLS_PER_TURN + 1]])


def recorded_key(proposed_calls: Sequence[ProposedCall]) -> str:
    """The same digest of a turn in the record."""
    calls = [[call.name, call.arguments, call.parsed, call.id] for call in proposed_calls]
    try:
        return digest(calls)
    except Refusal:  # no canonical JSON: such a call is refused later, and here only needs the same key each time
        return hashlib.sha256(json.dumps(calls, sort_keys=True).encode()).hexdigest()
