"""What a graph's state and messages say, in Remit's words, and results as messages of the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, ToolMessage

from remit.core import Json, ModelTurn, ProposedCall, Refusal, Result
from remit.core.events import ApprovalRequested, Usage
from remit.core.parsing import Arguments, canonical_json
from remit.langchain.bridge import Asked
from remit.runtime.models import finish_of


def tool_message(asked: Asked, result: Result) -> ToolMessage:
    told = result.model_dump(mode="json")
    status = "success" if result.ok else "error"
    text = canonical_json(told).decode()
    return ToolMessage(content=text, name=asked.name, tool_call_id=asked.id, status=status, artifact=told)


def proposed_call_of(name: str, arguments: Mapping[str, Any], said: str) -> ProposedCall:
    """The call as it is recorded, with arguments that nothing of the graph shares.

    What JSON cannot say, as a number that is none, is shown as it would be written, and refused.
    """
    try:
        return ProposedCall(name=name, arguments=None, parsed=Arguments.of(arguments).copy(), id=said)
    except Refusal:
        return ProposedCall(name=name, arguments=_shown(arguments), id=said)


def _shown(arguments: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(arguments), default=str)
    except (
        TypeError,
        ValueError,
        RecursionError,
    ):  # keys that are no texts, a value inside itself, thousands of levels
        return ""


def question_of(requested: ApprovalRequested) -> dict[str, Json]:
    """What an interrupted branch tells of why it waits; to answer it is to approve, in any terminal, and then to resume."""
    place = {"step": requested.step, "index": requested.index}
    kept = requested.model_dump(mode="json", include={"summary", "missing", "expires_at"})
    return {"approval": {**place, **kept}}


def same_call(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one["id"], one["name"], one["args"]) == (other["id"], other["name"], other["args"])


def turn_of(message: AIMessage, proposed_calls: tuple[ProposedCall, ...], words: str) -> ModelTurn:
    usage = message.usage_metadata
    said = cast("Mapping[str, Any]", message.response_metadata)
    text = "\n\n".join(filter(None, [words, str(message.text)]))
    return ModelTurn(
        text=text.encode("utf-8", "replace").decode(),
        proposed_calls=proposed_calls,
        finish=finish_of(said) or "tool_calls",
        usage=Usage(input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"]) if usage else Usage(),
        response_model=str(said.get("model_name") or said.get("model") or ""),
    )


def words_before(messages: Sequence[Any]) -> str:
    """What the model answered since it last called a tool: the answers of earlier invocations of a thread."""
    words: list[str] = []
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            if message.tool_calls:
                break
            words.append(str(message.text))
    return "\n\n".join(reversed(words))


def last_words(messages: Sequence[Any]) -> str:
    return next((str(message.text) for message in reversed(messages) if isinstance(message, AIMessage)), "")


def read_state(state: Any, name: str) -> Any:
    return cast("dict[str, Any]", state).get(name) if isinstance(state, dict) else getattr(state, name, None)


def messages_of(state: Any) -> Sequence[Any]:
    return cast("Sequence[Any]", state if isinstance(state, list) else read_state(state, "messages") or ())


def thread_of(runtime: Any) -> str | None:
    """LangGraph's thread; None where nothing of the graph outlives its invocation."""
    return getattr(runtime.execution_info, "thread_id", None)
