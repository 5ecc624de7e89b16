"""The runs of one agent that external graphs drive: finds the run of a call, starts it, or takes it up again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from remit.broker import (
    receipt_of,
)
from remit.core import (
    Principal,
    ReceiptItem,
    RunEnded,
    ToolSpec,
    UsageError,
    same_person,
)
from remit.core.events import ApprovalRequested, RunStarted
from remit.core.parsing import digest
from remit.journal import RunQuery, list_runs
from remit.langchain.answers import InterruptPlace, Resumed
from remit.langchain.external_run import ExternalRun, ToolOf
from remit.langchain.graph_call import GraphCall, Paused, Performed
from remit.langchain.state import last_answer, messages_of, read_state
from remit.langchain.turns import (
    hosted_actions,
)
from remit.runtime import (
    Continuation,
    RunRequest,
    RunResult,
    acting_subject,
    new_run_id,
    resume_run,
    start_run,
)
from remit.workspace import WorkspaceSession, check_tenant, open_session, principal_of_process, tool_specs


class RunRegistry:
    """The open runs of one agent. Finds the run that a call belongs to, and starts or resumes it at the first call."""

    def __init__(self, session: WorkspaceSession, agent: str, user: str | None, wait: float) -> None:
        self._session = session
        self._agent = session.workspace.agents[agent]
        self._user = user
        self._principal = principal_of_process(session.workspace.settings)
        self._wait = wait
        self._runs: dict[str, ExternalRun] = {}
        self._opening = asyncio.Lock()
        self.specs: Sequence[ToolSpec] = tool_specs(session.workspace, self._agent)
        self.hosted = hosted_actions(session, agent)

    @staticmethod
    async def open(agent: str, user: str | None, workspace: Path | None, wait: float) -> RunRegistry:
        session = open_session(workspace)
        if agent not in session.workspace.agents:
            known = ", ".join(sorted(session.workspace.agents)) or "none"
            raise UsageError(f"there is no agent {agent!r} here; agents: {known}")
        if session.workspace.agents[agent].answer is not None:
            raise UsageError(f"agent {agent!r} has an [answer], which only Remit's own graph can check: remove it")
        runs = RunRegistry(session, agent, user, wait)
        acting_subject(session, runs._principal, user)  # refused here, and not only at the first call
        return runs

    async def perform(self, call: GraphCall, tool_of: ToolOf, number: int) -> Performed | Paused:
        """The one result of the call, or what it waits for. `number` counts the interrupts that Remit made in the task before.

        `tool_of` returns the tool of the graph that carries out a call of that action, "" for this call; None: the function in the
        tool's module does.
        """
        run = await self._run(call)
        done = await run.perform(call, tool_of, InterruptPlace(task=call.node_task, number=number))
        await run.commit()
        return done

    async def answer(self, call: GraphCall, paused: Paused, value: Any, number: int) -> None:
        """Record the value that resumed the interrupt, if it answers what the call waits for."""
        run = await self._run(call)
        place = InterruptPlace(task=call.node_task, number=number)
        resumed = Resumed(value=value, by=call.principal or self._principal, place=place)
        run.people.answer(call, paused, resumed)
        await run.commit()

    async def refuse(self, call: GraphCall, paused: Paused) -> Performed:
        run = await self._run(call)
        result = await run.refuse(call, paused)
        await run.commit()
        return Performed(result=result)

    async def run_of(self, key: str) -> str | None:
        run = self._runs.get(key)
        return None if run is None else run.agent_graph.record.run

    async def receipt(self, key: str) -> tuple[ReceiptItem, ...]:
        run = self._runs.get(key)
        return () if run is None else receipt_of(run.agent_graph.record.every())

    async def waiting(self, key: str) -> list[ApprovalRequested]:
        run = self._runs.get(key)
        return [] if run is None else run.waiter(0.0).waiting()

    async def wait_for_approvals(self, key: str, seconds: float) -> bool:
        run = self._runs.get(key)
        return run is not None and await run.waiter(seconds).wait_for_change()

    async def finish(self, key: str, answer: str) -> RunResult | None:
        run = self._runs.pop(key, None)
        return None if run is None else await run.end(answer)

    async def answered(self, state: Any, thread: str | None) -> dict[str, Any]:
        """The receipt for the state of a graph that gave its answer. Ends the run of an invocation without a thread."""
        if thread:
            items = await self.receipt(f"thread:{thread}")
        else:
            key = read_state(state, "remit_invocation") or ""
            ended = await self.finish(key, last_answer(messages_of(state)))
            items = () if ended is None else ended.receipt
        return {"remit_receipt": [item.model_dump(mode="json") for item in items]}

    async def close(self) -> None:
        for key in list(self._runs):
            with suppress(RunEnded):  # the caller of the failed call has already got the error
                await self._runs.pop(key).end("", leave=key.startswith("thread:"))

    async def _run(self, call: GraphCall) -> ExternalRun:
        by = call.principal or self._principal
        check_tenant(self._session.workspace.settings, by)
        user = acting_subject(self._session, by, self._user)
        async with self._opening:
            run = self._runs.get(call.key)
            if run is None:
                run = self._runs[call.key] = await self._open_run(call, by, user)
        started = run.agent_graph.record.state.started
        assert started is not None  # `begin` has waited for it
        # A run of its own would not have the labels of what the thread has read, and in this run the second person could
        # approve calls that they have asked for.
        own = started.subjects.user == user and same_person(started.by, by)
        if not own and not run.continues(call):
            what = "this object" if call.thread is None else f"the thread {call.thread!r}"
            fix = "give each person a thread of their own"
            raise UsageError(f"the run of {what} is of {started.by.subject}, not of {by.subject}: {fix}")
        return run

    async def _open_run(self, call: GraphCall, by: Principal, user: str) -> ExternalRun:
        """INVARIANT: a thread has one run permanently, even after it has ended, so that its labels stay with the thread."""
        name = new_run_id()
        if call.thread is not None:
            identity = {"agent": self._agent.name, "user": user, "thread": call.thread}
            name = digest(identity).removeprefix("sha256:")[:32]
        run = ExternalRun(self._session, self._agent.model, self._wait, self.hosted)
        if await self._session.journal.run_in_thread(self._session.journal.head, name) is None and call.resumes:
            name = await self._session.journal.run_in_thread(self._run_in_thread, call.thread or "") or name
        if await self._session.journal.run_in_thread(self._session.journal.head, name) is not None:
            work = resume_run(self._session, name, by=by, on_event=run.seen, goes_on=Continuation(external_graph=run))
        elif not call.task:
            raise UsageError(
                "the run has no task: pass RemitMiddleware(…, task=…), or start the state with a human message"
            )
        else:
            thread, agent = call.thread or "", self._agent.name
            request = RunRequest(
                agent=agent, task=call.task, subject=user, by=by, model=run.model, run=name, thread=thread
            )
            work = start_run(self._session, request, on_event=run.seen, external_graph=run)
        await run.begin(work)
        return run

    def _run_in_thread(self, thread: str) -> str:
        """The open run of that thread, of any user; "" without one."""
        journal, agent = self._session.journal, f"agent:{self._agent.name}"
        for row in list_runs(journal, RunQuery(agent=agent, unfinished=True)):
            item = journal.get(row.run, "run.started/-/-/-")
            if thread and item is not None and isinstance(item.event, RunStarted) and item.event.thread == thread:
                return row.run
        return ""
