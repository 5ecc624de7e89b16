from .backtest import backtest_rules, recorded_decisions
from .cases import Coverage, PolicyCaseResult, run_cases, uncovered
from .formatting import formatted
from .lint import LintFinding, lint_rules
from .mutation import OPERATORS, Score, score
from .queries import Holder, Permission, RequiredApprovers, can, who
from .suggestion import first_policy, suggest
from .workspace_check import check_workspace

__all__ = [
    "OPERATORS",
    "Coverage",
    "Holder",
    "LintFinding",
    "Permission",
    "PolicyCaseResult",
    "RequiredApprovers",
    "Score",
    "backtest_rules",
    "can",
    "check_workspace",
    "first_policy",
    "formatted",
    "lint_rules",
    "recorded_decisions",
    "run_cases",
    "score",
    "suggest",
    "uncovered",
    "who",
]
