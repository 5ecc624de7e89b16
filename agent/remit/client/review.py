"""What a person should know before they answer a request for approval: the call in full, what the run has read, and what was approved before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from remit.broker.approvals import (
    SimilarApproval,
    approval_summary,
    approved_within_a_minute,
    like_approvals,
    shown_facts,
    similar_approvals,
)
from remit.client.requests import WaitingApproval
from remit.core import Json, Principal, Rule
from remit.core.events import CallDecided
from remit.guardrails import Redactor, Sanitizer
from remit.journal import StoredRecord
from remit.tracing.reports import CallTimeline, build_timeline
from remit.workspace import WorkspaceSession

READS: Final = 30  # the last calls before this one that are shown


@dataclass(frozen=True, kw_only=True)
class EarlierCall:
    """A call of the run that succeeded before: what it has read or changed, and the labels that its result put on the run."""

    place: str
    action: str
    resources: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RequestReview:
    """A request for approval with its circumstances.

    `whole` is the summary with every value in full, `facts` are those that the answer depends on. `earlier` are the last calls of the run
    before this one, of `earlier_count`. `like` is how many calls with the same action and resources people approved in the last 90 days,
    `similar` are the last ones with the same action.
    """

    whole: str
    rules: tuple[Rule, ...]
    facts: dict[str, Json]
    earlier: tuple[EarlierCall, ...]
    earlier_count: int
    like: int
    similar: tuple[SimilarApproval, ...]


def rapid_before(session: WorkspaceSession, waiting: WaitingApproval, by: Principal) -> tuple[str, ...]:
    """The actions that the person approved within the last minute, if this one would be flagged as rapid; else empty."""
    record = StoredRecord(session.journal, waiting.run)
    return tuple(approved_within_a_minute(session.journal, record, waiting.request, by=by, now=time.time_ns()))


def review_of(session: WorkspaceSession, waiting: WaitingApproval, may_read: Callable[[str], bool]) -> RequestReview:
    """The circumstances of a request, for a person who may read the run. `may_read` says which other runs the person may read."""
    journal, request, now = session.journal, waiting.request, time.time_ns()
    record = StoredRecord(journal, waiting.run)
    decided = record.get(f"call.decided/{request.step}/{request.index}/0")
    sanitizer = Sanitizer(Redactor(waiting.run))
    call = decided.call if isinstance(decided, CallDecided) else None
    decision = decided.decision if isinstance(decided, CallDecided) else None
    calls = build_timeline(journal.events(waiting.run)).calls
    before = [
        item
        for item in calls
        if item.result is not None and item.error is None and (item.step, item.index) < (request.step, request.index)
    ]
    return RequestReview(
        whole=request.summary
        if call is None or decision is None
        else approval_summary(call, decision, sanitizer, whole=True),
        rules=() if decision is None else decision.rules,
        facts=dict(request.facts if decision is None else shown_facts(decision.facts)),
        earlier=tuple(map(_earlier, before[-READS:])),
        earlier_count=len(before),
        like=like_approvals(journal, record, request, now),
        similar=() if call is None else similar_approvals(journal, call, now, sanitizer, may_read),
    )


def _earlier(item: CallTimeline) -> EarlierCall:
    return EarlierCall(place=item.place, action=item.action, resources=item.resources, labels=item.labels)
