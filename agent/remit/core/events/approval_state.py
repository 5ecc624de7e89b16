"""One request for approval as a state machine. Every list, page, span, gauge and decision reads this fold and no other.

asked ──► granted ──► used              an attempt began under the approvals
  │ ▲        │
  │ └────────┴─► revoked, void          too few approvals count any more; people may approve again
  ├─► rejected                          one person said no
  ├─► replaced                          the rules or the facts changed: another request, or a decision without one, follows
  ├─► expired                           nobody answered in time
  └─► answered                          the call got a result without the approval: a hold, a budget, the end of the run
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from remit.core.calls import BREAK_GLASS, Failed
from remit.core.events.approvals import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalVoided,
    BreakGlassReviewed,
)
from remit.core.events.calls import AttemptBegun, CallAnswered, CallDecided
from remit.core.events.event import NANO
from remit.core.events.recorded import AnyEvent
from remit.core.principals import same_person

ApprovalStatus: TypeAlias = Literal[
    "asked",  # people have to answer
    "granted",  # enough approvals count
    "revoked",  # a person withdrew an approval, and too few are left; people may approve again
    "void",  # an approval stopped counting, and too few are left; people may approve again
    "rejected",  # one person said no
    "expired",  # nobody answered in time
    "replaced",  # another decision took the place of the one that people were asked about
    "answered",  # the call got a result without the approval
    "used",  # the call began under the approvals
]
ApprovalAnswer: TypeAlias = ApprovalGranted | ApprovalRejected | ApprovalRevoked | ApprovalVoided | BreakGlassReviewed

WAITING: Final[frozenset[ApprovalStatus]] = frozenset({"asked", "revoked", "void"})
_DEAD: Final[frozenset[ApprovalStatus]] = frozenset({"rejected", "expired", "replaced", "answered"})


@dataclass(frozen=True, kw_only=True)
class ApprovalState:
    """One request for approval after some of its events.

    `seq` and `at` are the number and the time (Unix nanoseconds) of its event. `grants` are the approvals that count, `answers`
    everything that people and Remit said of it, in order. `end` is the state that it ended in, None while it is open; `lost`
    says why approvals are missing that were given.
    """

    requested: ApprovalRequested
    seq: int
    at: int
    grants: tuple[ApprovalGranted, ...] = ()
    answers: tuple[ApprovalAnswer, ...] = ()
    end: ApprovalStatus | None = None
    lost: Literal["revoked", "void"] | None = None

    def counted(self, now: int | None = None) -> tuple[ApprovalGranted, ...]:
        """The approvals that count at that time (Unix nanoseconds); None: regardless of their ends."""
        if self.end in _DEAD:
            return ()
        return tuple(grant for grant in self.grants if now is None or grant.until is None or now < grant.until)

    def status(self, now: int | None = None) -> ApprovalStatus:
        """Its state at that time (Unix nanoseconds); None: as its events say, regardless of the clock."""
        if self.end is not None:
            return self.end
        if self._is_enough(now):
            return "granted"
        if now is not None and now >= self.requested.expires_at:
            return "expired"
        return "void" if self._is_enough(None) else self.lost or "asked"

    def waits(self, now: int | None = None) -> bool:
        """True if people have still to approve or reject the call."""
        return self.status(now) in WAITING

    @property
    def granted_until(self) -> int:
        """When the approvals stop being enough, in Unix nanoseconds; 0: never, or they are not enough."""
        ends = [grant.until for grant in self.grants if grant.until is not None]
        return min(ends, default=0) if self.status() == "granted" else 0

    def accepts(self, now: int) -> tuple[str, ...]:
        """The roles in which people may answer at that time (Unix nanoseconds), without `role:break-glass`."""
        due = (item.role for item in self.requested.escalations if now >= self.at + item.after_s * NANO)
        return (*(missing.role for missing in self.requested.missing), *due)

    def about(self, decision_digest: str) -> ApprovalState:
        """The same answers, as if they had been given about that decision: what a replay under other rules supposes."""
        return replace(self, requested=self.requested.model_copy(update={"decision_digest": decision_digest}))

    def _is_enough(self, now: int | None) -> bool:
        given = Counter(grant.role for grant in self.counted(now))
        alone = [item.role for item in self.requested.escalations]
        alone += [BREAK_GLASS] if self.requested.break_glass else []
        if any(given[role] for role in alone):
            return True
        missing = self.requested.missing
        return bool(missing) and all(given[item.role] >= item.count for item in missing)


def next_approval(before: ApprovalState | None, event: AnyEvent | None, seq: int, at: int) -> ApprovalState | None:
    """The latest request of a call after one more event of that call; None before the first request.

    `seq` and `at` are the number and the time of the event in the record, so that a replay finds the same state.
    """
    if isinstance(event, ApprovalRequested):
        # INVARIANT: a new request starts without approvals. People approve one decision; an approval of another one never counts.
        return ApprovalState(requested=event, seq=seq, at=at)
    if before is None:
        return None
    if isinstance(event, ApprovalAnswer):
        return _answered(replace(before, answers=(*before.answers, event)), event, at)
    if before.end is not None:
        return before
    match event:
        case CallDecided(decision=decision) if decision is not None and not _is_about(before, decision.decision_digest):
            return replace(before, end="replaced")
        case AttemptBegun() if before.status() == "granted":
            return replace(before, end="used")
        case CallAnswered(result=result):
            late = isinstance(result, Failed) and result.error.code == "approval_expired"
            return replace(before, end="expired" if late else "answered")
        case _:
            return before


def _is_about(state: ApprovalState, decision_digest: str) -> bool:
    return state.requested.decision_digest == decision_digest


def _answered(state: ApprovalState, event: ApprovalAnswer, at: int) -> ApprovalState:
    """Apply what a person answered. What comes after the end, or is about another decision, changes nothing."""
    if state.end is not None or isinstance(event, BreakGlassReviewed) or not _is_about(state, event.decision_digest):
        return state
    match event:
        case ApprovalRejected():
            return replace(state, end="rejected")
        case ApprovalRevoked():
            return _without(state, event.approver, "revoked")
        case ApprovalVoided():
            return _without(state, event.approver, "void")
        case ApprovalGranted():
            # A second approval of one person is ignored: two required approvals are two people. One that has ended may be given again.
            late = at >= state.requested.expires_at or event.role not in (BREAK_GLASS, *state.accepts(at))
            again = any(same_person(grant.by, event.by) for grant in state.counted(at))
            return state if late or again else replace(state, grants=(*state.grants, event))


def _without(state: ApprovalState, approver: str, why: Literal["revoked", "void"]) -> ApprovalState:
    left = tuple(grant for grant in state.grants if grant.approver != approver)
    return state if left == state.grants else replace(state, grants=left, lost=why)
