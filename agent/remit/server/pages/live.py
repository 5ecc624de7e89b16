"""Pages that follow the journal: what has changed of a page is sent to it, rendered, as server-sent events.

One task of a workspace waits for the journal, however many pages are open. What pages show is read once, what people see of it is found for
each of them, and those who see the same share one rendering: only the token of the forms differs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from remit.core import Principal, RemitError
from remit.journal import Journal
from remit.server.authentication import Access, BrowserSession
from remit.server.pages.html import HEADERS, is_own_page

if TYPE_CHECKING:
    from remit.server.service import Service

CHECK_S: Final = 1.0  # how often a page without news checks that its person is still logged in
HEARTBEAT_S: Final = 15.0
MOST_TRIES: Final = 3
TOGETHER_S: Final = 0.05  # changes within so many seconds are shown together
# Stands for the token of the forms in a rendering that several sessions share. No text of a run can name it.
TOKEN: Final = secrets.token_urlsafe(32)
_END: Final = b"event: end\ndata: 0\n\n"
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Following(Generic[_T]):
    """What a page shows that follows the journal. Called after each change, in threads.

    `what` names it: for pages of one name `read` is called once. `seen` is what one person sees of it, as JSON data; a RemitError ends the
    page. Those who see the same get one rendering by `render`, whose forms have the token that it is given.

    INVARIANT: `read` asks nobody's rights and `render` knows no person, so what a person sees follows from `seen` alone.
    """

    what: str
    read: Callable[[], _T]
    seen: Callable[[Principal, _T], dict[str, Any]]
    render: Callable[[dict[str, Any], _T, str], str]


@dataclass(frozen=True, eq=False)
class _Read(Generic[_T]):
    """What was read after one change; two readings are never the same."""

    found: _T


class Pulse:
    """The number of changes of one journal that this process has noticed, for the pages that follow it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._pages: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        self._rendered: dict[object, asyncio.Future[Any]] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._pages)

    @contextmanager
    def following(self) -> Generator[asyncio.Event]:
        """An event that is set whenever something was recorded."""
        changed = asyncio.Event()
        self._pages.add(changed)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="changes for pages")
        try:
            yield changed
        finally:
            self._pages.discard(changed)

    async def rendered(self, key: object, render: Callable[[], _T]) -> _T:
        """What `render` returns now, in another thread; it is called once for each key after each change.

        While the journal changes faster than it is rendered, what comes back is a few changes old; the next change follows.
        """
        tries = 0
        while True:
            number, found = self._number, self._rendered.get(key)
            if found is None:
                found = self._rendered[key] = asyncio.ensure_future(asyncio.to_thread(render))
            text: _T = await asyncio.shield(found)
            tries += 1
            if number == self._number or tries == MOST_TRIES:
                return text

    async def _watch(self) -> None:
        with self._journal.changes.following() as changed:
            while self._pages:
                changed.clear()
                self._number += 1
                self._rendered.clear()
                for page in self._pages:
                    page.set()
                await asyncio.sleep(TOGETHER_S)
                try:
                    async with asyncio.timeout(CHECK_S):
                        await changed.wait()
                except TimeoutError:
                    continue


class LivePages:
    """The streams of a service for its pages."""

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access
        self._pulses: dict[str, Pulse] = {}

    def stream(
        self, request: Request, page: Following[_T], begin: Callable[[Principal], object] = lambda _: None
    ) -> Response:
        """The stream of a page. `begin` is called before the person reads anything, and not if the stream is refused."""
        id = request.cookies.get(self._access.cookie, "")
        session = self._access.session(request)
        if session is None or not is_own_page(request):
            return Response(status_code=403, headers=HEADERS)
        workspace, _ = self._service.client(session.principal)
        pulse = self._pulses.setdefault(session.principal.tenant, Pulse(workspace.journal))
        if sum(map(len, self._pulses.values())) >= self._service.settings.listeners:
            return Response(status_code=429, headers={**HEADERS, "retry-after": "5"})
        body = self._begun(session, begin, self._messages(pulse, id, session, page))
        headers = {**HEADERS, "x-accel-buffering": "no"}
        return StreamingResponse(body, media_type="text/event-stream", headers=headers)

    async def _begun(
        self, session: BrowserSession, begin: Callable[[Principal], object], messages: AsyncGenerator[bytes]
    ) -> AsyncGenerator[bytes]:
        """The messages, once `begin` has returned. INVARIANT: what it does not record is not read."""
        try:
            await asyncio.to_thread(begin, session.principal)
        except RemitError:
            yield _END
            return
        async with aclosing(messages):
            async for item in messages:
                yield item

    async def _messages(
        self, pulse: Pulse, id: str, session: BrowserSession, page: Following[_T]
    ) -> AsyncGenerator[bytes]:
        """What the page shows, each time that it differs from what was sent, until the person is no longer logged in."""
        by, sent, beat = session.principal.model_copy(update={"session": ""}), b"", time.monotonic()
        token = session.form_token.encode()
        with pulse.following() as changed:
            yield b": follows the journal\n\n"
            while not self._service.ending.is_set() and self._access.is_open(id):
                changed.clear()
                try:
                    text = await shown_to(pulse, page, by)
                except RemitError:
                    break
                if text != sent:
                    sent, beat = text, time.monotonic()
                    yield text.replace(TOKEN.encode(), token)
                elif time.monotonic() - beat >= HEARTBEAT_S:
                    beat = time.monotonic()
                    yield b":\n\n"
                try:
                    async with asyncio.timeout(CHECK_S):
                        await changed.wait()
                except TimeoutError:
                    continue
        yield _END


async def shown_to(pulse: Pulse, page: Following[_T], by: Principal) -> bytes:
    """The page as that person sees it now, as a message of the stream, with `TOKEN` in its forms."""
    read = await pulse.rendered(page.what, lambda: _Read(page.read()))
    seen, key = await pulse.rendered((read, by), partial(_seen, page, by, read.found))
    return await pulse.rendered((read, key), lambda: _message(page.render(seen, read.found, TOKEN)))


def _seen(page: Following[_T], by: Principal, found: _T) -> tuple[dict[str, Any], str]:
    """What the person sees, and the text by which those who see the same are found."""
    seen = page.seen(by, found)
    return seen, json.dumps(seen, sort_keys=True)


def _message(text: str) -> bytes:
    number = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"id: {number}\nevent: page\ndata: {json.dumps(text)}\n\n".encode()
