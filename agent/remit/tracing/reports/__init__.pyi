from .anonymization import Declared, declared, replaced
from .audit import decision_as_csv, decision_as_json, decision_csv_header, decision_rows
from .failures import FORMS, Failing, find_failures, parse_failing
from .incident import Brief, brief
from .reconciliation import mend
from .run_diff import Compared, Cost, Difference, Files, compare, last_good
from .statistics import STATISTICS_EVENTS, ActionStatistics, tool_statistics
from .timeline import Approval, CallStory, Story, tell, utc
from .verification import verify

__all__ = [
    "FORMS",
    "STATISTICS_EVENTS",
    "ActionStatistics",
    "Approval",
    "Brief",
    "CallStory",
    "Compared",
    "Cost",
    "Declared",
    "Difference",
    "Failing",
    "Files",
    "Story",
    "brief",
    "compare",
    "decision_as_csv",
    "decision_as_json",
    "decision_csv_header",
    "decision_rows",
    "declared",
    "find_failures",
    "last_good",
    "mend",
    "parse_failing",
    "replaced",
    "tell",
    "tool_statistics",
    "utc",
    "verify",
]
