from .baseline import BASELINE, read_baseline, write_baseline
from .results import Check, Evaluation, Grade, GradeOutcome, ScenarioInfo, Variant

__all__ = [
    "BASELINE",
    "Check",
    "Evaluation",
    "Grade",
    "GradeOutcome",
    "ScenarioInfo",
    "Variant",
    "read_baseline",
    "write_baseline",
]
