"""The messages and tools of LangChain as Remit's, and a turn of the model as LangChain's message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from remit.core import Json, Message, ProposedCall, Refusal, Result, ToolSpec, UsageError, call_id, result_message
from remit.core.events import ModelResponded
from remit.core.parsing import canonical_json, load_json

UNREAD: Final = "unread_arguments"  # the argument that stands for a text that is no JSON object


def spec_of(tool: Any) -> ToolSpec:
    """A function of the graph as it is offered to the model. Raises UsageError for a tool that only one provider has."""
    described: dict[str, Any] | None = convert_to_openai_tool(tool).get("function")
    if described is None:
        raise UsageError(f"the graph offers its model a tool of a provider, {tool!r}: offer it an action of the agent")
    return ToolSpec(
        name=described["name"],
        description=described.get("description", ""),
        input=described.get("parameters", {"type": "object", "properties": {}}),
    )


def arguments_of(proposed: ProposedCall) -> dict[str, Json]:
    """The arguments of a call as the graph sees them. The broker parses the text again, so that nothing else is decided."""
    if proposed.parsed is not None or proposed.arguments is None:
        return dict(proposed.parsed or {})
    try:
        value = load_json(proposed.arguments)
    except ValueError:
        value = None
    return cast("dict[str, Json]", value) if isinstance(value, dict) else {UNREAD: proposed.arguments}


def ai_message(response: ModelResponded) -> AIMessage:
    """The turn of the model as the graph's message. The id of each call is its place, STEP.INDEX."""
    calls: list[Any] = [
        {"type": "tool_call", "id": call_id(response.step, index), "name": call.name, "args": arguments_of(call)}
        for index, call in enumerate((*response.proposed_calls, *response.own_calls))
    ]
    usage = response.usage
    read, written = usage.input_tokens or 0, usage.output_tokens or 0
    return AIMessage(
        content=response.text,
        id=message_id(response.step),
        tool_calls=calls,
        response_metadata={"finish_reason": response.finish, "model_name": response.response_model},
        usage_metadata={"input_tokens": read, "output_tokens": written, "total_tokens": read + written},
    )


def tool_message(name: str, identifier: str, place: tuple[int, int], result: Result) -> ToolMessage:
    """The result as the graph's message: JSON as its content, as in Remit's own loop, and the same value as its artifact."""
    return ToolMessage(
        content=result_message(call_id(*place), result),
        name=name,
        tool_call_id=identifier,
        status="success" if result.ok else "error",
        artifact=result.model_dump(mode="json"),
    )


def messages_of(given: Sequence[BaseMessage], responses: Mapping[str, ModelResponded]) -> list[Message]:
    """The conversation that the graph sends to its model. `responses` are the turns of the run, by the id of their message.

    Raises:
        UsageError: a message holds what the models of Remit cannot read, such as an image.
    """
    return [_message(message, responses) for message in given]


def message_id(step: int) -> str:
    """The id of the message by which the graph gets the turn of that step."""
    return f"remit-{step}"


def _message(message: BaseMessage, responses: Mapping[str, ModelResponded]) -> Message:
    text = _text_of(message)
    match message:
        case SystemMessage():
            return Message(role="system", text=text)
        case HumanMessage():
            return Message(role="user", text=text)
        case ToolMessage():
            return Message(role="tool", text=text, call_id=message.tool_call_id)
        case AIMessage():
            response = responses.get(message.id or "")
            written = () if response is None else (*response.proposed_calls, *response.own_calls)
            same = {call_id(response.step, index): call for index, call in enumerate(written)} if response else {}
            calls = tuple(_proposed(call, same) for call in message.tool_calls)
            state = "" if response is None else response.provider_state
            return Message(role="assistant", text=text, proposed_calls=calls, provider_state=state)
        case _:
            raise UsageError(
                f"the graph sends a message of the type {message.type!r} to its model: send a human message"
            )


def _proposed(call: Any, same: Mapping[str, ProposedCall]) -> ProposedCall:
    """The call as its model wrote it; one that the graph made or changed has the arguments of the graph."""
    identifier = call["id"] or ""
    written = same.get(identifier)
    if written is not None and written.name == call["name"] and arguments_of(written) == call["args"]:
        return written.model_copy(update={"id": identifier})
    return proposed_call(call["name"], call["args"], identifier)


def proposed_call(name: str, arguments: Any, identifier: str) -> ProposedCall:
    """A call that the graph itself makes. Raises UsageError for arguments that are no JSON."""
    try:
        return ProposedCall(name=name, arguments=canonical_json(arguments).decode(), id=identifier)
    except Refusal as refusal:
        raise UsageError(f"the graph calls {name!r} with arguments that are no JSON: {refusal.message}") from refusal


def _text_of(message: BaseMessage) -> str:
    blocks: list[Any] = message.content if isinstance(message.content, list) else []
    for block in blocks:
        kind: Any = "text" if isinstance(block, str) else block["type"]
        if kind not in ("text", "tool_use", "tool_call", "thinking", "reasoning"):
            raise UsageError(
                f"the graph sends a content block of the type {kind!r} to its model, which reads text only"
            )
    return str(message.text)
