"""Break-glass: emergency approvals in `role:break-glass`, each listed until a second person has reviewed it.

The policy decides where such an approval is possible: a condition names the role like any other. Every emergency approval needs
a reason and an end time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from remit.core import BREAK_GLASS, Principal, Refusal, UsageError, roles_held, same_person
from remit.core.events import AnyEvent, ApprovalGranted, ApprovalRequested, BreakGlassReviewed, RunStarted
from remit.journal import AlreadyRecorded, Journal, StoredRecord, approvals_in_state


@dataclass(frozen=True, kw_only=True)
class Emergency:
    """One approval in `role:break-glass`: its request, its time in Unix nanoseconds, and its review if there is one."""

    run: str
    at: int
    started: RunStarted | None
    requested: ApprovalRequested | None
    granted: ApprovalGranted
    review: BreakGlassReviewed | None

    @property
    def place(self) -> str:
        """Its name on the command line: RUN/STEP.INDEX."""
        return f"{self.run[:8]}/{self.granted.step}.{self.granted.index}"


def emergencies(journal: Journal, *, reviewed: bool = False) -> list[Emergency]:
    """The approvals in `role:break-glass` that wait for a review, the oldest first; with `reviewed` those that have one."""
    found: list[Emergency] = []
    for run, at, body in approvals_in_state(journal, "reviewed" if reviewed else "emergency"):
        granted = ApprovalGranted.model_validate_json(body)
        started = _event(journal, run, "run.started/-/-/-")
        requested = _event(
            journal, run, f"approval.requested/{granted.step}/{granted.index}/{granted.decision_digest}/1"
        )
        entry = _event(journal, run, f"break_glass.reviewed/{granted.step}/{granted.index}/{granted.key}")
        found.append(
            Emergency(
                run=run,
                at=at,
                started=started if isinstance(started, RunStarted) else None,
                requested=requested if isinstance(requested, ApprovalRequested) else None,
                granted=granted,
                review=entry if isinstance(entry, BreakGlassReviewed) else None,
            )
        )
    return found


def _event(journal: Journal, run: str, key: str) -> AnyEvent | None:
    recorded = journal.get(run, key)
    return None if recorded is None else recorded.event


def review(
    journal: Journal,
    found: Emergency,
    *,
    by: Principal,
    roles_of: Callable[[str], frozenset[str]],
    note: str,
) -> BreakGlassReviewed:
    """Record that a second person has reviewed an emergency approval.

    Raises:
        Refusal: `approval_invalid` for the approver, the requester, an agent, or a person without one of the roles.
        UsageError: it has been reviewed already, or the note is empty or not one printable line.
    """
    _check_reviewer(found, by, roles_of)
    if not note.strip() or not note.isprintable():
        raise UsageError("the review note is not one printable line: describe the finding with --note …")
    event = BreakGlassReviewed(
        step=found.granted.step,
        index=found.granted.index,
        granted=found.granted.key,
        by=by,
        note=note,
    )
    try:
        StoredRecord(journal, found.run).append(event, durable=True)
    except AlreadyRecorded:
        raise UsageError(f"{found.place} has already been reviewed") from None
    return event


def _check_reviewer(found: Emergency, by: Principal, roles_of: Callable[[str], frozenset[str]]) -> None:
    """Raise `approval_invalid` unless the reviewer is a second person who could have approved, under any account or name."""
    started, reviewer = found.started, by.subject
    own = same_person(found.granted.by, by) or (started is not None and started.is_requested_by(by))
    if own or not by.is_person:
        raise Refusal(
            "approval_invalid",
            f"{reviewer} cannot review this emergency approval: the reviewer must be a person who neither requested nor approved it",
            next_step="ask a second person to review it",
        )
    asked = {missing.role for missing in found.requested.missing} if found.requested else set[str]()
    if not (asked | {BREAK_GLASS}) & roles_held(by, roles_of):
        roles = " or ".join(sorted(asked | {BREAK_GLASS}))
        raise Refusal(
            "approval_invalid",
            f"{reviewer} may not review this emergency approval: the review needs {roles}",
            next_step="ask a person with one of these roles to review it",
        )
