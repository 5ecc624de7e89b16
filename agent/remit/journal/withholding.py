"""Events without what people, models and tools said: for workspaces that may not keep it.

What remains is who did what to which resource, by which rules, when, and how it ended; a run recorded so can be read, and
neither replayed nor taken up by another process. What a person is asked to approve stays, or nobody could.
"""

from __future__ import annotations

from typing import Final

from remit.core import Failed, Json, ProposedCall, Result, Succeeded
from remit.core.events import (
    AnswerRejected,
    AnyEvent,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    EffectSettled,
    ModelResponded,
    RunFinished,
    RunStarted,
)

OWN_DETAILS: Final = frozenset(
    {"error", "effect", "reason", "limit", "of", "used", "problem"}
)  # details that Remit itself wrote


def withheld(event: AnyEvent) -> AnyEvent:
    """The event as it may be recorded where content may not."""
    match event:
        case RunStarted():
            return event.model_copy(update={"task": "", "prompt": "", "content": "withheld"})
        case ModelResponded():
            return event.model_copy(update={"text": "", "asks": tuple(_ask(ask) for ask in event.proposed_calls)})
        case CallDecided():
            return _decided(event)
        case AnswerRejected():
            return event.model_copy(update={"problems": ()})
        case AttemptEnded():
            return event.model_copy(update={"value": None, "message": "", "stderr": ""})
        case EffectSettled():
            return event.model_copy(update={"value": None, "reason": ""})
        case CallAnswered():
            return event.model_copy(update={"result": _result(event.result)})
        case RunFinished():
            return event.model_copy(update={"answer": ""})
        case _:
            return event


def _ask(ask: ProposedCall) -> ProposedCall:
    return ask.model_copy(update={"arguments": None, "parsed": None})


def _decided(event: CallDecided) -> CallDecided:
    call = None if event.call is None else event.call.model_copy(update={"arguments": {}})
    decision = None if event.decision is None else event.decision.model_copy(update={"facts": {}})
    refused = None if event.refusal is None else _result(event.refusal)
    return event.model_copy(update={"ask": _ask(event.proposed), "call": call, "decision": decision, "refused": refused})


def _result(result: Result) -> Result:
    if isinstance(result, Succeeded):
        return result.model_copy(update={"value": None})
    error = result.error
    details: dict[str, Json] = {name: value for name, value in error.details.items() if name in OWN_DETAILS}
    said = {"details": details} if not error.attempts else {"details": details, "message": ""}  # ours, or the tool's
    return Failed(error=error.model_copy(update=said))
