"""A run that a coding agent drives: each call of its native tools is decided here, and carried out by the coding agent.

An attempt of such a call begins when its hook is answered that it may run, and ends when another hook reports the result. Until then a
thread of this process waits. One call is a turn of its own, and the next one is decided once it has its result: so labels of what the model
has read are facts of every later decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

from remit.broker import ApprovalPending, Broker
from remit.core import (
    ENDED,
    NEXT_STEPS,
    Call,
    Error,
    Failed,
    Json,
    Model,
    ModelTurn,
    ProposedCall,
    Refusal,
    Result,
    RunEnded,
    is_refused,
)
from remit.core.events import ApprovalRequested, Driver
from remit.journal import LiveRecord
from remit.runtime import AgentGraph, ApprovalWaiter, ExternalModel, LivePorts, OutsideRun, RunResult
from remit.workspace import WorkspaceSession

ENDS_S: Final = 5.0  # how long the result of a call may take to be recorded
AT_ONCE: Final = "delegate"  # the calls of a sub-agent come while this action goes on: its result is that it has begun
BEGUN: Final[Json] = {"begun": True}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer to the hook of a call. `result` is the refusal of a call that does not run, None for one that does.

    `asked` is the request for approval for which it waits. A call with `enforced` False is only observed: it runs as without Remit.
    """

    result: Failed | None = None
    asked: ApprovalRequested | None = None
    enforced: bool = True


@dataclass(kw_only=True)
class _Native:
    """One call: `ids` are those by which hooks name it, and `reported` gets its result."""

    place: tuple[int, int]
    proposed: ProposedCall
    ids: set[str] = field(default_factory=set[str])
    released: asyncio.Event = field(default_factory=asyncio.Event)
    reported: Future[Json] = field(default_factory=Future[Json])
    work: asyncio.Future[Result] | None = None

    def is_same(self, proposed: ProposedCall) -> bool:
        return (self.proposed.name, self.proposed.arguments) == (proposed.name, proposed.arguments)


class NotReported(Exception):
    """The coding agent went on without a result of the call."""


class HookedRun(OutsideRun):
    """One run of a coding agent's session. Implements `ExternalGraph` for the runner, and takes the calls of the hooks."""

    def __init__(self, session: WorkspaceSession, client: str, model: str) -> None:
        super().__init__()
        self._session = session
        self._client = client
        self._turn: Final = ExternalModel(model)
        self._loop: Final = asyncio.get_running_loop()
        self._natives: dict[tuple[int, int], _Native] = {}
        self._one: Final = asyncio.Lock()

    async def begin(self, work: Coroutine[Any, Any, RunResult]) -> None:
        """Open the run with `work`. Raises the error that keeps it from starting."""
        self._work = asyncio.ensure_future(work)
        self.agent_graph: AgentGraph = await self._opened_by(self._work)

    # -- called by the runner (`ExternalGraph`) --

    @property
    def driver(self) -> Driver:
        return "hooks"

    @property
    def model(self) -> Model:
        return self._turn

    def function(self, call: Call) -> Callable[..., Json] | None:
        """A function that lets the coding agent carry the call out, and returns what it reports; None for another tool."""
        tool, action = self._session.workspace.action(call.action)
        native = self._natives.get((call.step, call.index))
        if tool.manifest.source != "hook" or tool.manifest.client != self._client or native is None:
            return None

        def made_by_client(**_: Json) -> Json:
            self._loop.call_soon_threadsafe(native.released.set)
            return BEGUN if action.name == AT_ONCE else native.reported.result()

        return made_by_client

    # -- called by hooks --

    @property
    def record(self) -> LiveRecord:
        return cast("LiveRecord", self.agent_graph.record)

    @property
    def waits(self) -> bool:
        """True while a call waits for people, or for the coding agent to make it again once they have answered."""
        return any(call.pending for call in self.record.state.open.values())

    @property
    def has_ended(self) -> bool:
        return self.record.state.finished or self._failure is not None or self._work.done()

    def is_waiting_for(self, proposed: ProposedCall) -> bool:
        """True if the same call waits for people already."""
        return self._waiting_as(proposed) is not None

    async def until_free(self, seconds: float) -> bool:
        """Return True once no call is being carried out, False after so many seconds."""
        going_on = [
            native.work for native in self._natives.values() if native.work is not None and not native.work.done()
        ]
        if going_on:
            await asyncio.wait(going_on, timeout=seconds)
        return all(work.done() for work in going_on)

    async def propose(self, proposed: ProposedCall, id_: str, *, wait: float) -> Verdict:
        """Decide the call; of one that may run, record that its attempt begins.

        It waits up to `wait` seconds for earlier calls, and as long for approval. A call that waits for people and is made again is the
        same call.
        """
        async with self._one:
            native = self._waiting_as(proposed)
            if native is None:
                decided = await self._decided(proposed, wait)
                if isinstance(decided, Failed):
                    return Verdict(result=decided)
                native = decided
            native.ids.add(id_)
            try:
                return await self._performed(native, wait)
            except RunEnded as ended:
                await self._fail(ended)
                raise

    async def report(self, id_: str, value: Json) -> Result | None:
        """Record the result of a call; None if no call of that id is being carried out."""
        native = next((item for item in self._natives.values() if id_ in item.ids and item.released.is_set()), None)
        if native is None or native.work is None:
            return None
        if not native.reported.done():
            native.reported.set_result(value)
        try:
            result = await asyncio.wait_for(asyncio.shield(native.work), ENDS_S)
            await self.record.commit()
        except RunEnded as ended:
            await self._fail(ended)
            raise
        return result

    async def end(self, answer: str, *, leave: bool = False) -> RunResult:
        """End the run with that answer. A call without a reported result ends, and what it did is not known.

        With `leave` the run stays open for a later process, and so do its calls that wait for people.
        """
        async with self._one:
            for native in self._natives.values():
                if not native.reported.done():
                    native.reported.set_exception(NotReported("the coding agent reported no result"))
            await self.until_free(ENDS_S)
            if not (leave or self.has_ended):
                await self._cancel_rest()
                self._turn.turn = ModelTurn(text=answer, finish=ENDED)
                await self.agent_graph.turn({"step": self.record.state.step})
        self._ended.set()
        return await self._work

    @property
    def _broker(self) -> Broker:
        return self.agent_graph.broker

    def _waiting_as(self, proposed: ProposedCall) -> _Native | None:
        open_calls = self.record.state.open
        return next(
            (
                native
                for place, native in self._natives.items()
                if place in open_calls and open_calls[place].pending and native.is_same(proposed)
            ),
            None,
        )

    async def _decided(self, proposed: ProposedCall, wait: float) -> _Native | Failed:
        """Record the call as a turn, and decide it. Returns why no call is accepted now, if none is."""
        if not await self.until_free(wait):
            error = Error(
                code="cancelled",
                message="another call of this session is still being carried out",
                retryable=True,
                next_step="make the call again when it has ended",
            )
            return Failed(error=error)
        if (refused := self._refused_turn(self.agent_graph, has_ended=self.has_ended)) is not None:
            return refused
        await self._cancel_rest()
        step = self.record.state.step + 1
        self._turn.turn = ModelTurn(text="", proposed_calls=(proposed,), finish="tool_calls")
        await self.agent_graph.turn({"step": step - 1})
        if (refused := self._refused_turn(self.agent_graph, has_ended=self.has_ended)) is not None:
            return refused
        native = self._natives[step, 0] = _Native(place=(step, 0), proposed=proposed)
        await self.agent_graph.decide({"step": step})
        return native

    async def _performed(self, native: _Native, wait: float) -> Verdict:
        waiter = ApprovalWaiter(cast("LivePorts", self._broker.ports), self.record, self._broker, self._turn, wait)
        while True:
            native.work = asyncio.ensure_future(self._broker.perform(*native.place))
            released = asyncio.ensure_future(native.released.wait())
            either: set[asyncio.Future[Any]] = {native.work, released}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            released.cancel()
            decided = self._broker.latest_decision(*native.place)
            enforced = decided is None or decided.enforced
            if native.released.is_set():
                # INVARIANT: the hook lets a call pass only after its attempt is recorded.
                if decided is not None and decided.call is not None and decided.call.action.endswith(f".{AT_ONCE}"):
                    await native.work
                await self.record.commit()
                return Verdict(enforced=enforced)
            try:
                result = native.work.result()
            except ApprovalPending as pending:
                if await waiter.wait_for_change():
                    continue
                error = Error(
                    code="approval_required",
                    message=f"{pending.requested.summary}",
                    next_step=NEXT_STEPS["approval_required"],
                )
                return Verdict(result=Failed(error=error), asked=pending.requested)
            await self.record.commit()
            refused = enforced or is_refused(result, enforced=False)
            # A call that ended without being carried out does not run, whatever its result says.
            return Verdict(result=_failure_of(result) if refused else None, enforced=enforced)

    async def _cancel_rest(self) -> None:
        """Cancel the open calls, because the coding agent has moved on without them. Each call then has one result."""
        for place in sorted(self.record.state.open):
            reason = "the coding agent went on without this call"
            await self._broker.give_up(*place, Refusal("cancelled", reason, details={"problem": "left_behind"}))

    async def _fail(self, ended: RunEnded) -> None:
        self._end_with(ended)
        with suppress(RunEnded):
            await self._work


def _failure_of(result: Result) -> Failed:
    if isinstance(result, Failed):
        return result
    # Only a call that was carried out has another result: an earlier one, which is not made a second time.
    return Failed(error=Error(code="cancelled", message="the call has its result already", next_step="continue"))
