"""Events of approvals: requested, granted, rejected, revoked, refused, voided, reviewed.

Each names the decision digest to which it belongs, so an answer to an earlier request does not count for a later one.
"""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Literal

from pydantic import Field

from remit.core.calls import Json, MissingApproval
from remit.core.errors import Code
from remit.core.events.event import Event
from remit.core.principals import Principal


class ApprovalRequested(Event):
    """Records that people are asked to approve a call.

    `missing` are the approvals that are needed; with `break_glass`, one approval in `role:break-glass` replaces them. `summary`
    is the text that approvers read: Remit writes it from the canonical arguments, never the model. `expires_at` is in Unix
    nanoseconds. `facts` are the values of the facts that approvers were shown.
    """

    type: Literal["approval.requested"] = "approval.requested"
    step: int
    index: int
    decision_digest: str
    missing: tuple[MissingApproval, ...]
    summary: str
    expires_at: int
    break_glass: bool = False
    facts: dict[str, Json] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"approval.requested/{self.step}/{self.index}/{self.decision_digest}"


class _Answer(Event):
    """What one person answered."""

    by: Principal

    @property
    def approver(self) -> str:
        """The person: `user:ann`."""
        return self.by.subject


class ApprovalGranted(_Answer):
    """Records that one person approves in one role.

    In `role:break-glass`, `reason` is required and the approval counts only before `until` (Unix nanoseconds). `rapid` is True
    if the person approved several unlike calls within one minute.
    """

    type: Literal["approval.granted"] = "approval.granted"
    step: int
    index: int
    decision_digest: str
    role: str
    reason: str = ""
    until: int | None = None
    rapid: bool = False

    @property
    def scripted(self) -> bool:
        """True for an approval that the script of a demonstration gave."""
        return self.by.authenticated == "script"

    @property
    def key(self) -> str:
        return f"approval.granted/{self.step}/{self.index}/{self.decision_digest}/{self.approver}"


class ApprovalRejected(_Answer):
    """Records that one person rejects the call. One rejection is enough to refuse it."""

    type: Literal["approval.rejected"] = "approval.rejected"
    step: int
    index: int
    decision_digest: str
    reason: str

    @property
    def key(self) -> str:
        return f"approval.rejected/{self.step}/{self.index}/{self.decision_digest}"


class ApprovalRevoked(_Answer):
    """Records that a person withdraws an approval before the call was executed."""

    type: Literal["approval.revoked"] = "approval.revoked"
    step: int
    index: int
    decision_digest: str
    reason: str

    @property
    def key(self) -> str:
        return f"approval.revoked/{self.step}/{self.index}/{self.decision_digest}/{self.approver}"


class ApprovalRefused(_Answer):
    """Records that Remit refused an approval, a rejection or a withdrawal: the person may not give it, or it is too late.

    `number` counts from 1 for each call.
    """

    type: Literal["approval.refused"] = "approval.refused"
    step: int
    index: int
    number: int
    code: Code
    message: str

    @property
    def key(self) -> str:
        return f"approval.refused/{self.step}/{self.index}/{self.number}"


class ApprovalVoided(Event):
    """Records that an approval no longer counts: the request has changed, or its approver lost the role."""

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
    """Records that a second person reviewed an approval in `role:break-glass`.

    It is recorded in the run named `workspace`, because `run`, whose approval it was, may be finished. `granted` is the key of
    the approval.
    """

    type: Literal["break_glass.reviewed"] = "break_glass.reviewed"
    step: int
    index: int
    run: str
    granted: str
    by: Principal
    note: str

    @property
    def key(self) -> str:
        return f"break_glass.reviewed/{self.run}/{self.granted}"
