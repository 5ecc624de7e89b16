"""What a tool of LangGraph returns: a message, a `Command`, or a list of them. The result of a call is the message with its id."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, TypeGuard, cast

from langchain_core.messages import ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.errors import ParentCommand
from langgraph.types import Command

from remit.broker import HostValue, content_of
from remit.core import ContentObject
from remit.core.parsing import digest_bytes

RETURNED: Final = "application/vnd.langgraph.returned+msgpack"  # what a tool returned for the graph, beside its result
LARGEST_RETURNED: Final = 256 * 1024  # bytes
# It reads no other types than messages, commands and plain values: the record of a run constructs nothing else.
_STRICT: Final = JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=None)


def result_of(returned: Any, call_id: str | None) -> HostValue:
    """The content of the message that answers the call; "" if a `Command` or a list has none.

    Raises:
        ToolError: the message reports an error.
    """
    if not is_for_graph(returned):
        return content_of(returned)
    found = messages_for(returned, call_id)
    return content_of(found[0]) if found else HostValue(value="")


def answered(returned: Any, call_id: str | None, answer: Callable[[ToolMessage], ToolMessage]) -> Any:
    """What the tool returned, with `answer` of the message that answers the call in its place, and the rest unchanged."""
    if isinstance(returned, ParentCommand):
        return ParentCommand(answered(_given_to(returned), call_id, answer))
    if is_command(returned):
        return replace(returned, update=_in_update(returned.update, call_id, answer))
    if _is_list(returned):
        return [answered(item, call_id, answer) for item in returned]
    if isinstance(returned, ToolMessage) and returned.tool_call_id == call_id:
        return answer(returned)
    return returned


def is_for_graph(returned: object) -> bool:
    """True for what a graph of LangGraph reads, and not only its model."""
    return isinstance(returned, Command | list | ParentCommand)


def is_command(returned: object) -> TypeGuard[Command[Any]]:
    return isinstance(returned, Command)


def _is_list(returned: object) -> TypeGuard[list[Any]]:
    return isinstance(returned, list)


def _given_to(raised: Exception) -> Any:
    return raised.args[0]


def messages_for(returned: Any, call_id: str | None) -> list[ToolMessage]:
    """The messages in what a tool returned that answer the call."""
    found: list[ToolMessage] = []

    def note(message: ToolMessage) -> ToolMessage:
        found.append(message)
        return message

    answered(returned, call_id, note)
    return found


def _in_update(update: Any, call_id: str | None, answer: Callable[[ToolMessage], ToolMessage]) -> Any:
    if isinstance(update, dict):
        fields = cast("dict[str, Any]", update)
        return {name: answered(value, call_id, answer) for name, value in fields.items()}
    return answered(update, call_id, answer)


# -- what the record keeps, for a process that goes on with the thread ----------------------------------------------------


def kept(returned: Any) -> tuple[ContentObject, ...]:
    """What the graph reads of what a tool returned, for the record; nothing if only the model reads it, or if it is too large."""
    artifact = isinstance(returned, ToolMessage) and returned.artifact is not None
    if not artifact and not is_for_graph(returned):
        return ()
    raised = isinstance(returned, ParentCommand)
    try:
        _, data = _STRICT.dumps_typed([raised, _given_to(returned) if raised else returned])
    except Exception:  # noqa: BLE001 - the value of a tool may be anything
        return ()
    if len(data) > LARGEST_RETURNED:
        return ()
    text = base64.b64encode(data).decode()
    return (ContentObject(digest=digest_bytes(data), media_type=RETURNED, size=len(data), data=text),)


def restored(objects: Iterable[ContentObject]) -> Any:
    """What the tool returned, as the record kept it; None if it kept nothing. An object of an own class has become a plain value."""
    data = next((item.data for item in objects if item.media_type == RETURNED), "")
    try:
        made: Any = _STRICT.loads_typed(("msgpack", base64.b64decode(data))) if data else [False, None]
        raised, returned = made
    except Exception:  # noqa: BLE001 - another version of LangGraph wrote it
        return None
    return ParentCommand(returned) if raised else returned
