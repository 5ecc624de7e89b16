"""Converts the state and messages of a graph into Remit's types, and results into messages of the graph."""

from __future__ import annotations

import contextvars
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_stream_writer
from langgraph.errors import ParentCommand

from remit.broker import with_objects
from remit.core import NAME_OF_SUBJECT, NOBODY, Failed, ModelTurn, Principal, ProposedCall, Refusal, UsageError
from remit.core.parsing import Arguments, canonical_json, digest
from remit.langchain.commands import answered, is_command, is_for_graph, messages_for
from remit.langchain.graph_call import AROUND, GraphCall, Performed
from remit.runtime.models import finish_of, langchain_usage

# Returns who asks, from the LangGraph runtime of the invocation; None for a tool that is called outside of any graph.
PrincipalOf: TypeAlias = Callable[[Any], Principal]

CHECKPOINTER: Final = "__pregel_checkpointer"  # the key in a node's configuration (a private name of LangGraph)
RUNTIME: Final = "__pregel_runtime"  # likewise
SERVER: Final = "langgraph-server"  # the issuer of the users of LangGraph Server
_PUSHED: Final = "__pregel_push"  # how the path of a task begins that LangGraph's `Send` made


def tool_message(call: GraphCall, done: Performed) -> ToolMessage:
    """The result as the graph's message: canonical JSON as its content, the same value as its artifact.

    Images and files follow as blocks. A tool with an artifact of its own keeps it; then the result is in `response_metadata`.
    What a person answered in place of the tool is the result. Of a call that a person made in place of this one, the message says so.
    """
    result: dict[str, Any] = done.result.model_dump(mode="json")
    error = done.result.error if isinstance(done.result, Failed) else None
    if error is not None and error.code == "approval_rejected" and "response" in error.details:
        given = {"value": error.details["response"], "answered_by": error.details["by"]}
        result = {"ok": True, "labels": [], **given}
    if done.made:
        result["made_instead"] = done.made
    text = canonical_json(result).decode()
    blocks = with_objects(result.get("value"), done.objects)
    own = next((message.artifact for message in messages_for(done.returned, call.id)), None) if result["ok"] else None
    return ToolMessage(
        content=[{"type": "text", "text": text}, *blocks] if blocks else text,
        name=call.name,
        tool_call_id=call.id,
        status="success" if result["ok"] else "error",
        artifact=result if own is None else own,
        response_metadata={} if own is None else {"remit": result},
    )


def answer_of(call: GraphCall, done: Performed) -> Any:
    """What the graph gets: the message or, if the tool returned a `Command` or a list, that with the message in its place.

    Raises:
        ParentCommand: the tool raised it: the command is for the graph around this one.
    """
    message, returned = tool_message(call, done), done.returned
    if not done.result.ok or not is_for_graph(returned):
        return message
    made: Any = answered(returned, call.id, lambda _: message)
    if isinstance(made, ParentCommand):
        raise made
    own = is_command(returned) and returned.graph is None
    return [message, made] if own and not messages_for(returned, call.id) else made


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
    """The texts of the model since its last tool call or since the person wrote."""
    answers: list[str] = []
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        if isinstance(message, AIMessage):
            if message.tool_calls:
                break
            answers.append(str(message.text))
    return "\n\n".join(reversed(answers))


def first_request(messages: Sequence[Any]) -> str:
    """The text of the first human message."""
    return next((str(message.text) for message in messages if isinstance(message, HumanMessage)), "")


def last_request(messages: Sequence[Any]) -> tuple[str, str, int]:
    """The last message of the person: its text, the digest by which it is recognized, and its position.

    ("", "", 0) without one. A summary that LangChain wrote in place of messages is none.
    """
    for position in reversed(range(len(messages))):
        message = messages[position]
        if isinstance(message, HumanMessage) and message.additional_kwargs.get("lc_source") != "summarization":
            text = str(message.text).encode("utf-8", "replace").decode()
            name = digest({"id": str(message.id or f"@{position}"), "text": text})
            return text, name.removeprefix("sha256:"), position
    return "", "", 0


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
    """The thread id of LangGraph; None without a checkpointer, where no state outlives the invocation.

    Inside of a tool it is a thread of that call.
    """
    return nested(getattr(runtime.execution_info, "thread_id", None))


def nested(name: str | None) -> str | None:
    """The name of a thread, or of what takes its place; inside of a tool another one for each call."""
    around = AROUND.get()
    return name if around is None or name is None else f"{name}/{around.place}"


def principal_of(config: RunnableConfig, given_by: PrincipalOf | None, tenant: str) -> Principal | None:
    """Who asks in this invocation: what the program's function says, or the user whom LangGraph Server has authenticated.

    None: nobody in particular. No value that a client sends, and nothing in the state or the arguments, has a part in it.

    Raises:
        UsageError: the program's function returned no `Principal`.
    """
    runtime = config.get("configurable", {}).get(RUNTIME)
    if given_by is not None:
        given: Any = given_by(runtime)
        if isinstance(given, Principal):
            return given
        what = f"the function of RemitMiddleware(principal=…) returned {type(given).__name__}, not a `remit.Principal`"
        raise UsageError(f"{what}: make one of what you have authenticated")
    server = getattr(runtime, "server_info", None)
    user = None if server is None else server.user
    if user is None:
        return None
    subject = f"user:{user.identity}"
    known = getattr(user, "is_authenticated", True) is True and re.fullmatch(f"user:{NAME_OF_SUBJECT}", subject)
    return Principal(
        subject=subject if known else NOBODY,
        authenticated="application",
        account=str(user.identity),
        issuer=SERVER,
        tenant=tenant,
    )


def writer_of() -> Callable[[Any], None] | None:
    """Writes into the custom stream of the graph that runs now, from any thread; None outside of a graph."""
    try:
        writer, context = get_stream_writer(), contextvars.copy_context()
    except (RuntimeError, KeyError):
        return None
    return lambda part: context.copy().run(writer, part)


def node_task(config: RunnableConfig) -> str:
    """LangGraph's name of the task that runs now. It stays the same when the task is carried out again after an interrupt."""
    return str(config.get("configurable", {}).get("checkpoint_ns") or "")


def has_one_call(config: RunnableConfig) -> bool:
    """True if LangGraph has sent this one call to the node, as an agent of LangChain does; a node can also carry out a whole turn."""
    path = config.get("metadata", {}).get("langgraph_path") or ("",)
    return path[0] == _PUSHED


def can_pause(config: RunnableConfig) -> bool:
    """True if the graph has a checkpointer, so that it can be interrupted and resumed."""
    return config.get("configurable", {}).get(CHECKPOINTER) is not None
