"""One span of another tool as a turn of a model, a call of a tool, or the work of an agent.

The attributes are those of three conventions: GenAI (https://opentelemetry.io/docs/specs/semconv/gen-ai/), OpenInference
(https://github.com/Arize-ai/openinference/tree/main/spec) and OpenLLMetry (`traceloop.*`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from remit.core import Json
from remit.core.events import Usage
from remit.tracing.imported.messages import (
    Asked,
    Message,
    arguments_text,
    as_json,
    messages,
    tool_message,
    unflatten,
    without_callback,
)
from remit.tracing.otlp import ReadSpan

_MODEL: Final = frozenset({"chat", "text_completion", "generate_content", "LLM"})
_TOOL: Final = frozenset({"execute_tool", "TOOL", "tool"})
_AGENT: Final = frozenset({"invoke_agent", "AGENT", "agent", "workflow"})
_KINDS: Final = ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind")
_MESSAGES: Final = (
    "gen_ai.client.inference.operation.details"  # the event in which content may be, in place of the span
)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a model: what it read, what it wrote, and the calls that it asked for."""

    span: ReadSpan
    model: str
    read: tuple[Message, ...]
    text: str
    calls: tuple[Asked, ...]
    usage: Usage


@dataclass(frozen=True, kw_only=True)
class ToolRun:
    """One call of a tool that was executed. `id` is the id of the call that the model gave, "" if it is not recorded.

    `arguments` is JSON text, None if it was not recorded. `failed` is what the span says of a failure, None for a success.
    """

    span: ReadSpan
    id: str
    name: str
    arguments: str | None
    value: Json
    failed: str | None


@dataclass(frozen=True, kw_only=True)
class AgentWork:
    """The work of an agent. `answer` is its last text, "" if it is not recorded."""

    span: ReadSpan
    name: str
    read: tuple[Message, ...]
    answer: str


Known: TypeAlias = Turn | ToolRun | AgentWork


def read_span(span: ReadSpan) -> Known | None:
    """What the span stands for; None for a span that says nothing of models, tools and agents."""
    kinds = {word for key in _KINDS if isinstance(word := span.attributes.get(key), str)}
    if kinds & _TOOL:
        return _tool_run(span)
    if kinds & _MODEL or "llm.request.type" in span.attributes:
        return _turn(span)
    return _agent_work(span) if kinds & _AGENT else None


def _turn(span: ReadSpan) -> Turn:
    attributes = dict(span.attributes)
    for event in span.events:
        if event.name == _MESSAGES:
            attributes |= event.attributes
    written = _messages(attributes, "output")
    return Turn(
        span=span,
        model=_text(attributes, "gen_ai.response.model", "gen_ai.request.model", "llm.model_name"),
        read=_messages(attributes, "input"),
        text="\n".join(filter(None, (message.text for message in written))),
        calls=tuple(call for message in written for call in message.calls),
        usage=Usage(
            input_tokens=_count(attributes, "gen_ai.usage.input_tokens", "llm.token_count.prompt"),
            output_tokens=_count(attributes, "gen_ai.usage.output_tokens", "llm.token_count.completion"),
        ),
    )


def _messages(attributes: Mapping[str, Any], side: str) -> tuple[Message, ...]:
    older = {"input": "gen_ai.prompt", "output": "gen_ai.completion"}[side]
    return (
        messages(attributes.get(f"gen_ai.{side}.messages"))
        or messages(unflatten(attributes, f"llm.{side}_messages"))
        or messages(unflatten(attributes, older))
    )


def _tool_run(span: ReadSpan) -> ToolRun:
    attributes = span.attributes
    given = as_json(_first(attributes, "gen_ai.tool.call.arguments", "input.value", "traceloop.entity.input"))
    value = as_json(_first(attributes, "gen_ai.tool.call.result", "output.value", "traceloop.entity.output"))
    wrapped, failed = tool_message(value), span.error
    if wrapped is not None:
        value = as_json(wrapped.get("content"))
        if wrapped.get("status") == "error" and failed is None:
            failed = value if isinstance(value, str) else "the tool failed"
    inside = wrapped or tool_message(given) or {}
    given = without_callback(given)
    return ToolRun(
        span=span,
        id=_text(attributes, "gen_ai.tool.call.id", "tool_call.id") or str(inside.get("tool_call_id", "")),
        name=_text(attributes, "gen_ai.tool.name", "tool.name", "traceloop.entity.name") or span.name,
        arguments=arguments_text(given),
        value=value,
        failed=failed,
    )


def _agent_work(span: ReadSpan) -> AgentWork:
    written = _messages(span.attributes, "output")
    return AgentWork(
        span=span,
        name=_text(span.attributes, "gen_ai.agent.name", "agent.name", "traceloop.entity.name"),
        read=_messages(span.attributes, "input"),
        answer=written[-1].text if written else _text(span.attributes, "final_result"),
    )


def _first(attributes: Mapping[str, Any], *names: str) -> object:
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)


def _text(attributes: Mapping[str, Any], *names: str) -> str:
    return next((value for name in names if isinstance(value := attributes.get(name), str) and value), "")


def _count(attributes: Mapping[str, Any], *names: str) -> int | None:
    return next((value for name in names if type(value := attributes.get(name)) is int and value >= 0), None)
