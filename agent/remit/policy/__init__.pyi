from .engine import NOBODY, Policy, load_policy
from .explanation import Weighed
from .reload import Watched, read_folder
from .run_scope import SUBJECT, narrowed, read_scope, scope_text

__all__ = [
    "NOBODY",
    "SUBJECT",
    "Policy",
    "Watched",
    "Weighed",
    "load_policy",
    "narrowed",
    "read_folder",
    "read_scope",
    "scope_text",
]
