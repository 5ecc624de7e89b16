from .alerts import alert_of_drifts, alert_of_targets, close_alert
from .causes import NO_CAUSE, Definitions, causes
from .detector import Change, Observation, find_changes
from .drift import Drift, find_drifts, finished_runs
from .measures import Measure, measures, seconds
from .targets import RUNS, TargetResult, compare_with_targets, forecast

__all__ = [
    "NO_CAUSE",
    "RUNS",
    "Change",
    "Definitions",
    "Drift",
    "Measure",
    "Observation",
    "TargetResult",
    "alert_of_drifts",
    "alert_of_targets",
    "causes",
    "close_alert",
    "compare_with_targets",
    "find_changes",
    "find_drifts",
    "finished_runs",
    "forecast",
    "measures",
    "seconds",
]
