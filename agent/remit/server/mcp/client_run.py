"""One run that an MCP client drives: each call of a tool is a turn with one call.

A call that waits for people does not stop the others: they are later turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeAlias, cast

from remit.broker import ApprovalPending, Broker, QuestionPending, objects_of, wall_end
from remit.broker.approvals import Approval, grant_approval
from remit.core import (
    CONFIRMATION,
    ENDED,
    NEXT_STEPS,
    Call,
    ContentObject,
    Json,
    ModelCode,
    ModelTurn,
    Principal,
    ProposedCall,
    Refusal,
    Result,
)
from remit.core.events import ApprovalRequested, AttemptProgressed, Driver, Recorded, RunFinished
from remit.journal import LiveRecord, RunState
from remit.runtime import ApprovalWaiter, ExternalModel, LivePorts, OutsideRun
from remit.server.driven import DrivenRun

BY_CLIENT: Final = "by_client"  # in the error of a call: why it was cancelled
Place: TypeAlias = tuple[int, int]  # step and index


class ClientRun(OutsideRun):
    """A run whose turns a client makes. Implements `ExternalGraph` for the runner.

    INVARIANT: one call is carried out at a time.
    """

    driver: Driver = "mcp"

    def __init__(self, client: str) -> None:
        """`client` names the program, as it said itself."""
        super().__init__()
        self.model: Final = ExternalModel(f"mcp:{client}")
        self._one: Final = asyncio.Lock()
        self._progress: dict[Place, Callable[[str], None]] = {}

    async def begin(self, driven: DrivenRun) -> None:
        """Return once it can take calls. Raises what keeps it from starting."""
        self._driven = driven
        self._graph = await self._opened_by(driven.task)
        with self._failing():
            await self._graph.fill_directory()
        driven.idle = True

    # ── called by the runner ─────────────────────────────────────────────────────────────────────────────────────────

    def function(self, call: Call) -> Callable[..., Json] | None:
        """None: a function in the module of its tool carries out the call."""
        return None

    def seen(self, recorded: Recorded) -> None:
        """Pass on what the tool of a call prints."""
        event = recorded.event
        if isinstance(event, AttemptProgressed):
            self._progress.get((event.step, event.index), _nothing)(event.text)

    # ── calls ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def id(self) -> str:
        return self._graph.record.run

    @property
    def state(self) -> RunState:
        return self._graph.record.state

    @property
    def is_over(self) -> bool:
        """True if it takes no call any more: it has ended, it failed, or its time is up."""
        now = self._broker.ports.clock(-1, -1)
        return self.state.finished or self._ended.is_set() or now > wall_end(self.state, self._broker.agent.budget)

    @property
    def is_busy(self) -> bool:
        """True while a call of it is decided or carried out."""
        return self._one.locked()

    @property
    def waits(self) -> bool:
        """True if a call of it waits for people, or for its client to make it again once they have answered."""
        return any(call.pending for call in self.state.open.values())

    def waiting_like(self, proposed: ProposedCall) -> Place | None:
        """The call with that name and these arguments about which people were asked, and which has not begun; None without one."""
        for place, opened in self.state.open.items():
            decided = self._broker.latest_decision(*place)
            if opened.pending and decided is not None and is_same_call(decided.proposed, proposed):
                return place
        return None

    async def decide(self, proposed: ProposedCall) -> Place:
        """Record the call as a turn, and decide it. Raises Refusal if the run takes no call now; then nothing is recorded."""
        async with self._one:
            self._driven.idle = False
            try:
                with self._failing():
                    return await self._decide(proposed)
            finally:
                self._driven.idle = True

    async def _decide(self, proposed: ProposedCall) -> Place:
        self._check_goes_on()
        step = self.state.step + 1
        self.model.turn = ModelTurn(text="", proposed_calls=(proposed,), finish="tool_calls")
        await self._graph.turn({"step": step - 1})
        self._check_goes_on()
        await self._graph.decide({"step": step})
        return step, 0

    async def perform(
        self, place: Place, wait: float, progress: Callable[[str], None] | None = None
    ) -> Result | ApprovalRequested:
        """The result of a decided call, or the request for approval for which it waits after `wait` seconds.

        `progress` gets what its tool prints. It goes on if the caller is cancelled: then `stop` it.
        """
        waiter = self._waiter(wait)
        self._progress[place] = progress or _nothing
        try:
            while True:
                try:
                    return await self._once(place)
                except ApprovalPending as pending:
                    if not await waiter.wait_for_change():
                        return pending.requested
        finally:
            self._progress.pop(place, None)

    async def _once(self, place: Place) -> Result:
        async with self._one:
            self._driven.idle = False
            self._ports.stops[place] = asyncio.Event()
            try:
                with self._failing():
                    result = await self._perform(place)
                    await self._graph.record.commit()  # only then may the client read it
                    return result
            finally:
                self._ports.stops.pop(place, None)
                self._driven.idle = True

    async def _perform(self, place: Place) -> Result:
        try:
            return await self._broker.perform(*place)
        except QuestionPending:
            return await self._broker.give_up(*place, _unanswerable())

    def objects(self, place: Place) -> tuple[ContentObject, ...]:
        """The images and files that the result of the call names."""
        return objects_of(self._graph.record.get, *place)

    def confirm(self, place: Place, by: Principal, decision: str) -> None:
        """Record that the user agrees to a call that waits, as the client says. It is an approval of no role.

        `decision` is the digest of the decision that the user was asked about. Raises Refusal `approval_invalid` if the call does not wait
        for that.
        """
        opened = self.state.open.get(place)
        requested = None if opened is None or opened.approval is None else opened.approval.requested
        if requested is None or requested.decision_digest != decision:
            raise Refusal("approval_invalid", "the rules or facts have changed", next_step="make the call again")
        approval = Approval(by=by, role=CONFIRMATION, via=self.model.name)
        roles_of = self._ports.policy(*place).roles_of
        grant_approval(self._graph.record, requested, approval, roles_of=roles_of, now=time.time_ns())

    def is_unconfirmed(self, proposed: ProposedCall) -> bool:
        """True if the same call waits for its user to confirm it."""
        place = self.waiting_like(proposed)
        approval = None if place is None else self.state.open[place].approval
        if approval is None:
            return False
        asks = any(item.role == CONFIRMATION for item in approval.requested.missing)
        return asks and all(grant.role != CONFIRMATION for grant in approval.counted(time.time_ns()))

    def is_waiting(self, place: Place) -> bool:
        """True if that call waits for people, or for its client since they have answered."""
        opened = self.state.open.get(place)
        return opened is not None and opened.pending

    async def give_up(self, place: Place) -> None:
        """End that call, which never runs: its client has cancelled it. One that has its result keeps it."""
        async with self._one:
            if place in self.state.open:
                with self._failing():
                    reason = Refusal("cancelled", "the client has cancelled this call", details={"problem": BY_CLIENT})
                    await self._broker.give_up(*place, reason)
                    await self._graph.record.commit()

    def stop(self, place: Place) -> None:
        """Stop the call if it runs: its client has cancelled it. One that waits for people goes on waiting."""
        if (event := self._ports.stops.get(place)) is not None:
            event.set()

    async def end(self, *, leave: bool = False) -> None:
        """End the run. With `leave` it stays open for a later process, if a call of it waits for people."""
        async with self._one:
            if not (self.state.finished or self._ended.is_set() or (leave and self.waits)):
                with self._failing():
                    await self._finish()
        self._ended.set()
        await asyncio.wait({self._driven.task})

    async def _finish(self) -> None:
        for place in sorted(self.state.open):
            reason = Refusal("cancelled", "the client of the run has ended", details={"problem": "left_behind"})
            await self._broker.give_up(*place, reason)
        self.model.turn = ModelTurn(text="", finish=ENDED)
        await self._graph.turn({"step": self.state.step})

    @property
    def _broker(self) -> Broker:
        return self._graph.broker

    @property
    def _ports(self) -> LivePorts:
        return cast("LivePorts", self._broker.ports)

    def _waiter(self, wait: float) -> ApprovalWaiter:
        return ApprovalWaiter(self._ports, cast("LiveRecord", self._graph.record), self._broker, self.model, wait)

    def _check_goes_on(self) -> None:
        """Raise Refusal if the run takes no call: it has ended, or is on hold."""
        finished = self._graph.record.get("run.finished/-/-/-")
        if isinstance(finished, RunFinished) or self._ended.is_set():
            code = finished.code if isinstance(finished, RunFinished) else None
            why = finished.message if isinstance(finished, RunFinished) and finished.message else "no more calls run"
            ended: ModelCode = "budget_exhausted" if code == "budget_exhausted" else "cancelled"
            ended = "denial_loop" if code == "denial_loop" else ended
            raise Refusal(ended, f"the run has ended: {why}", next_step="stop, and tell the user why")
        if (hold := self._graph.hold_reason()) is not None:
            raise Refusal("held", hold, retryable=True, next_step=NEXT_STEPS["held"])


def is_same_call(one: ProposedCall, other: ProposedCall) -> bool:
    """True if both have the same name and arguments. The record shows no secrets, so a call with one is never the same."""
    return (one.name, one.arguments) == (other.name, other.arguments)


def _unanswerable() -> Refusal:
    return Refusal(
        "cancelled",
        "the tool asks a person, and nobody can answer here",
        details={"problem": "question"},
        next_step="continue without this call",
    )


def _nothing(_: str) -> None:
    return None
