from .anonymization import Declared, declared, replaced
from .audit import decision_as_csv, decision_as_json, decision_csv_header, decision_rows
from .failures import FORMS, Failing, find_failures, parse_failing
from .incident import IncidentReport, incident_report
from .reconciliation import reconcile
from .run_diff import Compared, Cost, Difference, Files, compare, last_good
from .statistics import STATISTICS_EVENTS, ActionStatistics, tool_statistics
from .timeline import Approval, CallTimeline, Timeline, tell, utc
from .verification import verify

__all__ = [
    "FORMS",
    "STATISTICS_EVENTS",
    "ActionStatistics",
    "Approval",
    "CallTimeline",
    "Compared",
    "Cost",
    "Declared",
    "Difference",
    "Failing",
    "Files",
    "IncidentReport",
    "Timeline",
    "compare",
    "decision_as_csv",
    "decision_as_json",
    "decision_csv_header",
    "decision_rows",
    "declared",
    "find_failures",
    "incident_report",
    "last_good",
    "parse_failing",
    "reconcile",
    "replaced",
    "tell",
    "tool_statistics",
    "utc",
    "verify",
]
