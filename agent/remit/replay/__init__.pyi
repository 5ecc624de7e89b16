from .divergence import Divergence
from .live_reads import LiveReads, read_live, with_ends
from .minimize import ShrinkResult, is_fixed, shrink
from .partial import sealed
from .recorded import WhatIf
from .replayer import ReplayResult, replay, replayable, tampering

__all__ = [
    "Divergence",
    "LiveReads",
    "ReplayResult",
    "ShrinkResult",
    "WhatIf",
    "is_fixed",
    "read_live",
    "replay",
    "replayable",
    "sealed",
    "shrink",
    "tampering",
    "with_ends",
]
