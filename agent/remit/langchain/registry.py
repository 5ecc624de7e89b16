"""The open runs of one agent: finds the run of a call, and begins, resumes and ends runs as the conversations go on.

A thread of LangGraph is a conversation of many runs. Each message of the person begins one, in `begin`. A call of an earlier message,
because the graph went back to an old checkpoint, gets its recorded result.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from remit.broker import receipt_of
from remit.core import (
    Error,
    Failed,
    Principal,
    ReceiptItem,
    RunEnded,
    ToolSpec,
    UsageError,
    same_person,
)
from remit.core.events import ApprovalRequested, CallAnswered, ConversationRun, ModelResponded, RunStarted
from remit.core.parsing import digest
from remit.guardrails import UNTRUSTED
from remit.journal import RunInConversation, RunState, StoredRecord, last_of_conversation, runs_of_message
from remit.langchain.answers import InterruptPlace, Resumed
from remit.langchain.external_run import ExternalRun, ToolOf
from remit.langchain.graph_call import GraphCall, Invocation, Paused, Performed
from remit.langchain.state import last_answer, messages_of, read_state
from remit.langchain.turns import check_given, check_mode, hosted_actions, performed_call, recorded_key, turn_key
from remit.runtime import (
    Continuation,
    RunRequest,
    RunResult,
    acting_subject,
    inside_of,
    new_run_id,
    next_run,
    resume_run,
    sanitizer_of,
    secrets_of,
    start_run,
)
from remit.workspace import (
    Mode,
    WorkspaceSession,
    check_enabled,
    check_tenant,
    open_session,
    principal_of_process,
    tool_specs,
)

KEPT: Final = 1000  # ended runs whose results the program may still ask for


@dataclass(frozen=True, kw_only=True)
class _Ended:
    """The last run of a key, which has ended or was left: its result, and its state as this process knows it."""

    result: RunResult
    state: RunState


class RunRegistry:
    """The open runs of one agent, by key: that of a thread, of an invocation, or of the object.

    INVARIANT: at most one run of a conversation is open at a time, in all processes.
    """

    def __init__(self, session: WorkspaceSession, agent: str, user: str | None, wait: float) -> None:
        self._session = session
        self._agent = session.workspace.agents[agent]
        self._user = user
        self._principal = principal_of_process(session.workspace.settings)
        self._wait = wait
        self._runs: dict[str, ExternalRun] = {}
        self._ended: OrderedDict[str, _Ended] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.specs: tuple[ToolSpec, ...] = tuple(tool_specs(session.workspace, self._agent))
        self.hosted = hosted_actions(session, agent)

    @staticmethod
    async def open(agent: str, user: str | None, workspace: Path | None, wait: float, mode: Mode | None) -> RunRegistry:
        session = open_session(workspace)
        if session.workspace.agent(agent).answer is not None:
            raise UsageError(f"agent {agent!r} has an [answer], which only Remit's own graph can check: remove it")
        check_mode(session.workspace.agents[agent], mode)
        runs = RunRegistry(session, agent, user, wait)
        acting_subject(session, runs._principal, user)  # refused here, and not only at the first call
        return runs

    @property
    def tenant(self) -> str:
        return self._session.workspace.settings.tenant

    def check_tools(self, tools: Sequence[Any]) -> None:
        check_given(self._session, self._agent.name, self.hosted, tools)

    # -- called by the graph --

    async def begin(self, asked: Invocation) -> None:
        """Begin the run of a message in a thread, and end the one before it. A message whose run is open goes on with that."""
        by, user = self._who(asked)
        async with self._lock(asked.key):
            run = await self._current(asked, by, user)
            if run is not None and run.message == asked.message and not run.agent_graph.record.state.finished:
                return
            if run is not None:
                await self._move_on(asked, run)
            self._runs[asked.key] = await self._start(asked, by, user)

    async def perform(self, call: GraphCall, tool_of: ToolOf, number: int) -> Performed | Paused:
        """The one result of the call, or what it waits for. `number` counts the interrupts that Remit made in the task before.

        `tool_of` returns the tool of the graph that carries out a call of that action, "" for this call; None: the function in the
        tool's module does.
        """
        run = await self._run(call)
        if not isinstance(run, ExternalRun):
            return run
        done = await run.perform(call, tool_of, InterruptPlace(task=call.node_task, number=number))
        await run.commit()
        return done

    async def answer(self, call: GraphCall, paused: Paused, value: Any, number: int) -> None:
        """Record the value that resumed the interrupt, if it answers what the call waits for."""
        run = await self._run(call)
        if isinstance(run, ExternalRun):
            place = InterruptPlace(task=call.node_task, number=number)
            resumed = Resumed(value=value, by=call.principal or self._principal, place=place)
            run.people.answer(call, paused, resumed)
            await run.commit()

    async def refuse(self, call: GraphCall, paused: Paused) -> Performed:
        run = await self._run(call)
        if not isinstance(run, ExternalRun):
            return run
        done = await run.refuse(paused)
        await run.commit()
        return done

    async def answered(self, state: Any, thread: str | None) -> dict[str, Any]:
        """End the run of an invocation that gave its answer. Returns its receipt for the state of the graph."""
        key = f"thread:{thread}" if thread else read_state(state, "remit_invocation") or ""
        ended = await self.finish(key, last_answer(messages_of(state)))
        items = () if ended is None else ended.receipt
        return {"remit_receipt": [item.model_dump(mode="json") for item in items]}

    # -- called by the program --

    async def run_of(self, key: str) -> str | None:
        if (run := self._runs.get(key)) is not None:
            return run.agent_graph.record.run
        return self._ended[key].result.run if key in self._ended else None

    async def receipt(self, key: str) -> tuple[ReceiptItem, ...]:
        if (run := self._runs.get(key)) is not None:
            return receipt_of(run.agent_graph.record.every())
        return self._ended[key].result.receipt if key in self._ended else ()

    async def waiting(self, key: str) -> list[ApprovalRequested]:
        run = self._runs.get(key)
        return [] if run is None else run.waiter(0.0).waiting()

    async def wait_for_approvals(self, key: str, seconds: float) -> bool:
        run = self._runs.get(key)
        return run is not None and await run.waiter(seconds).wait_for_change()

    async def finish(self, key: str, answer: str) -> RunResult | None:
        """End the open run of the key. Returns its result, or that of the last one; None if there was none."""
        if (run := self._runs.pop(key, None)) is not None:
            return await self._end(key, run, answer)
        return self._ended[key].result if key in self._ended else None

    async def close(self) -> None:
        for key in list(self._runs):
            with suppress(RunEnded):  # the caller of the failed call has already got the error
                await self._runs.pop(key).end("", leave=key.startswith("thread:"))

    # -- the run of a call --

    def _lock(self, key: str) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    def _who(self, asked: Invocation) -> tuple[Principal, str]:
        """Who asks, and the user that the agent acts for."""
        by = asked.principal or self._principal
        check_tenant(self._session.workspace.settings, by)
        check_enabled(self._session.journal, by)
        return by, acting_subject(self._session, by, self._user)

    async def _run(self, call: GraphCall) -> ExternalRun | Performed:
        """The run that the call belongs to; its result, if it is of a turn of an earlier run of the conversation."""
        by, user = self._who(call)
        async with self._lock(call.key):
            run = self._runs.get(call.key)
            if run is not None:
                await self._current(call, by, user)
            other = run is None or (call.message not in ("", run.message) and not run.knows(call.turn))
            if other and call.message and (recorded := await self._recorded(call, by, user)) is not None:
                return recorded
            if run is None and (run := await self._current(call, by, user)) is None:
                run = self._runs[call.key] = await self._start(call, by, user)
        return run

    async def _current(self, asked: Invocation, by: Principal, user: str) -> ExternalRun | None:
        """The open run of the key, in this process or, for a thread, in one that left it; None if there is none."""
        run = self._runs.get(asked.key)
        if run is None and asked.thread and (last := await self._last(asked.thread)) is not None:
            if last.has_ended or not isinstance(asked, GraphCall):
                _check_owner((await self._state_of(asked.key, last)).started, by, user, asked.thread)
            if not last.has_ended:
                run = self._external_run()
                goes_on = Continuation(external_graph=run)
                await run.begin(resume_run(self._session, last.run, by=by, on_event=run.seen, goes_on=goes_on))
                self._runs[asked.key] = run
        if (
            run is not None
            and not _is_owner(started := run.agent_graph.record.state.started, by, user)
            and not (isinstance(asked, GraphCall) and run.continues(asked))
        ):
            _check_owner(started, by, user, asked.thread)
        return run

    def _external_run(self) -> ExternalRun:
        return ExternalRun(self._session, self._agent.model, self._wait, self.hosted)

    async def _start(self, asked: Invocation, by: Principal, user: str) -> ExternalRun:
        if not asked.task:
            raise UsageError(
                "the run has no task: pass RemitMiddleware(…, task=…), or start the state with a human message"
            )
        name, place = await self._next(asked, asked.thread) if asked.thread else (new_run_id(), None)
        task = asked.task
        if asked.around is not None:  # what the model around it wrote is no task of the user
            started = asked.around.state.started
            task = task if started is None else started.task
            place = place or ConversationRun(id=self._conversation(asked.key), number=1, message=asked.message)
            place = inside_of(place, asked.around.state)
        run = self._external_run()
        request = RunRequest(
            agent=self._agent.name,
            task=task,
            subject=user,
            by=by,
            model=run.model,
            run=name,
            thread=asked.thread or "",
            conversation=place,
        )
        await run.begin(start_run(self._session, request, on_event=run.seen, external_graph=run))
        return run

    async def _next(self, asked: Invocation, thread: str) -> tuple[str, ConversationRun]:
        """The id of the next run of the thread, and its place in the conversation."""
        journal, conversation, last = self._session.journal, self._conversation(thread), await self._last(thread)
        before = None if last is None else await self._state_of(asked.key, last)
        name, place = await journal.run_in_thread(next_run, journal, conversation, asked.message, last, before)
        if last is None and asked.has_results:  # of tools that no run has recorded: what they returned is unknown
            place = place.model_copy(update={"labels": (UNTRUSTED,)})
        return name, place

    async def _move_on(self, asked: Invocation, run: ExternalRun) -> None:
        """End the run of the message before. Its calls that still wait for approval are cancelled."""
        if run.is_busy:
            raise UsageError(
                f"calls of an earlier message of the thread {asked.thread!r} are still running: send the next message when the "
                "graph has answered; agents that work in parallel are separate agents of the workspace"
            )
        del self._runs[asked.key]
        with suppress(RunEnded):  # the caller of the failed call has got the error
            await self._end(asked.key, run, asked.answer, moved_on=True)

    async def _end(self, key: str, run: ExternalRun, answer: str, *, moved_on: bool = False) -> RunResult:
        result = await run.end(answer, moved_on=moved_on)
        self._ended[key] = _Ended(result=result, state=run.agent_graph.record.state)
        self._ended.move_to_end(key)
        if len(self._ended) > KEPT:
            self._ended.popitem(last=False)
        return result

    # -- the conversation of a thread --

    def _conversation(self, thread: str) -> str:
        """The id of the conversation: of the thread and the agent, without the person: so a thread has one owner."""
        return digest({"agent": self._agent.name, "thread": thread}).removeprefix("sha256:")[:32]

    async def _last(self, thread: str) -> RunInConversation | None:
        journal = self._session.journal
        return await journal.run_in_thread(last_of_conversation, journal, self._conversation(thread))

    async def _state_of(self, key: str, last: RunInConversation) -> RunState:
        """The state of the last run. Without content only the process that drove it knows what it has read."""
        ended = self._ended.get(key)
        if ended is not None and ended.result.run == last.run and not self._session.workspace.settings.content:
            return ended.state
        return (await self._session.journal.run_in_thread(StoredRecord, self._session.journal, last.run)).state

    async def _recorded(self, call: GraphCall, by: Principal, user: str) -> Performed | None:
        """The result of a call of a turn that an earlier run of the conversation has; None: no run has that turn."""
        journal, conversation = self._session.journal, self._conversation(call.thread or "")
        if not call.thread:
            return None
        for item in await journal.run_in_thread(runs_of_message, journal, conversation, call.message):
            if not item.has_ended:
                continue
            record = await journal.run_in_thread(StoredRecord, journal, item.run)
            _check_owner(record.state.started, by, user, call.thread)
            if record.state.started is None or record.state.started.content != "complete":
                return _unknown_turn(item.run)
            secrets = secrets_of(self._session, self._agent, user)
            sanitizer = sanitizer_of(self._session.workspace, item.run, secrets.values)
            key = turn_key(call.turn, sanitizer)
            for event in record.every():
                if (
                    isinstance(event, ModelResponded)
                    and not event.internal
                    and recorded_key(event.proposed_calls) == key
                ):
                    answered = record.get(f"call.answered/{event.step}/{call.index}/-")
                    if not isinstance(answered, CallAnswered):
                        return _unknown_turn(item.run)
                    return performed_call(record, (event.step, call.index), answered.result)
        return None


def _is_owner(started: RunStarted | None, by: Principal, user: str) -> bool:
    return started is None or (started.subjects.user == user and same_person(started.by, by))


def _check_owner(started: RunStarted | None, by: Principal, user: str, thread: str | None) -> None:
    """Raise UsageError if another person began the conversation.

    A run of its own would not have the labels of what the thread has read, and in this run the second person could approve calls
    that they have asked for.
    """
    if started is not None and not _is_owner(started, by, user):
        what = "this object" if thread is None else f"the thread {thread!r}"
        own = "give each person a thread of their own"
        raise UsageError(f"the run of {what} is of {started.by.subject}, not of {by.subject}: {own}")


def _unknown_turn(run: str) -> Performed:
    message = f"run {run[:8]} of an earlier message has ended, and its record does not have this call"
    error = Error(code="cancelled", message=message, next_step="make the call again in a new message")
    return Performed(result=Failed(error=error))
