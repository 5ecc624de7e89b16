from .results import Check, Evaluation, Grade, GradeOutcome, ScenarioInfo, Variant
from .rollouts import LEAST, Plan, backtest, comparisons, open_for, recent_runs, widen

__all__ = [
    "LEAST",
    "Check",
    "Evaluation",
    "Grade",
    "GradeOutcome",
    "Plan",
    "ScenarioInfo",
    "Variant",
    "backtest",
    "comparisons",
    "open_for",
    "recent_runs",
    "widen",
]
