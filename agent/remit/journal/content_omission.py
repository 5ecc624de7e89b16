"""Removes the content of events: what people, models and tools wrote, for workspaces that may not record it.

An event without content still says who did what to which resource, by which rules, when, and with which outcome. A run
recorded like this can be read, but not replayed, and another process cannot resume it. The text of an approval request
is kept, because people could not decide without it.
"""

from __future__ import annotations

from typing import Final

from remit.core import UNDECODED, Failed, Json, ProposedCall, Result, Succeeded
from remit.core.events import (
    AcceptedChanges,
    AnswerGiven,
    AnswerRejected,
    AnyEvent,
    ApprovalRejected,
    AttemptEnded,
    AttemptProgressed,
    CallAnswered,
    CallDecided,
    ConversationRun,
    EffectSettled,
    ModelResponded,
    QuestionAnswered,
    QuestionAsked,
    RunFinished,
    RunResumed,
    RunStarted,
)

# Members of an error's details that Remit itself wrote; every other one may hold text of the model or the tool.
OWN_DETAILS: Final = frozenset(
    {"error", "effect", "reason", "cause", "limit", "of", "used", "problem", "mismatch", "frames"}
)


def omit_content(event: AnyEvent) -> AnyEvent:
    """The event without its content, as a workspace with `content = false` records it."""
    match event:
        case RunStarted():
            texts = {"task": "", "prompt": "", "thread": "", "content": "omitted"}
            return event.model_copy(update={**texts, "conversation": _conversation(event.conversation)})
        case RunResumed(accepted=AcceptedChanges() as accepted):
            return event.model_copy(update={"accepted": accepted.model_copy(update={"prompt": ""})})
        case ModelResponded():
            proposed_calls = tuple(map(_proposed, event.proposed_calls))
            own = tuple(map(_proposed, event.own_calls))
            emptied = {"text": "", "proposed_calls": proposed_calls, "own_calls": own, "provider_state": ""}
            return event.model_copy(update=emptied)
        case CallDecided():
            return _decided(event)
        case AnswerRejected():
            return event.model_copy(update={"problems": ()})
        case ApprovalRejected():
            edited = None if event.edited is None else _proposed(event.edited)
            return event.model_copy(update={"response": None if event.response is None else "", "edited": edited})
        case AttemptProgressed():
            return event.model_copy(update={"text": ""})
        case QuestionAsked():
            return event.model_copy(update={"question": None})
        case QuestionAnswered() | AnswerGiven():
            return event.model_copy(update={"answer": None})
        case AttemptEnded():
            return event.model_copy(update={"value": None, "objects": (), "message": "", "stderr": ""})
        case EffectSettled():
            return event.model_copy(update={"value": None, "reason": ""})
        case CallAnswered():
            return event.model_copy(update={"result": _result(event.result)})
        case RunFinished():
            # The problems of a rejected answer quote it.
            message = "no answer met its requirements" if event.outcome == "escalated" else event.message
            return event.model_copy(update={"answer": "", "message": message, "sources": ()})
        case _:
            return event


def _conversation(place: ConversationRun | None) -> ConversationRun | None:
    if place is None:
        return None
    doubts = tuple(
        doubt if doubt.settled is None else doubt.model_copy(update={"settled": omit_content(doubt.settled)})
        for doubt in place.doubts
    )
    return place.model_copy(update={"words": "", "values": {}, "doubts": doubts})


def _proposed(proposed: ProposedCall) -> ProposedCall:
    return proposed.model_copy(update={"arguments": None, "parsed": None})


def _decided(event: CallDecided) -> CallDecided:
    call = None if event.call is None else event.call.model_copy(update={"arguments": {}})
    decision = None if event.decision is None else event.decision.model_copy(update={"facts": {}})
    refusal = None if event.refusal is None else _result(event.refusal)
    changes = {"proposed": _proposed(event.proposed), "call": call, "decision": decision, "refusal": refusal}
    return event.model_copy(update=changes)


def _result(result: Result) -> Result:
    if isinstance(result, Succeeded):
        return result.model_copy(update={"value": None})
    error = result.error
    details: dict[str, Json] = {name: value for name, value in error.details.items() if name in OWN_DETAILS}
    # Without an attempt Remit wrote the message; after one, and where the arguments were decoded, it may quote the tool.
    quotes = error.attempts or error.details.get("reason") in UNDECODED
    changes = {"details": details, "message": ""} if quotes else {"details": details}
    return Failed(error=error.model_copy(update=changes))
