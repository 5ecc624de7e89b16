from .approvals_wait import ApprovalWaiter
from .assembly import new_run_id, open_model_of
from .graph import AgentGraph, drive
from .lifecycle import RunResult
from .live import LivePorts
from .memory_run import MemoryRun, run_in_memory
from .one_call import OneCall, decide_call, explain_call
from .retention import prunable, prune, retention_seconds
from .runner import RunRequest, acting_subject, resume_run, start_run

__all__ = [
    "AgentGraph",
    "ApprovalWaiter",
    "LivePorts",
    "MemoryRun",
    "OneCall",
    "RunRequest",
    "RunResult",
    "acting_subject",
    "decide_call",
    "drive",
    "explain_call",
    "new_run_id",
    "open_model_of",
    "prunable",
    "prune",
    "resume_run",
    "retention_seconds",
    "run_in_memory",
    "start_run",
]
