"""Runs that an external graph drives: its turns are recorded, and its calls are decided, carried out and answered.

The graph may run in threads or in any event loop; the broker has its own. One turn of the model is one step. A turn is
recognized by its calls, so a graph that repeats a turn, resumes, or returns to an old checkpoint gets the recorded results, and
no effect happens twice. When the graph moves on to the next turn, the calls that it left out are cancelled. So each call has one
result, and the run can be replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias, cast

from remit.broker import (
    CALLS_PER_TURN,
    ApprovalPending,
    Broker,
    Hosted,
    HostValue,
    QuestionPending,
    too_many_calls,
)
from remit.core import (
    ENDED,
    Call,
    Error,
    Failed,
    Json,
    ModelTurn,
    ProposedCall,
    Refusal,
    Result,
    RunEnded,
)
from remit.core.events import ApprovalRejected, AttemptProgressed, Driver, ModelResponded, Recorded
from remit.journal import LiveRecord
from remit.langchain.answers import InterruptPlace
from remit.langchain.commands import kept
from remit.langchain.graph_call import CallAround, Function, GraphCall, GraphTool, Paused, Performed, ToolAttempt
from remit.langchain.people import People, made_instead
from remit.langchain.turns import (
    check_reviewed,
    no_person_to_answer,
    not_reviewed,
    performed_call,
    recorded_key,
    turn_key,
)
from remit.runtime import (
    ApprovalWaiter,
    ExternalModel,
    LivePorts,
    OutsideRun,
    RunResult,
)
from remit.workspace import WorkspaceSession

OTHERS_S: Final = 10.0  # how long a call that a person made waits for the others of the turn that run
ANSWERED_S: Final = 1.0  # and for those that wait for people, who may be answering them in the same moment
LOOK_S: Final = 0.02

ToolOf: TypeAlias = Callable[[str], GraphTool | None]


class ExternalRun(OutsideRun):
    """One run that an external graph drives. Implements `ExternalGraph` for the runner, and takes the calls of the graph."""

    driver: Driver = "langgraph"

    def __init__(self, session: WorkspaceSession, model: str, wait: float, hosted: Mapping[str, str]) -> None:
        super().__init__()
        self._session = session
        self._hosted = hosted
        self.model = ExternalModel(model)
        self._wait = wait
        self._steps: dict[str, int] = {}  # by `turn_key`
        self._decided: set[int] = set()
        self._tools: dict[tuple[int, int], GraphTool | None] = {}
        self._vias: dict[tuple[int, int], str] = {}  # the interrupt by which the tool of the call asks next
        self._returned: dict[tuple[int, int], Any] = {}
        self._writers: dict[tuple[int, int], Callable[[Any], None] | None] = {}
        self._running: dict[tuple[int, int], asyncio.Task[Result]] = {}
        self._turns, self._queue = asyncio.Lock(), asyncio.Lock()

    async def begin(self, work: Coroutine[Any, Any, RunResult]) -> None:
        """Open the run with `work`. Raises the error that keeps it from starting."""
        self._work = asyncio.ensure_future(work)
        self.agent_graph = await self._opened_by(self._work)
        self.people = People(session=self._session, agent_graph=self.agent_graph, hosted=self._hosted)
        cast("LivePorts", self._broker.ports).answer_to = self.people.answer_to
        await self.agent_graph.fill_directory(lambda place: self._tools.update({place: None}))
        for event in self.agent_graph.record.every():
            if isinstance(event, ModelResponded) and event.proposed_calls and not event.internal:
                self._steps[recorded_key(event.proposed_calls)] = event.step

    # -- called by the runner (`ExternalGraph`) --

    def function(self, call: Call) -> Callable[..., Json] | None:
        place = (call.step, call.index)
        if place not in self._tools:
            raise not_reviewed("the graph has not asked for this call")
        if (graph_tool := self._tools[place]) is None:
            return None
        tool, action = self._session.workspace.action(call.action)
        assert tool.pin is not None  # the broker refuses unpinned tools before it decides
        check_reviewed(graph_tool, tool.pin.schemas[action.name], call.action)
        assert graph_tool.tool is not None  # a call of an unknown tool has a schema that no pin has
        decided = self._broker.latest_decision(*place)
        observed = decided is not None and not decided.enforced
        function = graph_tool.unchanged if observed and graph_tool.unchanged is not None else graph_tool.function
        return Hosted(tool=graph_tool.tool, invoke=partial(self._invoke, place, function, tool.manifest.limits.wall))

    def _invoke(self, place: tuple[int, int], function: Function, wall: float, /, **arguments: Json) -> HostValue:
        answers, via, record = self.people.answers_to(*place), self._vias[place], self.agent_graph.record
        around = CallAround(place=f"{record.run[:8]}.{place[0]}.{place[1]}", state=record.state)
        returned = function(ToolAttempt(arguments=arguments, wall=wall, answers=answers, via=via, around=around))
        self._returned[place] = returned.returned
        made = returned.value
        return replace(made, objects=(*made.objects, *kept(returned.returned)))

    def seen(self, recorded: Recorded) -> None:
        """Write what a tool prints into the custom stream of the graph that has asked for the call."""
        event = recorded.event
        if isinstance(event, AttemptProgressed) and (write := self._writers.get((event.step, event.index))) is not None:
            with suppress(RuntimeError):  # the event loop of the graph has ended
                write({"remit": {"call": f"{event.step}.{event.index}", "progress": event.text}})

    # -- called by the graph --

    def waiter(self, wait: float) -> ApprovalWaiter:
        """Waits for approvals of this run for `wait` seconds."""
        ports = cast("LivePorts", self._broker.ports)
        return ApprovalWaiter(ports, cast("LiveRecord", self.agent_graph.record), self._broker, self.model, wait)

    def continues(self, call: GraphCall) -> bool:
        """True if the call is of a turn of this run, or follows one without words of another person between them.

        Then another person may have resumed the run, for instance with an approval: that makes it no run of theirs.
        """
        return self.knows(call.turn) or ((before := call.follows()) is not None and self.knows(before))

    async def perform(self, call: GraphCall, tool_of: ToolOf, place: InterruptPlace) -> Performed | Paused:
        """The result of the call, of the one that a person made in its place, or what it waits for."""
        if call.index > CALLS_PER_TURN:  # only the first call over the limit is recorded
            return Performed(result=too_many_calls())
        if not call.queued:
            return await self._perform(call, tool_of, place)
        async with self._queue:
            if (refused := await self._catch_up(call.turn)) is not None:
                return Performed(result=refused)
            return await self._perform(call, tool_of, place)

    async def _perform(self, call: GraphCall, tool_of: ToolOf, place: InterruptPlace) -> Performed | Paused:
        done = await self._perform_one(call, tool_of(""), place)
        while isinstance(done, Performed) and (made := self._made_instead(call, done.result)) is not None:
            if others := await self._others_waiting(call):
                return Paused(value={"remit": {"waits_for": others}})
            assert made.edited is not None
            turn = ModelTurn(text="", proposed_calls=(made.edited,), finish="tool_calls", by=made.by)
            tool = tool_of(made.edited.action)
            name = made.edited.action if tool is None or tool.tool is None else tool.tool.name
            call = replace(call, turn=turn, index=0, name=name)
            done = await self._perform_one(call, tool, place)
            if isinstance(done, Performed):
                done = replace(done, made=_shown(made, made.edited), enforced=True)
        return done

    def _made_instead(self, call: GraphCall, result: Result) -> ApprovalRejected | None:
        """The rejection with which a person made another call. Only for a rejected call: it reads all events of the run."""
        if not isinstance(result, Failed) or result.error.code != "approval_rejected":
            return None
        step = self._steps.get(self._key_of(call.turn))
        return None if step is None else made_instead(self.agent_graph.record, step, call.index)

    async def _others_waiting(self, call: GraphCall) -> list[Json]:
        """The other calls of the turn that wait for people, once the others have results: a turn of a person comes after all of them."""
        step = self._steps[self._key_of(call.turn)]
        began = asyncio.get_running_loop().time()
        while others := [place for place in self._open() if place[0] == step]:
            waiting = all(self.agent_graph.record.state.open[place].waiting for place in others)
            if asyncio.get_running_loop().time() - began > (ANSWERED_S if waiting else OTHERS_S):
                return [f"{step}.{index}" for step, index in others]
            await asyncio.sleep(LOOK_S)
        return []

    async def refuse(self, paused: Paused) -> Performed:
        """Refuse a call that waits for a person, in a graph that cannot be interrupted."""
        if (requested := paused.requested) is None:
            assert paused.asked is not None  # a graph that cannot be interrupted has no calls that people make
            return await self._give_up((paused.asked.step, paused.asked.index), no_person_to_answer())
        roles = ", ".join(missing.role for missing in requested.missing)
        refusal = Refusal(
            "approval_required",
            f"the call needs an approval by {roles}, which did not come in time",
            details={"missing": [missing.model_dump() for missing in requested.missing]},
            next_step="continue without this call, or make it again after a person has approved it",
        )
        return await self._give_up((requested.step, requested.index), refusal)

    async def _give_up(self, place: tuple[int, int], refusal: Refusal) -> Performed:
        return self._performed(place, await self._broker.give_up(*place, refusal))

    def _performed(self, place: tuple[int, int], result: Result) -> Performed:
        return performed_call(self.agent_graph.record, place, result, self._returned.get(place))

    async def commit(self) -> None:
        """Return when everything so far is recorded: only then may the graph read a result."""
        with self._failing():
            await self.agent_graph.record.commit()

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

    async def _perform_one(
        self, call: GraphCall, tool: GraphTool | None, interrupt: InterruptPlace
    ) -> Performed | Paused:
        async with self._turns:
            step = await self._decide_turn(call.turn)
        if not isinstance(step, int):
            return Performed(result=step)
        place = (step, call.index)
        self._tools[place], self._vias[place], self._writers[place] = tool, interrupt.via, call.write
        waiter = self.waiter(self._wait)
        while True:
            try:
                return self._performed(place, await self._once(place))
            except ApprovalPending as pending:
                if not await waiter.wait_for_change():
                    return self.people.asked_to_approve(pending.requested, call)
            except QuestionPending as pending:
                return Paused(value=pending.asked.question, asked=pending.asked)
            except RunEnded as ended:
                self._end_with(ended)
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
        refused = self._refused_turn(self.agent_graph, has_ended=self._failure is not None)
        if refused is None and self._running:
            next_step = "make the call again when they have ended"
            message = "calls of another turn of this run are still running"
            return Failed(error=Error(code="cancelled", message=message, next_step=next_step))
        return refused

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
            except (ApprovalPending, QuestionPending):
                message = "an earlier call of this run waits for a person"
                return Failed(
                    error=Error(
                        code="cancelled", message=message, retryable=True, next_step="make the call again later"
                    )
                )
        return None

    def _open(self) -> list[tuple[int, int]]:
        return sorted(self.agent_graph.record.state.open)


def _shown(made: ApprovalRejected, edited: ProposedCall) -> dict[str, Json]:
    """What the model reads of a call that a person made in place of its own."""
    return {"action": edited.action, "arguments": edited.parsed, "by": made.approver}
