"""Converts the state and messages of a graph into Remit's types, and results into messages of the graph."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig

from remit.core import Json, ModelTurn, Principal, ProposedCall, Refusal, Result, UsageError
from remit.core.events import ApprovalRequested
from remit.core.parsing import Arguments, canonical_json, digest
from remit.langchain.graph_call import GraphCall
from remit.runtime.models import finish_of, langchain_usage

CHECKPOINTER: Final = "__pregel_checkpointer"  # the key in a node's configuration (a private name of LangGraph)
PRINCIPAL: Final = "remit_principal"  # the key in `configurable` for who asks in this invocation


def tool_message(call: GraphCall, result: Result) -> ToolMessage:
    """The result as the graph's message: canonical JSON as its content, the same value as its artifact."""
    artifact = result.model_dump(mode="json")
    status = "success" if result.ok else "error"
    text = canonical_json(artifact).decode()
    return ToolMessage(content=text, name=call.name, tool_call_id=call.id, status=status, artifact=artifact)


def proposed_call_of(name: str, arguments: Mapping[str, Any], id_: str) -> ProposedCall:
    """The call as it is recorded, with a copy of the arguments that no part of the graph shares.

    Arguments that JSON cannot represent, such as NaN, are recorded as text, and the broker refuses them.
    """
    try:
        return ProposedCall(name=name, arguments=None, parsed=Arguments.of(arguments).copy(), id=id_)
    except Refusal:
        return ProposedCall(name=name, arguments=_as_text(arguments), id=id_)


def unreadable_call_of(call: Mapping[str, Any], name: str, message_id: str) -> ProposedCall:
    """A call of `AIMessage.invalid_tool_calls`, with the text that LangChain could not read."""
    return ProposedCall(name=name, arguments=call["args"] or "", id=f"{message_id}/{call['id']}")


def _as_text(arguments: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(arguments), default=str)
    except (TypeError, ValueError, RecursionError):  # keys that are not text, a cycle, or nesting that is too deep
        return ""


def interrupt_value(requested: ApprovalRequested) -> dict[str, Json]:
    """The value of the interrupt of a branch that waits for approval. To continue: approve the call, then resume the graph."""
    place = {"step": requested.step, "index": requested.index}
    fields = requested.model_dump(mode="json", include={"summary", "missing", "expires_at"})
    return {"approval": {**place, **fields}}


def turn_key(proposed_calls: Sequence[ProposedCall]) -> str:
    """A digest of the calls of a turn, by which the turn is recognized in this process and, from the record, in the next."""
    calls = [[call.name, call.arguments, call.parsed, call.id] for call in proposed_calls]
    try:
        return digest(calls)
    except Refusal:  # no canonical JSON: such a call is refused later, and here only needs the same key each time
        return hashlib.sha256(json.dumps(calls, sort_keys=True).encode()).hexdigest()


def same_call(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """True if both have the same id, name and arguments."""
    return (first["id"], first["name"], first["args"]) == (second["id"], second["name"], second["args"])


def turn_of(message: AIMessage, proposed_calls: tuple[ProposedCall, ...], earlier_text: str) -> ModelTurn:
    """The message as one turn of the model. `earlier_text` is put before its text."""
    metadata = cast("Mapping[str, Any]", message.response_metadata)
    text = "\n\n".join(filter(None, [earlier_text, str(message.text)]))
    return ModelTurn(
        text=text.encode("utf-8", "replace").decode(),
        proposed_calls=proposed_calls,
        finish=finish_of(metadata) or "tool_calls",
        usage=langchain_usage(message.usage_metadata),
        response_model=str(metadata.get("model_name") or metadata.get("model") or ""),
    )


def answers_before(messages: Sequence[Any]) -> str:
    """The texts of the model since its last tool call: the answers of earlier invocations of the thread."""
    answers: list[str] = []
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            if message.tool_calls:
                break
            answers.append(str(message.text))
    return "\n\n".join(reversed(answers))


def first_request(messages: Sequence[Any]) -> str:
    """The text of the first human message."""
    return next((str(message.text) for message in messages if isinstance(message, HumanMessage)), "")


def last_answer(messages: Sequence[Any]) -> str:
    """The text of the model's last message."""
    return next((str(message.text) for message in reversed(messages) if isinstance(message, AIMessage)), "")


def read_state(state: Any, name: str) -> Any:
    """The field of a graph's state, which is a mapping or an object; None if it is missing."""
    return cast("dict[str, Any]", state).get(name) if isinstance(state, dict) else getattr(state, name, None)


def messages_of(state: Any) -> Sequence[Any]:
    """The messages of a graph's state, which may itself be the list of messages."""
    return cast("Sequence[Any]", state if isinstance(state, list) else read_state(state, "messages") or ())


def thread_of(runtime: Any) -> str | None:
    """The thread id of LangGraph; None without a checkpointer, where no state outlives the invocation."""
    return getattr(runtime.execution_info, "thread_id", None)


def principal_of(config: RunnableConfig) -> Principal | None:
    """Who asks in this invocation, as the program has put it into `configurable`; None: nobody in particular.

    Raises UsageError for anything but a `Principal`: what a client sends as JSON must not say who the client is.
    """
    given = config.get("configurable", {}).get(PRINCIPAL)
    if given is None or isinstance(given, Principal):
        return given
    raise UsageError(f"configurable[{PRINCIPAL!r}] is no `remit.Principal`: make one of what you have authenticated")


def can_pause(config: RunnableConfig) -> bool:
    """True if the graph has a checkpointer, so that it can be interrupted and resumed."""
    return config.get("configurable", {}).get(CHECKPOINTER) is not None
