from .content_omission import OWN_DETAILS
from .conversation import Conversation
from .hash_chain import Chain, ChainFault, ChainLink, link, link_of, verify_chain
from .reducer import apply_event
from .run_lock import RUN_LOCKED, is_run_locked, lock_run
from .run_log import Log, MemoryLog, Record
from .run_state import InDoubtEffect, RunState, RunSummary, Tries, effect_digest, retry_key
from .store import WORKSPACE_RUN, AlreadyRecorded, Journal

__all__ = [
    "OWN_DETAILS",
    "RUN_LOCKED",
    "WORKSPACE_RUN",
    "AlreadyRecorded",
    "Chain",
    "ChainFault",
    "ChainLink",
    "Conversation",
    "InDoubtEffect",
    "Journal",
    "Log",
    "MemoryLog",
    "Record",
    "RunState",
    "RunSummary",
    "Tries",
    "apply_event",
    "effect_digest",
    "is_run_locked",
    "link",
    "link_of",
    "lock_run",
    "retry_key",
    "verify_chain",
]
