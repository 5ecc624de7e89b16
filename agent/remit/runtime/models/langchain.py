"""A provider's chat model, through LangChain. Only this module of the runtime's models imports LangChain.

LangChain also parses arguments, but it repairs arguments that were cut off (`{"amount": 10` becomes 10) and keeps the last of
two equal keys. So the streamed text is kept, and LangChain's parsed form is used only where LangChain hides the text.
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

from remit.core import NO_SETTINGS, Json, Message, ModelError, ModelTurn, ProposedCall, ToolSpec, UsageError
from remit.core.events import ModelSettings, Usage
from remit.core.parsing import load_json
from remit.runtime.models.usage import langchain_usage

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessageChunk, BaseMessage

SILENCE_S: Final = 120.0  # seconds without a byte from the provider
TURN_S: Final = 600.0  # seconds for one whole turn; reasoning models think for minutes
TURN_CHARACTERS: Final = 4 * 1024 * 1024  # of text and arguments in one turn
TRIES: Final = 2  # retries after a busy or broken answer; asking a model again has no side effect


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
    "openai": Provider(
        extra="openai",
        module="langchain_openai",
        factory="ChatOpenAI",
        key="OPENAI_API_KEY",
        address=("OPENAI_API_BASE", "OPENAI_BASE_URL"),
        options={"stream_usage": True, "timeout": SILENCE_S, "max_retries": TRIES},
        settings={
            **_SAME,
            "max_tokens": "max_tokens",
            "seed": "seed",
            "stop": "stop",
            "reasoning_effort": "reasoning_effort",
            "extra": "extra_body",
        },
    ),
    "anthropic": Provider(
        extra="anthropic",
        module="langchain_anthropic",
        factory="ChatAnthropic",
        key="ANTHROPIC_API_KEY",
        address=("ANTHROPIC_API_URL", "ANTHROPIC_BASE_URL"),
        options={"stream_usage": True, "timeout": SILENCE_S, "max_retries": TRIES},
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
            raise UsageError(f"{self.name!r} cannot be opened: {self._clean(str(error))}") from error

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
        wire = to_langchain(messages)
        offered = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.input},
            }
            for tool in tools
        ]
        stream = _StreamedTurn(self._provider)
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
        reason = self._clean(_provider_message(error))
        key = self._provider.key or "the server's settings"
        match status:
            case 401 | 403:
                return ModelError(f"{self.name!r} rejected the key: {reason}", fix=f"check {key}")
            case 404:
                return ModelError(f"{self.name!r} was not found: {reason}", fix="check the model's name and base_url")
            case 408 | 409 | 425 | 429:
                return ModelError(
                    f"{self.name!r} is busy: {reason}", fix="wait, then start the run again", retryable=True
                )
            case int() if status >= 500:
                return ModelError(
                    f"{self.name!r} failed with {status}: {reason}",
                    fix="wait, then start the run again",
                    retryable=True,
                )
            case int():
                return ModelError(
                    f"{self.name!r} rejected the request with {status}: {reason}",
                    fix="check that the model supports tools, the length of the conversation, and the settings",
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
                f"{self.name!r} cannot be reached: {reason}",
                fix="check the network, the proxy and base_url, then start the run again",
                retryable=True,
            )
        return ModelError(f"{self.name!r} gave an invalid answer: {kind}: {reason}", fix="check base_url and the model")

    def _clean(self, text: str) -> str:
        """The text on one line of at most 300 characters, without the key."""
        if self._secret:
            text = text.replace(self._secret, "…")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= 300 else line[:299] + "…"


def _provider_message(error: Exception) -> str:
    """The provider's own error message, if the library kept it; else the message of the exception."""
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
class _StreamedCall:
    """One call while it is streamed. `parsed` is LangChain's parsed form, set if LangChain hides the text."""

    name: str = ""
    id: str = ""
    text: str = ""
    parsed: dict[str, Json] | None = None

    def proposed(self) -> ProposedCall:
        if self.parsed is not None:
            return ProposedCall(name=self.name, arguments=None, parsed=self.parsed, id=self.id)
        # Several providers stream a call without arguments as no text at all.
        return ProposedCall(name=self.name, arguments=_escaped(self.text) or "{}", id=self.id)


class _StreamedTurn:
    """Assembles one turn from its chunks. Raises ModelError for a turn that is too long or has no readable call."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._text: list[str] = []
        self._calls: list[_StreamedCall] = []
        self._by_index: dict[int | str | None, _StreamedCall] = {}
        self._finish = ""
        self._model = ""
        self._usage = Usage()
        self._characters = 0

    def add(self, chunk: AIMessageChunk) -> None:
        text = str(chunk.text)
        self._count(text)
        self._text.append(text)
        for number, piece in enumerate(chunk.tool_call_chunks):
            index, name, id_, args = piece["index"], piece["name"] or "", piece["id"] or "", piece["args"] or ""
            self._count(args)
            if not self._provider.shows_text or _is_given_parsed(chunk, id_):
                # LangChain wrote `args` itself, from a dict, so it is not the text that the model wrote.
                parsed = chunk.tool_calls[number]["args"] if number < len(chunk.tool_calls) else {}
                self._calls.append(_StreamedCall(name=name, id=id_, parsed=parsed))
                continue
            call = self._by_index.get(index)
            # Some servers give every parallel call the index 0, or none. A new name with a new id is then a new call.
            if call is None or (name and id_ and call.id and id_ != call.id):
                call = self._by_index[index] = _StreamedCall()
                self._calls.append(call)
            call.id = call.id or id_
            call.name = call.name if name == call.name else call.name + name
            call.text += args
        self._add_metadata(chunk)

    def _add_metadata(self, chunk: AIMessageChunk) -> None:
        metadata = cast("Mapping[str, Any]", chunk.response_metadata)
        self._finish = finish_of(metadata) or self._finish
        self._model = str(metadata.get("model_name") or metadata.get("model") or self._model)
        usage = chunk.usage_metadata
        if usage:
            # Some servers send the count in every chunk, each from the start of the turn: the last one is right.
            self._usage = langchain_usage(usage)

    def _count(self, text: str) -> None:
        self._characters += len(text)
        if self._characters > TURN_CHARACTERS:
            raise ModelError(
                f"the turn of the model is longer than {TURN_CHARACTERS} characters",
                fix="limit the length of the answer in the provider's settings",
            )

    def turn(self) -> ModelTurn:
        finish = self._finish or "length"
        if finish == "tool_calls" and not self._calls:
            raise ModelError(
                "the model ended its turn with a tool call, but the stream contains no readable call",
                fix="check that the server streams tool_calls with index and function, like OpenAI's",
            )
        return ModelTurn(
            text=_without_surrogates("".join(self._text), lambda _: "\ufffd"),
            proposed_calls=tuple(call.proposed() for call in self._calls),
            finish=finish,
            usage=self._usage,
            response_model=self._model,
        )


def _is_given_parsed(chunk: AIMessageChunk, id_: str) -> bool:
    """True if the chunk has the call's input as a value: Anthropic may send it so, in the block's first event."""
    blocks = cast("list[Any]", chunk.content) if isinstance(chunk.content, list) else []
    return any(
        isinstance(block, dict)
        and cast("dict[str, Any]", block).get("type") == "tool_use"
        and cast("dict[str, Any]", block).get("id") == id_
        and bool(cast("dict[str, Any]", block).get("input"))
        for block in blocks
    )


_FINISH_KEYS: Final = ("finish_reason", "stop_reason", "done_reason", "stopReason")
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


def finish_of(metadata: Mapping[str, Any]) -> str:
    """Why the turn ended, as OpenAI's finish reason where one fits; "" if the metadata does not say."""
    reason = next((value for key in _FINISH_KEYS if (value := metadata.get(key))), None)
    if not reason and metadata.get("status") == "completed":  # OpenAI's Responses API
        reason = "stop"
    elif not reason and metadata.get("status") == "incomplete":
        details = metadata.get("incomplete_details")
        reason = cast("dict[str, Any]", details).get("reason") if isinstance(details, dict) else None
        reason = reason or "length"
    return _FINISH.get(str(reason).lower(), str(reason).lower()) if reason else ""


def to_langchain(messages: Sequence[Message]) -> list[BaseMessage]:
    """The conversation as LangChain messages.

    Calls get new ids, because models repeat ids and providers reject repeated ones. Names that the model made up are changed
    to valid ones. Raises ModelError for a call without an answer, or an answer without a call.
    """
    from langchain_core.messages import (  # noqa: PLC0415 - takes most of a second; a scripted run never needs it
        AIMessage,
        HumanMessage,
        SystemMessage,
        ToolMessage,
    )

    wire: list[BaseMessage] = []
    unanswered: list[tuple[str, str]] = []  # (id of the call, id that is sent)
    for number, message in enumerate(messages):
        if message.role == "tool":
            pair = next((pair for pair in unanswered if pair[0] == message.call_id), None)
            if pair is None:
                raise _unpaired(f"message {number} answers the call {message.call_id!r}, which does not exist")
            unanswered.remove(pair)
            wire.append(ToolMessage(content=message.text, tool_call_id=pair[1]))
            continue
        if unanswered:
            raise _unpaired(f"message {number} comes before the answer to the call {unanswered[0][0]!r}")
        match message.role:
            case "system":
                wire.append(SystemMessage(content=message.text))
            case "user":
                wire.append(HumanMessage(content=message.text))
            case "assistant":
                ids = [f"call_{number}_{index}" for index in range(len(message.proposed_calls))]
                unanswered = [(call.id, id_) for call, id_ in zip(message.proposed_calls, ids, strict=True)]
                calls: list[Any] = [
                    {"type": "tool_call", "id": id_, "name": _valid_name(call.name), "args": _sent_arguments(call)}
                    for call, id_ in zip(message.proposed_calls, ids, strict=True)
                ]
                wire.append(AIMessage(content=message.text, tool_calls=calls))
    if unanswered:
        raise _unpaired(f"the call {unanswered[0][0]!r} has no answer")
    return wire


def _unpaired(what: str) -> ModelError:
    return ModelError(
        f"the conversation cannot be sent: {what}", fix="report this error: every call must have exactly one answer"
    )


def _valid_name(name: str) -> str:
    """The name of the tool with only the characters that providers accept."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unknown"


def _sent_arguments(proposed: ProposedCall) -> dict[str, Any]:
    """The arguments as the model sees them again. Providers accept objects only, so any other text is quoted in one."""
    if proposed.arguments is None:
        return proposed.parsed or {}
    try:
        value = load_json(proposed.arguments)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no infinity, no lone surrogate
    except (ValueError, RecursionError):
        value = None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"unparsed": proposed.arguments}


def _escaped(text: str) -> str:
    """The same JSON, with lone surrogates escaped, so that the text can be recorded and then refused."""
    return _without_surrogates(text, lambda match: f"\\u{ord(match[0]):04x}")


def _without_surrogates(text: str, replace: Callable[[re.Match[str]], str]) -> str:
    """Joins surrogate pairs that two chunks divided, and replaces lone surrogates."""
    if not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return re.sub("[\ud800-\udfff]", replace, joined)
