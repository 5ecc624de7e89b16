from .baseline import BASELINE, read_baseline, write_baseline
from .definitions import Changes, matrix
from .player import Selection, play, record_evaluation
from .results import Check, Evaluation, Grade, GradeOutcome, ScenarioInfo, Variant
from .scenarios import Scenario, check_scenarios, read_scenarios
from .stored import read_evaluation
from .worlds import World

__all__ = [
    "BASELINE",
    "Changes",
    "Check",
    "Evaluation",
    "Grade",
    "GradeOutcome",
    "Scenario",
    "ScenarioInfo",
    "Selection",
    "Variant",
    "World",
    "check_scenarios",
    "matrix",
    "play",
    "read_baseline",
    "read_evaluation",
    "read_scenarios",
    "record_evaluation",
    "write_baseline",
]
