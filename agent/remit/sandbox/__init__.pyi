from .file_grants import expand
from .guest.serving import described, retry_after, snake_case, words_of
from .outcome import Output, exhausted
from .profile import OWN_FOLDER, Profile, Tier, argv
from .sandbox import Sandbox, find_bwrap, probe
from .scratch import Scratch
from .syscall_observer import Observed, Seen

__all__ = [
    "OWN_FOLDER",
    "Observed",
    "Output",
    "Profile",
    "Sandbox",
    "Scratch",
    "Seen",
    "Tier",
    "argv",
    "described",
    "exhausted",
    "expand",
    "find_bwrap",
    "probe",
    "retry_after",
    "snake_case",
    "words_of",
]
