from .engine import NOBODY, Policy, load_policy
from .explanation import Weighed, disputed
from .reload import Watched, read_folder
from .run_scope import SUBJECT, narrowed, read_scope, scope_text
from .second_opinion import SecondOpinion

__all__ = [
    "NOBODY",
    "SUBJECT",
    "Policy",
    "SecondOpinion",
    "Watched",
    "Weighed",
    "disputed",
    "load_policy",
    "narrowed",
    "read_folder",
    "read_scope",
    "scope_text",
]
