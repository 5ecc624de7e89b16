from .agreement import check_agreement, disagreement
from .cases import Case, read_cases, request_of
from .engine import Policy, load_policy
from .explanation import Evaluated, disputed
from .folder import CASES, IN_FORCE, read_cases_text, read_folder, unread_files
from .reload import PolicyWatcher
from .run_scope import SCOPE_FILE, SUBJECT, narrowed, read_scope, scope_text
from .second_opinion import SecondOpinion

__all__ = [
    "CASES",
    "IN_FORCE",
    "SCOPE_FILE",
    "SUBJECT",
    "Case",
    "Evaluated",
    "Policy",
    "PolicyWatcher",
    "SecondOpinion",
    "check_agreement",
    "disagreement",
    "disputed",
    "load_policy",
    "narrowed",
    "read_cases",
    "read_cases_text",
    "read_folder",
    "read_scope",
    "request_of",
    "scope_text",
    "unread_files",
]
