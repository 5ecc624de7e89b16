from .approved import ApprovedRule, rule_from_approval
from .call import CallToAllow, Patch, draft_for_call, recorded_call
from .observed import ActionWork, ObservedWork, SuggestedRules, observed_work
from .recorded import Draft, DraftCoverage, draft_rules
from .rows import CASES, RULES, added
from .toml_edit import with_enforced
from .tool import draft_for_tool

__all__ = [
    "CASES",
    "RULES",
    "ActionWork",
    "ApprovedRule",
    "CallToAllow",
    "Draft",
    "DraftCoverage",
    "ObservedWork",
    "Patch",
    "SuggestedRules",
    "added",
    "draft_for_call",
    "draft_for_tool",
    "draft_rules",
    "observed_work",
    "recorded_call",
    "rule_from_approval",
    "with_enforced",
]
