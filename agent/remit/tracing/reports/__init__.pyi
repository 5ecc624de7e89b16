from .anonymization import KeptWords, anonymized, declared
from .audit import decision_as_csv, decision_as_json, decision_csv_header, decision_rows
from .failures import FORMS, FailureSelector, find_failures, parse_failure_selector
from .incident import IncidentReport, incident_report
from .reconciliation import reconcile
from .run_diff import Cost, Files, RunDiff, RunDifference, diff_runs, last_good
from .statistics import STATISTICS_EVENTS, ActionStatistics, tool_statistics
from .timeline import Approval, CallTimeline, Timeline, build_timeline, utc
from .verification import verify

__all__ = [
    "FORMS",
    "STATISTICS_EVENTS",
    "ActionStatistics",
    "Approval",
    "CallTimeline",
    "Cost",
    "FailureSelector",
    "Files",
    "IncidentReport",
    "KeptWords",
    "RunDiff",
    "RunDifference",
    "Timeline",
    "anonymized",
    "build_timeline",
    "decision_as_csv",
    "decision_as_json",
    "decision_csv_header",
    "decision_rows",
    "declared",
    "diff_runs",
    "find_failures",
    "incident_report",
    "last_good",
    "parse_failure_selector",
    "reconcile",
    "tool_statistics",
    "utc",
    "verify",
]
