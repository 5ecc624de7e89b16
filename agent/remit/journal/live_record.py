"""The record of a run that this process drives: events are applied at once and written a moment later, together.

A turn and its call make about six events. Written one by one they would cost six round trips to PostgreSQL; written together
they cost two. So `append` applies an event to the state in memory, which answers every read of the run, and a task writes what
has gathered. `commit` waits for that task. INVARIANT: the broker commits before a tool runs, before a model is asked and before
anybody reads an answer, so an effect without a record is impossible; what a crash can lose is what happened inside the process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from remit.core import Claim, Exhausted, RunEnded
from remit.core.events import AnyEvent, AttemptBegun, Recorded
from remit.journal.hash_chain import ChainLink
from remit.journal.lease import FRESH_S, RUN_LOCKED, Lease, renew_lease
from remit.journal.projections import changed_rows, queue_topics
from remit.journal.reducer import apply_event
from remit.journal.run_log import StoredRecord
from remit.journal.run_state import RunState
from remit.journal.storage.database import SHARED, Batch, HeadMoved
from remit.journal.store import AlreadyRecorded, Journal

GATHER_S: Final = 0.05  # how long events wait for the ones that follow, if nobody waits for them
TRIES: Final = 5  # to get an answer of the database in time
# The clock that goes on while the machine is suspended. macOS has it under the other name (its clock_gettime(3)).
_SUSPENDED_TOO: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LiveRecord(StoredRecord):
    """A run whose lease this process holds. Used by one event loop."""

    def __init__(
        self,
        journal: Journal,
        lease: Lease,
        *,
        listeners: tuple[Callable[[Recorded], None], ...] = (),
        content: bool = True,
    ) -> None:
        self._topics = (lease.run, SHARED)
        self._version = journal.version(self._topics)  # INVARIANT: before the events are read, so that none is missed
        super().__init__(journal, lease.run, listeners=listeners, content=content)
        self._lease = lease
        self._renewed = _now()  # when the newest sign that this process lives was sent
        self._pending: list[tuple[ChainLink, Recorded]] = []
        self._durable = False
        self._written: tuple[tuple[int, str], RunState] = (self._head, self.state)
        self._writing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure: BaseException | None = None
        self._order = asyncio.Lock()  # one writer at a time: the events of a run have one order

    def append(self, event: AnyEvent, *, durable: bool = False) -> Recorded:
        if self._failure is not None:
            raise self._failure
        if (earlier := self._earlier(event.key)) is not None:
            raise AlreadyRecorded(earlier)
        sealed, complete = self._sealed(event, *self._head)
        self._head = (complete.seq, complete.hash)
        self._index(complete)
        self._pending.append((sealed, complete))
        self._durable = self._durable or durable
        if self._timer is None and self._writing is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._begin)
        return complete

    def every(self) -> list[AnyEvent]:
        kept = [item for item in self._by_key.values() if item is not None]
        if len(kept) == len(self._by_key):  # a short run: nothing was forgotten
            return [item.event for item in sorted(kept, key=lambda item: item.seq) if item.event is not None]
        pending = (complete.event for _, complete in self._pending)
        written = self._written[0][0]
        recorded = (
            self._by_key.get(item.key) or item for item in self._journal.events(self.run) if item.seq <= written
        )
        return [event for event in (*(item.event for item in recorded), *pending) if event is not None]

    async def append_claimed(self, event: AnyEvent, claims: Sequence[Claim]) -> None:
        # Shielded: the database may have the event already when the caller is cancelled, and then the record must have it.
        await asyncio.shield(self._claim(event, claims))

    async def commit(self) -> None:
        while self._pending or self._writing is not None:
            self._begin()
            assert self._writing is not None
            # A caller that is cancelled does not take the events of others with it.
            await asyncio.shield(self._writing)
        if self._failure is not None:
            raise self._failure

    async def confirm(self) -> bool:
        """As `Record.confirm`.

        The answer to an append can come late: the process was stopped (SIGSTOP, a machine that is suspended), or the network was
        cut. Another process may have the run by then, and an effect would happen twice.

        Raises:
            RunEnded: `unrecorded`: another process has taken the run over, or the database answers too slowly.
        """
        for late in range(TRIES):
            if _now() - self._renewed < FRESH_S:
                return late > 0
            renewed = _now()
            if not await self._journal.run_in_thread(self._renew):
                break
            self._renewed = renewed
            self._journal.forget_shared()
        self._failure = RunEnded(
            "unrecorded", RUN_LOCKED.format(self.run), fix="follow that process, or wait for its end"
        )
        raise self._failure

    def _renew(self) -> bool:
        with self._journal.failing("written"):
            return renew_lease(self._journal.database, self._lease, self._journal.clock())

    async def copy(self, begun: AttemptBegun | None = None) -> None:
        harmless = begun is not None and not begun.effect_digest
        if (copies := self._journal.copies) is not None and not harmless:
            await self.commit()
            await asyncio.shield(asyncio.to_thread(copies.add, self._journal, self.run, begun))

    async def catch_up(self) -> None:
        version = self._journal.version(self._topics)
        if version == self._version:
            return
        async with self._writing_alone():
            await self._read_others()
        self._version = version

    async def wait_for_change(self, seconds: float) -> None:
        """Return once another process has recorded something that concerns the run, or after so many seconds."""
        await self._journal.changes.wait(self._topics, self._version, seconds)

    # -- writing --

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is None and self._pending:
            self._writing = asyncio.get_running_loop().create_task(self._write_pending())

    @asynccontextmanager
    async def _writing_alone(self) -> AsyncGenerator[None]:
        """One writer at a time. Whatever fails ends the run permanently: what was appended since may follow from what is lost."""
        async with self._order:
            if self._failure is not None:
                raise self._failure
            try:
                yield
            except (Exhausted, asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as failure:
                self._failure = failure
                self._pending.clear()
                raise

    async def _write_pending(self) -> None:
        try:
            async with self._writing_alone():
                while self._pending:
                    await self._write_once()
        except BaseException:
            if self._failure is None:  # cancelled
                raise
        finally:
            self._writing = None

    async def _claim(self, event: AnyEvent, claims: Sequence[Claim]) -> None:
        async with self._writing_alone():
            while (earlier := self._earlier(event.key)) is None:
                if self._pending:
                    await self._write_once()
                    continue
                head, state = self._written
                sealed, complete = self._sealed(event, *head)
                try:
                    await self._write([sealed], apply_event(state, complete), claims, durable=False)
                except HeadMoved:
                    await self._read_others()
                    continue
                self._insert([complete])
                self._tell(complete if self._content else sealed.recorded())
                return
        raise AlreadyRecorded(earlier)

    async def _write_once(self) -> None:
        """Write what has gathered. If another process appended first, its events come first: the chain has one order."""
        batch, durable, state = list(self._pending), self._durable, self.state
        self._durable = False
        try:
            await self._write([sealed for sealed, _ in batch], state, (), durable=durable)
        except HeadMoved:
            self._durable = True
            await self._read_others()
            return
        del self._pending[: len(batch)]
        last = batch[-1][1]
        self._written = ((last.seq, last.hash), state)
        for sealed, complete in batch:
            self._tell(complete if self._content else sealed.recorded())

    async def _write(
        self, links: Sequence[ChainLink], state: RunState, claims: Sequence[Claim], *, durable: bool
    ) -> None:
        rows = self._rows_of(state)
        batch = Batch(
            run=self.run,
            before=links[0].seq - 1,
            links=links,
            changes=changed_rows(self._rows, rows),
            claims=claims,
            fence=self._lease.fence,
            durable=durable,
            topics=queue_topics(state, first=True) if links[0].seq == 0 else (),
            beat=self._journal.clock(),
        )
        renewed = _now()
        if not self._journal.write_now(batch):
            await self._journal.run_in_thread(self._journal.write, batch)
        self._renewed = renewed
        self._rows = rows

    async def _read_others(self) -> None:
        """Apply what other processes appended.

        Raises RunEnded if one of them has taken over the lease, or if the database has lost what was written.
        """
        written = self._written[0][0]
        others = await self._journal.run_in_thread(self._journal.events, self.run, written)
        if others:
            self._insert(others)
            self._rows = self._rows_of(self._written[1])  # each process writes the rows that its events change
            for recorded in others:
                self._tell(recorded)
            return
        if await self._journal.run_in_thread(self._journal.fence_of, self.run) != self._lease.fence:
            raise RunEnded("unrecorded", RUN_LOCKED.format(self.run), fix="follow that process, or wait for its end")
        head = await self._journal.run_in_thread(self._journal.head, self.run)
        if written >= 0 and (head is None or head[0] < written):  # before its first commit, the journal has nothing
            lost = f"the journal {self._journal.name} has lost events of the run that were recorded"
            raise RunEnded("unrecorded", lost, fix="check the database, then resume the run: `remit run --resume`")

    def _insert(self, recorded: Sequence[Recorded]) -> None:
        """Put events that are in the journal before those that wait to be written, which are sealed again.

        The conversation stays as it is: no event of another process belongs to it.
        """
        pending, self._pending = self._pending, []
        self._head, self.state = self._written
        for item in recorded:
            self._place(item)
        self._written = (self._head, self.state)
        for _, complete in pending:
            assert complete.event is not None
            earlier = self._by_key[complete.key]
            if earlier is not None and earlier is not complete:
                raise AlreadyRecorded(earlier)
            sealed, moved = self._sealed(complete.event, *self._head)
            self._place(moved)
            self._pending.append((sealed, moved))

    def _place(self, recorded: Recorded) -> None:
        self._head = (recorded.seq, recorded.hash)
        self._keep(recorded)
        self.state = apply_event(self.state, recorded)

    def _tell(self, recorded: Recorded) -> None:
        for listener in self._listeners:
            listener(recorded)


def _now() -> float:
    """Seconds, also of the time in which this machine was suspended."""
    return time.clock_gettime(_SUSPENDED_TOO)
