from .adopted import Adoption, adopt_tools
from .agents import NewAgent, draft_agent
from .approved import ApprovedRule, rule_from_approval
from .call import CallToAllow, Patch, draft_for_call, recorded_call
from .changes import FileChange
from .observed import ActionWork, ObservedWork, SuggestedRules, observed_work
from .recorded import Draft, DraftCoverage, draft_rules
from .rows import CASES, RULES, added
from .toml_edit import with_enforced
from .tool import draft_for_tool

__all__ = [
    "CASES",
    "RULES",
    "ActionWork",
    "Adoption",
    "ApprovedRule",
    "CallToAllow",
    "Draft",
    "DraftCoverage",
    "FileChange",
    "NewAgent",
    "ObservedWork",
    "Patch",
    "SuggestedRules",
    "added",
    "adopt_tools",
    "draft_agent",
    "draft_for_call",
    "draft_for_tool",
    "draft_rules",
    "observed_work",
    "recorded_call",
    "rule_from_approval",
    "with_enforced",
]
