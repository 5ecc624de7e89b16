from .baseline import baseline_file, read_baseline, write_baseline
from .comparisons import backtest, comparisons_of, play_finished_runs
from .definitions import Changes, matrix
from .judges import Judge, check_scenarios, judging_task, read_judge
from .player import Selection, play, record_evaluation
from .results import Check, Evaluation, Grade, GradeOutcome, ScenarioInfo, Variant
from .rollouts import LEAST, RolloutPlan, open_for, widen
from .scenarios import Scenario, read_scenarios
from .stored import read_evaluation
from .worlds import World

__all__ = [
    "LEAST",
    "Changes",
    "Check",
    "Evaluation",
    "Grade",
    "GradeOutcome",
    "Judge",
    "RolloutPlan",
    "Scenario",
    "ScenarioInfo",
    "Selection",
    "Variant",
    "World",
    "backtest",
    "baseline_file",
    "check_scenarios",
    "comparisons_of",
    "judging_task",
    "matrix",
    "open_for",
    "play",
    "play_finished_runs",
    "read_baseline",
    "read_evaluation",
    "read_judge",
    "read_scenarios",
    "record_evaluation",
    "widen",
    "write_baseline",
]
