"""The pool of warm tools: one zygote for each key (tool and boundary), with idle children, one call for each child.

Two sides. Calls come from any event loop: they take an idle child, or wait for one. One thread, the keeper, starts and
ends zygotes and forks children: bubblewrap dies with the thread that started it, so that thread must live as long as the
pool. `lock` guards what both sides use: the idle children, the waiting calls, and which zygote a tool has.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Final

from remit.sandbox.egress import Egress
from remit.sandbox.process import DidNotStart
from remit.sandbox.profile import Profile, Runtime
from remit.sandbox.warm.zygote_handle import Bounds, Cold, Folder, Waiter, WarmChild, WarmTool, Zygote, child_folder

COLD_SECONDS: Final = 10.0  # for so long, a tool that could not be kept warm is not tried again
LINGER_SECONDS: Final = 1.0  # how long a process may live on after its answer
_TICK_SECONDS: Final = 5.0
_SOON_SECONDS: Final = 0.5  # between two checks of deadlines, while there are any
_MAX_SILENT_STARTS: Final = 4  # starts in a row that were killed before they printed anything


class Closed(Exception):
    """The pool was closed while a call waited for a child."""


class Pool:
    """The warm tools of one broker process. Safe to use from many event loops. Close it at the end."""

    def __init__(self, runtime: Runtime, bounds: Bounds | None = None, egress: Egress | None = None) -> None:
        self.runtime = runtime
        self.egress = egress
        self.bounds = bounds or Bounds()
        self.lock = threading.Lock()
        self.process = os.getpid()
        self._tools: dict[Hashable, WarmTool] = {}
        self._zygotes: set[Zygote] = set()
        self._tasks: deque[Callable[[], None]] = deque()
        self._again: set[Hashable] = set()  # tools whose last fork failed for lack of descriptors; tried again soon
        self._selector = selectors.DefaultSelector()
        self._wake = -1
        self._thread: threading.Thread | None = None
        self._closing = False

    # ── a call's side ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def take(self, key: Hashable, profile: Profile, account: int | None) -> WarmChild:
        """An idle child for this call, as soon as there is one. Return it with `done`, whatever happened.

        Raises:
            Cold: the tool cannot be kept warm; run the call in a sandbox of its own.
            Closed: the pool was closed.
            DidNotStart: the sandbox did not start.
        """
        folder = child_folder(profile)
        with self.lock:
            if self._closing:
                raise Closed("the pool is closed")
            tool = self._tools.get(key)
            if tool is None:
                tool = self._tools[key] = WarmTool(key=key, profile=profile, account=account)
            tool.use(folder, self.bounds.max_folders)
            tool.used = time.monotonic()
            if tool.cold_until > tool.used:
                raise Cold(tool.cold)
            zygote = tool.zygote
            # Not past calls that already wait: children are given out in the order in which calls came.
            child = None if zygote is None or tool.waiting else zygote.ready_for(folder)
            if zygote is not None and child is not None:
                return self._assign(tool, zygote, child)
            loop = asyncio.get_running_loop()
            waiter = Waiter(loop=loop, future=loop.create_future(), folder=folder)
            tool.waiting.append(waiter)
        self.schedule(lambda: self._serve(tool))
        try:
            return await waiter.future
        except asyncio.CancelledError:
            with self.lock, suppress(ValueError):
                tool.waiting.remove(waiter)
            # The keeper may have given this call a child just before it was cancelled: that child must be returned.
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                self.done(waiter.future.result(), retire=False)
            raise

    def expect(self, key: Hashable, folder: Folder) -> None:
        """Let idle children of the tool, if it is warm, be made for that working folder, before a call asks for one."""
        with self.lock:
            tool = self._tools.get(key)
            if tool is None or tool.newest == folder:
                return
            tool.use(folder, self.bounds.max_folders)
        self.schedule(lambda: self._serve(tool))

    def done(self, child: WarmChild, *, retire: bool) -> None:
        """Return a child after its call: its descriptors are closed and its process ends.

        `retire`: end its zygote, too, when it is idle.
        """
        child.close()
        if retire:  # at once, and not in the keeper: the next call must not get a child of this zygote
            with self.lock:
                child.zygote.retired = True
                if child.zygote.tool.zygote is child.zygote:
                    child.zygote.tool.zygote = None
        self.schedule(lambda: self._done(child, retire))

    def close(self, *, wait: bool) -> None:
        """End every process. Running calls end without a result. `wait`: return when the keeper has finished."""
        with self.lock:
            self._closing = True
            thread = self._thread
        self.schedule(lambda: None)
        if wait and thread is not None:
            thread.join()

    def mark_cold(self, key: Hashable, why: str) -> None:
        """Stop keeping the tool warm for a while: each of its calls then gets a sandbox of its own."""
        with self.lock:
            if (tool := self._tools.get(key)) is not None:
                tool.cold, tool.cold_until = why, time.monotonic() + COLD_SECONDS

    def schedule(self, task: Callable[[], None]) -> None:
        """Run the task in the keeper's thread, which is started at the first task."""
        self._tasks.append(task)
        with self.lock:
            if self._thread is None and not self._closing:
                self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                self._thread = threading.Thread(target=self._run_keeper, name="remit-sandbox", daemon=True)
                self._thread.start()
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _assign(self, tool: WarmTool, zygote: Zygote, child: WarmChild) -> WarmChild:
        zygote.ready.remove(child)
        zygote.busy[child.number] = child
        tool.busy += 1
        tool.peak = max(tool.peak, tool.busy)
        return child

    # ── the keeper's side ─────────────────────────────────────────────────────────────────────────────────────────────

    def _run_keeper(self) -> None:
        try:
            self._serve_until_closed()
        finally:  # even after an exception: no process may be left, and no call may wait forever
            self._closing = True
            for zygote in tuple(self._zygotes):
                self._close_zygote(zygote)
            for tool in self._tools.values():
                self._fail(tool, Closed("the pool is closed"))
            with self.lock:
                self._selector.close()
                os.close(self._wake)
                self._wake = -1

    def _serve_until_closed(self) -> None:
        self._selector.register(self._wake, selectors.EVENT_READ)
        last_tidy = time.monotonic()
        while not self._closing:
            for key, _ in self._selector.select(self._pause()):
                if key.data is None:
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                else:
                    key.data()
            while self._tasks:
                self._tasks.popleft()()
            again, self._again = self._again, set()
            for tool_key in again:
                self._serve(self._tools[tool_key])
            now = time.monotonic()
            for zygote in self._zygotes:
                zygote.check_deadlines(now)
            if now - last_tidy >= _TICK_SECONDS:
                last_tidy = now
                self._tidy(now)

    def _pause(self) -> float:
        """The longest time to wait for an event before the next round."""
        if self._again:
            return 0.01
        watched = any(not zygote.running or zygote.lingering for zygote in self._zygotes)
        return _SOON_SECONDS if watched else _TICK_SECONDS

    def _serve(self, tool: WarmTool) -> None:
        """Fork children for the calls that wait; once none waits, idle ones for those to come.

        Start or replace the zygote first, if needed. While a call waits, nothing else is forked or ended: that would delay it, and
        the end of the call makes up for it.
        """
        zygote = tool.zygote
        if zygote is None:
            if tool.waiting:
                self._start(tool)
            return
        if not zygote.running:
            return
        if zygote.used_up:
            # In the landlock tier, the scratch folders of a zygote are made before it starts, so it can have only so
            # many children.
            self._retire(zygote)
            if not zygote.busy:
                self._close_zygote(zygote)
            if tool.waiting:
                self._start(tool)
            return
        self._give_children(tool)
        waits, bounds = bool(tool.waiting), self.bounds
        with self.lock:
            asked = {waiter.folder for waiter in tool.waiting}
            recent = set(tool.folders)
        if zygote.children >= bounds.max_children:  # the calls that wait need the places
            zygote.drop_other_folders(asked or recent)
        elif not waits:
            zygote.drop_other_folders(recent)
        while zygote.children < bounds.max_children and not zygote.used_up:
            before, folder = zygote.children, self._lacking(tool, zygote, waits)
            if folder is None:
                break
            if not zygote.fork(folder):
                self._again.add(tool.key)
            if zygote.children == before:  # the fork failed; do not loop here, the keeper serves other tools, too
                break
            self._give_children(tool)

    def _lacking(self, tool: WarmTool, zygote: Zygote, waits: bool) -> Folder | None:
        """The working folder for which one more child is needed, None for none: for a call, if calls wait, or else to stand by.

        As many stand by as calls ran at once recently, within the bounds, and one at least for each recent working folder.
        """
        with self.lock:
            ready = Counter(child.folder for child in zygote.ready)
            if waits:
                missing = (item.folder for item in tool.waiting if not ready[item.folder])
                return next(missing, tool.newest) if tool.waiting else None
            target = min(max(self.bounds.min_ready, tool.peak), self.bounds.max_ready)
            each = -(-target // len(tool.folders))
            lacking = next((folder for folder in reversed(tool.folders) if ready[folder] < each), None)
        return lacking if self._ready_total() < self.bounds.max_ready_total else None

    def _give_children(self, tool: WarmTool) -> None:
        """Give idle children to waiting calls, in the order of the calls."""
        while True:
            with self.lock:
                zygote = tool.zygote
                if zygote is None:
                    return
                pairs = ((item, zygote.ready_for(item.folder)) for item in tool.waiting)
                waiter, child = next(((item, child) for item, child in pairs if child is not None), (None, None))
                if waiter is None or child is None:
                    return
                tool.waiting.remove(waiter)
                self._assign(tool, zygote, child)
            # Outside of the lock: a future may only be set in the thread of its event loop.
            try:
                waiter.loop.call_soon_threadsafe(self._resolve, waiter, child)
            except RuntimeError:  # its loop is closed
                self.done(child, retire=False)

    def _resolve(self, waiter: Waiter, child: WarmChild) -> None:
        if waiter.future.cancelled():
            self.done(child, retire=False)
        else:
            waiter.future.set_result(child)

    def _fail(self, tool: WarmTool, failure: Exception) -> None:
        with self.lock:
            waiting, tool.waiting = tool.waiting, deque()
        for waiter in waiting:

            def fail(waiter: Waiter = waiter) -> None:
                if not waiter.future.done():
                    waiter.future.set_exception(failure)

            with suppress(RuntimeError):
                waiter.loop.call_soon_threadsafe(fail)

    def _start(self, tool: WarmTool) -> None:
        self._close_idle()
        tool.cold = ""
        try:
            most = self.bounds.max_children
            zygote = Zygote(tool, self.runtime, most=most, lock=self.lock, schedule=self.schedule, egress=self.egress)
        except (DidNotStart, OSError) as failure:
            self._fail(tool, failure)
            return
        self._zygotes.add(zygote)
        with self.lock:
            tool.zygote = zygote
        self._selector.register(zygote.process.control, selectors.EVENT_READ, lambda: self._on_control(zygote))
        self._selector.register(zygote.process.prints, selectors.EVENT_READ, lambda: self._on_prints(zygote))
        self._selector.register(zygote.process.starter, selectors.EVENT_READ, lambda: self._on_starter_end(zygote))

    def _on_control(self, zygote: Zygote) -> None:
        if zygote not in self._zygotes:  # it was closed by an earlier event of this round
            return
        was = zygote.running
        alive = zygote.read_control()
        tool = zygote.tool
        if not alive or tool.cold:
            failure = None if zygote.running else zygote.failure()
            self._close_zygote(zygote)
            # Killed without a message: probably from outside, so the waiting calls get another start before they fail.
            if failure is not None and failure.silent and tool.silent < _MAX_SILENT_STARTS:
                tool.silent += 1
                failure = None
            if isinstance(failure, Cold):
                tool.cold = str(failure)
                tool.cold_until = time.monotonic() + COLD_SECONDS
            if failure is not None:
                self._fail(tool, failure)
            else:
                self._serve(tool)
        elif zygote.running and not was:
            tool.silent = 0
            self._serve(tool)

    def _on_starter_end(self, zygote: Zygote) -> None:
        """Bubblewrap ended before its sandbox, so it was killed.

        The sandbox must end, too; then its control socket reports that.
        """
        if zygote in self._zygotes:
            self._selector.unregister(zygote.process.starter)
            zygote.process.kill()

    def _on_prints(self, zygote: Zygote) -> None:
        if zygote in self._zygotes and not zygote.read_prints():
            self._selector.unregister(zygote.process.prints)

    def _done(self, child: WarmChild, retire: bool) -> None:
        zygote, tool = child.zygote, child.zygote.tool
        with self.lock:
            zygote.busy.pop(child.number, None)
            tool.busy -= 1
        if child.report is None:
            zygote.lingering[child.number] = time.monotonic() + LINGER_SECONDS
        zygote.served += 1
        if retire or zygote.served >= self.bounds.max_calls:
            self._retire(zygote)
        if zygote.retired and not zygote.busy:
            self._close_zygote(zygote)
        self._serve(tool)

    def _retire(self, zygote: Zygote) -> None:
        """Give no further child of this zygote to a call. Its running calls go on."""
        zygote.retired = True
        with self.lock:
            if zygote.tool.zygote is zygote:
                zygote.tool.zygote = None
            ready, zygote.ready = zygote.ready, deque()
        for child in ready:
            child.close()

    def _close_zygote(self, zygote: Zygote) -> None:
        """End the zygote and its children, and stop watching its descriptors."""
        if zygote not in self._zygotes:
            return
        self._zygotes.discard(zygote)
        with self.lock:
            if zygote.tool.zygote is zygote:
                zygote.tool.zygote = None
        for descriptor in (zygote.process.control, zygote.process.prints, zygote.process.starter):
            with suppress(KeyError):
                self._selector.unregister(descriptor)
        zygote.close()

    def _ready_total(self) -> int:
        return sum(len(zygote.ready) for zygote in self._zygotes)

    def _close_idle(self) -> None:
        """End idle tools, the least recently used first, until there is a place for one more."""
        idle = sorted((zygote for zygote in self._zygotes if _idle(zygote)), key=lambda zygote: zygote.tool.used)
        while len(self._zygotes) >= self.bounds.max_tools and idle:
            self._close_zygote(idle.pop(0))

    def _tidy(self, now: float) -> None:
        """Lower the demand step by step, end surplus idle children, and end tools that were not used for a while."""
        for zygote in tuple(self._zygotes):
            tool = zygote.tool
            if _idle(zygote) and now - tool.used > self.bounds.idle_s:
                self._close_zygote(zygote)
                continue
            tool.peak = max(tool.busy, tool.peak - 1)
            with self.lock:
                tool.forget(now - self.bounds.idle_s)
                spare = len(zygote.ready) - max(self.bounds.min_ready, tool.peak, len(tool.folders))
                surplus = [zygote.ready.pop() for _ in range(spare)]
            for child in surplus:
                child.close()
        for key, tool in tuple(self._tools.items()):
            with self.lock:
                if tool.zygote is None and not tool.waiting and not tool.busy and now - tool.used > self.bounds.idle_s:
                    del self._tools[key]


def _idle(zygote: Zygote) -> bool:
    return not zygote.busy and not zygote.tool.waiting
