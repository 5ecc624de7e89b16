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
    EndedRun,
    EvaluationSummary,
    RunQuery,
    alerts_in_force,
    approvals_in_state,
    count_alerts,
    count_approvals,
    count_runs,
    ended_runs,
    find_run,
    last_completed,
    list_evaluations,
    list_runs,
    resolve_run,
    used_bundles,
)
from .run_log import Log, MemoryLog, Record, StoredRecord, record_run
from .run_state import (
    ROLLOUT_STREAM,
    Circuit,
    InDoubt,
    InDoubtEffect,
    RolloutState,
    RunState,
    RunStatus,
    RunSummary,
    Tries,
    effect_digest,
    retry_key,
)
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
    "ROLLOUT_STREAM",
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
    "EndedRun",
    "EvaluationSummary",
    "InDoubt",
    "InDoubtEffect",
    "Journal",
    "Lease",
    "LiveRecord",
    "Log",
    "MemoryLog",
    "Record",
    "RolloutState",
    "RunQuery",
    "RunState",
    "RunStatus",
    "RunSummary",
    "StoredRecord",
    "Tries",
    "alerts_in_force",
    "apply_event",
    "approvals_in_state",
    "check_projections",
    "count_alerts",
    "count_approvals",
    "count_runs",
    "delete_run",
    "effect_digest",
    "ended_runs",
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
