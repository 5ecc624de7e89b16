"""Journals of tests, in both stores: other processes that use them, changes behind their back, and what is stored."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path
from typing import Any, Final

import pytest

from remit.journal import Journal, apply_event, check_projections
from remit.journal.run_state import RunState
from remit.journal.storage.core_tables import TABLES
from remit.journal.storage.database import Batch
from support.cli_server import server

SCHEMA: Final = "remit_default"
ON_FILE: Final = pytest.mark.parametrize("place", ["sqlite"], indirect=True)
ON_POSTGRES: Final = pytest.mark.parametrize("place", ["postgresql"], indirect=True)
WAIT_S: Final = 60.0
# A row for each connection to this database of PostgreSQL that waits for a lock of another one.
WAITING_FOR_LOCK: Final = (
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)

OPEN: Final = """
import sys
from pathlib import Path
from remit.journal import open_journal
place = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
"""


class Script:
    """Another process that runs a text of Python, with the place of a journal and other arguments in `sys.argv`.

    It is forked from one that has imported Remit (`support.cli_server`), which saves two seconds.
    """

    def __init__(self, text: str, place: Path | str, args: tuple[str, ...]) -> None:
        here, there = socket.socketpair()
        self._socket = here
        given = (there, dict(os.environ), text, (str(place), *args))
        self._process = server().Process(target=_run, args=given, daemon=True)  # it ends with a test that fails
        self._process.start()
        there.close()
        self._input, self._output = here.makefile("w"), here.makefile("r")

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def send(self, line: str = "") -> None:
        """Give the script one line to read."""
        self._input.write(f"{line}\n")
        self._input.flush()

    def read(self) -> str:
        """The next line that the script prints, without its end; "" if it has ended."""
        return self._output.readline().removesuffix("\n")

    def end(self) -> str:
        """The rest of what the script prints, once it has ended by itself: it reads no more lines."""
        with suppress(OSError):  # it has ended
            self._socket.shutdown(socket.SHUT_WR)
        rest = self._output.read()
        self._process.join(WAIT_S)
        code = self._process.exitcode
        self.kill()
        assert code == 0, f"the script ended with {code}"
        return rest

    def kill(self) -> str:
        """End it with kill -9, and return the rest of what it printed."""
        self._process.kill()
        self._process.join(WAIT_S)
        rest = "" if self._output.closed else self._output.read()
        for closing in (self._input, self._output, self._socket):
            with suppress(OSError):
                closing.close()
        return rest


def _run(connection: socket.socket, environment: dict[str, str], text: str, args: tuple[str, ...]) -> None:
    """In the new process."""
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin, sys.stdout = connection.makefile("r"), connection.makefile("w")
    sys.argv = ["script", *args]
    exec(OPEN + text, {})
    sys.stdout.flush()


def script(text: str, place: Path | str, *args: str) -> Script:
    """Another process that runs this code; `journal` is the journal, open."""
    return Script(f"journal = open_journal(place)\n{text}", place, args)


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
        write_now = journal.write_now

        def noted_now(batch: Batch) -> bool:
            written = self._open.is_set() and write_now(batch)
            if written:
                self.batches.append(batch)
            return written

        monkeypatch.setattr(journal, "write_now", noted_now)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let no batch through until the end of the block."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()
