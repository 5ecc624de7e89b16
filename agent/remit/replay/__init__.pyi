from .divergence import Divergence
from .live_reads import LiveReads, read_live, with_ends
from .minimize import Shrunk, is_gone, shrink
from .partial import sealed
from .recorded import WhatIf
from .replayer import Replayed, replay, replayable, tampering

__all__ = [
    "Divergence",
    "LiveReads",
    "Replayed",
    "Shrunk",
    "WhatIf",
    "is_gone",
    "read_live",
    "replay",
    "replayable",
    "sealed",
    "shrink",
    "tampering",
    "with_ends",
]
