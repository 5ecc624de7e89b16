"""Approvals: what people are asked, and whether what they said still fits the call.

An approval binds one decision of one call. It lives in the journal; whoever waits only waits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final

from remit.broker.approvals.summary import LONGEST, approval_summary, shown_facts
from remit.core import BREAK_GLASS, Call, Decision, Refusal
from remit.core.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    CallDecided,
)
from remit.guardrails import Sanitizer
from remit.journal import Journal, Record, RunState
from remit.workspace import Budget

LASTS_NS: Final = 3600 * 1_000_000_000
RAPID_WINDOW_NS: Final = 60 * 1_000_000_000
RAPID_APPROVALS: Final = 2  # approvals within that time after which another one, of another kind, is hasty


def approval_key(call: Call, decision: Decision) -> str:
    """The key of the request about that decision of that call."""
    return f"approval.requested/{call.step}/{call.index}/{decision.decision_digest}"


def request_approval(call: Call, decision: Decision, now: int, sanitizer: Sanitizer) -> ApprovalRequested:
    """The event that asks people for what `decision` misses."""
    return ApprovalRequested(
        step=call.step,
        index=call.index,
        decision_digest=decision.decision_digest,
        missing=decision.missing,
        summary=approval_summary(call, decision, sanitizer),
        expires_at=now + LASTS_NS,
        break_glass=decision.break_glass,
        facts=shown_facts(decision.facts),
    )


def check_waiting_approvals(facts: RunState, budget: Budget) -> None:
    """Raise `rate_limited` where the run waits for so many answers already that nobody could read one more with care."""
    waiting = sum(call.proposed_calls for call in facts.open.values())
    if waiting >= budget.waiting:
        raise Refusal(
            "rate_limited",
            f"{waiting} calls of this run wait for people already",
            details={"limit": "waiting", "of": budget.waiting},
            next_step="ask again when they have answered",
            retryable=True,
        )


@dataclass(frozen=True, kw_only=True)
class Approval:
    """One person's approval in one role, given by an account of the operating system.

    `scripted`: a demonstration script gave it. In `role:break-glass` there is a `reason`, and `until` (Unix nanoseconds)
    says when it counts no more. `hasty`: it follows approvals of other kinds of calls, all within a minute.
    """

    approver: str
    role: str
    account: str
    scripted: bool = False
    reason: str = ""
    until: int | None = None
    hasty: bool = False


def grant_approval(
    record: Record,
    requested: ApprovalRequested,
    approval: Approval,
    *,
    roles_of: Callable[[str], frozenset[str]],
    now: int,
) -> None:
    """Record one person's approval; `now` is Unix nanoseconds.

    Raises:
        Refusal: `approval_invalid` for the requester, an agent, a missing role, a role nobody asked for, a second grant, a
            call that is settled, or an emergency without reason or end; `approval_expired` after the time. That too is
            recorded.
    """
    approver, role = approval.approver, approval.role
    with _refusal_recorded(record, requested, approver, approval.account, scripted=approval.scripted):
        _check_open(record, requested)
        asked = {missing.role for missing in requested.missing}
        if role not in asked and not (role == BREAK_GLASS and requested.break_glass):
            raise Refusal("approval_invalid", f"nobody asked for an approval by {role!r}")
        if role == BREAK_GLASS:
            _check_emergency(requested, approval.reason, approval.until, now)
        _check_approver(record, approver, {role}, roles_of)
        _check_time(requested, now)
        if record.get(f"{requested.key.replace('requested', 'granted', 1)}/{approver}") is not None:
            raise Refusal("approval_invalid", f"{approver} has already approved this call")
    granted = ApprovalGranted(
        step=requested.step, index=requested.index, decision_digest=requested.decision_digest, **asdict(approval)
    )
    record.append(granted, durable=True)


def reject_approval(
    record: Record,
    requested: ApprovalRequested,
    *,
    approver: str,
    roles_of: Callable[[str], frozenset[str]],
    account: str,
    now: int,
    reason: str,
) -> None:
    """Record that one person said no; one no is enough. Who may not approve may not reject either."""
    with _refusal_recorded(record, requested, approver, account):
        _check_open(record, requested)
        _check_approver(record, approver, {missing.role for missing in requested.missing}, roles_of)
        _check_time(requested, now)
    rejected = ApprovalRejected(
        step=requested.step,
        index=requested.index,
        decision_digest=requested.decision_digest,
        approver=approver,
        account=account,
        reason=reason,
    )
    record.append(rejected, durable=True)


def revoke_approval(record: Record, requested: ApprovalRequested, *, approver: str, account: str, reason: str) -> None:
    """Take one's own approval back, as long as the call has not been carried out.

    Raises Refusal `approval_invalid` where there is none of that person, or where it is too late.
    """
    with _refusal_recorded(record, requested, approver, account):
        _check_open(record, requested)
        call = record.facts.open.get((requested.step, requested.index))
        if call is None or all(grant.approver != approver for grant in call.grants):
            raise Refusal("approval_invalid", f"{approver} has not approved this call")
    revoked = ApprovalRevoked(
        step=requested.step,
        index=requested.index,
        decision_digest=requested.decision_digest,
        approver=approver,
        account=account,
        reason=reason,
    )
    record.append(revoked, durable=True)


def approved_within_a_minute(
    journal: Journal, record: Record, requested: ApprovalRequested, *, approver: str, now: int
) -> list[str]:
    """The actions that this person has approved within the last minute, where this one is of another kind; else empty."""
    this = _action_of(record.get(f"call.decided/{requested.step}/{requested.index}/0"))
    found: list[str] = []
    for item in journal.every("approval.granted", since=now - RAPID_WINDOW_NS):
        event = item.event
        if isinstance(event, ApprovalGranted) and event.approver == approver:
            decided = journal.get(item.run, f"call.decided/{event.step}/{event.index}/0")
            found.append(_action_of(None if decided is None else decided.event))
    return found if len(found) >= RAPID_APPROVALS and any(action != this for action in found) else []


def _action_of(event: AnyEvent | None) -> str:
    return event.call.action if isinstance(event, CallDecided) and event.call is not None else "a call"


@contextmanager
def _refusal_recorded(
    record: Record, requested: ApprovalRequested, approver: str, account: str, *, scripted: bool = False
) -> Generator[None]:
    """What somebody may not do is in the trace as well; a script's attempts are not, for it tries again and again."""
    try:
        yield
    except Refusal as refusal:
        if not scripted:
            step, index = requested.step, requested.index
            record.append(
                ApprovalRefused(
                    step=step,
                    index=index,
                    number=record.count(f"approval.refused/{step}/{index}") + 1,
                    approver=approver,
                    account=account,
                    code=refusal.code,
                    message=refusal.message,
                ),
                durable=True,
            )
        raise


def _check_open(record: Record, requested: ApprovalRequested) -> None:
    """A request is answered once, and only the latest one of its call."""
    record.refresh()
    call = record.facts.open.get((requested.step, requested.index))
    if call is None or call.allowed:
        raise Refusal("approval_invalid", "the call has been answered, and is past approving")
    if call.request != requested.decision_digest:
        raise Refusal("approval_invalid", "the rules or the facts have changed since: the call is asked about anew")
    if call.rejected:
        raise Refusal("approval_invalid", "somebody has rejected the call")


def _check_emergency(requested: ApprovalRequested, reason: str, until: int | None, now: int) -> None:
    """Whoever breaks the glass says why, in words that a reviewer can read, and for how long: no longer than the request."""
    if not reason.strip() or not reason.isprintable() or len(reason) > LONGEST:
        raise Refusal(
            "approval_invalid",
            f"an approval by {BREAK_GLASS} says why, in one line of at most {LONGEST} characters",
            next_step="name the incident and what it needs",
        )
    if until is None or not now < until <= requested.expires_at:
        raise Refusal("approval_invalid", f"an approval by {BREAK_GLASS} ends, before the request itself expires")


def approval_expired(requested: ApprovalRequested, now: int) -> bool:
    """Whether the time to answer is over; `now` is Unix nanoseconds."""
    return now >= requested.expires_at


def _check_time(requested: ApprovalRequested, now: int) -> None:
    if approval_expired(requested, now):
        raise Refusal("approval_expired", "the request has expired; the agent must ask again")


def _check_approver(record: Record, approver: str, roles: set[str], roles_of: Callable[[str], frozenset[str]]) -> None:
    """Neither the user that the run acts for, nor whoever started it in that user's name, nor an agent."""
    started = record.facts.started
    assert started is not None  # a run with requests has begun
    own = (started.subjects.user, started.actor)
    if approver in own or not approver.startswith("user:") or approver == "user:none":
        raise Refusal(
            "approval_invalid",
            f"{approver} may not answer this request: it is the requester's own, or no person's",
            next_step="another person with the role must answer",
        )
    if not roles & roles_of(approver):
        raise Refusal("approval_invalid", f"{approver} does not have {' or '.join(sorted(roles))}")


def waiting_approvals(record: Record) -> list[ApprovalRequested]:
    """The requests of this run that nobody has settled: the latest of each call that has no answer yet."""
    found: list[ApprovalRequested] = []
    for key in record.facts.requested:
        requested = record.get(key)
        if isinstance(requested, ApprovalRequested):
            answered = record.get(f"call.answered/{requested.step}/{requested.index}/-")
            rejected = record.get(f"approval.rejected/{requested.step}/{requested.index}/{requested.decision_digest}")
            call = record.facts.open.get((requested.step or 0, requested.index or 0))
            if answered is None and rejected is None and call is not None and not call.allowed:
                found.append(requested)
    return found


def count_waiting_approvals(journal: Journal) -> int:
    """How many calls of all runs wait for a person."""
    return sum(len(waiting_approvals(Record(journal, row.run))) for row in journal.runs() if row.state == "waiting")
