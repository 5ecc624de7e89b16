from .definitions import Changes, matrix
from .player import Selection, play, record_evaluation
from .results import Check, Evaluation, Grade, GradeOutcome, ScenarioInfo, Variant
from .scenarios import Scenario, read_scenarios
from .stored import read_evaluation
from .verdict import failures

__all__ = [
    "Changes",
    "Check",
    "Evaluation",
    "Grade",
    "GradeOutcome",
    "Scenario",
    "ScenarioInfo",
    "Selection",
    "Variant",
    "failures",
    "matrix",
    "play",
    "read_evaluation",
    "read_scenarios",
    "record_evaluation",
]
