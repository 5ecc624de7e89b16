"""Which live sandbox each run has, and those that are started and unused.

Calls come from the event loops of their runs. One thread starts sandboxes, and ends those that were not used for a while:
bubblewrap dies with the thread that started it, so that thread lives as long as the pool.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Hashable
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from remit.sandbox.egress import Egress
from remit.sandbox.live.started import CALLS_AT_ONCE, LiveSandbox
from remit.sandbox.process import DidNotStart
from remit.sandbox.profile import Profile, Runtime
from remit.sandbox.warm.pool import COLD_SECONDS
from remit.sandbox.warm.zygote_handle import Cold

_TICK_SECONDS: Final = 5.0
_MAX_STARTS: Final = 3  # of a sandbox that is killed before it is ready
_MOST_KEYS: Final = 256


@dataclass(frozen=True, kw_only=True)
class LiveBounds:
    """How many live sandboxes there may be. One uses about 12 MB, besides what its tool uses."""

    most: int = 32  # of all runs; a call beyond that gets a sandbox of its own
    most_unused: int = 4  # started before a run needs them, for tools that more than one run has used
    unused_s: float = 60.0  # an unused one is ended after this time
    idle_s: float = 900.0  # one whose run makes no call is ended after this time


class Place:
    """Where the calls of one run to one tool run: one sandbox, and the calls that wait for their turn.

    Only the event loop of the run uses it, except for `sandbox`.
    """

    def __init__(self) -> None:
        self.sandbox: LiveSandbox | None = None
        self.is_over = False  # its run has ended, or the pool: a sandbox that is started for it now has no owner
        self.lock = asyncio.Lock()
        self._users = 0
        self._together: Hashable = None
        self._waiting: deque[tuple[Hashable, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def turn(self, together: Hashable) -> AsyncGenerator[None]:
        """Wait until the call may run: alone, or with calls whose `together` is equal, so many at once. None: alone.

        INVARIANT: calls get their turn in the order in which they came, so a call never waits forever.
        """
        if self._waiting or not self._may_join(together):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((together, future))
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    self._leave()  # it got its turn just before it was cancelled
                else:
                    self._waiting = deque(item for item in self._waiting if item[1] is not future)
                raise
        else:
            self._users, self._together = self._users + 1, together
        try:
            yield
        finally:
            self._leave()

    def _may_join(self, together: Hashable) -> bool:
        if not self._users:
            return True
        return together is not None and together == self._together and self._users < CALLS_AT_ONCE

    def _leave(self) -> None:
        self._users -= 1
        while self._waiting and self._may_join(self._waiting[0][0]):
            together, future = self._waiting.popleft()
            if not future.done():
                self._users, self._together = self._users + 1, together
                future.set_result(None)


class LivePool:
    """The live sandboxes of one broker process. Safe to use from many event loops. Close it at the end."""

    def __init__(self, runtime: Runtime, egress: Egress, bounds: LiveBounds | None = None) -> None:
        self.runtime = runtime
        self.process = os.getpid()
        self._egress = egress
        self._bounds = bounds or LiveBounds()
        self._lock = threading.Lock()
        self._places: dict[tuple[str, asyncio.AbstractEventLoop, Hashable], Place] = {}
        self._unused: dict[Hashable, deque[LiveSandbox]] = {}
        self._last_run: dict[Hashable, str] = {}  # the last run that got a sandbox of that key
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._starting = 0
        self._cold_until = 0.0

    # ── a run's side ──────────────────────────────────────────────────────────────────────────────────────────────────

    def place(self, run: str, key: Hashable) -> Place:
        """The place of that run for calls with that key, in this event loop."""
        with self._lock:
            return self._places.setdefault((run, asyncio.get_running_loop(), key), Place())

    async def sandbox(self, place: Place, key: Hashable, profile: Profile, account: int | None) -> LiveSandbox:
        """The sandbox of the place; an unused or a new one if it has none.

        Raises:
            Cold: there are too many, or this machine mounts nothing in them; run the call in a sandbox of its own.
            DidNotStart: it did not start.
        """
        if time.monotonic() < self._cold_until:
            raise Cold("no file can be mounted in a running sandbox")
        async with place.lock:  # calls that run together start one sandbox
            if place.sandbox is not None and place.sandbox.alive:
                return place.sandbox
            if place.sandbox is not None and not place.sandbox.busy:  # else the last call in it closes it
                place.sandbox.close()
            place.sandbox = None
            with self._place_for_one():
                found = await self._started(key, profile, account)
            with self._lock:
                place.sandbox = None if place.is_over else found
            if place.is_over:
                found.close()
                raise DidNotStart("its run has ended meanwhile")
        self._restock(key, profile, account)
        return found

    async def _started(self, key: Hashable, profile: Profile, account: int | None) -> LiveSandbox:
        """A sandbox that is ready. One that is killed before that is started again."""
        starts = 0
        while True:
            unused = self._take_unused(key)
            found = unused if unused is not None else await self._start_in_thread(profile, account)
            try:
                await found.ready()
            except BaseException as failure:
                found.close()
                if isinstance(failure, Cold):
                    self._cold_until = time.monotonic() + COLD_SECONDS
                starts += 1
                if not isinstance(failure, DidNotStart) or not failure.silent or starts == _MAX_STARTS:
                    raise
            else:
                return found

    def end_run(self, run: str) -> None:
        """End the sandboxes of that run; nothing of its calls is left."""
        with self._lock:
            ended = [self._leave(key) for key in tuple(self._places) if key[0] == run]
        for place in ended:
            if place.sandbox is not None:
                place.sandbox.close()

    def close(self) -> None:
        """End every sandbox, and the thread. Running calls end without a result."""
        with self._lock:
            self._closing = True
            thread, self._thread = self._thread, None
            places = [self._leave(key) for key in tuple(self._places)]
        for place in places:
            if place.sandbox is not None:
                place.sandbox.close_from_outside()
        self._tasks.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _leave(self, key: tuple[str, asyncio.AbstractEventLoop, Hashable]) -> Place:
        """Take the place of a run out of the pool; the caller holds the lock, and ends its sandbox."""
        place = self._places.pop(key)
        place.is_over = True
        return place

    @property
    def live(self) -> int:
        """How many sandboxes runs have now."""
        with self._lock:
            return sum(place.sandbox is not None and place.sandbox.alive for place in self._places.values())

    @property
    def unused(self) -> int:
        """How many sandboxes are started and unused."""
        with self._lock:
            return sum(map(len, self._unused.values()))

    @contextmanager
    def _place_for_one(self) -> Generator[None]:
        """Count one that starts; end the sandbox that was not used for the longest time, if there are as many as there may be."""
        with self._lock:
            alive = [place.sandbox for place in self._places.values() if place.sandbox and place.sandbox.alive]
            idle = sorted((item for item in alive if not item.busy), key=lambda item: item.used)
            if len(alive) + self._starting >= self._bounds.most:
                if not idle:
                    raise Cold("there are too many live sandboxes")
                idle[0].close_from_outside()
            self._starting += 1
        try:
            yield
        finally:
            with self._lock:
                self._starting -= 1

    def _take_unused(self, key: Hashable) -> LiveSandbox | None:
        with self._lock:
            waiting = self._unused.get(key)
            return waiting.popleft() if waiting else None

    def _restock(self, key: Hashable, profile: Profile, account: int | None) -> None:
        """Start one more for the next run, if more than one run has used the tool."""
        with self._lock:
            if len(self._last_run) > _MOST_KEYS:
                self._last_run.clear()
            before = self._last_run.setdefault(key, profile.run)
            total = sum(map(len, self._unused.values()))
            if before == profile.run or self._unused.get(key) or total >= self._bounds.most_unused:
                return
            self._last_run[key] = profile.run

        def start() -> None:
            with suppress(DidNotStart, OSError):
                sandbox = self._start(profile, account)
                with self._lock:
                    self._unused.setdefault(key, deque()).append(sandbox)

        self._submit(start)

    def _start(self, profile: Profile, account: int | None) -> LiveSandbox:
        return LiveSandbox(profile, self.runtime, account, self._egress)

    # ── the thread ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _start_in_thread(self, profile: Profile, account: int | None) -> LiveSandbox:
        future: Future[LiveSandbox] = Future()

        def start() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._start(profile, account))
                except BaseException as failure:  # noqa: BLE001 - it is raised where the result is awaited
                    future.set_exception(failure)

        self._submit(start)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(_close)  # nobody else gets it
            raise

    def _submit(self, task: Callable[[], None]) -> None:
        with self._lock:
            if self._closing:
                raise DidNotStart("the pool is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="remit-live", daemon=True)
                self._thread.start()
        self._tasks.put(task)

    def _serve(self) -> None:
        while not self._closing:
            try:
                task = self._tasks.get(timeout=_TICK_SECONDS)
            except queue.Empty:
                task = self._tidy
            if task is not None:
                with suppress(OSError):  # of one sandbox; the thread serves all
                    task()
        with self._lock:
            unused, self._unused = self._unused, {}
        for sandbox in (item for items in unused.values() for item in items):
            sandbox.close()

    def _tidy(self) -> None:
        """End what was not used for a while."""
        now = time.monotonic()
        with self._lock:
            old = [
                item for items in self._unused.values() for item in items if now - item.started > self._bounds.unused_s
            ]
            for items in self._unused.values():
                for item in old:
                    if item in items:
                        items.remove(item)
            lost = [self._leave(key) for key in tuple(self._places) if key[1].is_closed()]
            idle = [place.sandbox for place in self._places.values() if place.sandbox is not None]
        for sandbox in (*old, *(place.sandbox for place in lost if place.sandbox is not None)):
            sandbox.close()
        for sandbox in idle:
            if not sandbox.busy and now - sandbox.used > self._bounds.idle_s:
                sandbox.close_from_outside()


def _close(future: Future[LiveSandbox]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().close()
