"""Takes runs that can go on, and drives several at once, until they end or wait."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from remit.core import Principal, RemitError, RunEnded
from remit.journal import QUEUE, SHARED, Queued, bring_back, look_into_queue
from remit.runtime import Continuation, LivePorts, RunResult, resume_run
from remit.workers.rests import Rests
from remit.workspace import WorkspaceSession

TOPICS: Final = (QUEUE, SHARED)
LOOK_S: Final = 0.02  # the shortest time between two looks: many changes that follow each other are one
RETRY_S: Final = 1.0  # until a journal that could not be read is tried again
_LONG_S: Final = 24 * 3600.0
_BY_WORKER: Final = Continuation(by_worker=True)
_log: Final = logging.getLogger("remit.workers")


@dataclass(frozen=True, kw_only=True)
class DroveRun:
    """One run that this worker drove until it ended or waits. `error` says why it could not go on; "" if it could."""

    run: str
    tenant: str
    result: RunResult | None = None
    error: str = ""

    @property
    def word(self) -> str:
        """`completed`, `waiting`, `on hold`, or `not driven`."""
        if self.result is None:
            return "not driven"
        if self.result.finished is not None:
            return self.result.finished.outcome
        return "on hold" if self.result.held is not None else "waiting"


class _Source:
    """The queue of one workspace."""

    def __init__(self, session: WorkspaceSession, by: Principal) -> None:
        self.ports: Final = LivePorts(session)
        self.journal: Final = session.journal
        self.tenant: Final = session.workspace.settings.tenant
        self.by: Final = by
        self.rests: Final = Rests()
        self.found = Queued(runs=(), driven=0, again_in=None)
        self.seen = -1
        self._shared = -1
        self._connected: int | None = None
        self._failing = False

    async def look(self) -> None:
        """See which runs can go on now. What changes from here on ends the next wait.

        A journal that cannot be read has no run for now, and is tried again.
        """
        try:
            await self._look()
            self._failing = False
        except RunEnded as failure:
            self.found = Queued(runs=(), driven=0, again_in=RETRY_S)
            if not self._failing:
                _log.error("no run of tenant %s is taken: %s", self.tenant, failure)
            self._failing = True

    async def _look(self) -> None:
        # A number that differs after the connection was lost: what is connected now may be a database that was put back.
        on_server = self.journal.database.dialect == "postgresql"
        if (connected := self.journal.version(()) if on_server else 0) != self._connected:
            await asyncio.to_thread(bring_back, self.journal)
            self._connected = connected
        self.seen = self.journal.version(TOPICS)
        if (shared := self.journal.version((SHARED,))) != self._shared:
            self._shared = shared
            self.rests.end_all()
        self.found = await self.journal.run_in_thread(look_into_queue, self.journal)

    async def until_changed(self) -> None:
        """Return once something is recorded, or when it is time to look again."""
        times = [item for item in (self.found.again_in, self.rests.next_in) if item is not None]
        seconds = max(LOOK_S, min(times)) if times else _LONG_S
        if self._failing:
            await asyncio.sleep(seconds)
        else:
            await self.journal.changes.wait(TOPICS, self.seen, seconds)


class Worker:
    """Drives the runs of some workspaces, each of another tenant; at most `slots` at one time.

    A run that waits holds no slot. The tenant of which the fewest runs are driven comes first, so that many runs of one tenant do
    not delay those of another. `workspaces` are open, each with the principal of this process there. `report` gets each run that was driven.
    """

    def __init__(
        self,
        workspaces: Iterable[tuple[WorkspaceSession, Principal]],
        *,
        slots: int,
        report: Callable[[DroveRun], None] = lambda _: None,
    ) -> None:
        self._sources: Final = [_Source(session, by) for session, by in workspaces]
        self._slots: Final = slots
        self._report: Final = report
        self._running: dict[str, tuple[_Source, asyncio.Task[None]]] = {}
        self._wake: Final = asyncio.Event()
        self._ending = False

    def end(self) -> None:
        """Take no run any more; `run` returns after `drain` seconds at the latest."""
        self._ending = True
        self._wake.set()

    async def run(self, *, drain: float, until_idle: bool = False) -> None:
        """Drive runs until `end` is called, and then those that are driven for at most `drain` seconds.

        Those that still go on then pause: another worker continues them. With `until_idle`, it ends when no run is left that can go on.
        """
        try:
            while not self._ending:
                self._wake.clear()
                for source in self._sources:
                    await source.look()
                self._take()
                if until_idle and not self._running and not any(self._takable(source) for source in self._sources):
                    return
                await self._until_changed()
                await asyncio.sleep(LOOK_S)
            if self._running:
                await asyncio.wait({task for _, task in self._running.values()}, timeout=drain)
        finally:
            await self._pause()

    async def _pause(self) -> None:
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _takable(self, source: _Source) -> Sequence[str]:
        return [run for run in source.found.runs if run not in self._running and not source.rests.has(run)]

    def _take(self) -> None:
        """Begin as many runs as there are free slots, one after another of the tenant that has the fewest.

        While other workers drive runs, it is chance which run of the highest priority it takes: all of them see the same list, and
        would try the same run.
        """
        waiting = {source: list(self._takable(source)) for source in self._sources}
        driven = {source: source.found.driven for source in self._sources}
        alone = {source: driven[source] <= self._own(source) for source in self._sources}
        while len(self._running) < self._slots and (ready := [source for source, runs in waiting.items() if runs]):
            source = min(ready, key=lambda item: driven[item])
            alike = set(source.found.runs[: source.found.alike])
            choice = 1 if alone[source] else sum(run in alike for run in waiting[source])
            run = waiting[source].pop(random.randrange(max(1, choice)))  # noqa: S311 - no secret
            driven[source] += 1
            self._running[run] = source, asyncio.create_task(self._drive(source, run))

    def _own(self, source: _Source) -> int:
        """How many runs of that workspace this worker drives."""
        return sum(of is source for of, _ in self._running.values())

    async def _until_changed(self) -> None:
        """Wait for a change of a queue, if there is a free slot, for the end of a run, or for the end of the work."""
        sources = self._sources if len(self._running) < self._slots else []
        waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(self._wake.wait())}
        waits.update(asyncio.ensure_future(item.until_changed()) for item in sources)
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _drive(self, source: _Source, run: str) -> None:
        drove = DroveRun(run=run, tenant=source.tenant)
        try:
            result = await resume_run(source.ports.session, run, by=source.by, goes_on=_BY_WORKER)
            drove = DroveRun(run=run, tenant=source.tenant, result=result)
            if result.finished is None and result.held is not None:
                source.rests.add(run)
            else:
                source.rests.forget(run)
        except RemitError as failure:  # another worker was faster, or the run cannot go on here
            source.rests.add(run)
            drove = DroveRun(run=run, tenant=source.tenant, error=str(failure))
        except Exception as failure:  # noqa: BLE001 - a defect must not end the other runs
            source.rests.add(run)
            _log.exception("run %s stopped by a defect of Remit", run)
            drove = DroveRun(run=run, tenant=source.tenant, error=f"defect: {type(failure).__name__}")
        finally:
            del self._running[run]
            self._wake.set()
        self._report(drove)
