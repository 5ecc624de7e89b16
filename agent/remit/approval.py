"""Approvals: what people are asked, and whether what they said still fits the call.

An approval binds one decision of one call. It lives in the journal; whoever waits only waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from remit.call import BREAK_GLASS, Call, Decision
from remit.canon import canonical_json
from remit.errors import Refusal
from remit.event import ApprovalGranted, ApprovalRejected, ApprovalRequested
from remit.guard import Guard
from remit.journal import Journal
from remit.record import Record

LASTS_NS: Final = 3600 * 1_000_000_000
LONGEST_SHOWN: Final = 400  # characters of one argument that an approver reads before it is folded

State: TypeAlias = Literal["waiting", "granted", "rejected", "expired"]


def summary(call: Call, guard: Guard) -> str:
    """What an approver reads: rendered from canonical arguments, hidden characters written out, long values folded."""
    lines = [f"{call.action} as {call.subjects.agent} for {call.subjects.user}"]
    for name, value in sorted(call.arguments.items()):
        shown = guard.text(canonical_json(value).decode())
        if len(shown) > LONGEST_SHOWN:
            shown = f"{shown[:LONGEST_SHOWN]} … and {len(shown) - LONGEST_SHOWN} more characters"
        lines.append(f"  {name} = {shown}")
    lines.extend(f"  touches {touch.access} {touch.resource}" for touch in call.touches)
    return "\n".join(lines)


def request(call: Call, decision: Decision, now: int, guard: Guard) -> ApprovalRequested:
    """The event that asks people for what `decision` misses."""
    return ApprovalRequested(
        step=call.step,
        index=call.index,
        decision_digest=decision.decision_digest,
        missing=decision.missing,
        summary=summary(call, guard),
        expires_at=now + LASTS_NS,
        break_glass=decision.break_glass,
    )


def grant(
    record: Record,
    requested: ApprovalRequested,
    *,
    approver: str,
    role: str,
    roles_of: Callable[[str], frozenset[str]],
    account: str,
    now: int,
    scripted: bool = False,
    reason: str = "",
    until: int | None = None,
) -> None:
    """Record one person's approval, given in `role`; in `role:break-glass` with a `reason`, and `until` when it counts.

    Raises:
        Refusal: `approval_invalid` for the requester, an agent, a missing role, a role nobody asked for, a second grant, or
            an emergency without reason or end; `approval_expired` after the time.
    """
    asked = {missing.role for missing in requested.missing}
    if role not in asked and not (role == BREAK_GLASS and requested.break_glass):
        raise Refusal("approval_invalid", f"nobody asked for an approval by {role!r}")
    if role == BREAK_GLASS:
        _check_emergency(requested, reason, until, now)
    _check_approver(record, approver, {role}, roles_of)
    _check_time(requested, now)
    granted = ApprovalGranted(
        step=requested.step,
        index=requested.index,
        decision_digest=requested.decision_digest,
        approver=approver,
        role=role,
        account=account,
        scripted=scripted,
        reason=reason,
        until=until,
    )
    if record.get(granted.key) is not None:
        raise Refusal("approval_invalid", f"{approver} has already approved this call")
    record.append(granted, durable=True)


def reject(
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


def _check_emergency(requested: ApprovalRequested, reason: str, until: int | None, now: int) -> None:
    """Whoever breaks the glass says why, in words that a reviewer can read, and for how long: no longer than the request."""
    if not reason.strip() or not reason.isprintable() or len(reason) > LONGEST_SHOWN:
        raise Refusal(
            "approval_invalid",
            f"an approval by {BREAK_GLASS} says why, in one line of at most {LONGEST_SHOWN} characters",
            remedy="name the incident and what it needs",
        )
    if until is None or not now < until <= requested.expires_at:
        raise Refusal("approval_invalid", f"an approval by {BREAK_GLASS} ends, before the request itself expires")


def _check_time(requested: ApprovalRequested, now: int) -> None:
    if now >= requested.expires_at:
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
            remedy="another person with the role must answer",
        )
    if not roles & roles_of(approver):
        raise Refusal("approval_invalid", f"{approver} does not have {' or '.join(sorted(roles))}")


def waiting(record: Record) -> list[ApprovalRequested]:
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


def all_waiting(journal: Journal) -> int:
    """How many calls of all runs wait for a person."""
    return sum(len(waiting(Record(journal, row.run))) for row in journal.runs() if row.state == "waiting")
