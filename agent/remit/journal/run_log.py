"""The record of one run while it grows: each event is written to the log, then applied to the run state, then shown to listeners.

Live runs, resumed runs and replays differ only in the log behind this class and in its listeners.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from remit.core import Claim
from remit.core.events import AnyEvent, Recorded
from remit.journal.content_omission import omit_content
from remit.journal.conversation import Conversation
from remit.journal.hash_chain import seal
from remit.journal.reducer import apply_event
from remit.journal.run_state import RunState


class Log(Protocol):
    """Where events are stored; `Journal` is one, `MemoryLog` another."""

    def append(self, run: str, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded: ...
    def events(self, run: str, after: int = -1) -> list[Recorded]: ...
    def get(self, run: str, key: str) -> Recorded | None: ...


class MemoryLog:
    """A log in memory, without claims: for a dry run, and for the new side of a replay."""

    def __init__(self) -> None:
        self._events: list[Recorded] = []
        self._by_key: dict[str, Recorded] = {}

    def append(self, run: str, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded:
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
    """The events of one run, its state and its conversation.

    With `content` False, events are stored without what people, models and tools wrote; only this process has them complete,
    and it loses them when it ends. `listeners` receive each event that is recorded from now on.
    """

    def __init__(
        self, log: Log, run: str, *, listeners: tuple[Callable[[Recorded], None], ...] = (), content: bool = True
    ) -> None:
        self.run = run
        self.state = RunState()
        self.conversation = Conversation()
        self._log = log
        self._content = content
        self._complete: dict[str, AnyEvent] = {}  # events with their content, by key, where the log has none
        self._listeners: tuple[Callable[[Recorded], None], ...] = ()
        self._seen = -1
        self.refresh()
        self._listeners = listeners  # set after `refresh`, because earlier events are not new to anyone

    def append(self, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded:
        """Record one event, or raise. No effect may happen before its event is recorded.

        Raises:
            AlreadyRecorded: another worker recorded an event of that key first.
            Exhausted: one of `claims` would pass its limit.
            RunEnded: the journal cannot record.
        """
        stored = event if self._content else omit_content(event)
        recorded = self._log.append(self.run, stored, durable=durable, claims=claims)
        if not self._content:
            self._complete[recorded.key] = event
        # An approver's process may have written to this run meanwhile. Its events come first in the chain, so they are read and
        # applied first: every process must reach the same state.
        if recorded.seq != self._seen + 1:
            self.refresh()
        else:
            self._take(recorded)
        return recorded

    def get(self, key: str) -> AnyEvent | None:
        """The event with that key, recorded by this or another process; None without one."""
        if key in self._complete:
            return self._complete[key]
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

    def refresh(self) -> None:
        """Apply the events that this and other processes have recorded since the last call."""
        for recorded in self._log.events(self.run, after=self._seen):
            self._take(recorded)

    def _take(self, recorded: Recorded) -> None:
        self._seen = recorded.seq
        event = self._complete.get(recorded.key, recorded.event)
        self.state = apply_event(
            self.state, recorded if self._content else recorded.model_copy(update={"event": event})
        )
        if event is not None:
            self.conversation.fold(event)
        for listener in self._listeners:
            listener(recorded)
