"""What a tool of LangGraph returns: a message, a `Command`, or a list of them. The result of a call is the message with its id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeGuard, cast

from langchain_core.messages import ToolMessage
from langgraph.errors import ParentCommand
from langgraph.types import Command

from remit.broker import content_of
from remit.core import Json


def result_of(returned: Any, call_id: str | None) -> Json:
    """The content of the message that answers the call; "" if a `Command` or a list has none.

    Raises:
        ToolError: the message reports an error.
    """
    if not is_for_graph(returned):
        return content_of(returned)
    found = messages_for(returned, call_id)
    return content_of(found[0]) if found else ""


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
