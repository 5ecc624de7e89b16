"""Journals of tests, in both stores: other processes that use them, changes behind their back, and what is stored."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, Final

import pytest

from remit.journal import Journal, apply_event, check_projections
from remit.journal.run_state import RunState
from remit.journal.storage.database import Batch
from remit.journal.storage.tables import TABLES

SCHEMA: Final = "remit_default"
ON_FILE: Final = pytest.mark.parametrize("place", ["sqlite"], indirect=True)
ON_POSTGRES: Final = pytest.mark.parametrize("place", ["postgresql"], indirect=True)
WAIT_S: Final = 60.0
# A row for each connection to this database of PostgreSQL that waits for a lock of another one.
WAITING_FOR_LOCK: Final = (
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)

OPEN = """
import sys
from pathlib import Path
from remit.journal import open_journal
place = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
journal = open_journal(place)
"""


def script(text: str, place: Path | str, *args: str) -> subprocess.Popen[str]:
    """Another process that opens the journal as `journal`, and runs this code with the other arguments in `sys.argv[2:]`."""
    line = [sys.executable, "-c", OPEN + text, str(place), *args]
    return subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def query(place: Path | str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on the tables of a journal directly, in one transaction. The rows of the last one, if it has any."""
    if isinstance(place, Path):
        database = sqlite3.connect(place)
        try:
            with database:
                found = [database.execute(statement).fetchall() for statement in statements]
        finally:
            database.close()
        return found[-1]
    import psycopg

    with psycopg.connect(place) as connection:
        connection.execute(f"SET search_path TO {SCHEMA}")  # type: ignore[arg-type]
        cursors = [connection.execute(statement) for statement in statements]  # type: ignore[arg-type]
        return cursors[-1].fetchall() if cursors[-1].description else []


def empty(place: Path | str) -> None:
    """Delete every row of a journal: each example of a property has one of its own, without the time to make it."""
    query(place, *(f"DELETE FROM {name}" for name in TABLES if name != "remit_schema"))


def until(true: Callable[[], Any]) -> None:
    """Wait until it is true. Fails after a minute."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, "it did not happen within a minute"
        time.sleep(0.01)


async def soon(true: Callable[[], Any]) -> None:
    """As `until`, while the event loop goes on."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, "it did not happen within a minute"
        await asyncio.sleep(0.005)


def folded(journal: Journal, run: str) -> RunState:
    """The state that follows from the stored events of a run."""
    return reduce(apply_event, journal.events(run), RunState())


def is_whole(journal: Journal, *runs: str) -> bool:
    """True if the chains verify, and the projections are what the events say."""
    assert check_projections(journal) == []
    assert [fault for run in runs for fault in journal.verify(run)] == []
    return True


class Writes:
    """The batches that a journal was asked to write. `paused` lets none of them through until its block ends."""

    def __init__(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[Batch] = []
        self._open = threading.Event()
        self._open.set()
        write = journal.write

        def noted(batch: Batch) -> None:
            self.batches.append(batch)
            assert self._open.wait(WAIT_S)
            write(batch)

        monkeypatch.setattr(journal, "write", noted)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let no batch through until the end of the block."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()
