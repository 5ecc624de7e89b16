"""The record of one run while it grows: each event is recorded, applied to the run state, and shown to listeners.

Record        a run in memory: a dry run, and the new side of a replay
StoredRecord  a run of the journal, each event written at once: for people who approve, reject or settle
LiveRecord    a run that this process drives (live_record.py)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from remit.core import Claim
from remit.core.events import AnyEvent, AttemptBegun, Recorded
from remit.journal.content_omission import omit_content
from remit.journal.conversation import Conversation
from remit.journal.hash_chain import Chain, ChainLink, link, seal
from remit.journal.projections import Rows, changed_rows, queue_topics, run_rows
from remit.journal.reducer import apply_event, replace
from remit.journal.run_state import RunState
from remit.journal.storage.database import Batch, HeadMoved
from remit.journal.store import AlreadyRecorded, Journal

_NEW: Final = RunState()  # of a run without events
KEPT_STEPS: Final = 2  # whose events a record keeps in memory


class Log(Protocol):
    """Where the events of one run are kept in memory; `MemoryLog` is one, the log of a replay another."""

    def append(self, run: str, event: AnyEvent) -> Recorded: ...
    def events(self, run: str, after: int = -1) -> list[Recorded]: ...
    def get(self, run: str, key: str) -> Recorded | None: ...


class MemoryLog:
    """A log in memory: for a dry run, and for the new side of a replay."""

    def __init__(self) -> None:
        self._events: list[Recorded] = []
        self._by_key: dict[str, Recorded] = {}

    def append(self, run: str, event: AnyEvent) -> Recorded:
        return self.keep(seal(run, len(self._events), time.time_ns(), self.head, event, ""))

    @property
    def head(self) -> str:
        """The hash of the last event, to which the next one is sealed; "" without one."""
        return self._events[-1].hash if self._events else ""

    def keep(self, recorded: Recorded) -> Recorded:
        """Store an event that has its place in the chain already."""
        self._events.append(recorded)
        self._by_key[recorded.key] = recorded
        return recorded

    def events(self, run: str, after: int = -1) -> list[Recorded]:
        return self._events[after + 1 :]

    def get(self, run: str, key: str) -> Recorded | None:
        return self._by_key.get(key)


class Record:
    """The events of one run, its state and its conversation; here: in memory."""

    def __init__(self, log: Log, run: str) -> None:
        self.run = run
        self.state = _NEW
        self.conversation = Conversation()
        self._log = log
        for recorded in log.events(run):
            self._apply(recorded)

    def append(self, event: AnyEvent, *, durable: bool = False) -> Recorded:
        """Record one event, or raise. `durable` means that it must survive a power failure, too.

        A run that is driven is written a moment later, together with what follows: no effect may happen, and nothing may
        leave the process, before `commit` has returned.

        Raises:
            AlreadyRecorded: the run has an event of that key.
            RunEnded: the journal cannot record.
        """
        recorded = self._log.append(self.run, event)
        self._apply(recorded)
        return recorded

    async def append_claimed(self, event: AnyEvent, claims: Sequence[Claim]) -> None:
        """Record one event that takes from shared limits. Raises Exhausted if a claim would pass its limit."""
        self.append(event)

    async def commit(self) -> None:
        """Return when every event so far is recorded. Raises as `append` does."""

    async def confirm(self) -> bool:
        """Make sure that this process still drives the run, right before an effect.

        True if so much time has passed since the last append that what was decided must be checked again.
        """
        return False

    async def copy(self, begun: AttemptBegun | None = None) -> None:
        """Copy the events so far to where the database is not, with an attempt that begins now.

        Nothing is copied without shared storage, or for an attempt that may be repeated without harm.

        Raises RunEnded (`unrecorded`) if they cannot be copied: then the attempt must not begin.
        """

    async def catch_up(self) -> None:
        """Apply the events that other processes have recorded since the last call."""

    def get(self, key: str) -> AnyEvent | None:
        """The event with that key; None without one."""
        recorded = self._log.get(self.run, key)
        return recorded.event if recorded else None

    def count(self, prefix: str) -> int:
        """How many events are recorded as `prefix/1`, `prefix/2` and so on."""
        number = 0
        while self.get(f"{prefix}/{number + 1}") is not None:
            number += 1
        return number

    def every(self) -> list[AnyEvent]:
        """All events of the run, in order, without erased ones."""
        return [recorded.event for recorded in self._log.events(self.run) if recorded.event is not None]

    def _apply(self, recorded: Recorded) -> None:
        self.state = apply_event(self.state, recorded)
        if recorded.event is not None:
            self.conversation.fold(recorded.event)


def record_run(journal: Journal, chain: Chain) -> None:
    """Record a whole run at once, as it was sealed. Raises HeadMoved if the journal has a run of that id."""
    state = RunState()
    for recorded in (sealed.recorded() for sealed in chain.links):
        state = apply_event(state, recorded)
    rows = changed_rows({}, run_rows(chain.run, state))
    journal.write(Batch(run=chain.run, before=-1, links=chain.links, changes=rows, topics=(chain.run,)))


class StoredRecord(Record):
    """A run of the journal, as a process outside of the run sees and extends it: each event is written at once.

    With `content` False, events are stored without what people, models and tools wrote; only this process has them complete,
    and it loses them when it ends. `listeners` receive each event that is recorded from now on.
    """

    def __init__(
        self,
        journal: Journal,
        run: str,
        *,
        listeners: tuple[Callable[[Recorded], None], ...] = (),
        content: bool = True,
    ) -> None:
        self.run = run
        self.state = RunState()
        self.conversation = Conversation()
        self._journal = journal
        self._content = content
        self._listeners: tuple[Callable[[Recorded], None], ...] = ()  # earlier events are not new to anyone
        self._by_key: dict[str, Recorded | None] = {}  # every key; None: read it from the journal
        self._keys_of: dict[int, list[str]] = {}  # the keys of recent steps, whose events are kept in memory
        self._head = (-1, "")
        self.last_at = 0  # when the last event was recorded, in Unix nanoseconds
        self.refresh()
        self._rows = self._rows_of(self.state)
        self._listeners = listeners

    def append(self, event: AnyEvent, *, durable: bool = False) -> Recorded:
        return self._write_now(event, durable, ())

    async def append_claimed(self, event: AnyEvent, claims: Sequence[Claim]) -> None:
        self._write_now(event, False, claims)

    def get(self, key: str) -> AnyEvent | None:
        recorded = self._earlier(key)
        return recorded.event if recorded else None

    def every(self) -> list[AnyEvent]:
        stored = (self._by_key.get(item.key) or item for item in self._journal.events(self.run))
        return [recorded.event for recorded in stored if recorded.event is not None]

    @property
    def is_empty(self) -> bool:
        """True before the first event."""
        return self._head[0] < 0

    def refresh(self) -> None:
        """Apply the events that this and other processes have recorded since the last call."""
        for recorded in self._journal.events(self.run, after=self._head[0]):
            self._take(recorded, recorded)
        self._rows = self._rows_of(self.state)

    async def catch_up(self) -> None:
        self.refresh()

    def _write_now(self, event: AnyEvent, durable: bool, claims: Sequence[Claim]) -> Recorded:
        while True:
            if (earlier := self._earlier(event.key)) is not None:
                raise AlreadyRecorded(earlier)
            sealed, complete = self._sealed(event, *self._head)
            state = apply_event(self.state, complete)
            try:
                self._journal.write(
                    Batch(
                        run=self.run,
                        before=self._head[0],
                        links=(sealed,),
                        changes=changed_rows(self._rows, self._rows_of(state)),
                        claims=claims,
                        durable=durable,
                        topics=(self.run, *queue_topics(state)),
                    )
                )
            except HeadMoved:
                self.refresh()
                continue
            self._take(complete, sealed.of(complete.event) if self._content else sealed.recorded())
            self._rows = self._rows_of(self.state)
            return complete

    def _sealed(self, event: AnyEvent, seq: int, prev: str) -> tuple[ChainLink, Recorded]:
        """The next event as it is stored, and as this process reads it."""
        stored = event if self._content else omit_content(event)
        with self._journal.failing("written"):
            sealed = link(self.run, seq + 1, self._journal.clock(), prev, stored, secrets.token_hex(16))
        return sealed, sealed.of(event)

    def _rows_of(self, state: RunState) -> Rows:
        """The rows of the run in the projections, which contain no more than its stored events."""
        if not self._content and state.started is not None:
            state = replace(state, started=omit_content(state.started))
        return run_rows(self.run, state)

    def _take(self, complete: Recorded, stored: Recorded) -> None:
        """Apply an event that is in the journal, and show it to the listeners as it is stored."""
        self._head = (complete.seq, complete.hash)
        self._index(complete)
        for listener in self._listeners:
            listener(stored)

    def _index(self, complete: Recorded) -> None:
        self.last_at = complete.at
        self._keep(complete)
        self._apply(complete)

    def _earlier(self, key: str) -> Recorded | None:
        """The event with that key, if there is one."""
        if key not in self._by_key:
            return None
        return self._by_key[key] or self._journal.get(self.run, key)

    def _keep(self, complete: Recorded) -> None:
        """Keep an event in memory, and forget those of earlier steps, which are hardly ever read: a long run stays small."""
        self._by_key[complete.key] = complete
        step = None if complete.event is None else complete.event.step
        if step is None or not self._content:  # without content the journal does not have what this process needs
            return
        self._keys_of.setdefault(step, []).append(complete.key)
        for old in [number for number in self._keys_of if number < step - KEPT_STEPS]:
            for key in self._keys_of.pop(old):
                self._by_key[key] = None
