"""Events of approvals: requested, granted, rejected, revoked, refused, voided, reviewed.

Each names the decision digest to which it belongs, so an answer to an earlier request does not count for a later one.
"""

# pyright: reportIncompatibleVariableOverride=false, reportGeneralTypeIssues=false
# A subclass that requires `step` narrows a field of the base, which is sound because events are frozen.

from __future__ import annotations

from typing import Literal

from pydantic import Field

from remit.core.calls import Escalation, FrozenModel, Json, MissingApproval, ProposedCall
from remit.core.errors import Code
from remit.core.events.event import Event
from remit.core.events.passkeys import PasskeyProof
from remit.core.principals import Principal


class ApprovalRequested(Event):
    """Records that people are asked to approve a call.

    `missing` are the approvals that are needed; with `break_glass`, one approval in `role:break-glass` replaces them, and one in a
    role of `escalations` once nobody has answered for its time. `summary`
    is the text that approvers read: Remit writes it from the canonical arguments, never the model. `expires_at` is in Unix
    nanoseconds. `facts` are the values of the facts that approvers were shown. `number` counts the requests about that decision
    from 1: after a change of the rules and back, people are asked again.
    """

    type: Literal["approval.requested"] = "approval.requested"
    step: int
    index: int
    decision_digest: str
    missing: tuple[MissingApproval, ...]
    summary: str
    expires_at: int
    break_glass: bool = False
    escalations: tuple[Escalation, ...] = ()
    facts: dict[str, Json] = Field(default_factory=dict)
    number: int = 1

    @property
    def key(self) -> str:
        return f"approval.requested/{self.step}/{self.index}/{self.decision_digest}/{self.number}"


class _Answer(Event):
    """What one person answered.

    `via` identifies what brought it: the answer to an interrupt of an external graph, or the MCP client, as `mcp:NAME`; "": none.
    """

    by: Principal
    via: str = ""

    @property
    def approver(self) -> str:
        """The person: `user:ann`."""
        return self.by.subject


class GrantScope(FrozenModel):
    """Records which further calls of the run an approval covers too: at most `more`, of the same action and with the same facts.

    Each resource of such a call must be covered by a pattern of `resources`; `condition`, in the language of the rules, must hold for
    its arguments. Without patterns, only a call that touches nothing is covered.
    """

    more: int
    resources: tuple[str, ...]
    condition: str


class ApprovalGranted(_Answer):
    """Records that one person approves in one role.

    In `role:break-glass`, `reason` is required and the approval counts only before `until` (Unix nanoseconds). `rapid` is True
    if the person approved several unlike calls within one minute. `number` counts the approvals of that person from 1: one that
    was revoked may be given again. With `scope`, further calls of the run are approved too, until `until`. Such an approval of a
    further call names the key of the approval that covers it in `under`. `passkey` is the signature of a passkey of that person, None
    without one.
    """

    type: Literal["approval.granted"] = "approval.granted"
    step: int
    index: int
    decision_digest: str
    role: str
    reason: str = ""
    until: int | None = None
    rapid: bool = False
    number: int = 1
    scope: GrantScope | None = None
    under: str = ""
    passkey: PasskeyProof | None = None

    @property
    def scripted(self) -> bool:
        """True for an approval that the script of a demonstration gave."""
        return self.by.authenticated == "script"

    @property
    def key(self) -> str:
        return f"approval.granted/{self.step}/{self.index}/{self.decision_digest}/{self.approver}/{self.number}"


class ApprovalRejected(_Answer):
    """Records that one person rejects the call. One rejection is enough to refuse it.

    `response` is what the person answers in place of the tool, `edited` the call that the person makes in its place; None: neither.
    """

    type: Literal["approval.rejected"] = "approval.rejected"
    step: int
    index: int
    decision_digest: str
    reason: str
    response: str | None = None
    edited: ProposedCall | None = None

    @property
    def key(self) -> str:
        return f"approval.rejected/{self.step}/{self.index}/{self.decision_digest}"


class ApprovalRevoked(_Answer):
    """Records that a person withdraws an approval before the call was executed; `number` is that of the approval."""

    type: Literal["approval.revoked"] = "approval.revoked"
    step: int
    index: int
    decision_digest: str
    reason: str
    number: int = 1

    @property
    def key(self) -> str:
        return f"approval.revoked/{self.step}/{self.index}/{self.decision_digest}/{self.approver}/{self.number}"


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
    """Records that an approval no longer counts: the request has changed, its approver lost the role, or its time is over.

    `number` is that of the approval.
    """

    type: Literal["approval.voided"] = "approval.voided"
    step: int
    index: int
    decision_digest: str
    approver: str
    code: Code
    reason: str
    number: int = 1

    @property
    def key(self) -> str:
        return f"approval.voided/{self.step}/{self.index}/{self.decision_digest}/{self.approver}/{self.number}"


class BreakGlassReviewed(_Answer):
    """Records that a second person reviewed an approval in `role:break-glass`; `granted` is the key of that approval.

    It may come after the end of the run.
    """

    type: Literal["break_glass.reviewed"] = "break_glass.reviewed"
    step: int
    index: int
    granted: str
    note: str

    @property
    def key(self) -> str:
        return f"break_glass.reviewed/{self.step}/{self.index}/{self.granted}"
