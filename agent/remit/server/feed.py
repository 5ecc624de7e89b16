"""The events of runs as they are recorded, for many listeners: one task watches the journal, however many listen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Final

from remit.core import RunEnded
from remit.journal import ChainLink, Journal, page_of_events
from remit.server.http.times import rfc3339

LONGEST_QUEUE: Final = (
    1000  # events of one listener; one that reads more slowly is ended, and goes on from its last event
)
_WATCH_S: Final = 5.0


class Listener:
    """One listener to one run: a queue of events that are encoded once for all listeners."""

    def __init__(self, run: str) -> None:
        self.run: Final = run
        self.queue: Final[asyncio.Queue[tuple[int, bytes] | None]] = asyncio.Queue(LONGEST_QUEUE)

    def give(self, items: Iterable[tuple[int, bytes]]) -> None:
        try:
            for item in items:
                self.queue.put_nowait(item)
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """End the listener: it reads nothing more."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Feed:
    """What is recorded in the runs that have listeners."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._listeners: dict[str, set[Listener]] = {}
        self._last: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._listeners.values()))

    def join(self, run: str) -> Listener:
        """Listen to the run. INVARIANT: every event after the head at this moment is given to the listener, in order."""
        listener = Listener(run)
        self._listeners.setdefault(run, set()).add(listener)
        if run not in self._last:
            head = self._journal.head(run)
            self._last.setdefault(run, -1 if head is None else head[0])
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="feed of events")
        return listener

    def leave(self, listener: Listener) -> None:
        of_run = self._listeners.get(listener.run, set())
        of_run.discard(listener)
        if not of_run:
            self._listeners.pop(listener.run, None)
            self._last.pop(listener.run, None)

    def end(self) -> None:
        """End every listener."""
        for listener in [item for of_run in self._listeners.values() for item in of_run]:
            listener.end()
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        version = -1
        while self._listeners:
            runs = tuple(self._listeners)
            before, version = version, self._journal.version(runs)
            if version != before:
                await self._read(runs)
            await self._journal.changes.wait(runs, version, _WATCH_S)

    async def _read(self, runs: Iterable[str]) -> None:
        for run in runs:
            while (last := self._last.get(run)) is not None:
                try:
                    links = await asyncio.to_thread(page_of_events, self._journal, run, last)
                except RunEnded:  # the next reader of the run gets the error
                    for listener in self._listeners.get(run, ()):
                        listener.end()
                    break
                if not links:
                    break
                self._last[run] = links[-1].seq
                encoded = [(link.seq, encoded_event(link)) for link in links]
                for listener in self._listeners.get(run, ()):
                    listener.give(encoded)


def encoded_event(link: ChainLink) -> bytes:
    """One event as a message of a stream. Its body is the JSON text that is recorded, in one line."""
    return f"id: {link.seq}\nevent: {link.type}\ndata: {event_json(link)}\n\n".encode()


def event_json(link: ChainLink) -> str:
    """One event as JSON; `event` is null once its content was erased."""
    head = f'"seq":{link.seq},"at":"{rfc3339(link.at)}","type":"{link.type}","key":{_text(link.key)}'
    return f'{{{head},"event":{link.body or "null"}}}'


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
