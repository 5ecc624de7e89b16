"""A run that is driven by a graph which is not Remit's: its turns are heard, its calls decided, carried out and answered.

The graph may run in threads or in any event loop; the broker has one of its own. One turn of the model is one step, known
again by what was said, so a graph that asks twice, resumes or goes back in time gets the same results, and no effect twice.
What the graph left of a turn when it goes on is given up, so each call has one result and the run can be told again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from remit.broker import CALLS_PER_TURN, ApprovalPending, Broker, too_many_calls
from remit.core import (
    Call,
    Error,
    Failed,
    Json,
    Message,
    ModelCode,
    ModelTurn,
    ProposedCall,
    Refusal,
    Result,
    RunEnded,
    ToolSpec,
    UsageError,
)
from remit.core.events import ApprovalRequested, ModelResponded, RunFinished
from remit.core.parsing import canonical_json, digest
from remit.runtime import (
    AgentGraph,
    ApprovalWaiter,
    LivePorts,
    RunRequest,
    RunResult,
    acting_subject,
    new_run_id,
    resume_run,
    start_run,
)
from remit.workspace import WorkspaceSession, open_session, os_account, tool_specs
from remit.workspace.manifest import ActionSchema

_T = TypeVar("_T")
Function: TypeAlias = Callable[..., Json]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One call that a graph wants carried out. `key` names the run among those of this object; `thread` is LangGraph's.

    `pauses` says that the graph can wait for people: it has a checkpointer. A `queued` call begins when no other is under way.
    """

    key: str
    thread: str | None
    task: str
    turn: ModelTurn
    index: int
    name: str  # as the model wrote it
    id: str
    pauses: bool
    queued: bool = False


@dataclass(frozen=True, kw_only=True)
class Own:
    """What a graph itself would run for a call: the schema of its tool, as canonical JSON, and the function."""

    schema: str
    function: Function


class Door:
    """Finds the run that a call belongs to, and opens it where it is the first."""

    def __init__(self, session: WorkspaceSession, agent: str, subject: str, wait: float) -> None:
        self._session = session
        self._agent = session.workspace.agents[agent]
        self._subject = subject
        self._wait = wait
        self._runs: dict[str, ForeignRun] = {}
        self._opening = asyncio.Lock()
        self.specs: Sequence[ToolSpec] = tool_specs(session.workspace, self._agent)
        self.hosted = _hosted(session, agent)

    @staticmethod
    async def open(agent: str, user: str | None, workspace: Path | None, wait: float) -> Door:
        session = open_session(workspace)
        if agent not in session.workspace.agents:
            known = ", ".join(sorted(session.workspace.agents)) or "none"
            raise UsageError(f"there is no agent {agent!r} here; agents: {known}")
        if session.workspace.agents[agent].answer is not None:
            raise UsageError(f"agent {agent!r} has an [answer], which only Remit's own graph asks for again: remove it")
        return Door(session, agent, acting_subject(session, user), wait)

    async def perform(self, asked: Asked, own: Own | None) -> Result | ApprovalRequested:
        """The call's one result, or whom it waits for. `own` is what a host tool runs; None: its module's function."""
        found = await self._run(asked)
        return await found.perform(asked.turn, asked.index, own, queued=asked.queued)

    async def refuse(self, asked: Asked, requested: ApprovalRequested) -> Result:
        return await (await self._run(asked)).refuse(asked.turn, asked.index, requested)

    async def run_of(self, key: str) -> str | None:
        found = self._runs.get(key)
        return None if found is None else found.agency.record.run

    async def waiting(self, key: str) -> list[ApprovalRequested]:
        found = self._runs.get(key)
        return [] if found is None else found.people(0.0).waiting()

    async def settle(self, key: str, seconds: float) -> bool:
        found = self._runs.get(key)
        return found is not None and await found.people(seconds).settle()

    async def finish(self, key: str, answer: str) -> RunResult | None:
        found = self._runs.pop(key, None)
        return None if found is None else await found.end(answer)

    async def close(self) -> None:
        for key in list(self._runs):
            with suppress(RunEnded):  # whoever asked was told
                await self._runs.pop(key).end("", leave=key.startswith("thread:"))

    async def _run(self, asked: Asked) -> ForeignRun:
        async with self._opening:
            if asked.key not in self._runs:
                self._runs[asked.key] = await self._opened(asked)
            return self._runs[asked.key]

    async def _opened(self, asked: Asked) -> ForeignRun:
        """INVARIANT: a thread has one run for good, also when that is over: what it has read stays with it."""
        name = new_run_id()
        if asked.thread is not None:
            of = {"agent": self._agent.name, "user": self._subject, "thread": asked.thread}
            name = digest(of).removeprefix("sha256:")[:32]
        made = ForeignRun(self._session, self._agent.model, self._wait)
        if self._session.journal.events(name):
            work = resume_run(self._session, name, account=os_account(), foreign=made)
        elif not asked.task:
            raise UsageError("the run has no task: give Remit(…, task=…), or let the graph's state begin with one")
        else:
            start = RunRequest(
                agent=self._agent.name,
                task=asked.task,
                subject=self._subject,
                account=os_account(),
                model=made.model,
                run=name,
            )
            work = start_run(self._session, start, foreign=made)
        await made.begin(work)
        return made


def _hosted(session: WorkspaceSession, agent: str) -> dict[str, str]:
    """The agent's actions that are functions of the graph's process, by the name of their function."""
    found: dict[str, str] = {}
    for name in session.workspace.agents[agent].actions:
        tool, action = session.workspace.action(name)
        if tool.manifest.source == "host":
            if action.name in found:
                raise UsageError(
                    f"agent {agent!r} has both {found[action.name]} and {name}: a graph cannot tell them apart"
                )
            found[action.name] = name
    return found


class _Heard:
    """The model of a graph that is not Remit's: what it said is handed over, and never asked for."""

    scripted = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.said = ModelTurn(text="", finish="stop")

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        return self.said


class ForeignRun:
    """One run, driven by a graph that is not Remit's: what `run` asks of a foreign graph, and what that graph asks here."""

    def __init__(self, session: WorkspaceSession, model: str, wait: float) -> None:
        self._session = session
        self.model = _Heard(model)
        self._wait = wait
        self._steps: dict[str, int] = {}  # by what was said
        self._decided: set[int] = set()
        self._own: dict[tuple[int, int], Own | None] = {}
        self._going: dict[tuple[int, int], asyncio.Task[Result]] = {}
        self._turns, self._queue = asyncio.Lock(), asyncio.Lock()
        self._over = asyncio.Event()
        self._failure: RunEnded | None = None
        self._opened: asyncio.Future[AgentGraph] = asyncio.get_running_loop().create_future()

    async def begin(self, work: Coroutine[Any, Any, RunResult]) -> None:
        """Have the run opened. Raises what keeps it from beginning."""
        self._work = asyncio.ensure_future(work)
        either: set[asyncio.Future[Any]] = {self._work, self._opened}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._opened.done():
            await self._work
        self.agency = self._opened.result()
        await self._look_up()
        for event in self.agency.record.every():
            if isinstance(event, ModelResponded) and event.proposed_calls and not event.internal:
                self._steps[_mark(event.proposed_calls)] = event.step

    async def _look_up(self) -> None:
        """Fill the agent's directory before the graph's first turn, by tools that are the workspace's own.

        From its first step on in a run that is taken up again: the process before may have ended in the middle.
        """
        record, step = self.agency.record, -1
        while True:
            step += 1
            answered = record.get(f"model.responded/{step}/-/-")
            if answered is None and record.state.step < step:
                answered = self.agency.look_up(step)
            if not isinstance(answered, ModelResponded) or not answered.internal:
                return
            self._broker.decide(answered.step, answered.proposed_calls)
            for index in range(len(answered.proposed_calls)):
                self._own[answered.step, index] = None
                with suppress(ApprovalPending):  # what people must allow first is not known
                    await self._broker.perform(answered.step, index)

    # -- what `run` asks of a foreign graph --

    async def drive(self, agency: AgentGraph) -> None:
        self._opened.set_result(agency)
        await self._over.wait()
        if self._failure is not None:
            raise self._failure

    def function(self, call: Call) -> Function | None:
        place = (call.step, call.index)
        if place not in self._own:
            raise _not_reviewed("no graph has asked for this call")
        if (own := self._own[place]) is None:
            return None
        tool, action = self._session.workspace.action(call.action)
        assert tool.pin is not None  # the broker refuses unpinned tools before it decides
        _check_reviewed(own, tool.pin.schemas[action.name], call.action)
        return partial(own.function, tool.manifest.limits.wall)

    # -- what the graph asks --

    def people(self, wait: float) -> ApprovalWaiter:
        """Those who approve, heard for so many seconds."""
        ports = cast("LivePorts", self._broker.ports)
        return ApprovalWaiter(ports, self.agency.record, self._broker, self.model, wait)

    async def perform(
        self, turn: ModelTurn, index: int, own: Own | None, *, queued: bool
    ) -> Result | ApprovalRequested:
        if index > CALLS_PER_TURN:  # the first that is too many is recorded, and says so for all of them
            return too_many_calls()
        if not queued:
            return await self._performed(turn, index, own)
        async with self._queue:
            if (refused := await self._catch_up(turn)) is not None:
                return refused
            return await self._performed(turn, index, own)

    async def refuse(self, turn: ModelTurn, index: int, requested: ApprovalRequested) -> Result:
        """Nobody answered in time, and the graph cannot wait."""
        roles = ", ".join(missing.role for missing in requested.missing)
        refusal = Refusal(
            "approval_required",
            f"the call needs an approval by {roles}, and nobody gave it in time",
            details={"missing": [missing.model_dump() for missing in requested.missing]},
            next_step="go on without it, or have a person approve it and ask again",
        )
        return await self._broker.give_up(self._steps[self._mark(turn)], index, refusal)

    async def end(self, answer: str, *, leave: bool = False) -> RunResult:
        """End the run with that answer; with `leave`, or where people are asked, only let go of it."""
        async with self._turns:
            if self._going:
                await asyncio.wait(self._going.values())
            facts = self.agency.record.state
            if not (leave or facts.finished or self._failure or any(call.waiting for call in facts.open.values())):
                await self._give_up_rest()
                self.model.said = ModelTurn(text=answer, finish="stop")
                await self.agency.turn({"step": facts.step})
        self._over.set()
        return await self._work

    @property
    def _broker(self) -> Broker:
        return self.agency.broker

    def _mark(self, turn: ModelTurn) -> str:
        return _mark([self._broker.sanitizer.proposed_call(ask) for ask in turn.proposed_calls[: CALLS_PER_TURN + 1]])

    async def _performed(self, turn: ModelTurn, index: int, own: Own | None) -> Result | ApprovalRequested:
        async with self._turns:
            heard = await self._hear(turn)
        if not isinstance(heard, int):
            return heard
        place = (heard, index)
        self._own[place] = own
        people = self.people(self._wait)
        while True:
            try:
                return await self._once(place)
            except ApprovalPending as pending:
                if not await people.settle():
                    return pending.requested
            except RunEnded as ended:
                self._failure = self._failure or ended
                self._over.set()
                raise

    async def _once(self, place: tuple[int, int]) -> Result:
        """Whoever asks for a call that is being carried out waits for the same result."""
        if place not in self._going:
            self._going[place] = asyncio.ensure_future(self._broker.perform(*place))
            self._going[place].add_done_callback(lambda _: self._going.pop(place))
        return await self._going[place]

    async def _hear(self, turn: ModelTurn) -> int | Failed:
        """The step that the turn is, recorded and decided; or why none of its calls is carried out."""
        mark = self._mark(turn)
        if mark not in self._steps:
            if (refused := self._deaf()) is not None:
                return refused
            await self._give_up_rest()
            step = self.agency.record.state.step + 1
            self.model.said = turn
            await self.agency.turn({"step": step - 1})
            if (refused := self._deaf()) is not None:
                return refused
            self._steps[mark] = step
        step = self._steps[mark]
        if step not in self._decided:
            await self.agency.decide({"step": step})
            self._decided.add(step)
        return step

    def _deaf(self) -> Failed | None:
        """Why no turn is heard now. The model is told, and nothing is recorded: it is no turn of the run."""
        finished = self.agency.record.get("run.finished/-/-/-")
        if isinstance(finished, RunFinished) or self._failure is not None:
            exhausted = isinstance(finished, RunFinished) and finished.code in ("budget_exhausted", "denial_loop")
            why = finished.message if isinstance(finished, RunFinished) and finished.message else "it has ended"
            code: ModelCode = "budget_exhausted" if exhausted else "cancelled"
            return Failed(error=Error(code=code, message=f"the run is over: {why}", next_step="stop here"))
        if (reason := self.agency.stopped()) is not None:
            return Failed(error=Error(code="held", message=reason, retryable=True))
        if self._going:
            next_step = "give an agent that runs inside a tool a run of its own"
            message = "another turn of this run is still being carried out"
            return Failed(error=Error(code="cancelled", message=message, next_step=next_step))
        return None

    async def _give_up_rest(self) -> None:
        """The graph has gone on: whatever it left of the turns before is answered, so that each call has one result."""
        last = self.agency.record.state.step
        if (
            last >= 0
            and last not in self._decided
            and self.agency.record.get(f"model.responded/{last}/-/-") is not None
        ):
            await self.agency.decide({"step": last})
        for step, index in self._open():
            why = "the graph went on without this call"
            await self._broker.give_up(step, index, Refusal("cancelled", why, details={"problem": "left_behind"}))

    async def _catch_up(self, turn: ModelTurn) -> Failed | None:
        """Carry out first what waited before this turn; why that cannot be, where people have still not answered."""
        for step, index in () if self._mark(turn) in self._steps else self._open():
            self._own.setdefault((step, index), None)
            try:
                await self._once((step, index))
            except ApprovalPending:
                message = "an earlier call of this run waits for a person"
                return Failed(
                    error=Error(code="cancelled", message=message, retryable=True, next_step="ask again later")
                )
        return None

    def _open(self) -> list[tuple[int, int]]:
        return sorted(self.agency.record.state.open)


def _check_reviewed(own: Own, pinned: ActionSchema, action: str) -> None:
    if own.schema != canonical_json(pinned.model_dump(mode="json", include={"description", "input"})).decode():
        raise _not_reviewed(f"the graph's tool for {action} is not the one that was reviewed")


def _not_reviewed(message: str) -> Refusal:
    return Refusal("policy_denied", message, details={"reason": "not_pinned"})


def _mark(proposed_calls: Sequence[ProposedCall]) -> str:
    """By what a turn is known again, in this process and, from the record, in the next: the graph's ids and its words."""
    said = [[ask.name, ask.arguments, ask.parsed, ask.id] for ask in proposed_calls]
    try:
        return digest(said)
    except Refusal:  # what JSON has no one form for is refused when it is decided, and then only has to stay the same
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
