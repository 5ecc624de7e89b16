from .divergence import Divergence
from .live_reads import Reread, reread, with_ends
from .minimize import Shrunk, is_gone, shrink
from .partial import sealed
from .recorded import Otherwise
from .replayer import Replayed, replay, replayable, tampering

__all__ = [
    "Divergence",
    "Otherwise",
    "Replayed",
    "Reread",
    "Shrunk",
    "is_gone",
    "replay",
    "replayable",
    "reread",
    "sealed",
    "shrink",
    "tampering",
    "with_ends",
]
