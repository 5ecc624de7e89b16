from .divergence import Divergence
from .live_reads import LiveReads, read_live, with_new_outcomes
from .minimize import ShrinkResult, check_fixed, shrink
from .partial import seal_run
from .recorded import WhatIf
from .replayer import ReplayResult, check_replayable, find_tampering, replay

__all__ = [
    "Divergence",
    "LiveReads",
    "ReplayResult",
    "ShrinkResult",
    "WhatIf",
    "check_fixed",
    "check_replayable",
    "find_tampering",
    "read_live",
    "replay",
    "seal_run",
    "shrink",
    "with_new_outcomes",
]
