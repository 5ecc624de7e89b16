from .async_remit import AsyncRemit
from .imports import Imported, import_traces
from .remit import Remit
from .replays import open_trace_of, replay_trace, reviewed_graphs
from .requests import (
    Approved,
    Bound,
    WaitingApproval,
    bound_lines,
    find_request,
    reject,
    waiting_approvals_of,
    who_continues,
)
from .results import CallResult, Explanation, call_result
from .streams import AsyncRunStream, RunStream

__all__ = [
    "Approved",
    "AsyncRemit",
    "AsyncRunStream",
    "Bound",
    "CallResult",
    "Explanation",
    "Imported",
    "Remit",
    "RunStream",
    "WaitingApproval",
    "bound_lines",
    "call_result",
    "find_request",
    "import_traces",
    "open_trace_of",
    "reject",
    "replay_trace",
    "reviewed_graphs",
    "waiting_approvals_of",
    "who_continues",
]
