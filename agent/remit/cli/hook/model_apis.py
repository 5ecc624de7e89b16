"""How the two interfaces that coding agents ask their model by write calls and read results: Messages of Anthropic, Responses of OpenAI."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

_ENOUGH: Final = "done"


@dataclass(frozen=True, kw_only=True)
class NativeCall:
    """A call of a native tool that the model makes."""

    tool: str
    given: Mapping[str, Any]


def results_in_messages(request: Mapping[str, Any]) -> Generator[str]:
    """The results of calls in the messages, as texts."""
    for message in request.get("messages", []):
        content: object = message.get("content")
        for block in cast("list[dict[str, Any]]", content) if isinstance(content, list) else []:
            if block.get("type") == "tool_result":
                found = block["content"]
                yield found if isinstance(found, str) else json.dumps(found)


def message(content: Sequence[Mapping[str, Any]], model: str) -> dict[str, Any]:
    calls = any(block["type"] == "tool_use" for block in content)
    return {
        "id": "msg_0001",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": list(content),
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def message_stream(content: Sequence[Mapping[str, Any]], model: str) -> bytes:
    made = message(content, model)
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**made, "content": [], "stop_reason": None}}]
    for index, block in enumerate(content):
        if block["type"] == "text":
            begun: dict[str, Any] = {"type": "text", "text": ""}
            delta: dict[str, Any] = {"type": "text_delta", "text": block["text"]}
        else:
            begun = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events += [
            {"type": "content_block_start", "index": index, "content_block": begun},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    ended = {"stop_reason": made["stop_reason"], "stop_sequence": None}
    events += [{"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}}, {"type": "message_stop"}]
    return _events(events)


def content_of(call: NativeCall | None, number: int) -> list[dict[str, Any]]:
    """The content of a message that makes the call; None: that says that all is done."""
    if call is None:
        return [{"type": "text", "text": _ENOUGH}]
    return [{"type": "tool_use", "id": f"toolu_{number:04}", "name": call.tool, "input": dict(call.given)}]


def results_in_responses(request: Mapping[str, Any]) -> Generator[str]:
    """The results of calls in a request of the Responses API, as texts."""
    given: object = request.get("input")
    for item in cast("list[dict[str, Any]]", given) if isinstance(given, list) else []:
        if str(item.get("type", "")).endswith("call_output"):
            found: object = item.get("output")
            yield found if isinstance(found, str) else json.dumps(found)


def response_stream(call: NativeCall | None, number: int) -> bytes:
    """A response that makes the call; None: that says that all is done."""
    item: dict[str, Any] = {"type": "message", "id": "m", "role": "assistant"}
    item["content"] = [{"type": "output_text", "text": _ENOUGH}]
    if call is not None:
        place = {"id": f"fc_{number:04}", "call_id": f"call_{number:04}"}
        server, _, name = call.tool.rpartition("__")  # mcp__SERVER is the namespace of the server's tools
        named = {"name": name, **({"namespace": server} if server else {})}
        item = {"type": "function_call", **place, **named, "arguments": json.dumps(dict(call.given))}
    response = {"id": f"resp_{number:04}"}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    return _events(
        [
            {"type": "response.created", "response": response},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": {**response, "usage": usage}},
        ]
    )


def _events(events: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
