from .bounded import narrowest_condition, scope_lines, scope_of
from .break_glass import emergencies, review
from .like import Difference, SimilarApproval, like_approvals, similar_approvals
from .requests import (
    Approval,
    Instead,
    approval_expired,
    approved_within_a_minute,
    grant_approval,
    only_role,
    open_approval,
    refusal_recorded,
    reject_approval,
    revoke_approval,
    waiting_approvals,
)
from .summary import GUTTER, WIDTH, approval_summary, plain, shown_facts, wrapped

__all__ = [
    "GUTTER",
    "WIDTH",
    "Approval",
    "Difference",
    "Instead",
    "SimilarApproval",
    "approval_expired",
    "approval_summary",
    "approved_within_a_minute",
    "emergencies",
    "grant_approval",
    "like_approvals",
    "narrowest_condition",
    "only_role",
    "open_approval",
    "plain",
    "refusal_recorded",
    "reject_approval",
    "review",
    "revoke_approval",
    "scope_lines",
    "scope_of",
    "shown_facts",
    "similar_approvals",
    "waiting_approvals",
    "wrapped",
]
