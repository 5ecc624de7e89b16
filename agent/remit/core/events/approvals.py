"""Events of approvals: requested, granted, rejected, revoked, refused, void, reviewed."""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Literal

from pydantic import Field

from remit.core.calls import Json, MissingApproval
from remit.core.errors import Code
from remit.core.events.event import Event


class ApprovalRequested(Event):
    """People are asked. `summary` is rendered from canonical arguments, never written by the model.

    With `break_glass`, one approval in `role:break-glass` would do in place of those in `missing`.
    """

    type: Literal["approval.requested"] = "approval.requested"
    step: int
    index: int
    decision_digest: str
    missing: tuple[MissingApproval, ...]
    summary: str
    expires_at: int  # Unix nanoseconds
    break_glass: bool = False
    facts: dict[str, Json] = Field(default_factory=dict)  # what rules read of the run, as people were shown it

    @property
    def key(self) -> str:
        return f"approval.requested/{self.step}/{self.index}/{self.decision_digest}"


class ApprovalGranted(Event):
    """One person grants in one role. `scripted` marks an approval that a demonstration script gave.

    In `role:break-glass` there is a `reason`, and the approval counts before `until` (Unix nanoseconds) only.
    """

    type: Literal["approval.granted"] = "approval.granted"
    step: int
    index: int
    decision_digest: str
    approver: str
    role: str
    account: str
    scripted: bool = False
    reason: str = ""
    until: int | None = None
    hasty: bool = False  # after other approvals of unlike calls, all within a minute

    @property
    def key(self) -> str:
        return f"approval.granted/{self.step}/{self.index}/{self.decision_digest}/{self.approver}"


class ApprovalRejected(Event):
    """One person rejects."""

    type: Literal["approval.rejected"] = "approval.rejected"
    step: int
    index: int
    decision_digest: str
    approver: str
    account: str
    reason: str

    @property
    def key(self) -> str:
        return f"approval.rejected/{self.step}/{self.index}/{self.decision_digest}"


class ApprovalRevoked(Event):
    """A person takes their approval back, before the call has been carried out."""

    type: Literal["approval.revoked"] = "approval.revoked"
    step: int
    index: int
    decision_digest: str
    approver: str
    account: str
    reason: str

    @property
    def key(self) -> str:
        return f"approval.revoked/{self.step}/{self.index}/{self.decision_digest}/{self.approver}"


class ApprovalRefused(Event):
    """Somebody tried to approve, reject or revoke, and may not, or came too late. `number` counts from 1."""

    type: Literal["approval.refused"] = "approval.refused"
    step: int
    index: int
    number: int
    approver: str
    account: str
    code: Code
    message: str

    @property
    def key(self) -> str:
        return f"approval.refused/{self.step}/{self.index}/{self.number}"


class ApprovalVoided(Event):
    """An approval that was given counts no more: the question has changed, or its giver's role is gone."""

    type: Literal["approval.voided"] = "approval.voided"
    step: int
    index: int
    decision_digest: str
    approver: str
    code: Code
    reason: str

    @property
    def key(self) -> str:
        return f"approval.voided/{self.step}/{self.index}/{self.decision_digest}/{self.approver}"


class BreakGlassReviewed(Event):
    """A second person has looked at an approval in `role:break-glass`. Recorded in the run named `workspace`: `run` may be over."""

    type: Literal["break_glass.reviewed"] = "break_glass.reviewed"
    step: int
    index: int
    run: str
    granted: str  # the key of the approval
    reviewer: str
    account: str
    note: str

    @property
    def key(self) -> str:
        return f"break_glass.reviewed/{self.run}/{self.granted}"
