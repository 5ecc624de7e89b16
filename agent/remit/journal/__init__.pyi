from .conversation import Conversation
from .hash_chain import Chain, Fault, Link, link, link_of, verify_chain
from .reducer import apply_event
from .run_lock import DRIVEN, driving, is_driven
from .run_log import Log, MemoryLog, Record
from .run_state import Doubt, RunState, RunSummary, Tries, effect_digest, meant
from .store import WORKSPACE_RUN, AlreadyRecorded, Journal
from .withholding import OWN_DETAILS

__all__ = [
    "DRIVEN",
    "OWN_DETAILS",
    "WORKSPACE_RUN",
    "AlreadyRecorded",
    "Chain",
    "Conversation",
    "Doubt",
    "Fault",
    "Journal",
    "Link",
    "Log",
    "MemoryLog",
    "Record",
    "RunState",
    "RunSummary",
    "Tries",
    "apply_event",
    "driving",
    "effect_digest",
    "is_driven",
    "link",
    "link_of",
    "meant",
    "verify_chain",
]
