from .approvals_wait import ApprovalWaiter
from .assembly import agent_of, new_run_id, sanitizer_of, secrets_of
from .conversations import inside_of, next_run
from .custom_graph.driver import drive
from .custom_graph.parts import GraphParts, OfferedAction
from .graph import AgentGraph, CustomGraph
from .lifecycle import ExternalModel, OutsideRun, RunResult
from .live import LivePorts
from .memory_run import MemoryRun, run_in_memory
from .models.agents import open_fallbacks_of, open_model_of
from .models.model_list import ModelList
from .models.model_wait import ModelWait
from .one_call import (
    DryRuns,
    EarlierCall,
    OneCall,
    OutsideCall,
    advise,
    decide_call,
    request_of_call,
    result_labels,
)
from .resuming import Continuation, resume_obstacle
from .runner import EvaluatedRun, RunRequest, acting_subject, resume_run, start_run
from .upkeep.erasure import Erasable, erasable, erase_runs
from .upkeep.retention import prunable, prune, retention_seconds, seal_finished

__all__ = [
    "AgentGraph",
    "ApprovalWaiter",
    "Continuation",
    "CustomGraph",
    "DryRuns",
    "EarlierCall",
    "Erasable",
    "EvaluatedRun",
    "ExternalModel",
    "GraphParts",
    "LivePorts",
    "MemoryRun",
    "ModelList",
    "ModelWait",
    "OfferedAction",
    "OneCall",
    "OutsideCall",
    "OutsideRun",
    "RunRequest",
    "RunResult",
    "acting_subject",
    "advise",
    "agent_of",
    "decide_call",
    "drive",
    "erasable",
    "erase_runs",
    "inside_of",
    "new_run_id",
    "next_run",
    "open_fallbacks_of",
    "open_model_of",
    "prunable",
    "prune",
    "request_of_call",
    "result_labels",
    "resume_obstacle",
    "resume_run",
    "retention_seconds",
    "run_in_memory",
    "sanitizer_of",
    "seal_finished",
    "secrets_of",
    "start_run",
]
