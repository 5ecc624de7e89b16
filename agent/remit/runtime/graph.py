"""The agent as a LangGraph: think → decide → act×n, and round again.

The state holds keys, never bodies: whatever a node needs it reads from the run's record, so a checkpoint stays small and
a node that runs a second time finds what it did the first time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypedDict

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Durability, Send, interrupt

from remit.broker import ApprovalPending, Broker, check_turn, wall_end
from remit.core import COMPLETE_FINISHES, Decision, Model, ModelError, ModelTurn, Refusal, RunEnded, ToolSpec, in_thread
from remit.core.events import (
    AnswerRejected,
    CallAnswered,
    CallDecided,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    RunFinished,
)
from remit.journal import Record
from remit.runtime.directory import look_ups

POLL_S: Final = 0.25  # how often a thinking model is looked at
NODES_A_STEP: Final = 3  # think, decide, act: what LangGraph counts against its recursion limit


class GraphState(TypedDict, total=False):
    """`step` is the one thought last; `index` is set in the branch of one call."""

    step: int
    index: int


Settle: TypeAlias = Callable[[], Awaitable[bool]]  # True: something that the run waits for may have come


@dataclass(frozen=True, kw_only=True)
class AgentGraph:
    """One run of one agent: its model, its broker, and the record that both write to."""

    broker: Broker
    model: Model
    record: Record
    tools: Sequence[ToolSpec]
    stopped: Callable[[], str | None]  # why an operator holds this run or agent, or None

    async def think(self, state: GraphState) -> GraphState:
        """Ask the model for one turn; a turn without calls is the answer."""
        while (reason := self.stopped()) is not None:
            interrupt({"held": reason})
        return await self.turn(state)

    async def turn(self, state: GraphState) -> GraphState:
        """Take one turn, whoever holds the run; a graph that is not Remit's has its own way to wait."""
        step = state.get("step", -1) + 1
        if self.record.state.finished:
            return {"step": step}
        answered = self.record.get(f"model.responded/{step}/-/-") or self.look_up(step)
        if not isinstance(answered, ModelResponded):
            if not self._may_think(step):
                return {"step": step}
            turn = await self._ask(step)
            if turn is None:
                return {"step": step}
            answered = turn
        if not answered.proposed_calls:
            self._finish(step, answered)
        return {"step": step}

    def look_up(self, step: int) -> ModelResponded | None:
        """The first steps are Remit's own, where the agent has a directory to fill; the model sees nothing of them."""
        if self.record.state.internal != step - 1 or not (
            proposed_calls := look_ups(self.broker.agent.directory, step, self.record.state)
        ):
            return None
        answered = ModelResponded(step=step, text="", proposed_calls=proposed_calls, finish="tool_calls", internal=True)
        self.record.append(answered)
        return answered

    def _finish(self, step: int, answered: ModelResponded) -> None:
        """End the run with its answer; or ask again for one that holds, and in the end tell people instead."""
        if answered.finish not in COMPLETE_FINISHES:
            message = f"the answer is not whole: the model stopped by {answered.finish!r}"
            self.record.append(RunFinished(outcome="failed", answer=answered.text, message=message))
            return
        if self.record.get(f"answer.rejected/{step}/-/-") is not None:
            return
        wanted = self.broker.agent.answer
        problems = () if wanted is None else wanted.problems(answered.text, self._results())
        if wanted is None or not problems:
            self.record.append(RunFinished(outcome="completed", answer=answered.text))
        elif self.record.state.answers_rejected < wanted.tries:
            self.record.append(AnswerRejected(step=step, problems=problems))
        else:  # INVARIANT: words that do not hold are in the trace, and nobody is given them as an answer
            message = self.broker.sanitizer.text(f"no answer held, people must look: {'; '.join(problems)}")
            self.record.append(RunFinished(outcome="escalated", code="invalid_output", message=message))

    def _results(self) -> frozenset[str]:
        """The places of the calls that succeeded."""
        answered = (event for event in self.record.every() if isinstance(event, CallAnswered))
        return frozenset(f"{event.step}.{event.index}" for event in answered if event.result.ok)

    def _may_think(self, step: int) -> bool:
        agent, ports, facts = self.broker.agent, self.broker.ports, self.record.state
        try:
            check_turn(facts, agent, step, ports.clock(step, -1))
            if facts.refused_in_a_row >= agent.budget.denials:
                message = f"{facts.refused_in_a_row} calls in a row were refused, and the model asks for nothing else"
                self.record.append(RunFinished(outcome="stopped", code="denial_loop", message=message))
                return False
            ports.reserve(self.record, step, None, {"tokens": 1, "money": 1})
        except Refusal as refusal:
            self.record.append(RunFinished(outcome="exhausted", code=refusal.code, message=refusal.message))
            return False
        return True

    async def _ask(self, step: int) -> ModelResponded | None:
        conversation = self.record.conversation
        asked = ModelRequested(step=step, model=self.model.name, input_digest=conversation.input_digest(self.tools))
        if self.record.get(asked.key) is None:
            self.record.append(asked)
        failed = self.record.get(f"model.failed/{step}/-/-")
        if isinstance(failed, ModelFailed):  # the process died before it could end the run
            self.record.append(RunFinished(outcome="failed", message=failed.message))
            return None
        try:
            turn = await self._think(step)
        except TimeoutError:
            message = f"this run may last {self.broker.agent.budget.wall:g} s and has lasted longer"
            self.record.append(RunFinished(outcome="exhausted", code="budget_exhausted", message=message))
            return None
        except ModelError as failure:
            message = self.broker.sanitizer.text(str(failure))
            self.record.append(ModelFailed(step=step, message=message))
            self.record.append(RunFinished(outcome="failed", message=message))
            return None
        answered = ModelResponded(
            step=step,
            text=await in_thread(len(turn.text), self.broker.sanitizer.answer, turn.text),
            proposed_calls=await in_thread(turn.size, self.broker.receive, step, turn.proposed_calls),
            finish=turn.finish,
            usage=turn.usage,
            response_model=turn.response_model,
        )
        self.record.append(answered)
        given, taken = answered.usage.input_tokens or 0, answered.usage.output_tokens or 0
        price = self.broker.agent.price
        money = 0 if price is None else price.of(given, taken)
        self.broker.ports.record_usage(self.record, step, None, {"tokens": given + taken, "money": money})
        return answered

    async def _think(self, step: int) -> ModelTurn:
        """One turn of the model, given up when the run's time is up (TimeoutError) or an operator holds the run."""
        until = wall_end(self.record.state, self.broker.agent.budget)
        turn = step - 1 - self.record.state.internal  # Remit's own turns are none of the model's
        thinking = asyncio.ensure_future(self.model.think(turn, self.record.conversation.messages, self.tools))
        try:
            while True:
                await asyncio.wait({thinking}, timeout=POLL_S)
                if thinking.done():
                    return thinking.result()
                if self.broker.ports.clock(step, -1) >= until:
                    raise TimeoutError
                if (reason := self.stopped()) is not None:
                    interrupt({"held": reason})  # asked again when the hold is lifted: a question has no effect
        finally:
            thinking.cancel()

    async def decide(self, state: GraphState) -> GraphState:
        """Decide every call of the step in the model's order, and answer those that will not run."""
        step = state.get("step", 0)
        answered = self._turn(step)
        every: list[CallDecided] = []
        for decided in self.broker.decide_each(
            step, answered.proposed_calls, cut=answered.finish not in COMPLETE_FINISHES
        ):
            every.append(decided)
            await asyncio.sleep(0)  # a turn of many calls keeps nobody else waiting
        for decided in every:
            if not _may_run(decided.decision):
                assert decided.index is not None
                await self.broker.perform(step, decided.index)
                await asyncio.sleep(0)
        return {}

    async def act(self, state: GraphState) -> GraphState:
        """Carry out one call; where people must approve it first, only this branch waits."""
        step, index = state.get("step", 0), state.get("index", 0)
        while True:
            try:
                await self.broker.perform(step, index)
            except ApprovalPending:
                interrupt({"step": step, "index": index})  # only waits: what people say is in the journal
            else:
                return {}

    async def after_think(self, _: GraphState) -> Literal["decide", "__end__"]:
        return "__end__" if self.record.state.finished else "decide"

    async def after_decide(self, state: GraphState) -> list[Send] | Literal["think"]:
        step = state.get("step", 0)
        sends = [
            Send("act", {"step": step, "index": index})
            for index in range(len(self._turn(step).proposed_calls))
            if (decided := self.broker.latest_decision(step, index)) is not None and _may_run(decided.decision)
        ]
        return sends or "think"

    def _turn(self, step: int) -> ModelResponded:
        answered = self.record.get(f"model.responded/{step}/-/-")
        assert isinstance(answered, ModelResponded)  # think recorded it, or found it
        return answered

    def compile(self, saver: BaseCheckpointSaver[str]) -> Any:
        """The graph, with its checkpoints in `saver`."""
        graph: Any = StateGraph(GraphState)  # its overloads are only partly typed
        graph.add_node("think", self.think)
        graph.add_node("decide", self.decide)
        graph.add_node("act", self.act)
        graph.add_edge(START, "think")
        graph.add_conditional_edges("think", self.after_think, ["decide", END])
        graph.add_conditional_edges("decide", self.after_decide, ["act", "think"])
        graph.add_edge("act", "think")
        return graph.compile(checkpointer=saver)


def serde() -> JsonPlusSerializer:
    """Checkpoints are plain data: a forged row names no class to build (CVE-2026-28277)."""
    return JsonPlusSerializer(pickle_fallback=False, allowed_json_modules=None, allowed_msgpack_modules=None)


def forgotten() -> BaseCheckpointSaver[str]:
    """Checkpoints that end with the process: a replay needs none."""
    return InMemorySaver(serde=serde())


@asynccontextmanager
async def checkpoints(path: Path) -> AsyncGenerator[BaseCheckpointSaver[str]]:
    """The checkpoints of all runs, in one SQLite file.

    Raises RunEnded where they cannot be kept; every run goes on without the file, because its record says what it did.
    """
    path.touch(mode=0o600)  # noqa: ASYNC240 - once, before anything runs
    try:
        async with aiosqlite.connect(path) as connection:
            saver = AsyncSqliteSaver(connection, serde=serde())
            await saver.setup()  # forgetting a run in a file that is new does not do it by itself
            yield saver
    except sqlite3.Error as error:
        fix = f"make room or remove {path.parent.name}/{path.name}, then `--resume` the run: no checkpoint is needed for it"
        raise RunEnded("unrecorded", f"the checkpoints cannot be kept: {error}", fix=fix) from error


async def drive(
    agency: AgentGraph, saver: BaseCheckpointSaver[str], settle: Settle, *, durability: Durability = "sync"
) -> bool:
    """Take the run from wherever it stands to its end; False where it waits and `settle` gave up waiting.

    A run that has no checkpoint yet starts at the first node, which is safe at any time: every node first looks in the
    record for what it did before.
    """
    graph = agency.compile(saver)
    config: RunnableConfig = {
        "configurable": {"thread_id": agency.record.run},
        "recursion_limit": NODES_A_STEP * (agency.broker.agent.budget.steps + 2),
    }
    snapshot = await graph.aget_state(config)
    given: GraphState | Command[Any] | None = None if snapshot.next else {"step": -1}
    while True:
        await graph.ainvoke(given, config, durability=durability)
        if agency.record.state.finished:
            return True
        pending = (await graph.aget_state(config)).interrupts
        if not pending or not await settle():
            return False
        given = Command(resume={waiting.id: True for waiting in pending})


def _may_run(decision: Decision | None) -> bool:
    return decision is not None and decision.verdict != "deny"
