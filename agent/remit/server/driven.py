"""The runs that this process drives, beside the requests that started them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeAlias

from remit.client import CallResult
from remit.core import RemitError
from remit.core.events import ApprovalRequested, Recorded
from remit.runtime import RunResult
from remit.server.http.answers import HttpRefusal

MOST_WAITING: Final = 10  # times as many runs may wait for people as may go on
# Drives a run to its end or to where it pauses, or leaves it to the workers; the argument gets each event after it is recorded.
Drive: TypeAlias = Callable[[Callable[[Recorded], None]], Coroutine[Any, Any, RunResult | CallResult | str]]
_log: Final = logging.getLogger("remit.server")


class DrivenRun:
    """One run that goes on in this process until it ends or pauses."""

    def __init__(self, run: str, drive: Drive) -> None:
        self.run: Final = run
        self._changed = asyncio.Event()
        self.begun = False
        self.idle = False  # True while nothing of it happens until a client makes a call
        self.asks: ApprovalRequested | None = None  # the request for which the run waits now
        self.task: Final = asyncio.ensure_future(drive(self._see))
        self.task.add_done_callback(lambda _: self._changed.set())

    def _see(self, recorded: Recorded) -> None:
        self.begun = True
        self.asks = recorded.event if isinstance(recorded.event, ApprovalRequested) else None
        self._changed.set()

    async def until_begun(self) -> None:
        """Return once its first event is recorded. Raises what kept it from starting."""
        await self._until(lambda: self.begun, None)
        if not self.begun:
            self.task.result()

    async def until_asks(self, seconds: float) -> None:
        """Return once it waits for people, ends or pauses, or after so many seconds."""
        await self._until(lambda: self.asks is not None, seconds)

    async def until_ended(self, seconds: float) -> None:
        """Return once it ends or pauses, or after so many seconds."""
        await asyncio.wait({self.task}, timeout=seconds)

    async def _until(self, is_so: Callable[[], bool], seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (is_so() or self.task.done()):
                    self._changed.clear()
                    await self._changed.wait()


class DrivenRuns:
    """The runs that this process drives; at most `most` go on at one time, beside those that wait for people."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._runs: dict[str, DrivenRun] = {}
        self.is_ending = False

    def __len__(self) -> int:
        return len(self._runs)

    def named(self, prefix: str) -> list[str]:
        """The ids that begin with `prefix`, also of runs whose first event is not recorded yet."""
        return [run for run in self._runs if run.startswith(prefix)]

    def get(self, run: str) -> DrivenRun | None:
        return self._runs.get(run)

    def start(self, run: str, drive: Drive) -> DrivenRun:
        """Drive the run beside the requests. Raises HttpRefusal if the service ends, or drives too many."""
        if self.is_ending:
            raise HttpRefusal("unavailable", "the service ends", retry_after_s=5.0)
        going_on = sum(driven.asks is None and not driven.idle for driven in self._runs.values())
        if going_on >= self._most or len(self._runs) >= self._most * MOST_WAITING:
            raise HttpRefusal("too_many", "the service drives as many runs as it may", retry_after_s=5.0)
        driven = self._runs[run] = DrivenRun(run, drive)
        driven.task.add_done_callback(lambda task: self._ended(run, task))
        return driven

    def _ended(self, run: str, task: asyncio.Future[RunResult | CallResult | str]) -> None:
        self._runs.pop(run, None)
        if not task.cancelled() and (failure := task.exception()) is not None and not isinstance(failure, RemitError):
            _log.error("run %s ended by a defect of Remit", run, exc_info=failure)

    async def end(self, seconds: float) -> None:
        """Start no run any more. Those that go on get so many seconds; then they pause, and their leases are given back.

        INVARIANT: a run that is stopped here can be resumed: its record is written, and no other process needs to wait for its lease.
        """
        self.is_ending = True
        going_on = {driven.task for driven in self._runs.values() if driven.asks is None}
        if going_on:
            await asyncio.wait(going_on, timeout=seconds)
        every = [driven.task for driven in self._runs.values()]
        for task in every:
            task.cancel()
        await asyncio.gather(*every, return_exceptions=True)
