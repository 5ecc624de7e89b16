from .file_grants import expand
from .guest.serving import described, message_of, retry_after, snake_case
from .outcome import Output, exhausted
from .profile import OWN_FOLDER, Profile, Tier, argv
from .sandbox import Sandbox, find_bwrap, probe
from .scratch import Scratch
from .syscall_observer import Observed, ObservedAccess

__all__ = [
    "OWN_FOLDER",
    "Observed",
    "ObservedAccess",
    "Output",
    "Profile",
    "Sandbox",
    "Scratch",
    "Tier",
    "argv",
    "described",
    "exhausted",
    "expand",
    "find_bwrap",
    "message_of",
    "probe",
    "retry_after",
    "snake_case",
]
