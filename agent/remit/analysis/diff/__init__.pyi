from .manifests import ManifestChange
from .permissions import PermissionDiff, permission_diff
from .policy import difference
from .revisions import open_source, working_tree
from .witnesses import counterpart, facts_of, facts_text, rule_text, verify_witness

__all__ = [
    "ManifestChange",
    "PermissionDiff",
    "counterpart",
    "difference",
    "facts_of",
    "facts_text",
    "open_source",
    "permission_diff",
    "rule_text",
    "verify_witness",
    "working_tree",
]
