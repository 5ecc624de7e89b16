"""A model behind the chat-completions interface of OpenAI, which many servers have. It is streamed over httpx.

The arguments of calls keep the text that the model wrote: nothing repairs or merges it before the broker parses it. A request
that fails is not made again here: the run does that, and records it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from remit.core import NO_SETTINGS, Message, ModelError, ModelTurn, ToolSpec, UsageError, in_thread
from remit.core.events import ModelSettings
from remit.core.parsing import visible
from remit.outgoing import (
    FAILURES,
    AsyncBaseTransport,
    AsyncClient,
    Bounds,
    ConnectTimeout,
    Response,
    TimeoutException,
    open_client,
    trusted_authorities,
)
from remit.runtime.models.wire.answer_reader import AnswerReader
from remit.runtime.models.wire.error_texts import ERROR_BYTES
from remit.runtime.models.wire.event_stream import BodyReader, Document, NotJson, TooLong
from remit.runtime.models.wire.provider_errors import ProviderErrors
from remit.runtime.models.wire.provider_state import SentState
from remit.runtime.models.wire.sent_conversation import SentMessage, sent_messages
from remit.runtime.models.wire.turns import SILENCE_S, TURN_S

CONNECT_S: Final = 20.0  # seconds until the connection is made
_BOUNDS: Final = Bounds(connect=CONNECT_S, silence=SILENCE_S)
KEY: Final = "OPENAI_API_KEY"
ADDRESSES: Final = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
OPENAI: Final = "https://api.openai.com/v1"
_ABOUT_STREAMS = re.compile(r"\bstream(?:ing|ed)?\b")
_ENCODINGS: Final = ("", "identity", "gzip", "deflate")
OPTIONAL_HEADERS: Final = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}


@dataclass(frozen=True, kw_only=True)
class _Accepted:
    """What the server accepts of a request beyond the messages; it is found out by its refusals."""

    stream: bool = True
    stream_options: bool = True
    most: str = "max_tokens"  # its name for the most tokens of a turn

    def without(self, error: str) -> _Accepted | None:
        """What to try after that error; None if it is about something else."""
        if self.most == "max_tokens" and "max_completion_tokens" in error:
            return replace(self, most="max_completion_tokens")
        if self.stream and self.stream_options and "stream_options" in error:
            return replace(self, stream_options=False)
        if self.stream and _ABOUT_STREAMS.search(error) and ("support" in error or "allow" in error):
            return replace(self, stream=False)
        return None


class ChatCompletionsModel:
    """A model of a server with the chat-completions interface. `name` is the model in `agent.toml`, `model` its name there.

    `transport` replaces the network, for tests of this adapter.

    Raises:
        UsageError: the key of OpenAI is missing, or the key cannot be one.
    """

    scripted = False

    def __init__(
        self,
        model: str,
        *,
        name: str,
        base_url: str | None = None,
        settings: ModelSettings = NO_SETTINGS,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self._model = model
        given = base_url or next((value for key in ADDRESSES if (value := os.environ.get(key))), None)
        self._secret = os.environ.get(KEY, "").strip()
        if not self._secret and given is None:
            raise UsageError(f"{name!r} needs a key: set {KEY}")
        if not (self._secret.isascii() and self._secret.isprintable()):
            raise UsageError(f"{KEY} is not a key: it has characters other than printable ASCII; set it again")
        self._url = f"{(given or OPENAI).rstrip('/')}/chat/completions"
        self._errors = ProviderErrors(name=name, key=KEY, secret=self._secret)
        self._accepted = _Accepted()
        self._transport = transport
        self._certificates: ssl.SSLContext | None = None

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        """Ask the provider for the next turn. Raises ModelError for every failure of the provider."""
        sent = [self._message(message) for message in sent_messages(messages)]
        body: dict[str, Any] = {"model": self._model, "messages": sent}
        if tools:
            body["tools"] = [_offered(tool) for tool in tools]
        names = [tool.name for tool in tools]
        try:
            async with asyncio.timeout(TURN_S), self._client() as client:
                return await self._ask(client, body, names)
        except TimeoutError as failure:
            raise self._errors.late() from failure

    def _client(self) -> AsyncClient:
        if self._certificates is None and self._transport is None:
            self._certificates = trusted_authorities()
        # A local server seldom needs a key, but some refuse a request without one.
        headers = {"authorization": f"Bearer {self._secret or 'unset'}", "accept-encoding": "identity"}
        headers |= {header: value for key, header in OPTIONAL_HEADERS.items() if (value := os.environ.get(key))}
        return open_client(_BOUNDS, headers=headers, transport=self._transport, authorities=self._certificates)

    async def _ask(self, client: AsyncClient, body: Mapping[str, Any], names: Sequence[str]) -> ModelTurn:
        """Ask once. A server that rejects a member of the request is asked again without it."""
        while True:
            accepted = self._accepted
            try:
                request = {**_settings(self.settings, accepted), **body, **_streaming(accepted)}
                return await self._send(client, request, names)
            except _Rejected as rejected:
                fewer = accepted.without(rejected.text) if rejected.status in (400, 404, 415, 422, 501) else None
                if fewer is None:
                    raise rejected.error from rejected
                self._accepted = fewer

    async def _send(self, client: AsyncClient, body: Mapping[str, Any], names: Sequence[str]) -> ModelTurn:
        """One request. Raises _Rejected if the server answers with an error, and ModelError for every other failure."""
        content = await in_thread(_size(body), _encoded, body)
        headers = {"content-type": "application/json", "accept": "text/event-stream, application/json"}
        began = False
        try:
            async with client.stream("POST", self._url, content=content, headers=headers) as response:
                self._check_encoding(response)
                if response.status_code != 200:
                    raise await self._rejection(response)
                began = True
                return await self._read(response, names)
        except ConnectTimeout as failure:
            raise self._errors.unreachable("the connection was not made in time") from failure
        except TimeoutException as failure:
            raise self._errors.late() from failure
        except FAILURES as failure:
            reason = "the connection was lost in the middle of its answer" if began else _reason(failure)
            raise self._errors.unreachable(reason) from failure

    async def _read(self, response: Response, names: Sequence[str]) -> ModelTurn:
        body, answer = BodyReader(), AnswerReader(self._errors, self.name, names, response.headers)
        try:
            async for data in response.aiter_bytes():
                await in_thread(body.kept + len(data), _take, answer, body.feed(data))
                if body.done:
                    break
            await in_thread(body.kept, _take, answer, body.close())
        except NotJson as failure:
            raise self._errors.unreadable(failure.text.encode("utf-8", "replace")) from failure
        except TooLong as failure:
            fix = "limit the length of the answer in the provider's settings"
            raise ModelError(f"the answer of {self.name!r} is too long to read", fix=fix) from failure
        if answer.is_empty:
            if answer.unknown:
                raise self._errors.unreadable(answer.unknown)
            raise self._errors.within({"message": "it ended its answer before the first word"}, response.headers)
        return answer.turn(streamed=body.streamed)

    def _check_encoding(self, response: Response) -> None:
        """Raise ModelError for a body that would grow without a bound before its size can be checked.

        Servers are asked not to compress. Some do it all the same; compressed once, what is received at a time becomes 64 MB at
        most, and twice a thousand times as much.
        """
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            raise ModelError(
                f"{self.name!r} answers with the content encoding {visible(encoding[:64])!r}, which is not read",
                fix="check base_url, and turn compression off in the proxy before the model",
            )

    async def _rejection(self, response: Response) -> _Rejected:
        body = b""
        async for data in response.aiter_bytes():
            body += data
            if len(body) > ERROR_BYTES:
                break
        error = self._errors.refused(response.status_code, response.headers, body)
        return _Rejected(error, response.status_code, body.decode("utf-8", "replace").lower())

    def _message(self, message: SentMessage) -> dict[str, Any]:
        """The message on the wire, with the state that the provider gave with it."""
        if message.role == "tool":
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.text}
        state = SentState(message.state, self.name)
        sent: dict[str, Any] = {**state.message, "role": message.role, "content": message.text}
        if message.calls:
            sent["content"] = message.text or None
            sent["tool_calls"] = [
                {
                    **state.call(number),
                    "id": call.id,
                    "type": "function",
                    "function": {**state.function(number), "name": call.name, "arguments": call.arguments},
                }
                for number, call in enumerate(message.calls)
            ]
        return sent


class _Rejected(Exception):
    """A request that the server answered with an error. `text` is its answer, in lower case."""

    def __init__(self, error: ModelError, status: int, text: str) -> None:
        self.error, self.status, self.text = error, status, text
        super().__init__(str(error))


def _take(answer: AnswerReader, documents: Iterator[Document]) -> None:
    for document in documents:
        answer.add(document)


def _settings(settings: ModelSettings, accepted: _Accepted) -> dict[str, Any]:
    """The settings as members of the request."""
    sent = {**settings.given, **settings.extra}
    sent.pop("extra", None)
    if settings.max_tokens is not None:
        sent[accepted.most] = sent.pop("max_tokens")
    return sent


def _streaming(accepted: _Accepted) -> dict[str, Any]:
    if not accepted.stream:
        return {"stream": False}
    return {"stream": True, **({"stream_options": {"include_usage": True}} if accepted.stream_options else {})}


def _offered(tool: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.input},
    }


def _size(body: Mapping[str, Any]) -> int:
    return sum(len(message["content"] or "") for message in body["messages"])


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def _reason(failure: Exception) -> str:
    return str(failure) or type(failure).__name__
