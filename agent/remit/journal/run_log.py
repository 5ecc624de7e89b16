"""One run's record as it grows: whatever is appended is first in the journal, then folded, then seen by the trace.

Live, resume and replay differ only in the journal behind this class and the listeners before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from remit.core import Claim
from remit.core.events import AnyEvent, Recorded
from remit.journal.conversation import Conversation
from remit.journal.hash_chain import seal
from remit.journal.reducer import apply_event
from remit.journal.run_state import RunState
from remit.journal.withholding import withheld


class Log(Protocol):
    """Where events are kept; `Journal` is one."""

    def append(self, run: str, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded: ...
    def events(self, run: str, after: int = -1) -> list[Recorded]: ...
    def get(self, run: str, key: str) -> Recorded | None: ...


class MemoryLog:
    """A log that ends with the process: for a dry run, and for the new side of a replay."""

    def __init__(self) -> None:
        self._events: list[Recorded] = []
        self._by_key: dict[str, Recorded] = {}

    def append(self, run: str, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded:
        return self.keep(seal(run, len(self._events), time.time_ns(), self.head, event, ""))

    @property
    def head(self) -> str:
        """The hash that the next event is linked to."""
        return self._events[-1].hash if self._events else ""

    def keep(self, recorded: Recorded) -> Recorded:
        self._events.append(recorded)
        self._by_key[recorded.key] = recorded
        return recorded

    def events(self, run: str, after: int = -1) -> list[Recorded]:
        return self._events[after + 1 :]

    def get(self, run: str, key: str) -> Recorded | None:
        return self._by_key.get(key)


class Record:
    """The events of one run, and what they fold to.

    `content` False records no event whole: what people, models and tools said stays in this process, and ends with it.
    """

    def __init__(
        self, log: Log, run: str, *, listeners: tuple[Callable[[Recorded], None], ...] = (), content: bool = True
    ) -> None:
        self.run = run
        self.state = RunState()
        self.conversation = Conversation()
        self._log = log
        self._content = content
        self._whole: dict[str, AnyEvent] = {}  # what only this process knows, by key
        self._listeners: tuple[Callable[[Recorded], None], ...] = ()
        self._seen = -1
        self.refresh()
        self._listeners = listeners  # what was recorded before is not news

    def append(self, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded:
        """Record one event, or raise: no record, no effect.

        Raises:
            AlreadyRecorded: another worker recorded an event of that key first.
            Exhausted: one of `claims` would pass its limit.
            RunEnded: the journal cannot record.
        """
        shown = event if self._content else withheld(event)
        recorded = self._log.append(self.run, shown, durable=durable, claims=claims)
        if not self._content:
            self._whole[recorded.key] = event
        if recorded.seq != self._seen + 1:  # another process wrote in between, an approver for one
            self.refresh()
        else:
            self._take(recorded)
        return recorded

    def get(self, key: str) -> AnyEvent | None:
        """The event of that key, whoever recorded it."""
        if key in self._whole:
            return self._whole[key]
        recorded = self._log.get(self.run, key)
        return recorded.event if recorded else None

    def count(self, prefix: str) -> int:
        """How many events are recorded as `prefix/1`, `prefix/2` and so on."""
        number = 0
        while self.get(f"{prefix}/{number + 1}") is not None:
            number += 1
        return number

    def every(self) -> list[AnyEvent]:
        """All events of the run, in order, but for those that were erased."""
        return [recorded.event for recorded in self._log.events(self.run) if recorded.event is not None]

    def refresh(self) -> None:
        """Take in what this and other processes have recorded since."""
        for recorded in self._log.events(self.run, after=self._seen):
            self._take(recorded)

    def _take(self, recorded: Recorded) -> None:
        self._seen = recorded.seq
        event = self._whole.get(recorded.key, recorded.event)
        self.state = apply_event(
            self.state, recorded if self._content else recorded.model_copy(update={"event": event})
        )
        if event is not None:
            self.conversation.fold(event)
        for listener in self._listeners:
            listener(recorded)
