from .file_grants import expand, stores_of
from .guest.conformance import described, tried
from .guest.decoding import Action, Refused, validated
from .guest.serving import gathered, message_of, retry_after, snake_case
from .live.speaker import KeptStream, Reply, SessionLost, Speaker
from .network_handover import CallContext
from .outcome import Output, exhausted, not_decoded, refused_by_validator
from .profile import OWN_FOLDER, PACKAGES_FOLDER, SCRATCH_BYTES, SERVER_FILES, Profile, Tier, argv
from .protocol import DECODE_SECONDS
from .read_digest import digest_of_reads
from .sandbox import OpenedCall, Sandbox, close_shared
from .scratch import Scratch, read_beneath
from .selfcheck.bubblewrap import find_bwrap
from .selfcheck.tiers import probe
from .syscall_observer import Observed, ObservedAccess

__all__ = [
    "DECODE_SECONDS",
    "OWN_FOLDER",
    "PACKAGES_FOLDER",
    "SCRATCH_BYTES",
    "SERVER_FILES",
    "Action",
    "CallContext",
    "KeptStream",
    "Observed",
    "ObservedAccess",
    "OpenedCall",
    "Output",
    "Profile",
    "Refused",
    "Reply",
    "Sandbox",
    "Scratch",
    "SessionLost",
    "Speaker",
    "Tier",
    "argv",
    "close_shared",
    "described",
    "digest_of_reads",
    "exhausted",
    "expand",
    "find_bwrap",
    "gathered",
    "message_of",
    "not_decoded",
    "probe",
    "read_beneath",
    "refused_by_validator",
    "retry_after",
    "snake_case",
    "stores_of",
    "tried",
    "validated",
]
