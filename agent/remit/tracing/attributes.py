"""Name, attributes and error of each span, for people and viewers: by the GenAI conventions, plus `remit.*` attributes.

These attributes are for reading only. A replay reads the events that the spans contain.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypeVar

from remit.core import Failed, Json, Succeeded, call_id, failure_place
from remit.core.events import (
    AnyEvent,
    ApprovalAnswer,
    ApprovalGranted,
    ApprovalRefused,
    ApprovalRequested,
    AttemptBegun,
    AttemptEnded,
    BreakGlassReviewed,
    CallAnswered,
    CallDecided,
    ContextReduced,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    ModelSettings,
    QuestionAnswered,
    QuestionAsked,
    RunFinished,
    RunResumed,
    RunStarted,
)
from remit.tracing.reports.approvals import answer_lines, review_lines

Attribute: TypeAlias = str | bool | int | float | tuple[str, ...]
SpanKind: TypeAlias = Literal["agent", "chat", "tool", "decide", "approval", "attempt"]

# Attributes that hold texts of people, models and tools. They are sent to a backend only if the operator enables it.
CONTENT = frozenset(
    {
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.call.result",
        "remit.approval.answers",
        "remit.approval.summary",
        "remit.attempt.questions",
        "remit.attempt.stderr",
        "remit.emergency.reviews",
        "remit.event.body",
        "remit.event.salt",
        "remit.message",
    }
)
OTHER_ERROR = "_OTHER"  # the conventions' word for an error without a name of its own

E = TypeVar("E", bound=AnyEvent)


@dataclass(kw_only=True)
class SpanDescription:
    """A span's name, attributes and error message. `error` None means no error."""

    name: str
    attributes: dict[str, Attribute] = field(default_factory=dict[str, Attribute])
    error: str | None = None

    def fail(self, kind: str, message: str) -> None:
        """Mark the span as failed. A span without a message would be red without a word: it has the kind."""
        self.attributes["error.type"] = kind
        self.error = message or kind


def describe_span(kind: SpanKind, events: Sequence[AnyEvent], *, run: str, place: Sequence[int]) -> SpanDescription:
    """Describe a span by its events. Erased events, and events that are still to come, add nothing."""
    match kind:
        case "agent":
            return _agent(events, run)
        case "chat":
            return _chat(events, run, place[0])
        case "tool":
            return _tool(events, run, place[0], place[1])
        case "decide":
            return _decide(events, place[0], place[1])
        case "approval":
            return _approval(events, place[0], place[1])
        case "attempt":
            return _attempt(events, place[0], place[1], place[3])


def _agent(events: Sequence[AnyEvent], run: str) -> SpanDescription:
    started, finished = _last(events, RunStarted), _last(events, RunFinished)
    found = SpanDescription(name="invoke_agent")
    found.attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": run}
    if started is not None:
        agent = started.subjects.agent.removeprefix("agent:")
        found.name = f"invoke_agent {agent}"
        found.attributes |= {
            "gen_ai.agent.name": agent,
            "gen_ai.provider.name": _provider(started.model),
            "gen_ai.request.model": _model(started.model),
            "gen_ai.system_instructions": _text([{"type": "text", "content": started.prompt}]),
            "gen_ai.input.messages": _text([_message("user", [{"type": "text", "content": started.task}])]),
            "enduser.id": started.subjects.user,
            "remit.account": started.by.account,
            "remit.authenticated": started.by.authenticated,
            "remit.tenant": started.tenant,
            "remit.actions": started.actions,
            "remit.confinement": started.confinement,
            "remit.env": started.env,
            "remit.folder": started.folder,
            "remit.policy.digest": started.policy_digest,
            "remit.bundle": started.bundle,
            "remit.scripted": started.scripted,
            "remit.version": started.version,
        }
        if started.evaluation:
            found.attributes["remit.evaluation"] = started.evaluation
        if started.imported is not None:
            found.attributes |= {
                "remit.import": started.imported.name,
                "remit.import.tool": started.imported.tool,
                "remit.import.trace": started.imported.trace,
            }
        if started.driver:
            found.attributes["remit.driver"] = started.driver
        if started.conversation is not None:
            place = started.conversation
            found.attributes |= {"remit.conversation": place.id, "remit.conversation.number": place.number}
        if started.observe is not None:
            found.attributes["remit.observe"] = started.observe.text
        if started.scope is not None:
            found.attributes["remit.scope"] = _text(started.scope.model_dump(mode="json"))
        if started.arm is not None:
            found.attributes |= {"remit.rollout": started.arm.rollout, "remit.arm": started.arm.arm}
    reduced, resumed = _last(events, ContextReduced), _last(events, RunResumed)
    if reduced is not None:
        found.attributes["remit.context.reduced"] = reduced.count
    if resumed is not None:
        found.attributes["remit.resumed"] = resumed.count
        if resumed.accepted is not None:
            found.attributes["remit.accepted"] = resumed.accepted.changed
    if reviews := [event for event in events if isinstance(event, BreakGlassReviewed)]:
        found.attributes["remit.emergency.reviews"] = tuple(review_lines(reviews))
    if finished is not None:
        found.attributes["remit.outcome"] = finished.outcome
        answer = _message("assistant", [{"type": "text", "content": finished.answer}])
        found.attributes["gen_ai.output.messages"] = _text([{**answer, "finish_reason": "stop"}])
        if finished.code is not None or finished.outcome != "completed":
            found.fail(finished.code or OTHER_ERROR, finished.message or finished.outcome)
    return found


def _chat(events: Sequence[AnyEvent], run: str, step: int) -> SpanDescription:
    asked, answered, failed = _last(events, ModelRequested), _last(events, ModelResponded), _last(events, ModelFailed)
    found = SpanDescription(name="chat")
    found.attributes = {"gen_ai.operation.name": "chat", "gen_ai.conversation.id": run, "remit.step": step}
    if asked is not None:
        found.name = f"chat {_model(asked.model)}"
        found.attributes |= {
            "gen_ai.provider.name": _provider(asked.model),
            "gen_ai.request.model": _model(asked.model),
            "remit.input_digest": asked.input_digest,
            **_settings(asked.settings),
        }
    if answered is not None:
        parts: list[Json] = [{"type": "text", "content": answered.text}] if answered.text else []
        for index, proposed in enumerate(answered.proposed_calls):
            arguments = proposed.parsed if proposed.arguments is None else proposed.arguments
            call = {"type": "tool_call", "id": call_id(step, index), "name": proposed.name, "arguments": arguments}
            parts.append(call)
        message = {**_message("assistant", parts), "finish_reason": answered.finish}
        found.attributes |= {
            "gen_ai.output.messages": _text([message]),
            "gen_ai.response.finish_reasons": (answered.finish,),
        }
        if answered.response_model:
            found.attributes["gen_ai.response.model"] = answered.response_model
        found.attributes |= _usage(answered)
    if failed is not None:
        found.fail(OTHER_ERROR, failed.message)
        found.attributes["remit.model.passing"] = failed.passing
        if failed.again_at is not None:
            found.attributes["remit.model.again_at"] = failed.again_at
    return found


# The names of the semantic conventions; they have none for the last two.
_SETTINGS: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "stop": "gen_ai.request.stop_sequences",
    "reasoning_effort": "remit.request.reasoning_effort",
    "extra": "remit.request.extra",
}


def _settings(settings: ModelSettings) -> dict[str, Attribute]:
    """The settings that were sent."""
    found: dict[str, Attribute] = {}
    for name, value in settings.given.items():
        found[_SETTINGS[name]] = value if isinstance(value, str | int | float) else _text(value)
    return found | ({_SETTINGS["stop"]: settings.stop} if settings.stop else {})


# The names of the semantic conventions; they have none for what stays in the cache for an hour.
_USAGE: Final = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read": "gen_ai.usage.cache_read.input_tokens",
    "cache_write": "gen_ai.usage.cache_creation.input_tokens",
    "cache_write_1h": "remit.usage.cache_write_1h",
    "reasoning": "gen_ai.usage.reasoning.output_tokens",
}


def _usage(answered: ModelResponded) -> dict[str, Attribute]:
    """What the turn took and what it cost, without the numbers that are not known."""
    counted = ((name, getattr(answered.usage, field)) for field, name in _USAGE.items())
    found: dict[str, Attribute] = {name: tokens for name, tokens in counted if tokens is not None}
    if answered.cost is not None:
        found["remit.cost"] = format(answered.cost, "f")
    return found


def _tool(events: Sequence[AnyEvent], run: str, step: int, index: int) -> SpanDescription:
    decided, answered = _last(events, CallDecided), _last(events, CallAnswered)
    found = SpanDescription(name="execute_tool", attributes=_place_of_call(step, index))
    found.attributes |= {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.conversation.id": run,
        "gen_ai.tool.call.id": call_id(step, index),
        "gen_ai.tool.type": "function",
        "remit.attempts": sum(isinstance(event, AttemptBegun) for event in events),
    }
    if decided is not None:
        name = decided.call.action if decided.call else decided.proposed.action
        found.name = f"execute_tool {name}"
        found.attributes["gen_ai.tool.name"] = name
        if decided.call is not None:
            found.attributes |= {
                "gen_ai.tool.call.arguments": _text(decided.call.arguments),
                "remit.effect": decided.call.effect,
                "remit.request.digest": decided.call.request_digest,
                "remit.resources": tuple(touch.resource for touch in decided.call.touches),
            }
            if decided.call.narrowing is not None:
                found.attributes["remit.resources.left_out"] = decided.call.narrowing.left_out
        elif decided.proposed.arguments is not None:
            found.attributes["gen_ai.tool.call.arguments"] = decided.proposed.arguments
        if decided.decision is not None:
            found.attributes["remit.verdict"] = decided.decision.verdict
    if answered is not None:
        found.attributes["gen_ai.tool.call.result"] = _text(answered.result.model_dump(mode="json"))
        match answered.result:
            case Succeeded() as result:
                found.attributes["remit.labels"] = result.labels
                found.attributes |= {
                    key: value
                    for key, value in (
                        ("remit.labels.removed", answered.labels_removed),
                        ("remit.directory.added", answered.directory_added),
                    )
                    if value
                }
            case Failed() as result:
                if answered.labels:
                    found.attributes["remit.labels"] = answered.labels
                mismatched = failure_place(result.error) if result.error.details.keys() & {"frames", "mismatch"} else ""
                found.fail(result.error.code, _with_place(result.error.message, mismatched))
    return found


def _decide(events: Sequence[AnyEvent], step: int, index: int) -> SpanDescription:
    decided = _last(events, CallDecided)
    found = SpanDescription(name="remit.decide", attributes=_place_of_call(step, index))
    if decided is not None:
        found.attributes |= {"remit.round": decided.round, "remit.enforced": decided.enforced}
    if decided is not None and decided.repairs:
        found.attributes["remit.repairs"] = tuple(repair.text for repair in decided.repairs)
    if decided is not None and decided.decision is not None:
        decision = decided.decision
        found.attributes |= {
            "remit.verdict": decision.verdict,
            "remit.reason": decision.reason,
            "remit.message": decision.message,
            "remit.rules": tuple(f"{rule.file}:{rule.line} {rule.text}" for rule in decision.rules),
            "remit.policy.digest": decision.policy_digest,
            "remit.decision.digest": decision.decision_digest,
        }
    elif decided is not None and isinstance(decided.refusal, Failed):
        found.fail(decided.refusal.error.code, decided.refusal.error.message)
    return found


def _approval(events: Sequence[AnyEvent], step: int, index: int) -> SpanDescription:
    requested = _last(events, ApprovalRequested)
    answers = [event for event in events if isinstance(event, ApprovalAnswer)]
    found = SpanDescription(name="remit.approval", attributes=_place_of_call(step, index))
    if requested is not None:
        found.attributes |= {
            "remit.approval.missing": tuple(f"{item.role} x{item.count}" for item in requested.missing),
            "remit.approval.summary": requested.summary,
            "remit.decision.digest": requested.decision_digest,
        }
    granted = [event for event in answers if isinstance(event, ApprovalGranted)]
    found.attributes["remit.approval.granted"] = tuple(f"{event.approver} as {event.role}" for event in granted)
    found.attributes["remit.approval.answers"] = tuple(answer_lines(answers))
    found.attributes["remit.approval.scripted"] = any(event.scripted for event in granted)
    if refused := tuple(event.approver for event in events if isinstance(event, ApprovalRefused)):
        found.attributes["remit.approval.refused"] = refused
    return found


def _attempt(events: Sequence[AnyEvent], step: int, index: int, number: int) -> SpanDescription:
    intended, ended = _last(events, AttemptBegun), _last(events, AttemptEnded)
    found = SpanDescription(name="remit.attempt", attributes={**_place_of_call(step, index), "remit.attempt": number})
    if intended is not None:
        found.attributes |= {
            "remit.confinement": intended.confinement,
            "remit.profile.digest": intended.profile_digest,
        }
        if intended.cached:
            found.attributes["remit.cached"] = intended.cached
        if intended.given is not None:
            found.attributes["remit.sandbox.given"] = intended.given
    questions = [event for event in events if isinstance(event, QuestionAsked | QuestionAnswered)]
    if questions:
        found.attributes["remit.attempt.questions"] = tuple(answer_lines(questions))
    if ended is not None:
        found.attributes |= {
            "remit.landed": ended.landed,
            "remit.changes": tuple(change.resource for change in ended.changes),
            "remit.connections": tuple(map(str, ended.connections)),
            "remit.refused": tuple(f"{refused.access} {refused.what}" for refused in ended.denied_accesses),
            "remit.spent.wall_s": ended.spent.wall_s,
            "remit.spent.cpu_s": ended.spent.cpu_s,
            "remit.spent.memory_bytes": ended.spent.memory_bytes,
            "remit.spent.output_bytes": ended.spent.output_bytes,
        }
        if ended.limit is not None:
            found.attributes |= {"remit.limit": ended.limit.name, "remit.limit.most": ended.limit.most}
        if ended.labels:
            found.attributes["remit.labels"] = ended.labels
        if ended.stderr:
            found.attributes["remit.attempt.stderr"] = ended.stderr
        if ended.code is not None:
            message = f"{ended.error}: {ended.message}" if ended.error else ended.message
            found.fail(
                ended.code, _with_place(message, " > ".join(map(str, ended.frames)) or str(ended.mismatch or ""))
            )
    return found


def _last(events: Sequence[AnyEvent], kind: type[E]) -> E | None:
    return next((event for event in reversed(events) if isinstance(event, kind)), None)


def _with_place(message: str, place: str) -> str:
    return f"{message} ({place})" if place else message


def _place_of_call(step: int, index: int) -> dict[str, Attribute]:
    return {"remit.step": step, "remit.index": index}


def _message(role: str, parts: list[Json]) -> dict[str, Json]:
    return {"role": role, "parts": parts}


def _text(value: Json) -> str:
    """The value as JSON in a string: viewers show that, while they drop parts of structured attributes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _provider(model: str) -> str:
    return model.partition(":")[0]


def _model(model: str) -> str:
    return model.partition(":")[2] or model
