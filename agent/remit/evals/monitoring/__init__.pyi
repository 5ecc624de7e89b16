from .alerts import alert_of_drifts, close_alert, raise_alert
from .causes import NO_CAUSE, Definitions, causes
from .detector import Change, Observation, find_changes
from .drift import ONE_IN, Drift, find_drifts, finished_runs
from .measures import Measure, measures

__all__ = [
    "NO_CAUSE",
    "ONE_IN",
    "Change",
    "Definitions",
    "Drift",
    "Measure",
    "Observation",
    "alert_of_drifts",
    "causes",
    "close_alert",
    "find_changes",
    "find_drifts",
    "finished_runs",
    "measures",
    "raise_alert",
]
