"""The runs of one MCP client: idle ones end, and what they have read counts in the next one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from remit.client import AsyncRemit
from remit.core import ProposedCall, Refusal
from remit.journal import RunSummary, list_runs
from remit.server.driven import DrivenRuns
from remit.server.handlers.calls import CallAnswer
from remit.server.mcp import conversation as conversations
from remit.server.mcp.conversation import ClientCall, Conversation
from remit.workspace import open_session
from support.principals import principal

ID: Final = "c" * 32
READ: Final[Any] = {"path": "runbooks/payments-pool.md", "lines": 1}
CLOSE: Final[Any] = {"key": "INC-2041", "reason": "fixed"}


class Program:
    """One client of a workspace."""

    def __init__(self, folder: Path, *, idle: float = 60.0, named: bool = False) -> None:
        self.client = AsyncRemit(open_session(folder), principal("operator"))
        self.driven = DrivenRuns(2)
        self.conversation = Conversation("triage", ID, self.driven, idle=idle, named=named)

    async def call(self, name: str, arguments: dict[str, Any], **changes: Any) -> CallAnswer:
        proposed = ProposedCall(name=name, arguments=json.dumps(arguments))
        return await self.conversation.call(
            ClientCall(client=self.client, program="test", proposed=proposed, **changes)
        )

    async def until_ended(self) -> None:
        async with asyncio.timeout(20):
            while self.conversation.is_open or len(self.driven):
                await asyncio.sleep(0.01)

    def runs(self) -> list[RunSummary]:
        return sorted(list_runs(self.client.session.journal), key=lambda row: row.started_at)


@pytest_asyncio.fixture
async def program(session: Path) -> AsyncIterator[Program]:
    found = Program(session)
    yield found
    await found.conversation.end()
    await found.client.close()


async def test_an_idle_run_ends_and_the_next_call_begins_one_with_its_labels_and_its_files(session: Path) -> None:
    program = Program(session, idle=0.05)
    await program.call("files__read", READ)
    await program.until_ended()
    written = await program.call("files__write", {"path": "reports/found.md", "text": "the pool is too small"})
    await program.until_ended()
    again = await program.call("files__read", {"path": "reports/found.md"})
    await program.until_ended()
    first, second, third = program.runs()
    assert [run.outcome for run in program.runs()] == ["completed"] * 3
    assert (first.labels, second.labels, third.labels) == (("untrusted",),) * 3
    assert (written.ok, again.ok) == (True, True), (written, again)


async def test_what_an_unnamed_conversation_has_read_is_forgotten_after_a_day_and_that_of_a_named_one_never(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "KEPT_S", 0.0)
    for named, labels in ((True, ("untrusted",)), (False, ())):
        program = Program(session, named=named)
        await program.call("files__read", READ)
        await program.conversation.end()
        await program.call("tickets__get", {"key": "nothing"})
        await program.conversation.end()
        assert program.runs()[-1].labels == labels
        await program.client.close()


async def test_a_result_comes_back_only_while_the_conversation_has_its_labels(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "KEPT_S", 0.0)
    for named in (True, False):
        program = Program(session, named=named)
        waits = await program.call("tickets__close", CLOSE)
        assert waits.approval is not None
        conversation, client, request = program.conversation, program.client, waits.approval.id
        await conversation.cancel(client, "program", request)
        assert (await conversation.poll(client, "program", request)).answer is not None
        await conversation.end()
        runs = len(program.runs())
        if named:
            assert (await conversation.poll(client, "program", request)).answer is not None
        else:
            with pytest.raises(Refusal, match="there is no such request"):
                await conversation.poll(client, "program", request)
        assert len(program.runs()) == runs, "to ask begins no run"
        await client.close()


async def test_a_run_that_waits_for_people_stays_open_and_another_process_goes_on_with_it(session: Path) -> None:
    program = Program(session, idle=0.05)
    waits = await program.call("tickets__close", CLOSE)
    await asyncio.sleep(0.2)
    assert program.conversation.is_open
    await program.conversation.end(leave=True)
    later = Program(session)
    again = await later.call("tickets__close", CLOSE)
    assert again.approval is not None
    assert waits.approval is not None
    assert (again.run, again.approval.id) == (waits.run, waits.approval.id)
    await later.conversation.end()
    assert [run.state for run in later.runs()] == ["finished"]


async def test_a_call_that_its_client_cancels_is_stopped_and_its_outcome_recorded(program: Program) -> None:
    script = "import time\ntime.sleep(20)\n"
    task = asyncio.ensure_future(program.call("python__run", {"code": script}))
    journal = program.client.session.journal
    async with asyncio.timeout(20):
        while not (rows := program.runs()) or journal.get(rows[0].run, "attempt.begun/0/0/1") is None:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while journal.get(rows[0].run, "call.answered/0/0/-") is None:
            await asyncio.sleep(0.02)
    answered = journal.get(rows[0].run, "call.answered/0/0/-")
    assert answered is not None
    assert answered.event.result.error.code == "cancelled"  # type: ignore[union-attr]
    assert (await program.call("files__read", READ)).ok, "the run goes on"


async def test_a_request_of_another_conversation_or_of_another_call_is_refused(program: Program) -> None:
    waits = await program.call("tickets__close", CLOSE)
    assert waits.approval is not None
    for id, arguments in ((waits.approval.id, {**CLOSE, "reason": "other"}), ("f" * 32 + "/0.0", CLOSE), ("x", CLOSE)):
        with pytest.raises(Exception, match="no such request"):
            await program.call("tickets__close", arguments, request=id)
    assert (await program.call("tickets__close", CLOSE, request=waits.approval.id)).approval == waits.approval
