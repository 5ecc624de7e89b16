from .engine import NOBODY, Policy, load_policy
from .reload import Watched, read_folder
from .run_scope import SUBJECT, narrowed, read_scope, scope_text

__all__ = [
    "NOBODY",
    "SUBJECT",
    "Policy",
    "Watched",
    "load_policy",
    "narrowed",
    "read_folder",
    "read_scope",
    "scope_text",
]
