"""The conversation of a run as messages of Inspect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    Content,
    ContentReasoning,
    ContentText,
)
from inspect_ai.tool import ToolCall, ToolCallError
from pydantic import TypeAdapter, ValidationError

from remit.core import Json, Message, ModelError
from remit.core.events import Recorded
from remit.core.parsing import load_json
from remit.journal import Conversation
from remit.runtime.models import SentMessage, sent_messages

_REASONING: Final = TypeAdapter(list[ContentReasoning])


def chat_messages(messages: Sequence[Message]) -> list[ChatMessage]:
    """The messages as Inspect has them.

    Raises:
        ModelError: a call has no answer, or an answer has no call.
    """
    chat: list[ChatMessage] = []
    names: dict[str, str] = {}
    for message in sent_messages(messages):
        match message.role:
            case "system":
                chat.append(ChatMessageSystem(content=message.text))
            case "user":
                chat.append(ChatMessageUser(content=message.text))
            case "assistant":
                chat.append(_assistant(message))
                names |= {call.id: call.name for call in message.calls}
            case "tool":
                chat.append(
                    ChatMessageTool(
                        content=message.text,
                        tool_call_id=message.call_id,
                        function=names[message.call_id],
                        error=_error_in(message.text),
                    )
                )
    return chat


def recorded_messages(records: Iterable[Recorded]) -> list[ChatMessage]:
    """What the model of a run has read and said, as far as all calls of a turn are answered."""
    conversation = Conversation()
    for recorded in records:
        if recorded.event is not None:
            conversation.fold(recorded.event)
    messages = list(conversation.messages)
    try:
        return chat_messages(messages)
    except ModelError:  # the run ended between the calls of its last turn
        last = max(number for number, message in enumerate(messages) if message.role == "assistant")
        return chat_messages(messages[:last])


def reasoning_state(message: ChatMessageAssistant) -> str:
    """The thoughts of a turn as a provider state (see `ModelTurn`); "" without any."""
    content = message.content if isinstance(message.content, list) else []
    thoughts = [item for item in content if isinstance(item, ContentReasoning)]
    return _REASONING.dump_json(thoughts, exclude_none=True).decode() if thoughts else ""


def _assistant(message: SentMessage) -> ChatMessageAssistant:
    thoughts = _thoughts(message.state)
    calls = [
        ToolCall(id=call.id, function=call.name, arguments=cast("dict[str, Json]", load_json(call.arguments)))
        for call in message.calls
    ]
    content: list[Content] = [*thoughts, ContentText(text=message.text)]
    return ChatMessageAssistant(content=content if thoughts else message.text, tool_calls=calls or None)


def _thoughts(state: str) -> list[ContentReasoning]:
    """The thoughts of an earlier turn; none in the state of another adapter."""
    try:
        return _REASONING.validate_json(state) if state else []
    except ValidationError:
        return []


def _error_in(text: str) -> ToolCallError | None:
    """The error that a result of Remit says; None for a value."""
    result: dict[str, Any] = load_json(text)
    if result["ok"]:
        return None
    code = result.get("error", {}).get("code")
    return ToolCallError("permission" if code == "policy_denied" else "unknown", text)
