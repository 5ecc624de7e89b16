"""How a request for approval and its answers read: on the command line, on a page, in a span and in an export alike."""

from __future__ import annotations

import json
from collections.abc import Sequence

from remit.broker.approvals import plain
from remit.core import BREAK_GLASS, Json, ProposedCall
from remit.core.events import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalVoided,
    BreakGlassReviewed,
    QuestionAnswered,
    QuestionAsked,
)
from remit.tracing.reports.timeline import PersonsAct, utc


def needs_text(requested: ApprovalRequested) -> str:
    """The approvals that a call needs: `2 × role:lead, 1 × role:owner, after 30 min also role:manager`."""
    needed = [f"{item.count} × {item.role}" for item in requested.missing]
    return ", ".join([*needed, *(f"after {item.after_s // 60} min also {item.role}" for item in requested.escalations)])


def answer_lines(answers: Sequence[PersonsAct]) -> list[str]:
    """One line for each answer and each question of a tool, in order.

    An emergency approval says its reason, its end, and who reviewed it, or that nobody has.
    """
    reviews = {answer.granted: answer for answer in answers if isinstance(answer, BreakGlassReviewed)}
    return [_line(answer, reviews.get(answer.key)) for answer in answers if not isinstance(answer, BreakGlassReviewed)]


def review_lines(reviews: Sequence[BreakGlassReviewed]) -> list[str]:
    """One line for each review of an emergency approval, with the call."""
    return [f"{review.step}.{review.index} {_line(review, None)}" for review in reviews]


def emergency_lines(answers: Sequence[PersonsAct]) -> list[str]:
    """The lines of the approvals in `role:break-glass` alone."""
    reviews = [answer for answer in answers if isinstance(answer, BreakGlassReviewed)]
    return [line for answer in answers if _is_emergency(answer) for line in answer_lines([answer, *reviews])]


def _is_emergency(answer: PersonsAct) -> bool:
    return isinstance(answer, ApprovalGranted) and answer.role == BREAK_GLASS


def _line(answer: PersonsAct, review: BreakGlassReviewed | None) -> str:
    match answer:
        case ApprovalGranted() if answer.role == BREAK_GLASS:
            end = "" if answer.until is None else f"; ends {utc(answer.until)}"
            done = "not reviewed" if review is None else f"reviewed by {review.approver}: {plain(review.note)}"
            return f"emergency approval by {_who(answer)}{_signed(answer)}: {plain(answer.reason)}{end}; {done}"
        case ApprovalGranted():
            return f"approved by {_who(answer)}{_signed(answer)}"
        case ApprovalRejected(response=str() as response):
            return f"answered by {answer.approver} in place of the tool: {plain(response)}"
        case ApprovalRejected(edited=ProposedCall() as edited):
            return f"{answer.approver} makes another call in its place: {edited.action} {_json(edited.parsed)}"
        case ApprovalRejected():
            return f"rejected by {answer.approver}: {plain(answer.reason)}"
        case ApprovalRevoked():
            return f"revoked by {answer.approver}: {plain(answer.reason)}"
        case ApprovalVoided():
            return f"the approval by {answer.approver} is void: {plain(answer.reason)}"
        case QuestionAsked():
            return f"the tool asks: {_json(answer.question)}"
        case QuestionAnswered():
            return f"answered by {answer.by.subject}: {_json(answer.answer)}"
        case BreakGlassReviewed():
            return f"reviewed by {answer.approver}: {plain(answer.note)}"


def _json(value: Json) -> str:
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _signed(answer: ApprovalGranted) -> str:
    """How the person has signed the approval, "" without a passkey."""
    proof = answer.passkey
    return "" if proof is None else f", signed by the passkey {plain(proof.id[:8])} at {plain(proof.origin)}"


def _who(answer: ApprovalGranted) -> str:
    scripted = " (scripted)" if answer.scripted else ""
    return f"{answer.approver} as {answer.role}{scripted}"
