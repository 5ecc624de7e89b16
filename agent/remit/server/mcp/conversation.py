"""The runs of one client, one after the other: each has the labels of the one before, and what else that knew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from remit.client import AsyncRemit
from remit.core import Json, ProposedCall, RemitError, Result
from remit.core.events import NANO, ApprovalRequested, ConversationRun, Recorded
from remit.core.parsing import digest
from remit.journal import RunState, RunSummary, StoredRecord, find_run, last_of_conversation
from remit.runtime import Continuation, RunRequest, RunResult, next_run, resume_run, start_run
from remit.server.driven import DrivenRuns
from remit.server.mcp.client_run import ClientRun, Place, is_same_call
from remit.server.mcp.waiting.recorded import ClientAnswer, RecordedCall, answer_of, no_such_request, recorded_call

IDLE_S: Final = 600.0  # how long a run stays open without a call
KEPT_S: Final = 24 * 3600.0  # how long what an unnamed conversation has read counts, after its last run
POLLED_S: Final = 1.0  # how long the answer to a poll waits for a call that is carried out
# Nothing of it counts as the words of a user: no client passes those on.
TASK: Final = ""


@dataclass(frozen=True, kw_only=True)
class ClientCall:
    """One call of a client. `client` acts as who asks, and `program` is the name of the client.

    `request` is the id of the request for approval with which it was answered before, "" for a new call. `wait` is how many seconds
    it waits for people. `progress` gets what the tool prints.
    """

    client: AsyncRemit
    program: str
    proposed: ProposedCall
    request: str = ""
    wait: float = 0.0
    progress: Callable[[str], None] | None = None


class Conversation:
    """The calls of one principal by one client. At most one run of it is open."""

    def __init__(self, agent: str, id: str, driven: DrivenRuns, *, named: bool = False, idle: float = IDLE_S) -> None:
        """`id` is that of its runs. What a `named` conversation has read counts without end."""
        self.agent: Final = agent
        self.id: Final = id
        self.used = time.monotonic()
        self._named = named
        self._driven = driven
        self._idle = idle
        self._opening = asyncio.Lock()
        self._run: ClientRun | None = None
        self._before: RunState | None = None  # of the last run that ended here
        self._timer: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._polled: dict[tuple[str, int, int], asyncio.Future[Result | ApprovalRequested]] = {}

    @property
    def is_open(self) -> bool:
        """True if a run of it is open in this process."""
        return self._run is not None

    async def call(self, asked: ClientCall) -> ClientAnswer:
        """Make the call, or go on with the same one that waits for people.

        Raises:
            RemitError: the call is not made, and nothing of it is recorded.
        """
        self.used = time.monotonic()
        if asked.request:
            known = await self.recorded(asked.client, asked.request)
            if not is_same_call(known.proposed, asked.proposed):
                raise no_such_request()
            if known.answer is not None:
                return known.answer
        run = await self._opened(asked)
        place = run.waiting_like(asked.proposed) or await run.decide(asked.proposed)
        performing = asyncio.ensure_future(run.perform(place, asked.wait, asked.progress))
        try:
            result = await asyncio.shield(performing)
        except asyncio.CancelledError:  # the client no longer waits; what runs is stopped, and its outcome recorded
            run.stop(place)
            performing.add_done_callback(_seen)
            raise
        finally:
            self._wind_up()
        return answer_of(run.id, result, run.objects(place))

    async def recorded(self, client: AsyncRemit, request: str) -> RecordedCall:
        """The call with that request for approval. Raises Refusal `approval_invalid` if there is none in this conversation."""
        return await client.session.journal.run_in_thread(self._recorded, client, request)

    def _recorded(self, client: AsyncRemit, request: str) -> RecordedCall:
        journal = client.session.journal
        known = recorded_call(journal, self.id, request)
        # INVARIANT: a result comes back only while the conversation has its labels; see `_next`.
        if known.answer is not None and self._has_forgotten(find_run(journal, known.run)):
            raise no_such_request()
        return known

    def _has_forgotten(self, row: RunSummary | None) -> bool:
        """True if so much time has passed since the run that the next one begins without its labels."""
        if row is None or self._named or row.ended_at is None:
            return False
        return time.time_ns() - row.ended_at > KEPT_S * NANO

    async def poll(self, client: AsyncRemit, program: str, request: str) -> RecordedCall:
        """The call with that request for approval, which is carried out if people have approved it.

        Raises:
            RemitError: there is none in this conversation, or its run cannot go on.
        """
        self.used = time.monotonic()
        known = await self.recorded(client, request)
        if known.answer is not None:
            return known
        if (run := await self._reopened(client, program, known)) is None:
            return known
        if (work := self._work_on(run, known.place)) is not None:
            await asyncio.wait({work}, timeout=POLLED_S)
        self._wind_up()
        return await self.recorded(client, request)

    async def cancel(self, client: AsyncRemit, program: str, request: str) -> None:
        """End the call with that request for approval: it is not carried out, or stopped. One that has its result keeps it.

        Raises:
            RemitError: there is none in this conversation, or its run cannot go on.
        """
        known = await self.recorded(client, request)
        if known.answer is not None or (run := await self._reopened(client, program, known)) is None:
            return
        run.stop(known.place)
        await run.give_up(known.place)
        self._wind_up()

    async def _reopened(self, client: AsyncRemit, program: str, known: RecordedCall) -> ClientRun | None:
        """The run of the call, opened; None if it has ended: no run begins because a program asks about an earlier one."""
        journal = client.session.journal
        last = await journal.run_in_thread(last_of_conversation, journal, self.id)
        if last is None or last.run != known.run or last.has_ended:
            return None
        run = await self._opened(ClientCall(client=client, program=program, proposed=known.proposed))
        return run if run.id == known.run else None

    def _work_on(self, run: ClientRun, place: Place) -> asyncio.Future[Result | ApprovalRequested] | None:
        """The work on the call that waits at that place, which all polls share; None if it has its result."""
        key = (run.id, *place)
        if key not in self._polled and run.is_waiting(place):
            work = self._polled[key] = asyncio.ensure_future(run.perform(place, 0.0))
            work.add_done_callback(_seen)
            work.add_done_callback(lambda _: self._polled.pop(key))
        return self._polled.get(key)

    async def confirm(self, asked: ClientCall, decision: str) -> None:
        """Record that the user of the client agrees to the call that waits; `decision` is the digest of what the user was asked about.

        Raises Refusal `approval_invalid` if it does not wait for that.
        """
        run = await self._opened(asked)
        place = run.waiting_like(asked.proposed)
        if place is None:
            raise no_such_request()
        run.confirm(place, asked.client.principal, decision)

    def is_unconfirmed(self, proposed: ProposedCall) -> bool:
        """True if the call waits for its user to confirm it."""
        return self._run is not None and self._run.is_unconfirmed(proposed)

    async def end(self, *, leave: bool = False) -> None:
        """End the open run, if there is one. With `leave` one that waits for people stays open for a later process."""
        async with self._opening:
            await self._close(leave=leave)

    async def _opened(self, asked: ClientCall) -> ClientRun:
        async with self._opening:
            if self._run is not None and self._run.is_over:
                await self._close()
            if self._run is None:
                self._run = await self._begin(asked)
            return self._run

    async def _begin(self, asked: ClientCall) -> ClientRun:
        session, by = asked.client.session, asked.client.principal
        journal, run = session.journal, ClientRun(asked.program)
        last = await journal.run_in_thread(last_of_conversation, journal, self.id)
        if last is not None and not last.has_ended:
            goes_on = Continuation(external_graph=run)
            drive = partial(resume_run, session, last.run, by=by, goes_on=goes_on)
            name = last.run
        else:
            name, place, folder = await journal.run_in_thread(self._next, asked.client)
            request = RunRequest(
                agent=self.agent,
                task=TASK,
                subject=by.subject,
                by=by,
                model=run.model,
                run=name,
                folder=folder,
                conversation=place,
            )
            drive = partial(start_run, session, request, external_graph=run)

        async def driven(on_event: Callable[[Recorded], None]) -> RunResult:
            def see(recorded: Recorded) -> None:
                run.seen(recorded)
                on_event(recorded)

            return await drive(on_event=see)

        await run.begin(self._driven.start(name, driven))
        return run

    def _next(self, client: AsyncRemit) -> tuple[str, ConversationRun, str]:
        """The id of the next run, its place in the conversation, and its working folder: that of the run before, "" for the first."""
        journal = client.session.journal
        last, before = last_of_conversation(journal, self.id), self._before
        if last is not None and before is None:
            before = StoredRecord(journal, last.run).state
        name, place = next_run(journal, self.id, "", last, before)
        if last is not None and self._has_forgotten(find_run(journal, last.run)):
            place = place.model_copy(update={"labels": (), "words": "", "directory": (), "values": {}})
        folder = "" if before is None or before.started is None else before.started.folder
        return name, place, folder if folder and (client.root / folder).is_dir() else ""

    async def _close(self, *, leave: bool = False) -> None:
        run, self._run = self._run, None
        if self._timer is not None:
            self._timer.cancel()
        if run is not None:
            with suppress(RemitError):  # the caller of the failed call has got the error
                await run.end(leave=leave)
            self._before = run.state

    def _wind_up(self) -> None:
        """Count the idle time of the run from now on."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._idle, self._end_idle)

    def _end_idle(self) -> None:
        run = self._run
        if run is None:
            return
        if self._opening.locked() or run.is_busy or (run.waits and not run.is_over):
            self._wind_up()
            return
        ending = asyncio.ensure_future(self.end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


def conversation_id(*parts: Json) -> str:
    """The id of the conversation that these name."""
    return digest(["remit mcp", *parts]).removeprefix("sha256:")[:32]


def _seen(task: asyncio.Future[Result | ApprovalRequested]) -> None:
    if not task.cancelled():
        task.exception()
