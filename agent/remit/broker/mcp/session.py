"""Speaks with one server: begin, list its tools, have it run one, and answer what it asks meanwhile.

Both ways to begin are understood. A server of 2026-07-28 answers `server/discover`, and each request says the version. Any other answer is
that of an older server, which wants `initialize`. A server that has answered `server/discover` refuses `initialize` from then on, so
the question is asked in this order. https://modelcontextprotocol.io/specification/
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from remit.broker.mcp.fields import MODERN, WrongField, header_fields
from remit.broker.mcp.listing import add_tools
from remit.broker.mcp.messages import (
    UNSUPPORTED_VERSION,
    Message,
    NotMcp,
    ServerError,
    members,
    notification,
    read_message,
    refusal,
    request,
    response,
)
from remit.broker.mcp.questions import ELICIT, Answered, Elicited, answer_to
from remit.core import Json
from remit.core.parsing import canonical_json
from remit.sandbox import KeptStream

OLDER: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
_LIST_CHANGED: Final = "notifications/tools/list_changed"
_META: Final = "io.modelcontextprotocol/"
_CLIENT: Final[Mapping[str, Json]] = {"name": "remit", "version": "0.1.0"}
_MOST_PAGES: Final = 100
_LONGEST_REPORT: Final = 500  # characters of one line of progress
_MOST_MESSAGES: Final = 10_000  # that are no answer, while one answer is awaited


@dataclass(kw_only=True)
class Session:
    """What is known of one server. `version` is that of the protocol; `listing` its tools by name; `changed`: they are to be asked again.

    `compared` is True once they were compared with the pin.
    """

    version: str = ""
    listing: dict[str, Mapping[str, Json]] = field(default_factory=dict[str, Mapping[str, Json]])
    changed: bool = False
    compared: bool = False
    _number: int = 0

    async def begin(self, stream: KeptStream) -> None:
        """Agree on a version, and list the tools.

        Raises:
            NotMcp: the server does not speak MCP, or no version that Remit speaks.
        """
        self.version = MODERN
        if not await self._is_modern(stream):
            await self._initialize(stream)
        await self.list_tools(stream)

    async def _is_modern(self, stream: KeptStream) -> bool:
        """True if the server speaks 2026-07-28. One that refuses that version, and then names it as supported, is asked again."""
        for last in (False, True):
            try:
                found = await self.ask(stream, "server/discover", {})
                return _names(found.get("supportedVersions"), MODERN)
            except ServerError as failure:
                if last or failure.code != UNSUPPORTED_VERSION or not _names(failure.data.get("supported"), MODERN):
                    return False
        return False

    async def _initialize(self, stream: KeptStream) -> None:
        self.version = ""
        params: dict[str, Json] = {
            "protocolVersion": OLDER[0],
            "capabilities": {"elicitation": {}},
            "clientInfo": dict(_CLIENT),
        }
        try:
            answer = await self.ask(stream, "initialize", params)
        except ServerError as failure:
            raise NotMcp(f"it does not begin: {failure}") from failure
        version = answer.get("protocolVersion")
        if version not in OLDER:
            raise NotMcp(f"it speaks version {str(version)[:40]!r}, and Remit {', '.join((MODERN, *OLDER))}")
        self.version = version
        await stream.send(notification("notifications/initialized"), self._fields("notifications/initialized", {}))

    async def list_tools(self, stream: KeptStream) -> None:
        """Ask for the whole list of tools."""
        listing: dict[str, Mapping[str, Json]] = {}
        self.changed = False
        params: dict[str, Json] = {}
        for _ in range(_MOST_PAGES):
            try:
                page = await self.ask(stream, "tools/list", params)
            except ServerError as failure:
                raise NotMcp(f"it does not list its tools: {failure}") from failure
            add_tools(listing, page)
            cursor = page.get("nextCursor")
            if cursor is None:
                self.compared = self.compared and listing == self.listing
                self.listing = listing
                return
            params = {"cursor": cursor}
        raise NotMcp(f"its list of tools has more than {_MOST_PAGES} pages")

    async def look(self, stream: KeptStream) -> None:
        """Read what the server wrote after its last answer, and ask for its tools again if they have changed, or may have."""
        for line in stream.pending():
            message = read_message(line)
            if not message.method:
                raise NotMcp("an answer to a request that was not made")
            self.changed = self.changed or message.method == _LIST_CHANGED
        if self.changed or not stream.watched:
            stream.wake()
            await self.list_tools(stream)

    async def ask(
        self, stream: KeptStream, method: str, params: Mapping[str, Json], answered: Answered | None = None
    ) -> Mapping[str, Json]:
        """The result of one request. `answered` has the answers of people to what the server asks meanwhile.

        Raises:
            ServerError: the server answered with an error.
            NotMcp: it wrote something that is no answer.
            Elicited: it asks a person, and there is no answer yet: the request is cancelled.
        """
        self._number += 1
        number = self._number
        given = self._stamped(params, progress=number if method == "tools/call" else None)
        await stream.send(request(number, method, given), self._fields(method, params))
        try:
            return await self._result(stream, number, answered)
        except asyncio.CancelledError:
            if self.version not in ("", MODERN):  # from 2026-07-28 on, the end of the connection says it
                await stream.cancel(_cancelled(number, "its time is up"))
            raise

    async def _result(self, stream: KeptStream, number: int, answered: Answered | None) -> Mapping[str, Json]:
        for _ in range(_MOST_MESSAGES):
            message = read_message(await stream.receive())
            if message.method:
                await self._other(stream, message, number, answered)
            elif message.id != number:
                raise NotMcp("an answer to a request that was not made")
            elif message.error is not None:
                raise message.error
            else:
                return message.result
        raise NotMcp(f"more than {_MOST_MESSAGES} messages before an answer")

    def _stamped(self, params: Mapping[str, Json], progress: int | None) -> dict[str, Json]:
        meta: dict[str, Json] = {} if progress is None else {"progressToken": progress}
        if self.version == MODERN:
            meta |= {
                f"{_META}protocolVersion": MODERN,
                f"{_META}clientInfo": dict(_CLIENT),
                f"{_META}clientCapabilities": {"elicitation": {"form": {}}},
            }
        return {**params, "_meta": meta} if meta else dict(params)

    def _fields(self, method: str, params: Mapping[str, Json]) -> dict[str, str]:
        tool = self.listing.get(str(params.get("name"))) if method == "tools/call" else None
        try:
            return header_fields(self.version, method, params, None if tool is None else members(tool["inputSchema"]))
        except WrongField as failure:
            raise NotMcp(f"a tool of which {failure}") from failure

    async def _other(self, stream: KeptStream, message: Message, number: int, answered: Answered | None) -> None:
        """Handle a message that is no answer.

        Sampling and roots are refused: a server gets no model of the run, and its files are those of the call.
        """
        if message.id is None:
            self.changed = self.changed or message.method == _LIST_CHANGED
            if (text := reported(message, number)) is not None:
                stream.tell(text)
        elif message.method == "ping":
            await stream.send(response(message.id, {}))
        elif message.method == ELICIT:
            try:
                answer = answer_to(message.params, answered)
            except Elicited as asked:
                asked.midway = True
                await stream.send(response(message.id, {"action": "cancel"}))
                await stream.send(_cancelled(number, "a person is asked"))
                raise
            await stream.send(response(message.id, answer))
        else:
            await stream.send(refusal(message.id, "not offered by Remit"))


def _names(versions: Json, version: str) -> bool:
    return isinstance(versions, list) and version in versions


def _cancelled(number: int, reason: str) -> bytes:
    return notification("notifications/cancelled", {"requestId": number, "reason": reason})


def reported(message: Message, number: int) -> str | None:
    """What a notification reports of the request of that number, as a line of text; None if it reports nothing of it."""
    params = message.params
    if message.method == "notifications/message":
        data = params.get("data")
        text = data if isinstance(data, str) else canonical_json(data).decode()
        return f"{str(params.get('level', 'info'))[:20]}: {text}"[:_LONGEST_REPORT]
    if message.method != "notifications/progress" or params.get("progressToken") != number:
        return None
    total = f" of {params['total']}" if isinstance(params.get("total"), (int, float)) else ""
    words = params.get("message")
    return f"progress {params.get('progress')}{total}{f': {words}' if isinstance(words, str) else ''}"[:_LONGEST_REPORT]
