"""The events of a run: pages of them, and a stream that goes on while the run does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Annotated, Final

from pydantic import Field
from starlette.responses import Response, StreamingResponse

from remit.core import FrozenModel, Json
from remit.core.events import ContentRead
from remit.journal import Journal, note_act, page_of_events
from remit.server.feed import Feed, Listener, encoded_event, event_json
from remit.server.handlers.runs import readable_run
from remit.server.http.answers import HttpRefusal, answered_text
from remit.server.http.paging import MOST, Limit
from remit.server.http.route import Asked

STREAM: Final = "text/event-stream"
CHECK_S: Final = 1.0  # how often a stream checks that its principal may still read the run
HEARTBEAT_S: Final = 15.0
MOST_READERS: Final = 10_000  # whose next pages need no record: one who is forgotten is recorded again
_END: Final = "run.finished"
_ENDED: Final = b"\nevent: run.finished\n"
_LAST_ID: Final = "last-event-id"


class EventsQuery(FrozenModel):
    """Which events: those after the number `after`, which is the cursor of this list. A stream has all of them, whatever `limit` is."""

    after: Annotated[
        int, Field(ge=-1, lt=2**53, description="The number of the last event that is known; -1: none")
    ] = -1
    limit: Limit = MOST


class EventView(FrozenModel):
    """One event of the record of a run. `event` is None once its content was erased."""

    seq: int
    at: str
    type: str
    key: str
    event: Json


class EventsPage(FrozenModel):
    """Some events in order. `next` is the `after` of the next page; None if there is none yet."""

    events: tuple[EventView, ...]
    next: int | None


async def events(asked: Asked) -> Response:
    row = await readable_run(asked, asked.path["run"])
    query: EventsQuery = asked.query
    streamed = STREAM in asked.request.headers.get("accept", "")
    after = _last_id(asked.request.headers.getlist(_LAST_ID), query.after) if streamed else query.after
    if streamed:
        return await _stream(asked, row.run, after)
    await _noted(asked, row.run, after)
    links = await asked.workspace.read(page_of_events, row.run, after, query.limit)
    page = f'{{"events":[{",".join(map(event_json, links))}],"next":{links[-1].seq if links else "null"}}}'
    return answered_text(page)


async def _noted(asked: Asked, run: str, after: int) -> None:
    """Record who begins to read the run. INVARIANT: what is not recorded is not read, wherever a reader begins."""
    known, reader = asked.workspace.readers, (run, asked.principal)
    if after == -1 or reader not in known:
        await asked.workspace.read(partial(_note_read, asked, run))
        if len(known) >= MOST_READERS:
            known.clear()
        known.add(reader)


def _note_read(asked: Asked, run: str, journal: Journal) -> None:
    by = asked.principal
    note_act(journal, lambda number: ContentRead(number=number, run=run, how="show", by=by))


def _last_id(given: list[str], otherwise: int) -> int:
    """The number of the last event that the client has, which browsers send when they connect again."""
    if not given:
        return otherwise
    if len(given) > 1 or not given[0].isdecimal() or len(given[0]) > 15:
        raise HttpRefusal("invalid_request", "Last-Event-ID is no number of an event")
    return int(given[0])


async def _stream(asked: Asked, run: str, after: int) -> Response:
    feed = asked.workspace.feed
    if len(feed) >= asked.service.settings.listeners:
        raise HttpRefusal("too_many", "the service has as many listeners as it may", retry_after_s=5.0)
    listener = feed.join(run)
    try:
        await _noted(asked, run, after)
    except BaseException:
        feed.leave(listener)
        raise
    resource = asked.client.run_resource(run)

    async def may_read() -> bool:
        """True while the principal is who they were, and may read the run."""
        try:
            same = await asked.service.principal(asked.request) == asked.principal
            return same and asked.client.may("remit.read", resource)
        except Exception:  # noqa: BLE001 - whatever cannot be checked is not shown
            return False

    body = _messages(asked, feed, listener, after, may_read)
    return StreamingResponse(body, media_type=STREAM, headers={"cache-control": "no-store", "x-accel-buffering": "no"})


async def _messages(
    asked: Asked, feed: Feed, listener: Listener, after: int, may_read: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes]:
    """What was recorded before the listener joined, then what it is given, until the run ends or the principal may not read it."""
    checked = beat = time.monotonic()
    try:
        yield b": the events of the run\n\n"
        while links := await asked.workspace.read(page_of_events, listener.run, after):
            yield b"".join(map(encoded_event, links))
            after = links[-1].seq
            if links[-1].type == _END:
                return
        while not asked.service.ending.is_set():
            items = await _next(listener, CHECK_S)
            if items is None:
                return
            now = time.monotonic()
            if now - checked >= CHECK_S:
                checked = now
                if not await may_read():
                    return
            new = [(seq, message) for seq, message in items if seq > after]
            if new:
                after, beat = new[-1][0], now
                yield b"".join(message for _, message in new)
                if _ENDED in new[-1][1]:
                    return
            elif now - beat >= HEARTBEAT_S:
                beat = now
                yield b":\n\n"
    finally:
        feed.leave(listener)


async def _next(listener: Listener, seconds: float) -> list[tuple[int, bytes]] | None:
    """What the listener was given, at least one event if it comes within so many seconds; None once it is ended."""
    found: list[tuple[int, bytes]] = []
    try:
        async with asyncio.timeout(seconds):
            item = await listener.queue.get()
    except TimeoutError:
        return found
    while item is not None:
        found.append(item)
        if listener.queue.empty():
            return found
        item = listener.queue.get_nowait()
    return None
