from .agreement import check_agreement, disagreement
from .cases import Case, approver_named, read_cases, request_of
from .engine import Policy, load_policy
from .explanation import Evaluated, disputed
from .folder import (
    CASES,
    IN_FORCE,
    CaseTable,
    cases_beside,
    is_cases,
    is_rules,
    read_case_tables,
    read_cases_text,
    read_folder,
    rule_files,
    unread_files,
)
from .reload import PolicyWatcher
from .run_scope import SCOPE_FILE, SUBJECT, narrowed, policy_for, read_scope, scope_text, token_roles
from .second_opinion import SecondOpinion

__all__ = [
    "CASES",
    "IN_FORCE",
    "SCOPE_FILE",
    "SUBJECT",
    "Case",
    "CaseTable",
    "Evaluated",
    "Policy",
    "PolicyWatcher",
    "SecondOpinion",
    "approver_named",
    "cases_beside",
    "check_agreement",
    "disagreement",
    "disputed",
    "is_cases",
    "is_rules",
    "load_policy",
    "narrowed",
    "policy_for",
    "read_case_tables",
    "read_cases",
    "read_cases_text",
    "read_folder",
    "read_scope",
    "request_of",
    "rule_files",
    "scope_text",
    "token_roles",
    "unread_files",
]
