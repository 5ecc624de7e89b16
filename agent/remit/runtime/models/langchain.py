"""A provider's chat model, through LangChain: Anthropic and Ollama. Only this module of the runtime's models imports LangChain.

LangChain also parses arguments, but it repairs arguments that were cut off (`{"amount": 10` becomes 10) and keeps the last of
two equal keys. So the streamed text is kept, and LangChain's parsed form is used only where LangChain hides the text.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from remit.core import NO_SETTINGS, Json, Message, ModelError, ModelTurn, ToolSpec, UsageError
from remit.core.events import ModelSettings
from remit.runtime.models.usage import langchain_usage
from remit.runtime.models.wire.event_stream import is_array, is_object
from remit.runtime.models.wire.provider_errors import ProviderErrors
from remit.runtime.models.wire.provider_state import ProviderState, SentState
from remit.runtime.models.wire.sent_conversation import NO_WORDS, SentMessage, sent_messages
from remit.runtime.models.wire.turns import SILENCE_S, TURN_S, TurnBuilder, finish_of

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk, BaseMessage

_THOUGHTS: Final = ("thinking", "redacted_thinking")  # Anthropic: content blocks that it needs back


@dataclass(frozen=True, kw_only=True)
class Provider:
    """How to import and open one provider's LangChain class.

    `extra` is the optional dependency of Remit. `shows_text` is False if the provider or LangChain parses the arguments, so
    that their text is not available. `settings` are the names of its settings, by ours.
    """

    extra: str
    module: str
    factory: str
    key: str  # environment variable of the key; "" where there is none
    address: tuple[str, ...]  # environment variables of the base URL, read by the library itself
    options: Mapping[str, Any]
    settings: Mapping[str, str]
    shows_text: bool = True


_SAME: Final = {"temperature": "temperature", "top_p": "top_p"}
PROVIDERS: Final[Mapping[str, Provider]] = {
    "anthropic": Provider(
        extra="anthropic",
        module="langchain_anthropic",
        factory="ChatAnthropic",
        key="ANTHROPIC_API_KEY",
        address=("ANTHROPIC_API_URL", "ANTHROPIC_BASE_URL"),
        options={"stream_usage": True, "timeout": SILENCE_S, "max_retries": 0},  # the run asks again, and records it
        settings={
            **_SAME,
            "top_k": "top_k",
            "max_tokens": "max_tokens",
            "stop": "stop",
            "reasoning_effort": "effort",
            "extra": "model_kwargs",
        },
    ),
    "ollama": Provider(
        extra="ollama",
        module="langchain_ollama",
        factory="ChatOllama",
        key="",
        address=("OLLAMA_HOST",),
        options={"client_kwargs": {"timeout": SILENCE_S}},
        settings={
            **_SAME,
            "top_k": "top_k",
            "max_tokens": "num_predict",
            "seed": "seed",
            "stop": "stop",
            "reasoning_effort": "reasoning",
        },
        shows_text=False,
    ),
}


class LangChainModel:
    """A provider's chat model. It is streamed, because only the stream has the arguments as the model wrote them."""

    def __init__(
        self,
        provider: Provider,
        model: str,
        *,
        name: str,
        base_url: str | None = None,
        settings: ModelSettings = NO_SETTINGS,
    ) -> None:
        self.scripted = False
        self.name = name
        self.settings = settings
        self._provider = provider
        self._secret = os.environ.get(provider.key, "") if provider.key else ""
        self._errors = ProviderErrors(name=name, key=provider.key, secret=self._secret)
        self._chat = self._open(model, base_url)

    def _open(self, model: str, base_url: str | None) -> BaseChatModel:
        provider = self._provider
        options: dict[str, Any] = {**provider.options, **self._sent_settings(), "model": model}
        if base_url:
            options["base_url"] = base_url
        if provider.key and not self._secret:
            # A local server seldom needs a key, but the libraries refuse to start without one.
            if not base_url and not any(os.environ.get(variable) for variable in provider.address):
                raise UsageError(f"{self.name!r} needs a key: set {provider.key}")
            options["api_key"] = "unset"
        try:
            # Imported here because it takes a second, which `remit --help` and scripted runs do not need.
            factory = getattr(importlib.import_module(provider.module), provider.factory)
        except ImportError as error:
            raise UsageError(
                f"{self.name!r} needs the package {provider.module!r}: pip install 'remit[{provider.extra}]'"
            ) from error
        try:
            return cast("BaseChatModel", factory(**options))
        except Exception as error:
            raise UsageError(f"{self.name!r} cannot be opened: {self._errors.clean(str(error))}") from error

    def _sent_settings(self) -> dict[str, Json]:
        """The settings by the names of the library. Raises UsageError for one that the provider does not have."""
        names = self._provider.settings
        for name in self.settings.given:
            if name not in names:
                raise UsageError(
                    f"{self.name!r} has no setting {name!r}: remove it from [model_settings] in agent.toml; "
                    f"it has {', '.join(names)}"
                )
        return {names[name]: value for name, value in self.settings.given.items()}

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        """Ask the provider for the next turn. Raises ModelError for every failure of the provider or its library."""
        wire = to_langchain(messages, self.name)
        offered = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.input},
            }
            for tool in tools
        ]
        stream = _StreamedTurn(self._provider, self.name, [tool.name for tool in tools])
        try:
            chat = self._chat.bind_tools(offered) if offered else self._chat
            async with asyncio.timeout(TURN_S):
                async for chunk in chat.astream(wire):
                    stream.add(cast("AIMessageChunk", chunk))
        except ModelError:
            raise
        except Exception as error:  # the provider's library may raise any exception
            raise self._explain(error) from error
        return stream.turn()

    def _explain(self, error: Exception) -> ModelError:
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and not isinstance(status, bool):
            return self._errors.refused(status, *_answer_of(error)) if status >= 400 else self._within(error)
        kind = type(error).__name__
        if isinstance(error, TimeoutError) or "Timeout" in kind:
            return self._errors.late()
        if isinstance(error, OSError) or any(word in kind for word in ("Connect", "Protocol", "Read", "Network")):
            return self._errors.unreachable(str(error.__cause__ or error) or kind)
        if getattr(error, "body", None) is not None:
            return self._within(error)
        return self._errors.unreadable(f"{kind}: {error}".encode("utf-8", "replace"))

    def _within(self, error: Exception) -> ModelError:
        """An error inside an answer that began as a success."""
        body = getattr(error, "body", None)
        return self._errors.within(body if isinstance(body, dict | list | str) else {"message": str(error)})


def _answer_of(error: Exception) -> tuple[Mapping[str, str], bytes]:
    """The headers and the body of the answer that a library turned into an exception."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None)
    try:
        text = getattr(response, "text", None)
    except Exception:  # noqa: BLE001 - a library may not have read the body
        text = None
    if not isinstance(text, str) or not text:
        body = getattr(error, "body", None) or getattr(error, "error", None)
        try:
            text = body if isinstance(body, str) else json.dumps(body) if body else str(error)
        except (TypeError, ValueError):
            text = str(error)
    given = cast("Mapping[object, object]", headers if isinstance(headers, Mapping) else {})
    known = {str(name): str(value) for name, value in given.items()}
    return known, text.encode("utf-8", "replace")


class _StreamedTurn:
    """Assembles one turn from its chunks. Raises ModelError for a turn that is too long or has no readable call."""

    def __init__(self, provider: Provider, model: str, offered: Sequence[str]) -> None:
        self._provider = provider
        self._turn = TurnBuilder(offered)
        self._state = ProviderState(model)

    def add(self, chunk: AIMessageChunk) -> None:
        self._turn.add_text(str(chunk.text))
        for number, piece in enumerate(chunk.tool_call_chunks):
            index, name, id_, args = piece["index"], piece["name"] or "", piece["id"] or "", piece["args"] or ""
            self._turn.count(len(args) + len(name) + len(id_))
            if not self._provider.shows_text or _is_given_parsed(chunk, id_):
                # LangChain wrote `args` itself, from a dict, so it is not the text that the model wrote.
                call = self._turn.new_call()
                call.id, call.name = id_, name
                call.parsed = chunk.tool_calls[number]["args"] if number < len(chunk.tool_calls) else {}
                continue
            self._turn.call_at(index, id_, name).add(args)
        self._add_metadata(chunk)

    def _add_metadata(self, chunk: AIMessageChunk) -> None:
        thoughts = [block for block in _blocks(chunk) if block.get("type") in _THOUGHTS]
        reasoning = chunk.additional_kwargs.get("reasoning_content")  # Ollama
        self._turn.count(self._state.add_message({"blocks": thoughts, "reasoning_content": reasoning}))
        metadata = cast("Mapping[str, Any]", chunk.response_metadata)
        self._turn.finish = finish_of(metadata) or self._turn.finish
        self._turn.model = str(metadata.get("model_name") or metadata.get("model") or self._turn.model)
        usage = chunk.usage_metadata
        if usage:
            # Some servers send the count in every chunk, each from the start of the turn: the last one is right.
            # LangChain writes 0 for what the provider did not count, and no turn reads nothing.
            counted = langchain_usage(usage)
            self._turn.usage = counted.model_copy(update={"input_tokens": counted.input_tokens or None})

    def turn(self) -> ModelTurn:
        return self._turn.turn(self._state.text())


def _blocks(chunk: AIMessageChunk) -> list[dict[str, Json]]:
    content: object = chunk.content
    return [dict(block) for block in content if is_object(block)] if is_array(content) else []


def _is_given_parsed(chunk: AIMessageChunk, id_: str) -> bool:
    """True if the chunk has the call's input as a value: Anthropic may send it so, in the block's first event."""
    return any(
        block.get("type") == "tool_use" and block.get("id") == id_ and bool(block.get("input"))
        for block in _blocks(chunk)
    )


def to_langchain(messages: Sequence[Message], model: str) -> list[BaseMessage]:
    """The conversation as LangChain messages, with the state that `model` gave with its turns.

    Raises ModelError for a call without an answer, or an answer without a call.
    """
    from langchain_core.messages import (  # noqa: PLC0415 - takes most of a second; a scripted run never needs it
        AIMessage,
        HumanMessage,
        SystemMessage,
        ToolMessage,
    )

    wire: list[BaseMessage] = []
    for message in sent_messages(messages):
        match message.role:
            case "system":
                wire.append(SystemMessage(content=message.text))
            case "user":
                wire.append(HumanMessage(content=message.text))
            case "tool":
                wire.append(ToolMessage(content=message.text, tool_call_id=message.call_id))
            case "assistant":
                calls: list[Any] = [
                    {"type": "tool_call", "id": call.id, "name": call.name, "args": json.loads(call.arguments)}
                    for call in message.calls
                ]
                content, more = _content_of(message, model)
                wire.append(AIMessage(content=content, tool_calls=calls, additional_kwargs=more))
    return wire


def _content_of(message: SentMessage, model: str) -> tuple[Any, dict[str, Any]]:
    """The content of an earlier turn and its additional members, with the thoughts that the model gave with it."""
    state = SentState(message.state, model).message
    reasoning, blocks = state.get("reasoning_content"), state.get("blocks")
    more = {"reasoning_content": reasoning} if reasoning else {}
    if not is_array(blocks):
        return message.text, more
    text = message.text or ("" if message.calls else NO_WORDS)
    return [*blocks, *([{"type": "text", "text": text}] if text else [])], more
