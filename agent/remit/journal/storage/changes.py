"""Wakes tasks that wait for another process: one thread of this process waits, however many tasks do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from remit.journal.storage.database import Database

WAIT_S: Final = 1.0  # how long the thread waits at once; it ends when nobody waits any more


class ChangeWatcher:
    """Waits for changes of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    async def wait(self, topics: Sequence[str], before: int, seconds: float) -> None:
        """Return once `version(topics)` of the database differs from `before`, or after so many seconds.

        Also if the database fails: the caller finds that out when it reads.
        """
        changed, until = asyncio.Event(), time.monotonic() + seconds
        entry = (asyncio.get_running_loop(), changed)
        self._join(entry)
        try:
            while self._is_still(topics, before) and (left := until - time.monotonic()) > 0:
                # Not `wait_for`: in Python 3.11 it forgets a cancellation that comes together with the change.
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await changed.wait()
                changed.clear()
        finally:
            with self._lock:
                self._waiting.discard(entry)

    @contextmanager
    def following(self) -> Generator[asyncio.Event]:
        """An event that is set each time a process has recorded anything. INVARIANT: who clears it before reading misses nothing."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        self._join(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                self._waiting.discard(entry)

    def _is_still(self, topics: Sequence[str], before: int) -> bool:
        try:
            return self._database.version(topics) == before
        except self._database.failures:
            return False

    def _join(self, entry: tuple[asyncio.AbstractEventLoop, asyncio.Event]) -> None:
        with self._lock:
            self._waiting.add(entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="remit-changes", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        count = -1
        while True:
            before = count
            try:
                count = self._database.wait(before, WAIT_S)
            except self._database.failures:  # those who wait find out when they read
                count = -1
                time.sleep(WAIT_S)
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                waiting = list(self._waiting)
            for loop, changed in waiting if count != before or count == -1 else ():
                with suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(changed.set)
