"""The runs of one client, one after the other: each has the labels of the one before, and what else that knew."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from remit.client import AsyncRemit
from remit.core import CONFIRMATION, Failed, Json, ProposedCall, Refusal, RemitError, Result
from remit.core.events import NANO, ApprovalRequested, CallAnswered, ConversationRun, Recorded
from remit.core.parsing import digest
from remit.journal import RunState, StoredRecord, find_run, last_of_conversation
from remit.runtime import Continuation, RunRequest, RunResult, next_run, resume_run, start_run
from remit.server.driven import DrivenRuns
from remit.server.handlers.calls import CallAnswer, approval_view
from remit.server.http.answers import ServiceError
from remit.server.mcp.client_run import ClientRun, is_same_call

IDLE_S: Final = 600.0  # how long a run stays open without a call
KEPT_S: Final = 24 * 3600.0  # how long what an unnamed conversation has read counts, after its last run
_REQUEST: Final = re.compile(r"([0-9a-f]{32})/([0-9]{1,6})\.([0-9]{1,6})", re.ASCII)
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

    @property
    def is_open(self) -> bool:
        """True if a run of it is open in this process."""
        return self._run is not None

    async def call(self, asked: ClientCall) -> CallAnswer:
        """Make the call, or go on with the same one that waits for people.

        Raises:
            RemitError: the call is not made, and nothing of it is recorded.
        """
        self.used = time.monotonic()
        if asked.request and (known := await self._known(asked)) is not None:
            return known
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
        return answer_of(run.id, result)

    async def confirm(self, asked: ClientCall, decision: str) -> None:
        """Record that the user of the client agrees to the call that waits; `decision` is the digest of what the user was asked about.

        Raises Refusal `approval_invalid` if it does not wait for that.
        """
        run = await self._opened(asked)
        place = run.waiting_like(asked.proposed)
        if place is None:
            raise _no_such_request()
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
        row = None if last is None or self._named else find_run(journal, last.run)
        if row is not None and row.ended_at is not None and time.time_ns() - row.ended_at > KEPT_S * NANO:
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

    async def _known(self, asked: ClientCall) -> CallAnswer | None:
        """The recorded result of the call with that request; None if it has none yet.

        Raises Refusal `approval_invalid` if the request is none of this conversation, or is about another call.
        """
        found = _REQUEST.fullmatch(asked.request)
        journal = asked.client.session.journal
        if found is None or not await journal.run_in_thread(self._is_own, asked, found[1]):
            raise _no_such_request()
        place = f"{found[2]}/{found[3]}"
        decided = journal.get(found[1], f"call.decided/{place}/0")
        proposed = getattr(None if decided is None else decided.event, "proposed", None)
        if not isinstance(proposed, ProposedCall) or not is_same_call(proposed, asked.proposed):
            raise _no_such_request()
        answered = journal.get(found[1], f"call.answered/{place}/-")
        event = None if answered is None else answered.event
        return answer_of(found[1], event.result) if isinstance(event, CallAnswered) else None

    def _is_own(self, asked: ClientCall, run: str) -> bool:
        started = asked.client.session.journal.get(run, "run.started/-/-/-")
        place = getattr(None if started is None else started.event, "conversation", None)
        return isinstance(place, ConversationRun) and place.id == self.id

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


def answer_of(run: str, result: Result | ApprovalRequested) -> CallAnswer:
    """The result of a call, as every entry point gives it."""
    if isinstance(result, ApprovalRequested):
        view, roles = approval_view(run, result), [item.role for item in result.missing]
        who = "they must confirm it" if roles == [CONFIRMATION] else "a person must approve it"
        error = ServiceError(
            code="approval_required",
            message=f"waits for {', '.join(roles)}",
            next_step=f"tell the user that {who}; then make the same call again",
        )
        return CallAnswer(ok=False, run=run, error=error, approval=view)
    if isinstance(result, Failed):
        return CallAnswer(ok=False, run=run, error=ServiceError.model_validate(result.error.model_dump()))
    return CallAnswer(ok=True, run=run, value=result.value, labels=result.labels)


def _no_such_request() -> Refusal:
    message, fix = "there is no such request for approval of this call", "make the call without the id of a request"
    return Refusal("approval_invalid", message, next_step=fix)


def _seen(task: asyncio.Future[Result | ApprovalRequested]) -> None:
    if not task.cancelled():
        task.exception()
