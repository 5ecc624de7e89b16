"""Messages to an MCP server that runs elsewhere, and from it: the streamable HTTP transport.

https://modelcontextprotocol.io/specification/2025-11-25/basic/transports and the same page of 2026-07-28. A request is one POST; its
answer is one JSON document or a stream of events, in which the server may ask and report before it answers. Everything that comes
back is text of a program that nobody here has reviewed: it is bounded, and read no further than that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Final, cast

from remit.core import Json, Refusal
from remit.core.parsing import parse_json
from remit.outgoing import FAILURES, AsyncClient, Response
from remit.sandbox.live.lines import LONGEST_LINE, Flood, LineTooLong, ServerEnded
from remit.sandbox.live.speaker import SessionLost
from remit.sandbox.outcome import FLOOD
from remit.sandbox.remote.sent_events import EventTooLong, SentEvents
from remit.sandbox.remote.sessions import RemoteServer

SESSION: Final = "Mcp-Session-Id"
MOST_RESUMED: Final = 5  # times that a stream is resumed without a new event
PAUSE_SECONDS: Final = 1.0  # before a stream is resumed, if the server names no other time
CANCEL_SECONDS: Final = 1.0
_LONGEST_SESSION: Final = 1_024
_LONGEST_ERROR: Final = 64 << 10
_HEADERS: Final = {
    "Accept": "application/json, text/event-stream",
    "Accept-Encoding": "identity",  # what is bounded are the bytes that arrive
    "Content-Type": "application/json",
}
_WHY: Final[Mapping[int, str]] = {
    401: "the server wants a login: name its token in [[always.secrets]], and set it with `remit secret set`",
    403: "the server refuses this account, or this kind of client",
    404: "there is no MCP server at this address",
    405: "there is no MCP server of the streamable HTTP transport at this address",
}


class HttpLines:
    """The messages of one call. `printed` counts the bytes of progress, `stderr` has the first of them, up to `keeps`."""

    watched = False  # between two calls nothing is read from the server

    def __init__(
        self,
        client: AsyncClient,
        url: str,
        server: RemoteServer,
        *,
        keeps: int,
        on_print: Callable[[bytes], None] | None = None,
    ) -> None:
        self.printed = 0
        self.stderr = bytearray()
        self._client = client
        self._url = url
        self._server = server
        self._keeps = keeps
        self._on_print = on_print
        self._fields: Mapping[str, str] = {}
        self._asked: Json = None  # the number of the request that is not answered yet
        self._answer: Response | None = None
        self._lines: AsyncIterator[bytes] | None = None

    @property
    def greeted(self) -> object:
        return self._server.greeted

    @greeted.setter
    def greeted(self, value: object) -> None:
        self._server.greeted = value
        if value is None:
            self._server.session = ""

    async def send(self, line: bytes, fields: Mapping[str, str] | None = None) -> None:
        """Send one message. The answer of a request is what `receive` returns next.

        Raises:
            ServerEnded: it cannot be reached, or does not take the message.
            SessionLost: it does not know its session any more.
        """
        message = cast("dict[str, Json]", json.loads(line))
        self._fields = self._fields if fields is None else fields
        if "method" not in message or "id" not in message:
            await self._post(line)
            return
        await self.close()
        self._asked = message["id"]
        answer = await self._sent("POST", line)
        self._answer = answer
        if answer.status_code != 200:
            self._lines = _one(await self._refusal(answer))
            return
        if message["method"] == "initialize":
            given = answer.headers.get(SESSION, "")
            if len(given) > _LONGEST_SESSION or not given.isascii() or not given.isprintable():
                raise ServerEnded("the server gave a session id that is no header field")
            self._server.session = given
        self._lines = self._events(answer) if _media_type(answer) == "text/event-stream" else _one(await _body(answer))

    async def _post(self, line: bytes) -> None:
        """Send what has no answer."""
        answer = await self._sent("POST", line)
        await answer.aclose()
        if answer.status_code not in (200, 202, 204):
            raise ServerEnded(f"the server does not take a message: HTTP status {answer.status_code}")

    async def receive(self) -> bytes:
        """The next message.

        Raises:
            ServerEnded: the answer ended before it was complete, and cannot be resumed.
            LineTooLong: a message is longer than it may be.
            Flood: too much was reported.
        """
        if self.printed > FLOOD * self._keeps:
            raise Flood
        if self._lines is None:
            raise ServerEnded("nothing was asked")
        try:
            return await anext(self._lines)
        except StopAsyncIteration:
            raise ServerEnded("the answer of the server ended before the result") from None
        except FAILURES as failure:
            raise ServerEnded(_why(failure)) from failure

    async def _events(self, answer: Response) -> AsyncIterator[bytes]:
        """The messages of a stream of events, and of those that resume it."""
        resumed = 0
        events = SentEvents(LONGEST_LINE)
        while True:
            try:
                async for part in answer.aiter_raw():
                    for event in events.feed(part):
                        resumed = 0
                        if event.name == "message":
                            yield event.data
            except EventTooLong as failure:
                raise LineTooLong from failure
            except FAILURES:
                if events.last_id is None:
                    raise
            await answer.aclose()
            if events.last_id is None or resumed == MOST_RESUMED:
                return
            resumed += 1
            await asyncio.sleep(PAUSE_SECONDS if events.pause_s is None else events.pause_s)
            pause, last = events.pause_s, events.last_id
            self._answer = answer = await self._sent("GET", b"", last)
            if answer.status_code != 200 or _media_type(answer) != "text/event-stream":
                raise ServerEnded(
                    f"the answer of the server ended, and is not resumed: HTTP status {answer.status_code}"
                )
            events = SentEvents(LONGEST_LINE)
            events.pause_s, events.last_id = pause, last

    async def _sent(self, method: str, line: bytes, last: bytes | None = None) -> Response:
        session = {SESSION: self._server.session} if self._server.session else {}
        resumed = {} if last is None else {"Last-Event-ID": last.decode("ascii")}
        headers = {**_HEADERS, **self._fields, **session, **resumed}
        try:
            request = self._client.build_request(method, self._url, content=line or None, headers=headers)
            answer = await self._client.send(request, stream=True)
        except FAILURES as failure:
            raise ServerEnded(_why(failure)) from failure
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            await answer.aclose()
            raise ServerEnded("the answer of the server is compressed, which Remit did not accept")
        return answer

    async def _refusal(self, answer: Response) -> bytes:
        """The answer to a request that the server refused: its own error, else one that says the status."""
        if answer.status_code == 404 and self._server.session:
            self.greeted = None
            raise SessionLost("the server does not know its session any more")
        why = _WHY.get(answer.status_code, "")
        error: Json = {"code": -32000, "message": f"HTTP status {answer.status_code}{': ' if why else ''}{why}"}
        if answer.status_code not in (401, 403) and _media_type(answer) == "application/json":
            with suppress(Refusal, UnicodeDecodeError, LineTooLong):
                found: Json = parse_json((await _body(answer, _LONGEST_ERROR)).decode(), longest=_LONGEST_ERROR)
                if isinstance(found, dict) and isinstance(cast("dict[str, Json]", found).get("error"), dict):
                    error = cast("dict[str, Json]", found)["error"]
        await answer.aclose()
        return json.dumps({"jsonrpc": "2.0", "id": self._asked, "error": error}).encode()

    def pending(self) -> list[bytes]:
        return []

    def wake(self) -> None:
        return None

    def tell(self, text: str) -> None:
        """Show what the server reports while it works."""
        data = text.encode("utf-8", "replace") + b"\n"
        self.printed += len(data)
        kept = data[: max(0, self._keeps - len(self.stderr))]
        self.stderr += kept
        if kept and self._on_print is not None:
            self._on_print(kept)

    async def cancel(self, line: bytes) -> None:
        """Tell the server that nobody waits for its answer any more. Nothing follows if it does not listen."""
        with suppress(TimeoutError, ServerEnded, SessionLost):
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._post(line)

    async def close(self) -> None:
        """Read no more of the last answer."""
        answer, self._answer, self._lines = self._answer, None, None
        if answer is not None:
            await answer.aclose()


async def _one(line: bytes) -> AsyncIterator[bytes]:
    yield line


async def _body(answer: Response, most: int = LONGEST_LINE) -> bytes:
    body = bytearray()
    try:
        async for part in answer.aiter_raw():
            body += part
            if len(body) > most:
                raise LineTooLong
    except FAILURES as failure:
        raise ServerEnded(_why(failure)) from failure
    return bytes(body)


def _media_type(answer: Response) -> str:
    return str(answer.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


def _why(failure: BaseException) -> str:
    return f"the connection to the server failed: {type(failure).__name__}: {failure}"[:500]
