from .manifests import ManifestChange
from .permissions import PermissionDiff, permission_diff
from .policy import compare_policies
from .revisions import PolicySource, open_source, working_tree
from .witnesses import facts_of, facts_text, find_denied_counterpart, rule_text, verify_witnesses

__all__ = [
    "ManifestChange",
    "PermissionDiff",
    "PolicySource",
    "compare_policies",
    "facts_of",
    "facts_text",
    "find_denied_counterpart",
    "open_source",
    "permission_diff",
    "rule_text",
    "verify_witnesses",
    "working_tree",
]
