from .adopted import Adoption, adopt_tools
from .agents import NewAgent, draft_agent, draft_use
from .approved import ApprovedRule, rule_from_approval
from .call import CallToAllow, NotByRules, Patch, draft_for_call, recorded_call
from .changes import FileChange, diff_of
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
    "NotByRules",
    "ObservedWork",
    "Patch",
    "SuggestedRules",
    "added",
    "adopt_tools",
    "diff_of",
    "draft_agent",
    "draft_for_call",
    "draft_for_tool",
    "draft_rules",
    "draft_use",
    "observed_work",
    "recorded_call",
    "rule_from_approval",
    "with_enforced",
]
