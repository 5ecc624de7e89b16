"""What a person's runs recorded is erased from every file and table, and every chain still verifies."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from remit.core import UsageError
from remit.core.events import EVENT, RunErased, RunStarted
from remit.journal import (
    WORKSPACE_RUN,
    Journal,
    RunQuery,
    check_projections,
    list_runs,
    open_journal,
    seal_run,
)
from remit.replay.replayer import check_replayable
from remit.runtime import erasable, erase_runs
from remit.tracing import TraceFile, read_trace, trace_path
from remit.workspace.session import WorkspaceSession, open_session
from support.events import a_whole_run, append
from support.postgres import Server
from support.principals import principal

RUNS: Final = int(os.environ.get("REMIT_ERASED_RUNS", "24"))
CANARIES: Final = 50
TEXTS: Final = frozenset({"task", "prompt", "text", "answer", "message", "summary", "stderr", "arguments", "value"})


def marked(value: Any, mark: str, name: str = "") -> Any:
    """The value with the mark in every text that people, models and tools write."""
    if isinstance(value, dict):
        return {
            key: marked(item, mark, key if key in TEXTS else name if name in TEXTS else key)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [marked(item, mark, name) for item in value]
    if isinstance(value, str) and name in TEXTS:
        try:
            return json.dumps(marked(json.loads(value), mark, name)) if name == "arguments" else f"{value} {mark}"
        except ValueError:
            return f"{value} {mark}"
    return value


def record_run(session: WorkspaceSession, run: str, user: str, mark: str) -> None:
    """Record a whole run of this user, with the mark in its texts, and write its trace file."""
    for event in a_whole_run():
        values = marked(event.model_dump(mode="json"), mark)
        made = EVENT.validate_json(json.dumps(values))
        if isinstance(made, RunStarted):
            made = made.model_copy(update={"subjects": made.subjects.model_copy(update={"user": user})})
        append(session.journal, run, made)
    file = TraceFile(session.traces, run)
    file.rebuild(session.journal.links(run))
    file.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    location = tmp_path / "store" / "journal.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    with open_journal(location) as opened:
        yield opened


def files_with(folder: Path, marks: list[str]) -> list[str]:
    """The files below the folder that contain one of the marks."""
    found: list[str] = []
    for root, _, names in os.walk(folder):  # unlike `rglob`, it goes on when the database deletes a folder
        for path in (Path(root, name) for name in names):
            if path.is_symlink():
                continue
            with suppress(FileNotFoundError):
                data = path.read_bytes()
                found += [f"{path.name}: {mark}" for mark in marks if mark.encode() in data]
    return found


def test_nothing_of_an_erased_user_is_left_in_any_file_or_table(
    clerk: Callable[..., Path], journal: Journal, request: pytest.FixtureRequest
) -> None:
    session = replace(open_session(clerk([])), journal=journal)
    chance = random.Random(17)
    marks = [f"canary{chance.getrandbits(60):015x}" for _ in range(CANARIES)]
    mine = {f"{number:032x}": marks[number % CANARIES] for number in range(1, RUNS + 1)}
    for run, mark in mine.items():
        record_run(session, run, "user:erin", mark)
    others = [f"{number:032x}" for number in range(10**6, 10**6 + 3)]
    for run in others:
        record_run(session, run, "user:otto", "kept")
    for run in list(mine)[::2]:
        assert seal_run(journal, run)
    before = {run: journal.chain(run).head for run in mine}
    assert files_with(session.root, marks)  # the search finds them

    found = erasable(session, RunQuery(user="user:erin"))
    assert {row.run for row in found.finished} == set(mine)
    erase_runs(session, [row.run for row in found.finished], by=principal("dpo"))

    for run in mine:
        chain = journal.chain(run)
        assert chain.head == before[run]
        assert {fault.kind for fault in chain.verify()} == {"erased"}
        with pytest.raises(UsageError, match="erased"):
            check_replayable([link.recorded() for link in chain.links])
        copy = read_trace(trace_path(session.traces, run))
        assert [link.header for link in copy.chain.links] == [link.header for link in chain.links]
    assert all(journal.verify(run) == () for run in others)
    rows = list(list_runs(journal))
    assert {row.run for row in rows} == {*mine, *others}
    assert {(row.user, row.task) for row in rows if row.run in mine} == {("", "")}
    assert check_projections(journal) == []
    erased = [item.event for item in journal.events(WORKSPACE_RUN)]
    assert {event.run for event in erased if isinstance(event, RunErased)} == set(mine)
    _search(session, journal, request, [*marks, "user:erin"])


def _search(session: WorkspaceSession, journal: Journal, request: pytest.FixtureRequest, texts: list[str]) -> None:
    """Search every file of the workspace and of the database, after the database has written what it holds back."""
    if journal.database.dialect == "sqlite":
        journal.close()
        assert files_with(session.root.parent, texts) == []
        return
    server: Server = request.getfixturevalue("postgres_server")
    database = journal.name.rpartition("/")[2]
    journal.close()
    with server.admin(database) as admin:
        admin.execute("VACUUM FULL")
        admin.execute("SELECT pg_switch_wal()")
        admin.execute("CHECKPOINT")
    assert files_with(session.root.parent, texts) == []
    assert files_with(server.folder, texts) == []
