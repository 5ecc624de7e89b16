"""Reads the documents of a chat-completions answer: chunks of a stream, or one whole completion.

Servers differ in many small ways. What has one meaning is read, and counted as a deviation; what has several is left as it is, and
the broker refuses it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from remit.core import Json, ModelError, ModelTurn
from remit.runtime.models.usage import openai_usage
from remit.runtime.models.wire.error_texts import ERROR_BYTES, is_error
from remit.runtime.models.wire.event_stream import Document, is_array, is_object, written
from remit.runtime.models.wire.provider_errors import ProviderErrors
from remit.runtime.models.wire.provider_state import ProviderState
from remit.runtime.models.wire.turns import TurnBuilder, finish_of

_LEGACY: Final = "function_call"


class AnswerReader:
    """Assembles the turn of one answer. `model` gets the provider's state back; `offered` are the names of the tools.

    `headers` of the answer may say when to ask again, if it turns out to be an error.
    """

    def __init__(
        self, errors: ProviderErrors, model: str, offered: Collection[str], headers: Mapping[str, str]
    ) -> None:
        self._errors = errors
        self._headers = headers
        self._turn = TurnBuilder(offered)
        self._state = ProviderState(model)
        self.is_empty = True
        self.unknown = b""  # the first document that is no part of an answer

    def add(self, document: Document) -> None:
        """Read one document. Raises ModelError for an error of the provider, and for a turn that is too long."""
        value = document.value
        try:
            if is_array(value) and value and is_object(value[0]):  # Gemini sends its errors as a list
                value = value[0]
            if not is_object(value):
                raise self._errors.unreadable(written(value).encode("utf-8", "replace"))
            if is_error(value, document.event):
                raise self._errors.within(value, self._headers)
            self._add_chunk(value)
        except RecursionError as failure:
            raise ModelError(
                "the answer of the model is nested too deeply", fix="check base_url and the model"
            ) from failure

    def turn(self, *, streamed: bool) -> ModelTurn:
        """The whole turn. Raises ModelError for an answer that cannot be read."""
        if not streamed:
            self._turn.deviations.add("not_streamed")
        return self._turn.turn(self._state.text())

    def _add_chunk(self, chunk: Mapping[str, Any]) -> None:
        if isinstance(chunk.get("model"), str) and chunk["model"]:
            self._turn.model = chunk["model"][:200]
        own = chunk.get("x_groq")
        usage = chunk.get("usage") or (own.get("usage") if is_object(own) else None)
        if is_object(usage):
            # Some servers send the count in every chunk, each from the start of the turn: the last one is right.
            self._turn.usage = openai_usage(usage)
        choices = chunk.get("choices")
        choice = choices[0] if is_array(choices) and choices else None
        if not is_object(choice):
            self.unknown = self.unknown or written(chunk).encode("utf-8", "replace")[:ERROR_BYTES]
            return
        if choice.get("index") not in (0, None):
            return  # only one choice was asked for
        self.is_empty = False
        finish = finish_of(choice)
        if choice.get("error") or finish == "error":
            raise self._errors.within(choice.get("error") or chunk, self._headers)
        self._turn.finish = finish or self._turn.finish
        for name, whole in (("delta", False), ("message", True)):
            message = choice.get(name)
            if is_object(message):
                self._add_message(message, whole=whole)
        if isinstance(choice.get("text"), str):
            self._turn.add_text(choice["text"])

    def _add_message(self, message: Mapping[str, Any], *, whole: bool) -> None:
        self._add_content(message.get("content"))
        if isinstance(message.get("refusal"), str):
            self._turn.count(len(message["refusal"]))
            self._turn.refusal.append(message["refusal"])
        calls = message.get("tool_calls")
        for item in calls if is_array(calls) else [calls] if is_object(calls) else []:
            if is_object(item):
                self._add_call(item, whole=whole)
        legacy = message.get(_LEGACY)
        if is_object(legacy):
            self._turn.deviations.add("legacy_function_call")
            self._add_call({"index": _LEGACY, "function": legacy}, whole=False)
        self._turn.count(self._state.add_message(message))

    def _add_content(self, content: Json) -> None:
        if content is None or content == "":
            return
        if isinstance(content, str):
            self._turn.add_text(content)
            return
        self._turn.deviations.add("content_not_text")
        for part in content if is_array(content) else [content]:
            if is_object(part):
                text = part.get("text")
                self._turn.add_text(text if isinstance(text, str) else "")
            else:
                self._turn.add_text(part if isinstance(part, str) else written(part))

    def _add_call(self, item: Mapping[str, Any], *, whole: bool) -> None:
        function = item.get("function")
        if not is_object(function):
            function = item.get("custom")
        body = function if is_object(function) else item
        name, id_ = _text(body.get("name")), _text(item.get("id"))
        index = item.get("index")
        if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) < 6:
            index = int(index)
        if not isinstance(index, int | str) or isinstance(index, bool):
            index = None
        call = self._turn.new_call(index) if whole else self._turn.call_at(index, id_, name)
        if whole:
            call.id, call.name = id_, name
        arguments = body.get("arguments", body.get("input"))
        if arguments is not None and not isinstance(arguments, str):
            self._turn.deviations.add("arguments_not_text")
            arguments = written(arguments)
        self._turn.count(len(name) + len(id_) + len(arguments or ""))
        call.add(arguments or "")
        self._turn.count(self._state.add_call(call.number, item))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
