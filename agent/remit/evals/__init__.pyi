from .baseline import BASELINE, read_baseline, write_baseline
from .comparisons import backtest, comparisons_of, play_finished_runs
from .definitions import Changes, matrix
from .player import Selection, play, record_evaluation
from .results import Check, Evaluation, Grade, GradeOutcome, ScenarioInfo, Variant
from .rollouts import LEAST, Plan, open_for, widen
from .scenarios import Scenario, check_scenarios, read_scenarios
from .stored import read_evaluation
from .worlds import World

__all__ = [
    "BASELINE",
    "LEAST",
    "Changes",
    "Check",
    "Evaluation",
    "Grade",
    "GradeOutcome",
    "Plan",
    "Scenario",
    "ScenarioInfo",
    "Selection",
    "Variant",
    "World",
    "backtest",
    "check_scenarios",
    "comparisons_of",
    "matrix",
    "open_for",
    "play",
    "play_finished_runs",
    "read_baseline",
    "read_evaluation",
    "read_scenarios",
    "record_evaluation",
    "widen",
    "write_baseline",
]
