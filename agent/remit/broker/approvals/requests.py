"""Approval requests and answers.

An approval is for one decision of one call. Requests and answers are events of the journal; a waiting process only polls them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from remit.broker.approvals.summary import LONGEST, approval_summary, shown_facts
from remit.broker.context import Moment, counted_grants
from remit.core import (
    BREAK_GLASS,
    CONFIRMATION,
    Call,
    Decision,
    Principal,
    ProposedCall,
    Refusal,
    UsageError,
    roles_held,
    same_person,
)
from remit.core.events import (
    NANO,
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalState,
    ApprovalVoided,
    CallDecided,
    GrantScope,
    ModelResponded,
    PasskeyProof,
)
from remit.guardrails import Sanitizer
from remit.journal import Journal, Record, RunState
from remit.workspace import Budget

LASTS_NS: Final = 3600 * NANO
LONGEST_BOUND_NS: Final = 24 * 3600 * NANO
RAPID_WINDOW_NS: Final = 60 * NANO
RAPID_APPROVALS: Final = 2  # approvals in that time; another one of a different action is then flagged as rapid


def open_approval(record: Record, call: Call | ApprovalRequested) -> ApprovalState | None:
    """The latest request for approval of an open call; None without one."""
    opened = record.state.open.get((call.step or 0, call.index or 0))
    return None if opened is None else opened.approval


def is_asked(record: Record, call: Call, decision: Decision) -> bool:
    """True if the latest request for approval of the call is about that decision."""
    latest = open_approval(record, call)
    return latest is not None and latest.requested.decision_digest == decision.decision_digest


def request_approval(
    record: Record, call: Call, decision: Decision, now: int, sanitizer: Sanitizer
) -> ApprovalRequested:
    """Request the approvals that `decision` needs. Returns the latest request if it is about that decision."""
    latest = open_approval(record, call)
    if latest is not None and latest.end != "replaced" and latest.requested.decision_digest == decision.decision_digest:
        return latest.requested
    requested = ApprovalRequested(
        step=call.step,
        index=call.index,
        decision_digest=decision.decision_digest,
        missing=decision.missing,
        summary=approval_summary(call, decision, sanitizer),
        expires_at=now + (LASTS_NS if decision.expires_s is None else decision.expires_s * NANO),
        break_glass=decision.break_glass,
        escalations=decision.escalations,
        facts=shown_facts(decision.facts),
        number=record.count(f"approval.requested/{call.step}/{call.index}/{decision.decision_digest}") + 1,
    )
    record.append(requested, durable=True)
    return requested


def check_waiting_approvals(state: RunState, budget: Budget) -> None:
    """Raise `rate_limited` if the run has so many open requests that nobody could review another one carefully."""
    waiting = sum(call.needs_approval for call in state.open.values())
    if waiting >= budget.waiting:
        raise Refusal(
            "rate_limited",
            f"{waiting} calls of this run already wait for approval",
            details={"limit": "waiting", "of": budget.waiting},
            next_step="call it again after one of them is answered",
            retryable=True,
        )


@dataclass(frozen=True, kw_only=True)
class Approval:
    """The approval of one person in one role.

    In `role:break-glass` it has a `reason`, and counts until `until` (Unix nanoseconds). `rapid` is True if it follows approvals
    of other actions within a minute. With `scope` it covers further calls of the run too, until `until`. `via` is that of the event.
    `passkey` is the signature of a passkey, which the caller has checked; None without one.
    """

    by: Principal
    role: str
    reason: str = ""
    until: int | None = None
    rapid: bool = False
    scope: GrantScope | None = None
    via: str = ""
    passkey: PasskeyProof | None = None


@dataclass(frozen=True, kw_only=True)
class Instead:
    """What a person who rejects a call gives in its place: an answer for the model, or another call. `via` is that of the event."""

    response: str | None = None
    edited: ProposedCall | None = None
    via: str = ""


def grant_approval(
    record: Record,
    requested: ApprovalRequested,
    approval: Approval,
    *,
    roles_of: Callable[[str], frozenset[str]],
    now: int,
) -> None:
    """Record the approval of one person; `now` is in Unix nanoseconds.

    Raises:
        Refusal: `approval_invalid` for the requester, an agent, a missing role, a role that was not requested, a second grant
            (also under another account or name), a call that is no longer open, or an emergency without reason or end;
            `approval_expired` after the time. The refusal is recorded too. An approval that was revoked may be given again.
    """
    by, role = approval.by, approval.role
    with refusal_recorded(record, requested, by, approval.via):
        _check_role(_check_open(record, requested), role, now)
        _check_time(requested, now)
        if approval.scope is not None:
            _check_bounded(approval, now)
        if role == BREAK_GLASS:
            _check_emergency(requested, approval.reason, approval.until, now)
        if role == CONFIRMATION:
            _check_user(record, by)
        else:
            _check_approver(record, requested, by, {role}, roles_of)
        _check_first(record, requested, by, now)
    prefix = f"approval.granted/{requested.step}/{requested.index}/{requested.decision_digest}/{by.subject}"
    granted = ApprovalGranted(
        step=requested.step,
        index=requested.index,
        decision_digest=requested.decision_digest,
        number=record.count(prefix) + 1,
        by=by,
        role=role,
        reason=approval.reason,
        until=approval.until,
        rapid=approval.rapid,
        scope=approval.scope,
        via=approval.via,
        passkey=approval.passkey,
    )
    record.append(granted, durable=True)


def reject_approval(
    record: Record,
    requested: ApprovalRequested,
    *,
    by: Principal,
    roles_of: Callable[[str], frozenset[str]],
    now: int,
    reason: str,
    instead: Instead | None = None,
) -> None:
    """Record the rejection of one person; one is enough. Only a person who may approve may reject. The model reads `reason`."""
    instead = instead or Instead()
    with refusal_recorded(record, requested, by, instead.via):
        state = _check_open(record, requested)
        _check_approver(record, requested, by, set(state.accepts(now)), roles_of)
        _check_time(requested, now)
    rejected = ApprovalRejected(
        step=requested.step,
        index=requested.index,
        decision_digest=requested.decision_digest,
        by=by,
        reason=reason,
        response=instead.response,
        edited=instead.edited,
        via=instead.via,
    )
    record.append(rejected, durable=True)


def revoke_approval(record: Record, requested: ApprovalRequested, *, by: Principal, reason: str) -> None:
    """Revoke one's own approval before the call is executed; one with a scope also later: then it covers no further call.

    Raises:
        Refusal: `approval_invalid` if that person has not approved the call, or if it is no longer open.
    """
    with refusal_recorded(record, requested, by):
        place = (requested.step, requested.index)
        bounded = [item.granted for item in record.state.bounded if (item.granted.step, item.granted.index) == place]
        grants = bounded or _check_open(record, requested).grants
        given = next((grant for grant in grants if grant.by.subject == by.subject), None)
        if given is None:
            raise Refusal("approval_invalid", f"{by.subject} has not approved this call, or has revoked the approval")
    revoked = ApprovalRevoked(
        step=requested.step,
        index=requested.index,
        decision_digest=requested.decision_digest,
        by=by,
        reason=reason,
        number=given.number,
    )
    record.append(revoked, durable=True)


def approved_within_a_minute(
    journal: Journal, record: Record, requested: ApprovalRequested, *, by: Principal, now: int
) -> list[str]:
    """The actions that this person approved within the last minute, if there are several and this one differs; else empty."""
    this = _action_of(record.get(f"call.decided/{requested.step}/{requested.index}/0"))
    actions: list[str] = []
    for item in journal.every("approval.granted", since=now - RAPID_WINDOW_NS):
        event = item.event
        if isinstance(event, ApprovalGranted) and same_person(event.by, by):
            decided = journal.get(item.run, f"call.decided/{event.step}/{event.index}/0")
            actions.append(_action_of(None if decided is None else decided.event))
    return actions if len(actions) >= RAPID_APPROVALS and any(action != this for action in actions) else []


def _action_of(event: AnyEvent | None) -> str:
    return event.call.action if isinstance(event, CallDecided) and event.call is not None else "a call"


@contextmanager
def refusal_recorded(record: Record, requested: ApprovalRequested, by: Principal, via: str = "") -> Generator[None]:
    """Record a refused answer in the trace. Refusals of scripts are not recorded, because a script repeats its attempts."""
    try:
        yield
    except Refusal as refusal:
        if by.authenticated != "script":
            step, index = requested.step, requested.index
            record.append(
                ApprovalRefused(
                    step=step,
                    index=index,
                    number=record.count(f"approval.refused/{step}/{index}") + 1,
                    by=by,
                    via=via,
                    code=refusal.code,
                    message=refusal.message,
                ),
                durable=True,
            )
        raise


def only_role(state: ApprovalState | None, needed: Sequence[str], own: Collection[str], now: int) -> str:
    """The role in which a person with the roles `own` answers. Raises UsageError if there are several."""
    accepted = needed if state is None else state.accepts(now)
    mine = [role for role in accepted if role in own] or list(needed)
    if len(mine) != 1:
        raise UsageError(f"the request needs several roles; choose yours: {' or '.join(mine)}")
    return mine[0]


def _author(record: Record, requested: ApprovalRequested) -> Principal | None:
    """The person who made the call in place of the model."""
    responded = record.get(f"model.responded/{requested.step}/-/-")
    return responded.by if isinstance(responded, ModelResponded) else None


def _check_open(record: Record, requested: ApprovalRequested) -> ApprovalState:
    """The state of the request. Raises `approval_invalid` unless it is the latest one of its call and still open."""
    call = record.state.open.get((requested.step, requested.index))
    state = None if call is None else call.approval
    if call is None or state is None or call.allowed or state.end == "used":
        raise Refusal("approval_invalid", "the call is no longer waiting for approval")
    if state.end == "replaced" or state.requested.key != requested.key:
        raise Refusal("approval_invalid", "the rules or facts have changed: answer the new request instead")
    if state.end == "rejected":
        raise Refusal("approval_invalid", "another person has already rejected the call")
    return state


def _check_bounded(approval: Approval, now: int) -> None:
    """Raise `approval_invalid` unless an approval of further calls has an end, and is no emergency approval."""
    if approval.role in (BREAK_GLASS, CONFIRMATION):
        raise Refusal(
            "approval_invalid", f"an approval by {approval.role} is for one call", next_step="leave out --more"
        )
    if approval.until is None or not now < approval.until <= now + LONGEST_BOUND_NS:
        raise Refusal(
            "approval_invalid",
            "an approval of further calls must end within 24 hours",
            next_step="give the end with --minutes",
        )


def _check_role(state: ApprovalState, role: str, now: int) -> None:
    """Raise `approval_invalid` if an approval in that role would not count now; one that counts later says when."""
    accepted = {*state.accepts(now), *([BREAK_GLASS] if state.requested.break_glass else ())}
    if role in accepted:
        return
    later = next((item for item in state.requested.escalations if item.role == role), None)
    if later is None:
        raise Refusal("approval_invalid", f"the request does not ask for an approval by {role!r}")
    raise Refusal(
        "approval_invalid",
        f"{role} may answer this request once nobody has answered it for {later.after_s // 60} minutes",
        next_step=f"ask a person with {' or '.join(sorted(accepted))}, or try again later",
    )


def _check_emergency(requested: ApprovalRequested, reason: str, until: int | None, now: int) -> None:
    """Raise `approval_invalid` unless an emergency approval has a readable reason and an end before that of the request."""
    if not reason.strip() or not reason.isprintable() or len(reason) > LONGEST:
        raise Refusal(
            "approval_invalid",
            f"an approval by {BREAK_GLASS} needs a reason of one line and at most {LONGEST} characters",
            next_step="give the incident and the need in --reason",
        )
    if until is None or not now < until <= requested.expires_at:
        raise Refusal(
            "approval_invalid",
            f"an approval by {BREAK_GLASS} must have an end in the future, not after the end of the request",
            next_step="give an end before the request expires",
        )


def void_approvals(record: Record, call: Call, state: RunState, requested: ApprovalRequested, moment: Moment) -> None:
    """Record which given approvals no longer count at that moment, and why. `state` is that of the run for this request."""
    open_call = state.open.get((call.step, call.index))
    approval = None if open_call is None else open_call.approval
    counted = counted_grants(state, call, moment)
    for grant in () if approval is None else approval.grants:
        if grant in counted:
            continue
        expired = grant.until is not None and moment.at >= grant.until
        changed = moment.decision_digest != requested.decision_digest
        why = (
            "the rules or the facts that the approver saw have changed"
            if changed
            else f"the approver no longer has {grant.role}"
        )
        voided = ApprovalVoided(
            step=call.step,
            index=call.index,
            decision_digest=requested.decision_digest,
            approver=grant.by.subject,
            code="approval_expired" if expired else "approval_invalid",
            reason="the approval has expired" if expired else why,
            number=grant.number,
        )
        if record.get(voided.key) is None:
            record.append(voided)


def approval_expired(requested: ApprovalRequested, now: int) -> bool:
    """True if the time to answer has passed; `now` is in Unix nanoseconds."""
    return now >= requested.expires_at


def _check_time(requested: ApprovalRequested, now: int) -> None:
    if approval_expired(requested, now):
        raise Refusal("approval_expired", "the request has expired: the agent must make the call again")


def _check_first(record: Record, requested: ApprovalRequested, by: Principal, now: int) -> None:
    """Raise `approval_invalid` if an approval of that person counts already, under any account or name."""
    state = open_approval(record, requested)
    grants = () if state is None else state.counted(now)
    earlier = next((grant.by.subject for grant in grants if same_person(grant.by, by)), None)
    if earlier is not None:
        raise Refusal("approval_invalid", f"{earlier} has already approved this call")


def _check_approver(
    record: Record,
    requested: ApprovalRequested,
    by: Principal,
    roles: set[str],
    roles_of: Callable[[str], frozenset[str]],
) -> None:
    """Raise `approval_invalid` for the user of the run, who started it or made the call, an agent, or a person without the role."""
    started, approver = record.state.started, by.subject
    assert started is not None  # a run with requests has begun
    author = _author(record, requested)
    made = author is not None and same_person(author, by)
    if made or started.is_requested_by(by) or not by.is_person or by.tenant != started.tenant:
        raise Refusal(
            "approval_invalid",
            f"{approver} cannot answer this request: the approver must be a person who did not "
            + ("make the call" if made else "start the run"),
            next_step="ask another person with the role to answer",
        )
    if not roles & roles_held(by, roles_of):
        raise Refusal(
            "approval_invalid",
            f"{approver} may not answer this request: the answer needs {' or '.join(sorted(roles))}",
            next_step="ask another person with the role to answer",
        )


def _check_user(record: Record, by: Principal) -> None:
    """Raise `approval_invalid` unless that person is the user of the run, who alone can confirm its calls."""
    started = record.state.started
    if started is None or not by.is_person or by.tenant != started.tenant or not started.is_requested_by(by):
        raise Refusal(
            "approval_invalid",
            f"{by.subject} cannot confirm this call: only the user of the run can",
            next_step="ask the user of the run to confirm it",
        )


def waiting_approvals(record: Record) -> list[ApprovalRequested]:
    """The open requests of this run: the latest request of each call whose approvals are not refused and not used."""
    return [
        call.approval.requested
        for call in record.state.open.values()
        if call.approval is not None and call.approval.end is None and not call.allowed
    ]
