"""Content off: no text of the run is on disk. The run does the same, can be read, and says that it cannot be replayed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from remit.broker.approvals import requests as approval
from remit.core.errors import Refusal, UsageError
from remit.journal import StoredRecord, list_runs
from remit.runtime import runner as run
from remit.tracing import open_trace, read_trace
from remit.tracing.reports.verification import verify
from remit.workspace import session
from support.principals import OPERATOR, principal
from support.runs import DONE, Command, Play, turn

WORD = "SECRETPLAN"
TURNS = [
    turn(f"I {WORD} look", ledger__look={"name": "ann", "text": f"the {WORD}"}),
    turn(ledger__pay={"name": "outside", "amount": 1, "memo": WORD}, ledger__look={"name": "gone", "text": WORD}),
    turn(ledger__pay={"name": "ben", "amount": 500, "memo": "asked"}),
    {"say": f"done, {WORD}"},
]
APPROVALS = [{"action": "ledger.pay", "approver": "user:lea", "role": "role:lead"}]


@pytest.fixture
def quiet(clerk: Callable[..., Path]) -> Callable[..., Path]:
    """Writes the ledger workspace, with content off."""

    def write(*args: object, **options: object) -> Path:
        folder = clerk(*args, **options)
        settings = folder / "remit.toml"
        settings.write_text(settings.read_text() + "\n[traces]\ncontent = false\n")
        return folder

    return write


def start(folder: Path, *, wait: float = 0.0) -> tuple[session.WorkspaceSession, run.RunResult]:
    opened = session.open_session(folder)
    work = run.start_run(
        opened,
        run.RunRequest(
            agent="clerk",
            task=f"find the {WORD}",
            subject="user:operator",
            by=OPERATOR,
            model=run.open_model_of(opened, "clerk"),
        ),
        wait=wait,
    )
    return opened, asyncio.run(work)


def test_with_content_off_no_text_is_on_disk_and_the_run_does_the_same(
    quiet: Callable[..., Path], play: Play, command: Command
) -> None:
    """Rules that read arguments, labels and approvals decide as before; the user still gets the answer."""
    folder = quiet(TURNS, approvals=APPROVALS)
    opened, ended = start(folder)
    assert ended.finished is not None
    assert ended.finished.answer == f"done, {WORD}"
    opened.journal.close()
    for path in (folder / "traces").rglob("*"):
        if path.is_file() and path.parent.name != "objects":  # objects hold the prompt, but no text of the run
            assert WORD.encode() not in path.read_bytes(), path
    trace = open_trace(opened.traces, session.open_session(folder).journal, ended.run)
    loud = play(TURNS, approvals=APPROVALS)
    assert [item.type for item in trace.records] == [item.type for item in loud.records]
    codes = [getattr(getattr(item.event, "result", None), "error", None) for item in trace.records]
    assert [error.code for error in codes if error] == ["policy_denied", "tool_failed"]
    assert verify(read_trace(opened.traces / f"{ended.run}.jsonl"), original=trace.chain) == ()


def test_list_and_show_say_that_the_content_was_omitted(quiet: Callable[..., Path], command: Command) -> None:
    folder = quiet(TURNS, approvals=APPROVALS)
    _, ended = start(folder)
    assert "(content omitted: not replayable)" in command(folder, "trace", "list").out
    shown = command(folder, "trace", "show", ended.run).out
    assert "content omitted: this run can be read, not replayed" in shown
    assert "ledger.pay account:outside" in shown
    for args in (["replay", ended.run], ["trace", "shrink", ended.run, "--keep", "code=tool_failed"]):
        done = command(folder, *args)
        assert done.code == 2
        assert "the content of the run was omitted: it can be read, not replayed" in done.err
    assert "remit replay" not in shown.split("\nnext commands\n")[1]


def test_with_content_off_an_approver_still_sees_the_call_and_the_run_continues(quiet: Callable[..., Path]) -> None:
    folder = quiet(TURNS[2:])
    opened = session.open_session(folder)

    async def both() -> run.RunResult:
        model = run.open_model_of(opened, "clerk")
        begin = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model)
        working = asyncio.create_task(run.start_run(opened, begin, wait=60))
        until = time.monotonic() + 60
        while time.monotonic() < until and not working.done():
            await asyncio.sleep(0.05)
            for row in list_runs(opened.journal):
                record = StoredRecord(opened.journal, row.run)
                for requested in approval.waiting_approvals(record):
                    assert "ben" in requested.summary
                    approved = approval.Approval(by=principal("lea"), role="role:lead")
                    with suppress(Refusal):  # approved already; the run has not read it yet
                        approval.grant_approval(
                            record, requested, approved, roles_of=opened.policy.roles_of, now=time.time_ns()
                        )
        return await working

    ended = asyncio.run(both())
    assert ended.finished is not None
    assert ended.finished.outcome == "completed"


def test_with_content_off_a_run_without_approval_ends_because_no_process_can_resume_it(
    quiet: Callable[..., Path],
) -> None:
    folder = quiet([*TURNS[2:3], DONE])
    opened, ended = start(folder)
    assert ended.finished is not None
    assert (ended.finished.outcome, ended.finished.code) == ("stopped", "cancelled")
    with pytest.raises(UsageError, match="recorded without content"):
        asyncio.run(run.resume_run(opened, ended.run, by=OPERATOR))
