"""Commits to a SQLite file that need not be on disk: they are made at once, and the event loop waits for no other writer and no disk."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from remit.journal import Journal, LiveRecord, open_journal
from remit.journal.storage.sqlite import CHECKPOINT
from support.events import RUN, started, turn


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def writers(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that append, in order."""
    names: list[str] = []
    database = journal.database
    for name in ("append", "append_now"):
        original = getattr(database, name)

        def noted(batch: object, original: object = original) -> object:
            done = original(batch)  # type: ignore[operator]
            if done is not False:
                names.append(threading.current_thread().name)
            return done

        monkeypatch.setattr(database, name, noted)
    return names


async def test_a_commit_that_must_be_on_disk_is_made_in_a_thread_and_another_one_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_journal(file) as journal:
        names = writers(journal, monkeypatch)
        async with journal.lease(RUN) as lease:
            record = LiveRecord(journal, lease)
            record.append(started(), durable=True)
            await record.commit()
            record.append(turn(0)[0])
            await record.commit()
        assert names[0].startswith("remit-journal")
        assert names[1:] == [threading.current_thread().name]


async def test_the_event_loop_runs_while_another_process_writes_and_the_commit_follows(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_journal(file) as journal:
        names = writers(journal, monkeypatch)
        async with journal.lease(RUN) as lease:
            record = LiveRecord(journal, lease)
            record.append(started())
            await record.commit()
            other = sqlite3.connect(file, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            record.append(turn(0)[0])
            commit = asyncio.create_task(record.commit())
            for _ in range(20):
                await asyncio.sleep(0.01)
                assert not commit.done()
            other.execute("COMMIT")
            other.close()
            await commit
        assert len(journal.events(RUN)) == 2
        assert names[1].startswith("remit-journal")


async def test_the_log_of_many_small_commits_grows_no_further(file: Path) -> None:
    sizes: list[int] = []
    with open_journal(file) as journal:
        async with journal.lease(RUN) as lease:
            record = LiveRecord(journal, lease)
            for event in [started(), *(event for step in range(2 * CHECKPOINT) for event in turn(step))]:
                record.append(event)
                await record.commit()
                sizes.append(file.with_name(f"{file.name}-wal").stat().st_size)
    assert max(sizes) < 1.5 * sizes[CHECKPOINT]
