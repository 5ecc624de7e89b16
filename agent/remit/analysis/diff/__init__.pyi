from .manifests import ManifestChange
from .permissions import PermissionDiff, permission_diff
from .policy import compare_policies
from .real_names import RealNames, names_in_cases, names_in_records, names_in_seeds, real_names_text, real_witnesses
from .revisions import PolicySource, open_source, working_tree
from .witnesses import boundary_text, facts_of, facts_text, find_denied_counterpart, rule_text, verify_witnesses

__all__ = [
    "ManifestChange",
    "PermissionDiff",
    "PolicySource",
    "RealNames",
    "boundary_text",
    "compare_policies",
    "facts_of",
    "facts_text",
    "find_denied_counterpart",
    "names_in_cases",
    "names_in_records",
    "names_in_seeds",
    "open_source",
    "permission_diff",
    "real_names_text",
    "real_witnesses",
    "rule_text",
    "verify_witnesses",
    "working_tree",
]
