"""The sessions of coding agents: each is a conversation of one person, and each prompt of the person begins a run of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from remit.core import Principal, ProposedCall, Refusal, RunEnded, same_person
from remit.core.events import RunStarted
from remit.core.parsing import digest
from remit.journal import RunInConversation, StoredRecord, last_of_conversation
from remit.runtime import (
    Continuation,
    LivePorts,
    RunRequest,
    acting_subject,
    next_run,
    resume_run,
    start_run,
)
from remit.server.hooks.hooked_run import HookedRun
from remit.workspace import WorkspaceSession

MOST: Final = 200  # sessions with an open run; beyond that, the run that was used least lately ends


@dataclass(frozen=True, kw_only=True)
class SessionOf:
    """One session of a coding agent: who uses it, the agent of the workspace that it is, and its id there."""

    client: str
    agent: str
    id: str
    by: Principal

    @property
    def conversation(self) -> str:
        """The id of its conversation: without the person, so that a session has one owner."""
        named = {"client": self.client, "agent": self.agent, "session": self.id}
        return digest(named).removeprefix("sha256:")[:32]


@dataclass(kw_only=True)
class _Open:
    """A session with an open run. `prompt` is one that begins the next run, once the call that waits for people is done."""

    run: HookedRun
    prompt: str | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class HookConversations:
    """The sessions of one workspace.

    INVARIANT: a session belongs to the principal of its first event. For another one it does not exist.
    """

    def __init__(self, session: WorkspaceSession) -> None:
        self._session = session
        self._ports = LivePorts(session)
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def renew(self, session: WorkspaceSession) -> None:
        """Begin runs with this definition from now on."""
        self._session, self._ports = session, LivePorts(session)

    def lock(self, of: SessionOf) -> asyncio.Lock:
        """Events that begin or end runs of a session come one after the other."""
        return self._locks.setdefault(of.conversation, asyncio.Lock())

    async def prompted(self, of: SessionOf, prompt: str) -> None:
        """The person wrote a prompt: it begins a run. A call that waits for people or goes on belongs to the run before."""
        async with self.lock(of):
            opened = await self._current(of)
            if (
                opened is not None
                and (opened.run.waits or not await opened.run.until_free(0.0))
                and not opened.run.has_ended
            ):
                opened.prompt = prompt
                return
            await self._begin(of, prompt)

    async def run_for(self, of: SessionOf, proposed: ProposedCall) -> HookedRun:
        """The run of a call. One that waits for people is a call of the run that asked them, whatever was written since."""
        async with self.lock(of):
            opened = await self._current(of)
            if opened is None:
                return await self._begin(of, "")
            is_new = opened.prompt is not None and not opened.run.is_waiting_for(proposed)
            if is_new and opened.prompt is not None and await opened.run.until_free(0.0):
                return await self._begin(of, opened.prompt)
            return opened.run

    async def open_run(self, of: SessionOf) -> HookedRun | None:
        """The open run of the session; None without one."""
        opened = await self._current(of)
        return None if opened is None else opened.run

    async def ended(self, of: SessionOf, answer: str) -> None:
        """The coding agent has answered, or its session has ended. A call that waits for people keeps the run open."""
        async with self.lock(of):
            opened = await self._current(of)
            if opened is not None and not opened.run.waits:
                await self._end(of.conversation, answer)

    async def close(self) -> None:
        """Leave every run: a later process goes on with it."""
        for conversation in list(self._open):
            with suppress(RunEnded):
                await self._open.pop(conversation).run.end("", leave=True)

    async def _current(self, of: SessionOf) -> _Open | None:
        """The open run of the session, in this process or in one that left it."""
        opened = self._open.get(of.conversation)
        if opened is not None and opened.run.has_ended:
            _check_owner(opened.run.record.state.started, of.by)
            del self._open[of.conversation]
            return None
        if opened is None and (last := await self._last(of)) is not None:
            journal = self._session.journal
            before = (await journal.run_in_thread(StoredRecord, journal, last.run)).state
            _check_owner(before.started, of.by)
            if not last.has_ended:
                run = self._new(of)
                goes_on = Continuation(external_graph=run)
                await run.begin(resume_run(self._ports.session, last.run, by=of.by, goes_on=goes_on))
                opened = self._open[of.conversation] = _Open(run=run)
        if opened is not None:
            _check_owner(opened.run.record.state.started, of.by)
            self._open.move_to_end(of.conversation)
        return opened

    async def _begin(self, of: SessionOf, prompt: str) -> HookedRun:
        """Begin the run of that prompt; "" for calls that no prompt came before."""
        await self._end(of.conversation, "")
        journal, last = self._session.journal, await self._last(of)
        before = None if last is None else (await journal.run_in_thread(StoredRecord, journal, last.run)).state
        message = digest({"prompt": prompt, "number": 0 if last is None else last.number}).removeprefix("sha256:")
        name, place = await journal.run_in_thread(next_run, journal, of.conversation, message, last, before)
        self._ports.policy(0, 0)  # the rules in force
        session, run = self._ports.session, self._new(of)
        request = RunRequest(
            agent=of.agent,
            task=prompt,
            subject=acting_subject(session, of.by, None),
            by=of.by,
            model=run.model,
            run=name,
            thread=of.id,
            conversation=place,
        )
        await self._end_oldest()
        await run.begin(start_run(session, request, external_graph=run))
        self._open[of.conversation] = _Open(run=run)
        return run

    def _new(self, of: SessionOf) -> HookedRun:
        return HookedRun(self._session, of.client, self._session.workspace.agents[of.agent].model)

    async def _end_oldest(self) -> None:
        while len(self._open) >= MOST:
            await self._end(next(iter(self._open)), "")

    async def _end(self, conversation: str, answer: str) -> None:
        if (opened := self._open.pop(conversation, None)) is not None:
            with suppress(RunEnded):  # the hook of the failed call has got the error
                await opened.run.end(answer)

    async def _last(self, of: SessionOf) -> RunInConversation | None:
        journal = self._session.journal
        return await journal.run_in_thread(last_of_conversation, journal, of.conversation)


def _check_owner(started: RunStarted | None, by: Principal) -> None:
    """Raise Refusal if another person began the session: what it has read is not theirs, and they could approve its calls."""
    if started is not None and not same_person(started.by, by):
        raise Refusal("policy_denied", "no session of that id is this person's", details={"reason": "other_session"})
