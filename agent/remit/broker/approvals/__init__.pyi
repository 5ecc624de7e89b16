from .break_glass import emergencies, review
from .requests import (
    Approval,
    approval_expired,
    approved_within_a_minute,
    grant_approval,
    reject_approval,
    revoke_approval,
    waiting_approvals,
)
from .summary import GUTTER, WIDTH, approval_summary, shown_facts, wrapped

__all__ = [
    "GUTTER",
    "WIDTH",
    "Approval",
    "approval_expired",
    "approval_summary",
    "approved_within_a_minute",
    "emergencies",
    "grant_approval",
    "reject_approval",
    "review",
    "revoke_approval",
    "shown_facts",
    "waiting_approvals",
    "wrapped",
]
