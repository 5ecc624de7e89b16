from .anonymization import KeptWords, anonymize_run, declared_words
from .approvals import answer_lines, emergency_lines, needs_text
from .audit import decision_as_csv, decision_as_json, decision_csv_header, decision_rows
from .failures import SELECTOR_FORMS, FailureSelector, find_failures, parse_failure_selector
from .incident import IncidentReport, incident_report
from .reconciliation import reconcile
from .run_diff import BundleFiles, RunCost, RunDiff, RunDifference, diff_runs, last_good_run
from .statistics import ActionStatistics, percentile, tool_statistics
from .timeline import (
    UNRECORDED_EFFECTS,
    AttemptTimeline,
    CallTimeline,
    FailedRequest,
    Timeline,
    TimelineTurn,
    build_timeline,
    failed_request_text,
    model_wait_text,
    resumed_text,
    unended_text,
    utc,
)
from .verification import passkey_faults, verify

__all__ = [
    "SELECTOR_FORMS",
    "UNRECORDED_EFFECTS",
    "ActionStatistics",
    "AttemptTimeline",
    "BundleFiles",
    "CallTimeline",
    "FailedRequest",
    "FailureSelector",
    "IncidentReport",
    "KeptWords",
    "RunCost",
    "RunDiff",
    "RunDifference",
    "Timeline",
    "TimelineTurn",
    "anonymize_run",
    "answer_lines",
    "build_timeline",
    "decision_as_csv",
    "decision_as_json",
    "decision_csv_header",
    "decision_rows",
    "declared_words",
    "diff_runs",
    "emergency_lines",
    "failed_request_text",
    "find_failures",
    "incident_report",
    "last_good_run",
    "model_wait_text",
    "needs_text",
    "parse_failure_selector",
    "passkey_faults",
    "percentile",
    "reconcile",
    "resumed_text",
    "tool_statistics",
    "unended_text",
    "utc",
    "verify",
]
