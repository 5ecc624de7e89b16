"""What an agent does in each step of its run: think → decide → act × n.

`loop` drives these nodes as a LangGraph graph, `drive_one_call` without one: a run of one call needs no graph, and LangGraph takes
longer to import than the call takes. A node that runs a second time finds in the record what it did the first time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Protocol, TypeAlias, TypedDict

from remit.broker import ApprovalPending, Broker, QuestionPending, check_turn, receipt_of, retrieved_by, wall_end
from remit.core import (
    COMPLETE_FINISHES,
    NOTHING_RETRIEVED,
    AnswerProblem,
    Message,
    Model,
    ModelError,
    ModelTurn,
    Refusal,
    Source,
    ToolSpec,
    in_thread,
    known_turn,
)
from remit.core.events import (
    NANO,
    AnswerRejected,
    AnyEvent,
    CallDecided,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    RunFinished,
)
from remit.journal import Record
from remit.runtime.context import ask_until_it_fits, record_request
from remit.runtime.directory import directory_calls
from remit.runtime.no_answer import TRIES, why_no_answer
from remit.workspace import GraphFactory, millionths

QUICK_S: Final = 0.25  # a model that answers within this time is not watched for holds and the time limit


class GraphState(TypedDict, total=False):
    """`step` is the number of the latest turn. `index` is set only in the branch of one call."""

    step: int
    index: int


class Models(Protocol):
    """The models that a run may ask, the preferred one first. `attempt` is that of the request: see `ModelRequested`."""

    def choose(self, step: int, attempt: int | None, asked: str) -> Model | None:
        """The model to ask now; None: each one may be asked only later. `asked` is the one that was asked before a kill, or ""."""
        ...

    def answered(self, model: Model) -> None:
        """Note that the model answered."""
        ...

    def failed(self, step: int, attempt: int | None, model: Model, failure: ModelError) -> int | None:
        """Note the failure. Returns when the run may ask again (Unix nanoseconds); None: no model is left to ask."""
        ...


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """What a custom graph sends to the model for one turn, with its `digest`; `number` counts these turns from 0.

    `own` are the offered functions of the graph itself: a call of one is no call of the broker.
    """

    number: int
    messages: Sequence[Message]
    tools: Sequence[ToolSpec]
    digest: str
    own: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class CustomGraph:
    """The graph of the agent's author, which drives the run in place of the loop: `build` in the text of its file.

    `recorded` are the events that it repeats, None: those of the run so far. It repeats the steps before `repeated` in their order,
    whatever it sends to its model; a later step only if it asks for the same.
    """

    factory: GraphFactory
    source: bytes
    recorded: Sequence[AnyEvent] | None = None
    repeated: int = 0


WaitForChange: TypeAlias = Callable[
    [], Awaitable[bool]
]  # True: something may have changed for a waiting call; False: stop waiting


class Paused(Exception):
    """The run cannot go on now, because of `why`. When something has changed, the node is called again."""

    def __init__(self, why: object) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, kw_only=True)
class AgentGraph:
    """One run of one agent: its models, its broker, and the record that both write to. `custom` drives it; None: the loop."""

    broker: Broker
    models: Models
    record: Record
    tools: Sequence[ToolSpec]
    hold_reason: Callable[[], str | None]  # why an operator holds this run or agent, or None
    custom: CustomGraph | None = None

    async def think(self, state: GraphState) -> GraphState:
        """Take one turn of the model. Raises Paused while an operator holds the run, and while no model may be asked."""
        self.check_hold()
        return await self.turn(state)

    def check_hold(self) -> None:
        """Raise Paused while an operator holds the run."""
        if (reason := self.hold_reason()) is not None:
            raise Paused({"held": reason})

    async def turn(self, state: GraphState) -> GraphState:
        """Take one turn of the model, without regard to holds. A turn without calls is the answer.

        An external graph calls this one, because it checks the holds itself.
        """
        step = state.get("step", -1) + 1
        if self.record.state.finished:
            return {"step": step}
        response = self.record.get(f"model.responded/{step}/-/-") or self.look_up(step)
        if not isinstance(response, ModelResponded):
            turn = await self.next_turn(step)
            if turn is None:
                return {"step": step}
            response = turn
        if not response.proposed_calls:
            self._finish(step, response)
        return {"step": step}

    def look_up(self, step: int) -> ModelResponded | None:
        """The internal turn that fills the agent's directory; None if the directory is complete or the agent has none.

        Internal turns come first, and the model does not see them.
        """
        if self.record.state.internal != step - 1 or not (
            proposed_calls := directory_calls(self.broker.agent.directory, step, self.record.state)
        ):
            return None
        response = ModelResponded(step=step, text="", proposed_calls=proposed_calls, finish="tool_calls", internal=True)
        self.record.append(response)
        return response

    async def fill_directory(self, begins: Callable[[tuple[int, int]], None] = lambda _: None) -> None:
        """Fill the agent's directory before the first turn of an external graph. `begins` gets the place of each call.

        A resumed run starts at step 0 again, because the process before may have stopped between two look-ups.
        """
        step = -1
        while True:
            step += 1
            response = self.record.get(f"model.responded/{step}/-/-")
            if response is None and self.record.state.step < step:
                response = self.look_up(step)
            if not isinstance(response, ModelResponded) or not response.internal:
                return
            await self.broker.decide(response.step, response.proposed_calls)
            for index in range(len(response.proposed_calls)):
                begins((response.step, index))
                # A look-up that waits for a person adds nothing to the directory.
                with suppress(ApprovalPending, QuestionPending):
                    await self.broker.perform(response.step, index)

    def _finish(self, step: int, response: ModelResponded) -> None:
        """End the run with its answer. An answer that fails its checks is asked for again, and at last escalated or failed."""
        no_answer = why_no_answer(response, self.tools)
        if no_answer is None and response.finish not in COMPLETE_FINISHES:
            message = f"the answer is incomplete: the model stopped with {response.finish!r}"
            self.record.append(RunFinished(outcome="failed", answer=response.text, message=message))
            return
        if self.record.get(f"answer.rejected/{step}/-/-") is not None:
            return
        requirements = self.broker.agent.answer
        sources: tuple[Source, ...] = ()
        problems: tuple[AnswerProblem, ...] = (
            () if no_answer is None else (AnswerProblem(code="no_answer", message=no_answer),)
        )
        if requirements is not None and not problems:
            events, workspace = self.record.every(), self.broker.workspace
            now = self.broker.ports.clock(step, -1)
            retrieved = retrieved_by(events, workspace, now) if requirements.grounded else NOTHING_RETRIEVED
            problems, sources = requirements.check(response.text, receipt_of(events), retrieved)
        if not problems:
            self.record.append(RunFinished(outcome="completed", answer=response.text, sources=sources))
        elif self.record.state.answers_rejected < (TRIES if requirements is None else requirements.tries):
            self.record.append(AnswerRejected(step=step, problems=problems))
        elif requirements is None:
            message = f"the model gave no answer, although it was asked again: {no_answer}"
            self.record.append(RunFinished(outcome="failed", answer=response.text, message=message))
        else:  # INVARIANT: a rejected answer is in the trace only; it is never returned as the answer of the run
            problem = f"no answer met its requirements; a person must check the run: {'; '.join(map(str, problems))}"
            message = self.broker.sanitizer.text(problem)
            self.record.append(RunFinished(outcome="escalated", code="invalid_output", message=message))

    async def _may_think(self, step: int) -> bool:
        """True if budgets and limits allow one more turn. Otherwise ends the run."""
        agent, ports, state = self.broker.agent, self.broker.ports, self.record.state
        if state.started is not None and state.started.observes(ports.clock(step, -1)):
            return True
        try:
            check_turn(state, agent.budget, step, ports.clock(step, -1))
            if state.refused_in_a_row >= agent.budget.denials:
                message = f"the last {state.refused_in_a_row} calls were all refused; the run is stopped"
                self.record.append(RunFinished(outcome="stopped", code="denial_loop", message=message))
                return False
            await ports.reserve(self.record, step, None, {"tokens": 1, "money": 1})
        except Refusal as refusal:
            self.record.append(RunFinished(outcome="exhausted", code=refusal.code, message=refusal.message))
            return False
        return True

    async def next_turn(self, step: int, given: ModelInput | None = None) -> ModelResponded | None:
        """The turn of the first model that gives one. Waits while none may be asked. None if that ended the run.

        The model reads what is `given`; None: the conversation of the run.
        """
        while not self.record.state.finished:
            state = self.record.state
            failures = state.model_failures if state.step == step else 0
            attempt = failures + 1 if failures else None
            failed = self.record.get(f"model.failed/{step}/-/{failures if failures > 1 else '-'}")
            if isinstance(failed, ModelFailed) and failed.again_at is None:  # the process died before it ended the run
                self.record.append(RunFinished(outcome="failed", message=failed.message))
                break
            requested = self.record.get(f"model.requested/{step}/-/{attempt or '-'}")
            asked = requested.model if isinstance(requested, ModelRequested) else ""
            if (model := self.models.choose(step, attempt, asked)) is None:
                raise Paused({"model": step})  # only waits: the time is in the record
            if not await self._may_think(step):
                continue
            record_request(self.record, (step, attempt), self.tools, model, None if given is None else given.digest)
            if (known := known_turn(model)) is not None:  # nothing leaves this process: nothing has to be written first
                return await self._record_turn(step, model, known, ())
            if response := await self._ask_model(step, attempt, model, given):
                return response
        return None

    async def _ask_model(
        self, step: int, attempt: int | None, model: Model, given: ModelInput | None
    ) -> ModelResponded | None:
        """Ask that model for one turn and record it. None if it failed, or if that ended the run."""
        await self.record.commit()
        try:
            if given is not None:  # the graph decides what its model reads, so nothing is left out
                turn = await self._await_turn(step, model, given)
            else:
                turn = await ask_until_it_fits(
                    self.record,
                    (step, attempt),
                    self.tools,
                    lambda: self._await_turn(step, model, None),
                    self.broker.sanitizer.text,
                )
        except TimeoutError:
            message = f"the run has used all of its {self.broker.agent.budget.wall:g} s"
            self.record.append(RunFinished(outcome="exhausted", code="budget_exhausted", message=message))
            return None
        except ModelError as failure:
            await self._failed(step, attempt, model, failure)
            return None
        self.models.answered(model)
        return await self._record_turn(step, model, turn, () if given is None else given.own)

    async def _record_turn(self, step: int, model: Model, turn: ModelTurn, own: Collection[str]) -> ModelResponded:
        """Record the turn of the model; `own` are functions of a custom graph, whose calls are kept apart."""
        proposed = tuple(call for call in turn.proposed_calls if call.name not in own)
        response = ModelResponded(
            step=step,
            text=await in_thread(len(turn.text), self.broker.sanitizer.answer, turn.text),
            proposed_calls=await in_thread(turn.size, self.broker.receive, step, proposed),
            own_calls=tuple(
                self.broker.sanitizer.proposed_call(call) for call in turn.proposed_calls if call.name in own
            ),
            finish=self.broker.sanitizer.without_known_secrets(turn.finish),
            usage=turn.usage,
            cost=self.broker.ports.cost(step, model.name, turn.usage),
            response_model=self.broker.sanitizer.without_known_secrets(turn.response_model),
            provider_state=await in_thread(
                len(turn.provider_state), self.broker.sanitizer.without_known_secrets, turn.provider_state
            ),
            deviations=turn.deviations,
            by=turn.by,
        )
        self.record.append(response)
        tokens = (response.usage.input_tokens or 0) + (response.usage.output_tokens or 0)
        money = millionths(response.cost or Decimal(0))
        await self.broker.ports.record_usage(self.record, step, None, {"tokens": tokens, "money": money})
        return response

    async def _failed(self, step: int, attempt: int | None, model: Model, failure: ModelError) -> None:
        """Record that the model failed, and until when the run waits. Without a model to ask, the run ends."""
        message = self.broker.sanitizer.text(str(failure))
        failed = ModelFailed(
            step=step,
            attempt=attempt,
            message=message,
            model=model.name,
            passing=failure.retryable,
            again_at=self.models.failed(step, attempt, model, failure),
        )
        self.record.append(failed)
        if failed.again_at is None:
            self.record.append(RunFinished(outcome="failed", message=message))
        await self.record.commit()

    async def _await_turn(self, step: int, model: Model, given: ModelInput | None) -> ModelTurn:
        """One turn of the model.

        Raises:
            TimeoutError: the time budget of the run is used up.
            Paused: an operator holds the run.
        """
        until = wall_end(self.record.state, self.broker.agent.budget)
        if given is None:  # the model does not count internal turns
            turn = step - 1 - self.record.state.internal
            thinking = asyncio.ensure_future(model.think(turn, self.record.conversation.messages, self.tools))
        else:
            thinking = asyncio.ensure_future(model.think(given.number, given.messages, given.tools))
        changed: asyncio.Future[None] | None = None
        try:
            await asyncio.wait({thinking}, timeout=QUICK_S)
            while not thinking.done():
                if (left := (until - self.broker.ports.clock(step, -1)) / NANO) <= 0:
                    raise TimeoutError
                if (reason := self.hold_reason()) is not None:
                    raise Paused({"held": reason})  # the model is asked again after the hold: asking has no side effect
                changed = asyncio.ensure_future(self.broker.ports.changed(left))
                await asyncio.wait({thinking, changed}, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
            return thinking.result()
        finally:
            thinking.cancel()
            if changed is not None:
                changed.cancel()

    async def decide(self, state: GraphState) -> GraphState:
        """Decide every call of the step in the model's order, and answer the calls that are denied."""
        step = state.get("step", 0)
        response = self._turn(step)
        for decided in await self.broker.decide(
            step, response.proposed_calls, cut=response.finish not in COMPLETE_FINISHES
        ):
            if not _may_run(decided):
                assert decided.index is not None
                await self.broker.perform(step, decided.index)
                await asyncio.sleep(0)
        return {}

    async def act(self, state: GraphState) -> GraphState:
        """Carry out one call. Raises Paused if it waits for an approval: only this call waits."""
        step, index = state.get("step", 0), state.get("index", 0)
        try:
            await self.broker.perform(step, index)
        except (ApprovalPending, QuestionPending) as pending:  # only waits: the answers are in the journal
            raise Paused({"step": step, "index": index}) from pending
        return {}

    def performed(self, step: int) -> list[int]:
        """The numbers of the calls of the step that are carried out: the decided ones that are not denied."""
        return [
            index
            for index in range(len(self._turn(step).proposed_calls))
            if (decided := self.broker.latest_decision(step, index)) is not None and _may_run(decided)
        ]

    def _turn(self, step: int) -> ModelResponded:
        response = self.record.get(f"model.responded/{step}/-/-")
        assert isinstance(response, ModelResponded)  # recorded by `turn`
        return response


async def drive_one_call(agent_graph: AgentGraph, wait_for_change: WaitForChange) -> bool:
    """Continue a run whose model proposes one call, to its end. False if it waits and `wait_for_change` gave up.

    It does what the graph of `loop` does, without LangGraph; internal calls before it are made one after the other.
    """
    step = 0
    while True:
        try:
            await agent_graph.think({"step": step - 1})
            if agent_graph.record.state.finished:
                return True
            await agent_graph.decide({"step": step})
            for index in agent_graph.performed(step):
                await agent_graph.act({"step": step, "index": index})
            step += 1
        except Paused:  # the nodes of this step find in the record what they did before
            if not await wait_for_change():
                return False


async def drive_turns(agent_graph: AgentGraph, wait_for_change: WaitForChange) -> bool:
    """Continue a run whose turns an MCP client made: a call that waits for people does not stop the turns after it."""
    step, waiting = 0, list[GraphState]()
    while True:
        await agent_graph.think({"step": step - 1})
        if agent_graph.record.state.finished:
            return True
        await agent_graph.decide({"step": step})
        calls = [GraphState(step=step, index=index) for index in agent_graph.performed(step)]
        waiting = await _acted(agent_graph, [*waiting, *calls])
        while waiting and await wait_for_change():
            waiting = await _acted(agent_graph, waiting)
        step += 1


async def _acted(agent_graph: AgentGraph, calls: Sequence[GraphState]) -> list[GraphState]:
    """Carry out the calls. Returns those that wait."""
    waiting: list[GraphState] = []
    for call in calls:
        try:
            await agent_graph.act(call)
        except Paused:
            waiting.append(call)
    return waiting


def _may_run(decided: CallDecided) -> bool:
    return decided.allowed or (decided.decision is not None and decided.decision.verdict == "ask")
