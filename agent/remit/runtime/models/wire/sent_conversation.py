"""The conversation as providers accept it: each call has an id of its own, a valid name, an object, and exactly one answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from remit.core import Json, Message, ModelError, ProposedCall
from remit.core.parsing import load_json
from remit.runtime.models.wire.event_stream import is_object

# Stands for a turn without words and calls: some providers reject an empty message, others two messages of one role in a row.
NO_WORDS: Final = "(no words)"


@dataclass(frozen=True, kw_only=True)
class SentCall:
    """A call of an earlier turn. `arguments` is a JSON object, as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, kw_only=True)
class SentMessage:
    """One message. `call_id` of a tool message is the id of the `SentCall` that it answers. `state` is that of the provider."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    calls: tuple[SentCall, ...] = ()
    call_id: str = ""
    state: str = ""


def sent_messages(messages: Sequence[Message]) -> list[SentMessage]:
    """The messages with new ids of calls, because models repeat ids and providers reject repeated ones.

    Names that the model made up are changed to valid ones. Raises ModelError for a call without an answer, or an answer without
    a call.
    """
    sent: list[SentMessage] = []
    unanswered: list[tuple[str, str]] = []  # (id of the call, id that is sent)
    for number, message in enumerate(messages):
        if message.role == "tool":
            pair = next((pair for pair in unanswered if pair[0] == message.call_id), None)
            if pair is None:
                raise _unpaired(f"message {number} answers the call {message.call_id!r}, which does not exist")
            unanswered.remove(pair)
            sent.append(SentMessage(role="tool", text=message.text, call_id=pair[1]))
            continue
        if unanswered:
            raise _unpaired(f"message {number} comes before the answer to the call {unanswered[0][0]!r}")
        calls = tuple(
            SentCall(id=f"call_{number}_{index}", name=_valid_name(call.name), arguments=_sent_arguments(call))
            for index, call in enumerate(message.proposed_calls)
        )
        unanswered = [(call.id, own.id) for call, own in zip(message.proposed_calls, calls, strict=True)]
        text = NO_WORDS if message.role == "assistant" and not calls and not message.text.strip() else message.text
        sent.append(SentMessage(role=message.role, text=text, calls=calls, state=message.provider_state))
    if unanswered:
        raise _unpaired(f"the call {unanswered[0][0]!r} has no answer")
    return sent


def _unpaired(what: str) -> ModelError:
    return ModelError(
        f"the conversation cannot be sent: {what}", fix="report this error: every call must have exactly one answer"
    )


def _valid_name(name: str) -> str:
    """The name of the tool with only the characters that providers accept."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "unknown"


def _sent_arguments(proposed: ProposedCall) -> str:
    """The arguments as the model wrote them. Providers accept objects only, so any other text is quoted in one."""
    if proposed.arguments is None:
        return json.dumps(proposed.parsed or {}, ensure_ascii=False)
    value: Json = None
    try:
        value = load_json(proposed.arguments)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # no infinity, no lone surrogate
    except (ValueError, RecursionError):
        value = None
    return proposed.arguments if is_object(value) else json.dumps({"unparsed": proposed.arguments}, ensure_ascii=False)
