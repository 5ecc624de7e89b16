"""Break-glass: approvals in `role:break-glass`, each open until a second person has looked at it.

What such an approval may turn is policy's to say: a condition names the role like any other. It is asked for only where
nobody else can approve, may be given wherever it would do, says why, lapses, and stays on the list until it is reviewed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from remit.core import BREAK_GLASS, Refusal, UsageError
from remit.core.events import ApprovalGranted, ApprovalRequested, BreakGlassReviewed, RunStarted
from remit.journal import WORKSPACE_RUN, AlreadyRecorded, Journal


@dataclass(frozen=True, kw_only=True)
class Emergency:
    """One approval in `role:break-glass`: for what it was given, when (Unix nanoseconds), and who has reviewed it."""

    run: str
    at: int
    started: RunStarted | None
    requested: ApprovalRequested | None
    granted: ApprovalGranted
    review: BreakGlassReviewed | None

    @property
    def place(self) -> str:
        """How a person names it: RUN/STEP.INDEX."""
        return f"{self.run[:8]}/{self.granted.step}.{self.granted.index}"


def emergencies(journal: Journal) -> list[Emergency]:
    """Every approval in `role:break-glass`, the oldest first, reviewed or not."""
    reviews = {
        (event.run, event.granted): event
        for recorded in journal.every("break_glass.reviewed")
        if isinstance(event := recorded.event, BreakGlassReviewed)
    }
    found: list[Emergency] = []
    for recorded in journal.every("approval.granted"):
        granted = recorded.event
        if isinstance(granted, ApprovalGranted) and granted.role == BREAK_GLASS:
            asked = f"approval.requested/{granted.step}/{granted.index}/{granted.decision_digest}"
            started, requested = (
                None if (one := journal.get(recorded.run, key)) is None else one.event
                for key in ("run.started/-/-/-", asked)
            )
            found.append(
                Emergency(
                    run=recorded.run,
                    at=recorded.at,
                    started=started if isinstance(started, RunStarted) else None,
                    requested=requested if isinstance(requested, ApprovalRequested) else None,
                    granted=granted,
                    review=reviews.get((recorded.run, granted.key)),
                )
            )
    return found


def review(
    journal: Journal,
    found: Emergency,
    *,
    reviewer: str,
    account: str,
    roles_of: Callable[[str], frozenset[str]],
    note: str,
) -> BreakGlassReviewed:
    """Record that a second person has looked at it.

    Raises:
        Refusal: `approval_invalid` for whoever approved or asked, for an agent, and without one of the roles.
        UsageError: it has been reviewed already, or the note is empty.
    """
    _check_reviewer(found, reviewer, account, roles_of)
    if not note.strip() or not note.isprintable():
        raise UsageError("a review says in one line what was found: --note …")
    event = BreakGlassReviewed(
        step=found.granted.step,
        index=found.granted.index,
        run=found.run,
        granted=found.granted.key,
        reviewer=reviewer,
        account=account,
        note=note,
    )
    try:
        journal.append(WORKSPACE_RUN, event, durable=True)
    except AlreadyRecorded:
        raise UsageError(f"{found.place} has been reviewed already") from None
    return event


def _check_reviewer(found: Emergency, reviewer: str, account: str, roles_of: Callable[[str], frozenset[str]]) -> None:
    """A second person: who might have approved, and neither did nor asked, under whatever name."""
    started, granted = found.started, found.granted
    own = {granted.approver, *((started.subjects.user, started.actor) if started else ())}
    accounts = {granted.account, *((started.account,) if started else ())}
    if reviewer in own or account in accounts or not reviewer.startswith("user:") or reviewer == "user:none":
        raise Refusal(
            "approval_invalid",
            f"{reviewer} may not review this: they approved it, or asked for it, or are no person",
            next_step="a second person must review it",
        )
    asked = {missing.role for missing in found.requested.missing} if found.requested else set[str]()
    if not (asked | {BREAK_GLASS}) & roles_of(reviewer):
        roles = " or ".join(sorted(asked | {BREAK_GLASS}))
        raise Refusal("approval_invalid", f"{reviewer} does not have {roles}")
