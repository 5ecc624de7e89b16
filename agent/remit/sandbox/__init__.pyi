from .file_grants import expand
from .guest.conformance import tried
from .guest.decoding import Action, Refused, described, validated
from .guest.serving import message_of, retry_after, snake_case
from .outcome import Output, exhausted, not_decoded, refused_by_validator
from .profile import OWN_FOLDER, Profile, Tier, argv
from .protocol import DECODE_SECONDS
from .read_digest import digest_of_reads
from .sandbox import OpenedCall, Sandbox, find_bwrap, probe
from .scratch import Scratch
from .syscall_observer import Observed, ObservedAccess

__all__ = [
    "DECODE_SECONDS",
    "OWN_FOLDER",
    "Action",
    "Observed",
    "ObservedAccess",
    "OpenedCall",
    "Output",
    "Profile",
    "Refused",
    "Sandbox",
    "Scratch",
    "Tier",
    "argv",
    "described",
    "digest_of_reads",
    "exhausted",
    "expand",
    "find_bwrap",
    "message_of",
    "not_decoded",
    "probe",
    "refused_by_validator",
    "retry_after",
    "snake_case",
    "tried",
    "validated",
]
