"""A provider's chat model through LangChain, which is known to this file alone.

LangChain parses arguments too, but it repairs what was cut (`{"amount": 10` becomes 10) and keeps the last of two equal
keys. So the text of the stream is kept, and LangChain's parsed form is used only where it hides the text.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from remit.core import Json, Message, ModelError, ModelTurn, ProposedCall, ToolSpec, UsageError
from remit.core.events import Usage
from remit.core.parsing import load_json

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk, BaseMessage

SILENCE_S: Final = 120.0  # seconds without a byte from the provider
TURN_S: Final = 600.0  # seconds for one whole turn; reasoning models think for minutes
TURN_CHARACTERS: Final = 4 * 1024 * 1024  # text and arguments of one turn together
TRIES: Final = 2  # repeated requests after a busy or broken answer; asking a model again has no effect to repeat


@dataclass(frozen=True, kw_only=True)
class Provider:
    """How one provider's LangChain class is found and opened.

    `extra` is Remit's own optional dependency. `shows_text` is False where the provider or LangChain parses arguments
    before anyone can see their text.
    """

    extra: str
    module: str
    factory: str
    key: str  # environment variable of the key; "" where there is none
    address: tuple[str, ...]  # environment variables of the base URL, read by the library itself
    options: Mapping[str, Any]
    shows_text: bool = True


PROVIDERS: Final[Mapping[str, Provider]] = {
    "openai": Provider(
        extra="openai",
        module="langchain_openai",
        factory="ChatOpenAI",
        key="OPENAI_API_KEY",
        address=("OPENAI_API_BASE", "OPENAI_BASE_URL"),
        options={"stream_usage": True, "timeout": SILENCE_S, "max_retries": TRIES},
    ),
    "anthropic": Provider(
        extra="anthropic",
        module="langchain_anthropic",
        factory="ChatAnthropic",
        key="ANTHROPIC_API_KEY",
        address=("ANTHROPIC_API_URL", "ANTHROPIC_BASE_URL"),
        options={"stream_usage": True, "timeout": SILENCE_S, "max_retries": TRIES},
    ),
    "ollama": Provider(
        extra="ollama",
        module="langchain_ollama",
        factory="ChatOllama",
        key="",
        address=("OLLAMA_HOST",),
        options={"client_kwargs": {"timeout": SILENCE_S}},
        shows_text=False,
    ),
}


class LangChainModel:
    """A provider's chat model, streamed, because only the stream shows the arguments as the model wrote them."""

    def __init__(self, provider: Provider, model: str, *, name: str, base_url: str | None = None) -> None:
        self.scripted = False
        self.name = name
        self._provider = provider
        self._secret = os.environ.get(provider.key, "") if provider.key else ""
        self._chat = self._open(model, base_url)

    def _open(self, model: str, base_url: str | None) -> BaseChatModel:
        provider = self._provider
        options: dict[str, Any] = {**provider.options, "model": model}
        if base_url:
            options["base_url"] = base_url
        if provider.key and not self._secret:
            # A server of one's own seldom wants a key, but the libraries refuse to start without one.
            if not base_url and not any(os.environ.get(variable) for variable in provider.address):
                raise UsageError(f"{self.name!r} needs a key: set {provider.key}")
            options["api_key"] = "unset"
        try:
            # Imported here because it takes a second: `remit --help`, and every scripted run, start without it.
            factory = getattr(importlib.import_module(provider.module), provider.factory)
        except ImportError as error:
            raise UsageError(
                f"{self.name!r} needs the package {provider.module!r}: pip install 'remit[{provider.extra}]'"
            ) from error
        try:
            return cast("BaseChatModel", factory(**options))
        except Exception as error:
            raise UsageError(f"{self.name!r} cannot be opened: {self._clean(str(error))}") from error

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        """Ask the provider for the next turn. Raises ModelError, whatever the provider or its library does."""
        wire = to_langchain(messages)
        offered = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.input},
            }
            for tool in tools
        ]
        listener = _Listener(self._provider)
        try:
            asked = self._chat.bind_tools(offered) if offered else self._chat
            async with asyncio.timeout(TURN_S):
                async for chunk in asked.astream(wire):
                    listener.hear(cast("AIMessageChunk", chunk))
        except ModelError:
            raise
        except Exception as error:  # the door to the provider's library, which may raise anything
            raise self._explain(error) from error
        return listener.turn()

    def _explain(self, error: Exception) -> ModelError:
        status = getattr(error, "status_code", None)
        said = self._clean(_said(error))
        key = self._provider.key or "the server's settings"
        match status:
            case 401 | 403:
                return ModelError(f"{self.name!r} refused the key: {said}", fix=f"check {key}")
            case 404:
                return ModelError(f"{self.name!r} was not found: {said}", fix="check the model's name and base_url")
            case 408 | 409 | 425 | 429:
                return ModelError(
                    f"{self.name!r} is busy: {said}", fix="wait, then start the run again", retryable=True
                )
            case int() if status >= 500:
                return ModelError(
                    f"{self.name!r} failed with {status}: {said}",
                    fix="wait, then start the run again",
                    retryable=True,
                )
            case int():
                return ModelError(
                    f"{self.name!r} refused the question with {status}: {said}",
                    fix="check what the model accepts: tools, length, settings",
                )
            case _:
                pass
        kind = type(error).__name__
        if isinstance(error, TimeoutError) or "Timeout" in kind:
            return ModelError(
                f"{self.name!r} did not answer in time", fix="wait, then start the run again", retryable=True
            )
        if isinstance(error, OSError) or any(word in kind for word in ("Connect", "Protocol", "Read", "Network")):
            return ModelError(
                f"{self.name!r} cannot be reached: {said}",
                fix="check the network, the proxy and base_url, then start the run again",
                retryable=True,
            )
        return ModelError(f"{self.name!r} gave no readable answer: {kind}: {said}", fix="check base_url and the model")

    def _clean(self, text: str) -> str:
        """One short line, without the key."""
        if self._secret:
            text = text.replace(self._secret, "…")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= 300 else line[:299] + "…"


def _said(error: Exception) -> str:
    """The provider's own sentence, where the library kept it apart from its own."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = cast("dict[str, Any]", body)
        nested = inner.get("error")
        if isinstance(nested, dict):
            inner = cast("dict[str, Any]", nested)
        if isinstance(inner.get("message"), str):
            return cast("str", inner["message"])
    return str(error.__cause__ or error) or type(error).__name__


@dataclass(kw_only=True)
class _Writing:
    """One call while it is being streamed. `hidden` is LangChain's parsed form where it shows no text."""

    name: str = ""
    id: str = ""
    text: str = ""
    hidden: dict[str, Json] | None = None

    def ask(self) -> ProposedCall:
        if self.hidden is not None:
            return ProposedCall(name=self.name, arguments=None, parsed=self.hidden, id=self.id)
        # A call without arguments is streamed as no text at all by several providers.
        return ProposedCall(name=self.name, arguments=_escaped(self.text) or "{}", id=self.id)


class _Listener:
    """Puts one streamed turn together."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._text: list[str] = []
        self._calls: list[_Writing] = []
        self._at: dict[int | str | None, _Writing] = {}
        self._finish = ""
        self._model = ""
        self._input: int | None = None
        self._output: int | None = None
        self._heard = 0

    def hear(self, chunk: AIMessageChunk) -> None:
        text = str(chunk.text)
        self._count(text)
        self._text.append(text)
        for number, piece in enumerate(chunk.tool_call_chunks):
            index, name, id_, args = piece["index"], piece["name"] or "", piece["id"] or "", piece["args"] or ""
            self._count(args)
            if not self._provider.shows_text or _is_given_parsed(chunk, id_):
                # LangChain wrote `args` itself, from a dict: it is not what the model wrote.
                parsed = chunk.tool_calls[number]["args"] if number < len(chunk.tool_calls) else {}
                self._calls.append(_Writing(name=name, id=id_, hidden=parsed))
                continue
            writing = self._at.get(index)
            # Some servers number every parallel call 0, or none; a second name under a second id is a second call.
            if writing is None or (name and id_ and writing.id and id_ != writing.id):
                writing = self._at[index] = _Writing()
                self._calls.append(writing)
            writing.id = writing.id or id_
            writing.name = writing.name if name == writing.name else writing.name + name
            writing.text += args
        self._hear_metadata(chunk)

    def _hear_metadata(self, chunk: AIMessageChunk) -> None:
        said = cast("Mapping[str, Any]", chunk.response_metadata)
        self._finish = finish_of(said) or self._finish
        self._model = str(said.get("model_name") or said.get("model") or self._model)
        usage = chunk.usage_metadata
        if usage:
            # Some servers count in every chunk, always from the start of the turn: the last count holds.
            self._input, self._output = usage["input_tokens"], usage["output_tokens"]

    def _count(self, text: str) -> None:
        self._heard += len(text)
        if self._heard > TURN_CHARACTERS:
            raise ModelError(
                f"the model's turn is longer than {TURN_CHARACTERS} characters",
                fix="limit the length of its answers with the provider",
            )

    def turn(self) -> ModelTurn:
        finish = self._finish or "length"
        if finish == "tool_calls" and not self._calls:
            raise ModelError(
                "the model said that it calls tools, but its stream has no call that can be read",
                fix="check that the server streams tool_calls with index and function, as OpenAI's does",
            )
        return ModelTurn(
            text=_without_surrogates("".join(self._text), lambda _: "\ufffd"),
            proposed_calls=tuple(writing.ask() for writing in self._calls),
            finish=finish,
            usage=Usage(input_tokens=self._input, output_tokens=self._output),
            response_model=self._model,
        )


def _is_given_parsed(chunk: AIMessageChunk, id_: str) -> bool:
    """Anthropic may send a call's input as a value in the block's first event, instead of streaming its text."""
    blocks = cast("list[Any]", chunk.content) if isinstance(chunk.content, list) else []
    return any(
        isinstance(block, dict)
        and cast("dict[str, Any]", block).get("type") == "tool_use"
        and cast("dict[str, Any]", block).get("id") == id_
        and bool(cast("dict[str, Any]", block).get("input"))
        for block in blocks
    )


_SAID: Final = ("finish_reason", "stop_reason", "done_reason", "stopReason")
_FINISH: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "tool_call": "tool_calls",
    "complete": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_context_window_exceeded": "length",
}


def finish_of(said: Mapping[str, Any]) -> str:
    """Why the turn ended, in OpenAI's words where they fit; "" where this chunk does not say."""
    word = next((found for key in _SAID if (found := said.get(key))), None)
    if not word and said.get("status") == "completed":  # OpenAI's Responses API
        word = "stop"
    elif not word and said.get("status") == "incomplete":
        details = said.get("incomplete_details")
        word = cast("dict[str, Any]", details).get("reason") if isinstance(details, dict) else None
        word = word or "length"
    return _FINISH.get(str(word).lower(), str(word).lower()) if word else ""


def to_langchain(messages: Sequence[Message]) -> list[BaseMessage]:
    """The conversation as LangChain sends it.

    Calls get new ids, because models repeat theirs and providers refuse ids that repeat; names that a model made up are
    made sendable. Raises ModelError where a call has no answer, or an answer no call.
    """
    from langchain_core.messages import (  # noqa: PLC0415 - takes most of a second; a scripted run never needs it
        AIMessage,
        HumanMessage,
        SystemMessage,
        ToolMessage,
    )

    wire: list[BaseMessage] = []
    open_asks: list[tuple[str, str]] = []  # (the ask's own id, the id on the wire), not answered yet
    for number, message in enumerate(messages):
        if message.role == "tool":
            mine = next((pair for pair in open_asks if pair[0] == message.call_id), None)
            if mine is None:
                raise _unpaired(f"message {number} answers {message.call_id!r}, which was not asked")
            open_asks.remove(mine)
            wire.append(ToolMessage(content=message.text, tool_call_id=mine[1]))
            continue
        if open_asks:
            raise _unpaired(f"message {number} comes before the answer to {open_asks[0][0]!r}")
        match message.role:
            case "system":
                wire.append(SystemMessage(content=message.text))
            case "user":
                wire.append(HumanMessage(content=message.text))
            case "assistant":
                ids = [f"call_{number}_{index}" for index in range(len(message.proposed_calls))]
                open_asks = [(ask.id, id_) for ask, id_ in zip(message.proposed_calls, ids, strict=True)]
                calls: list[Any] = [
                    {"type": "tool_call", "id": id_, "name": _sendable(ask.name), "args": _sent_arguments(ask)}
                    for ask, id_ in zip(message.proposed_calls, ids, strict=True)
                ]
                wire.append(AIMessage(content=message.text, tool_calls=calls))
    if open_asks:
        raise _unpaired(f"nothing answers {open_asks[0][0]!r}")
    return wire


def _unpaired(what: str) -> ModelError:
    return ModelError(
        f"the conversation cannot be sent: {what}", fix="report this: every call must have exactly one answer"
    )


def _sendable(name: str) -> str:
    """A name that providers accept, whatever the model called the tool."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unknown"


def _sent_arguments(ask: ProposedCall) -> dict[str, Any]:
    """What the model is shown of its own arguments; text that is no object is quoted, because providers parse it."""
    if ask.arguments is None:
        return ask.parsed or {}
    try:
        value = load_json(ask.arguments)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no infinity, no lone surrogate
    except (ValueError, RecursionError):
        value = None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"unparsed": ask.arguments}


def _escaped(text: str) -> str:
    """The same JSON, with lone surrogates escaped: only so can the text be recorded, and refused, as it was."""
    return _without_surrogates(text, lambda found: f"\\u{ord(found[0]):04x}")


def _without_surrogates(text: str, replace: Callable[[re.Match[str]], str]) -> str:
    """Joins surrogate pairs that were cut apart between two chunks; replaces those that stay alone."""
    if not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return re.sub("[\ud800-\udfff]", replace, joined)
