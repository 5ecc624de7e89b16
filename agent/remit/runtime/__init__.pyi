from .approvals_wait import ApprovalWaiter
from .assembly import new_run_id, open_model_of
from .graph import Agency, drive, forgotten
from .lifecycle import Ended
from .live import LivePorts
from .one_call import OneCall, decide_call
from .retention import prunable, prune, retention_seconds
from .runner import Start, acting_subject, resume_run, start_run

__all__ = [
    "Agency",
    "ApprovalWaiter",
    "Ended",
    "LivePorts",
    "OneCall",
    "Start",
    "acting_subject",
    "decide_call",
    "drive",
    "forgotten",
    "new_run_id",
    "open_model_of",
    "prunable",
    "prune",
    "resume_run",
    "retention_seconds",
    "start_run",
]
