"""Requests for approval: the open ones of a workspace, and the answers of a person."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final, Literal

from remit.broker import hold_reason, requesters, settle_effect
from remit.broker.approvals import (
    Approval,
    Instead,
    approved_within_a_minute,
    grant_approval,
    like_approvals,
    only_role,
    open_approval,
    refusal_recorded,
    reject_approval,
    revoke_approval,
    scope_lines,
    scope_of,
    waiting_approvals,
)
from remit.client.passkeys import check_signature
from remit.core import BREAK_GLASS, Call, Principal, Refusal, UsageError, roles_held
from remit.core.events import NANO, ApprovalRequested, CallDecided, GrantScope, PasskeyProof
from remit.journal import (
    FIRST,
    InDoubt,
    Place,
    Record,
    StoredRecord,
    approvals_after,
    approvals_in_state,
    find_run,
    resolve_run,
)
from remit.passkeys import ApprovalStatement
from remit.policy import Policy
from remit.workspace import WorkspaceSession, authorize_run, check_enabled

MOST_READ: Final = (
    2000  # rows of one page, also of requests that its reader may not see: a page costs no more than that
)


@dataclass(frozen=True, kw_only=True)
class WaitingApproval:
    """One open request for approval of one call of a run.

    `request.summary` is the text that a person reads: exactly the call that would run.
    """

    run: str
    request: ApprovalRequested

    @property
    def place(self) -> str:
        """The name of the request: RUN/STEP.INDEX."""
        return f"{self.run}/{self.request.step}.{self.request.index}"

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles whose approval is missing."""
        return tuple(missing.role for missing in self.request.missing)

    @property
    def expires_in_s(self) -> float:
        """Seconds until the request expires; negative if it has expired."""
        return (self.request.expires_at - time.time_ns()) / NANO


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Further calls of the run that an approval covers too: at most `more`, of the same action and with the same facts.

    `resources` are patterns for what they touch; empty: what the approved call touches. `condition` is about their arguments, in the
    language of the rules; "": numbers at most as large as those of the approved call.
    """

    more: int
    resources: tuple[str, ...] = ()
    condition: str = ""


@dataclass(frozen=True, kw_only=True)
class Consent:
    """How a person approves a request; see `Remit.approve`.

    `passkey` is the signature of a passkey of theirs over this approval, which then ends at `until` (Unix nanoseconds) and not after `minutes`.
    """

    by: Principal
    role: str | None = None
    reason: str = ""
    minutes: int = 15
    bound: Bound | None = None
    until: int | None = None
    passkey: PasskeyProof | None = None


@dataclass(frozen=True, kw_only=True)
class Approved:
    """An approval that was recorded. `rapid` are the actions that the same person approved within the last minute.

    `place` is RUN/STEP.INDEX, and `like` how many calls of the same agent with the same action and resources were approved in the last
    90 days, with this one. `next` says who makes the run go on, in one sentence.
    """

    run: str
    place: str
    approver: str
    role: str
    rapid: tuple[str, ...]
    like: int
    next: str


def waiting_approvals_of(session: WorkspaceSession) -> tuple[WaitingApproval, ...]:
    """Every open request for approval of the workspace, also one whose approvals have ended before they were used."""
    journal = session.journal
    ended = approvals_in_state(journal, "answered", ended=time.time_ns())
    found = sorted([*approvals_in_state(journal, "waiting"), *ended], key=lambda item: item[1])
    requests = ((run, ApprovalRequested.model_validate_json(body)) for run, _, body in found)
    return tuple(WaitingApproval(run=run, request=request) for run, request in requests)


@dataclass(frozen=True, kw_only=True)
class ApprovalPage:
    """Some open requests, the oldest first. `next` is where the next page begins, None at the end of the list.

    A page can have fewer requests than were asked for, or none, and a next page.
    """

    requests: tuple[WaitingApproval, ...]
    next: Place | None


def page_of_approvals(
    session: WorkspaceSession, may_see: Callable[[str], bool], *, limit: int = 50, after: Place = FIRST
) -> ApprovalPage:
    """At most `limit` open requests of runs for which `may_see` is True; `after` is the `next` of the page before."""
    now, journal = time.time_ns(), session.journal
    waiting = approvals_after(journal, "waiting", after, MOST_READ)
    answered = approvals_after(journal, "answered", after, MOST_READ)
    rows = sorted([*waiting, *(row for row in answered if 0 < row[1] <= now)], key=lambda row: row[0])
    # Behind the end of a list that was not read to its end, a row of the other one could come too early.
    ends = [found[-1][0] for found in (waiting, answered) if len(found) == MOST_READ]
    found: list[tuple[Place, WaitingApproval]] = []
    for place, _, body in rows:
        if len(found) > limit or (ends and place > min(ends)):
            break
        if body is not None and may_see(place[1]):
            request = ApprovalRequested.model_validate_json(body)
            found.append((place, WaitingApproval(run=place[1], request=request)))
    shown = tuple(item for _, item in found[:limit])
    if len(found) > limit:
        return ApprovalPage(requests=shown, next=found[limit - 1][0])
    if not ends:
        return ApprovalPage(requests=shown, next=None)
    # A place in the list names no run that the principal may not see: its time is enough.
    last = found[-1][0] if found else FIRST
    return ApprovalPage(requests=shown, next=max(last, (min(ends)[0], "", -1)))


def find_request(session: WorkspaceSession, name: str) -> WaitingApproval:
    """The request that `name` names: RUN, or RUN/STEP.INDEX if the run has several. A unique prefix of the run id is enough.

    A request that is closed is found by its full name, so that a late answer is refused and recorded.

    Raises:
        UsageError: no request matches, or several do.
    """
    run, _, place = name.partition("/")
    record = StoredRecord(session.journal, resolve_run(session.journal, run))
    waiting = waiting_approvals(record)
    matches = [item for item in waiting if place in ("", f"{item.step}.{item.index}")]
    if not matches and place and (closed := _latest(record, place)) is not None:
        matches = [closed]
    if len(matches) != 1:
        places = ", ".join(f"{record.run[:8]}/{item.step}.{item.index}" for item in waiting) or "none"
        raise UsageError(f"{name!r} matches {len(matches)} requests, not one; open in this run: {places}")
    return WaitingApproval(run=record.run, request=matches[0])


def approve(session: WorkspaceSession, policy: Policy, waiting: WaitingApproval, consent: Consent) -> Approved:
    """Record the approval of a person under the policy in force.

    Raises:
        UsageError: the request needs several roles, and `role` is None.
        Refusal: the approval does not count; the refusal is recorded. `policy_denied`: the rules do not allow `remit.approve`.
    """
    by = consent.by
    authorize_run(policy, session.journal, waiting.run, by, "remit.approve", f"approve calls of run {waiting.run[:8]}")
    request, record, now = waiting.request, StoredRecord(session.journal, waiting.run), time.time_ns()
    with refusal_recorded(record, request, by):
        _check_requesters(session, record)
    role = consent.role or only_role(
        open_approval(record, request), waiting.roles, roles_held(by, policy.roles_of), now
    )
    rapid = tuple(approved_within_a_minute(session.journal, record, request, by=by, now=now))
    bound = consent.bound
    approval = Approval(
        by=by,
        role=role,
        reason=consent.reason,
        until=consent.until if consent.passkey is not None else end_of(waiting, role, consent, now),
        rapid=bool(rapid),
        scope=None if bound is None else _scope(record, request, bound),
        passkey=consent.passkey,
    )
    if consent.passkey is not None:
        with refusal_recorded(record, request, by):
            statement = _statement(waiting, approval, consent.passkey.nonce)
            check_signature(session.journal, statement, consent.passkey, by)
    grant_approval(record, request, approval, roles_of=policy.roles_of, now=now)
    return Approved(
        run=waiting.run,
        place=f"{waiting.run[:8]}/{request.step}.{request.index}",
        approver=by.subject,
        role=role,
        rapid=rapid,
        like=like_approvals(session.journal, record, request, now),
        next=who_continues(session, waiting.run),
    )


def end_of(waiting: WaitingApproval, role: str, consent: Consent, now: int) -> int | None:
    """When an approval ends, in Unix nanoseconds; None for one that is neither for an emergency nor for further calls."""
    until = now + consent.minutes * 60 * NANO
    if role == BREAK_GLASS:
        return min(until, waiting.request.expires_at)
    return until if consent.bound is not None else None


def statement_to_sign(
    session: WorkspaceSession, waiting: WaitingApproval, consent: Consent, nonce: str
) -> ApprovalStatement:
    """What a passkey must sign so that this approval counts; `consent` has a role, and `until` if it ends.

    Raises:
        UsageError, Refusal: as `approve` for a bound that is not valid.
    """
    assert consent.role is not None
    record, bound = StoredRecord(session.journal, waiting.run), consent.bound
    scope = None if bound is None else _scope(record, waiting.request, bound)
    approval = Approval(by=consent.by, role=consent.role, reason=consent.reason, until=consent.until, scope=scope)
    return _statement(waiting, approval, nonce)


def _statement(waiting: WaitingApproval, approval: Approval, nonce: str) -> ApprovalStatement:
    request = waiting.request
    return ApprovalStatement(
        tenant=approval.by.tenant,
        run=waiting.run,
        step=request.step,
        index=request.index,
        decision_digest=request.decision_digest,
        subject=approval.by.subject,
        role=approval.role,
        reason=approval.reason,
        until=approval.until,
        scope=approval.scope,
        nonce=nonce,
    )


def _check_requesters(session: WorkspaceSession, record: Record) -> None:
    """Raise Refusal `approval_invalid` if a person who asks for this call is disabled."""
    asking = () if record.state.started is None else requesters(record.state.started)
    if (hold := next((hold for name in asking if (hold := session.journal.holds().get(name))), None)) is not None:
        raise Refusal("approval_invalid", f"{hold.scope}, who asks for this call, is disabled: {hold.reason}")


def who_continues(session: WorkspaceSession, run: str) -> str:
    """Who makes the run go on now, in one sentence with the command for it."""
    journal = session.journal
    row, started = find_run(journal, run), StoredRecord(journal, run).state.started
    if row is None or started is None or row.state == "finished":
        return f"the run has ended: remit trace show {run[:8]}"
    if journal.is_driven(run):
        return f"{row.holder} drives the run, and goes on by itself"
    if started.driver:
        return f"{started.driven_by} drives the run: {started.goes_on_by}"
    if row.state == "waiting":
        return f"the run still waits for people: remit approve show {run[:8]}"
    if (held := hold_reason(journal.holds(), f"run:{run}", row.agent)) is not None:
        after = "a worker continues the run" if row.priority else f"continue the run: remit run --resume {run[:8]}"
        return f"{held}; after the hold, {after}"
    if row.priority:
        return "a worker continues the run"
    return f"no process drives the run; continue it: remit run --resume {run[:8]}"


def reject(
    session: WorkspaceSession,
    policy: Policy,
    waiting: WaitingApproval,
    *,
    by: Principal,
    reason: str,
    response: str | None = None,
) -> None:
    """Record the rejection of the person `by`. The model reads `reason`, or `response` as the answer in place of the tool.

    Raises:
        Refusal: the rejection does not count; the refusal is recorded. `policy_denied`: the rules do not allow `remit.approve`.
    """
    authorize_run(policy, session.journal, waiting.run, by, "remit.approve", f"reject calls of run {waiting.run[:8]}")
    reject_approval(
        StoredRecord(session.journal, waiting.run),
        waiting.request,
        by=by,
        roles_of=policy.roles_of,
        now=time.time_ns(),
        reason=reason,
        instead=None if response is None else Instead(response=response),
    )


def revoke(session: WorkspaceSession, waiting: WaitingApproval, *, by: Principal, reason: str) -> None:
    """Record that the person `by` withdraws their approval.

    Raises:
        Refusal: they have not approved the call, or it is too late; the refusal is recorded. `policy_denied`: they are disabled.
    """
    check_enabled(session.journal, by)
    revoke_approval(StoredRecord(session.journal, waiting.run), waiting.request, by=by, reason=reason)


def settle(
    session: WorkspaceSession, policy: Policy, run: str, doubt: InDoubt, *, landed: bool, by: Principal, reason: str
) -> None:
    """Record what the person `by` found out about an effect of unknown outcome.

    Raises:
        UsageError: its outcome is known, or a process drives the run, so that the call may be running now.
        Refusal: `policy_denied`: the rules do not allow `remit.settle`.
    """
    journal = session.journal
    authorize_run(policy, journal, run, by, "remit.settle", f"settle an effect of run {run[:8]}")
    # A call without a result may be running now. The lease cannot be taken while a process drives the run: then nobody may
    # settle it.
    with nullcontext() if doubt.answered else journal.brief_lease(run):
        outcome: Literal["landed", "not_landed"] = "landed" if landed else "not_landed"
        settle_effect(StoredRecord(journal, run), doubt.step, doubt.index, landed=outcome, by=by, reason=reason)


def bound_lines(session: WorkspaceSession, waiting: WaitingApproval, bound: Bound) -> list[str]:
    """What an approver reads before approving further calls too: the scope, and calls that it covers and does not cover.

    Raises:
        Refusal: `approval_invalid`: the bound is not valid, or does not cover the call itself.
    """
    record = StoredRecord(session.journal, waiting.run)
    scope = _scope(record, waiting.request, bound)
    return scope_lines(scope, _call_of(record, waiting.request), waiting.request.facts, record)


def _scope(record: Record, request: ApprovalRequested, bound: Bound) -> GrantScope:
    return scope_of(_call_of(record, request), bound.more, bound.resources, bound.condition)


def _call_of(record: Record, request: ApprovalRequested) -> Call:
    """The call that a request is about. Raises UsageError if its arguments are not recorded: nobody can say what is like it."""
    decided = record.get(f"call.decided/{request.step}/{request.index}/0")
    started = record.state.started
    if not isinstance(decided, CallDecided) or decided.call is None or (started and started.content != "complete"):
        raise UsageError("the arguments of the call are not recorded: approve this one call only")
    return decided.call


def _latest(record: Record, place: str) -> ApprovalRequested | None:
    """The last request for approval of that call, open or closed."""
    of_call = [item for item in record.every() if isinstance(item, ApprovalRequested)]
    return next((item for item in reversed(of_call) if place == f"{item.step}.{item.index}"), None)
