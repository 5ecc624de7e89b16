"""Steps in the life of a scripted run of the ledger workspace: kill, resume, approve, start another, replay."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from remit.broker.approvals import requests as approval
from remit.client import replay_trace
from remit.core.calls import ProposedCall
from remit.core.events import ApprovalRequested, Usage
from remit.core.messages import ModelTurn
from remit.journal import Journal, StoredRecord
from remit.journal.opening import open_journal
from remit.journal.storage.database import Batch
from remit.replay.replayer import ReplayResult
from remit.runtime import runner as run
from remit.tracing import read_trace
from remit.workspace.session import WorkspaceSession, open_session
from support.principals import OPERATOR, principal
from support.runs import DONE, Played, turn

RUN: Final = "e" * 32
LARGE: Final = [turn(ledger__pay={"name": "ann", "amount": 5000}), DONE]
TAKES: Final = Usage(input_tokens=900, output_tokens=100)
PRICE: Final = '[[model]]\nname = "script:script.yaml"\ninput = 1.0\noutput = 10.0\n'


class Killed(BaseException):
    """Stands for the end of the process by kill -9: no code after it runs."""


def _die() -> None:
    raise Killed


def die_at(journal: Journal, kind: str, die: Callable[[], None] = _die) -> None:
    """End the process of the next run once the first event of that type, or of that key, is written; nothing after it is.

    By default, an exception that nothing catches stands for the end.
    """
    write, write_now = journal.write, journal.write_now

    def write_and_die(batch: Batch) -> None:
        for number, link in enumerate(batch.links, 1):
            if kind in (link.type, link.key):
                journal.write, journal.write_now = write, write_now  # type: ignore[method-assign]
                write(replace(batch, links=batch.links[:number]))
                die()
        write(batch)

    _write_only_by(journal, write_and_die)


def _write_only_by(journal: Journal, write: Callable[[Batch], None]) -> None:
    journal.write = write  # type: ignore[method-assign]
    journal.write_now = lambda _: False  # type: ignore[method-assign]


@contextmanager
def dying(journal: Journal, kind: str) -> Iterator[None]:
    """End the process after what it writes together with the first event of that type: a kill never parts what is written at once."""
    write, write_now = journal.write, journal.write_now

    def write_and_die(batch: Batch) -> None:
        write(batch)
        if any(link.type == kind for link in batch.links):
            raise Killed

    _write_only_by(journal, write_and_die)
    try:
        yield
    finally:
        journal.write, journal.write_now = write, write_now  # type: ignore[method-assign]


def clock_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A clock of this process that a test may move: the number in the list is what it is ahead, in nanoseconds."""
    ahead, now = [0], time.time_ns

    def moved() -> int:
        return now() + ahead[0]

    monkeypatch.setattr(time, "time_ns", moved)
    monkeypatch.setitem(open_journal.__kwdefaults__, "clock", moved)
    return ahead


def killed(folder: Path, at: str) -> WorkspaceSession:
    """A run whose process dies when the first event of that type is recorded."""
    opened = open_session(folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model, run=RUN)
    die_at(opened.journal, at)
    with pytest.raises(Killed):
        asyncio.run(run.start_run(opened, start))
    return opened


def resumed_after_kill(folder: Path) -> Played:
    """Resume the killed run in another session."""
    opened = open_session(folder)
    return Played(folder=folder, opened=opened, ended=asyncio.run(run.resume_run(opened, RUN, by=OPERATOR)))


def resumed(played: Played) -> Played:
    ended = asyncio.run(run.resume_run(played.opened, played.ended.run, by=OPERATOR))
    return Played(folder=played.folder, opened=played.opened, ended=ended)


def another(played: Played, turns: list[dict[str, Any]], *, user: str = "user:operator") -> Played:
    """Another run in the same workspace."""
    (played.folder / "agent/clerk/script.yaml").write_text(json.dumps({"turns": turns}))
    opened = open_session(played.folder)
    model = run.open_model_of(opened, "clerk")
    start = run.RunRequest(agent="clerk", task="again", subject=user, by=OPERATOR, model=model)
    return Played(folder=played.folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))


class Metered:
    """A model that reports the token usage of each of its turns; the last one is that of all later turns, too."""

    scripted = True

    def __init__(self, *usages: Usage, name: str = "script:script.yaml") -> None:
        self.name = name
        self._usages = usages

    async def think(self, step: int, messages: Any, tools: Sequence[Any]) -> ModelTurn:
        proposed = ProposedCall(name="ledger__look", arguments=json.dumps({"name": f"a{step}"}))
        return ModelTurn(
            text="",
            proposed_calls=(proposed,),
            finish="tool_calls",
            usage=self._usages[min(step, len(self._usages) - 1)],
        )


def metered(folder: Path, *usages: Usage, name: str = "script:script.yaml") -> Played:
    """A run whose model calls a tool in each turn and reports these usages, to the end of its budget."""
    opened, model = open_session(folder), Metered(*usages, name=name)
    start = run.RunRequest(agent="clerk", task="x", subject="user:operator", by=OPERATOR, model=model)
    return Played(folder=folder, opened=opened, ended=asyncio.run(run.start_run(opened, start)))


def waiting(played: Played) -> ApprovalRequested:
    (requested,) = played.ended.waiting
    return requested


def grant(played: Played, approver: str, *, role: str = "role:lead", now: int | None = None) -> None:
    """Approve the one call that waits for approval."""
    granted(played, waiting(played), approver, role=role, now=now)


def granted(
    played: Played,
    requested: ApprovalRequested,
    approver: str = "user:lea",
    *,
    role: str = "role:lead",
    now: int | None = None,
) -> None:
    approval.grant_approval(
        StoredRecord(played.opened.journal, played.ended.run),
        requested,
        approval.Approval(by=principal(approver), role=role),
        roles_of=played.opened.policy.roles_of,
        now=now or time.time_ns(),
    )


def replayed(played: Played) -> ReplayResult:
    return asyncio.run(replay_trace(read_trace(played.ended.trace)))
