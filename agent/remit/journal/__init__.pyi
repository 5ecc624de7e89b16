from .content_omission import OWN_DETAILS
from .conversation import Conversation
from .hash_chain import Chain, ChainFault, ChainLink, link, link_of, verify_chain
from .lease import RUN_LOCKED, Lease
from .live_record import LiveRecord
from .opening import open_journal
from .projections import CIRCUIT_STREAM, EVALUATION_STREAM, SHARED, WORKSPACE_RUN
from .reducer import apply_event
from .run_list import (
    LIVE_RUNS,
    EvaluationSummary,
    RunQuery,
    approvals_in_state,
    count_approvals,
    count_runs,
    find_run,
    last_completed,
    list_evaluations,
    list_runs,
    resolve_run,
    used_bundles,
)
from .run_log import Log, MemoryLog, Record, StoredRecord, record_run
from .run_state import Circuit, InDoubt, InDoubtEffect, RunState, RunStatus, RunSummary, Tries, effect_digest, retry_key
from .store import AlreadyRecorded, Journal
from .upkeep.check import Difference, check_projections, rebuild_projections
from .upkeep.deletion import delete_run, release_space
from .upkeep.erasure import erase, forget_deleted
from .upkeep.sealing import seal_run, unsealed_runs

__all__ = [
    "CIRCUIT_STREAM",
    "EVALUATION_STREAM",
    "LIVE_RUNS",
    "OWN_DETAILS",
    "RUN_LOCKED",
    "SHARED",
    "WORKSPACE_RUN",
    "AlreadyRecorded",
    "Chain",
    "ChainFault",
    "ChainLink",
    "Circuit",
    "Conversation",
    "Difference",
    "EvaluationSummary",
    "InDoubt",
    "InDoubtEffect",
    "Journal",
    "Lease",
    "LiveRecord",
    "Log",
    "MemoryLog",
    "Record",
    "RunQuery",
    "RunState",
    "RunStatus",
    "RunSummary",
    "StoredRecord",
    "Tries",
    "apply_event",
    "approvals_in_state",
    "check_projections",
    "count_approvals",
    "count_runs",
    "delete_run",
    "effect_digest",
    "erase",
    "find_run",
    "forget_deleted",
    "last_completed",
    "link",
    "link_of",
    "list_evaluations",
    "list_runs",
    "open_journal",
    "rebuild_projections",
    "record_run",
    "release_space",
    "resolve_run",
    "retry_key",
    "seal_run",
    "unsealed_runs",
    "used_bundles",
    "verify_chain",
]
