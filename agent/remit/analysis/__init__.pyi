from .approved_rule import ApprovedRule, rule_from_approval
from .backtest import RecordedDecision, backtest_rules, recorded_decisions
from .cases import Coverage, PolicyCaseResult, find_uncovered, run_cases
from .drafting import Draft, DraftCoverage, draft_rules
from .formatting import format_rules
from .lint import LintFinding, lint_rules
from .mutation import OPERATORS, MutationScore, score_mutants
from .observed import ActionWork, ObservedWork, SuggestedRules, added, observed_work
from .queries import Holder, Permission, RequiredApprovers, find_holders, list_permissions
from .suggestion import draft_policy, suggest_rules
from .workspace_check import check_workspace, edit_workspace

__all__ = [
    "OPERATORS",
    "ActionWork",
    "ApprovedRule",
    "Coverage",
    "Draft",
    "DraftCoverage",
    "Holder",
    "LintFinding",
    "MutationScore",
    "ObservedWork",
    "Permission",
    "PolicyCaseResult",
    "RecordedDecision",
    "RequiredApprovers",
    "SuggestedRules",
    "added",
    "backtest_rules",
    "check_workspace",
    "draft_policy",
    "draft_rules",
    "edit_workspace",
    "find_holders",
    "find_uncovered",
    "format_rules",
    "lint_rules",
    "list_permissions",
    "observed_work",
    "recorded_decisions",
    "rule_from_approval",
    "run_cases",
    "score_mutants",
    "suggest_rules",
]
