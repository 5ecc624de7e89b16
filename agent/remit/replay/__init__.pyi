from .divergence import ComparingLog, Divergence
from .live_reads import LiveReads, read_live, with_new_outcomes
from .minimize import ShrinkResult, check_fixed, shrink
from .partial import seal_run
from .recorded import RecordedExecutor, RecordedPorts, WhatIf, recorded_approvals
from .recorded_models import RecordedModels, recorded_turn
from .replay_log import RecordEnds, ReplayLog, events_before
from .replayer import ReplayResult, check_replayable, find_tampering, replay

__all__ = [
    "ComparingLog",
    "Divergence",
    "LiveReads",
    "RecordEnds",
    "RecordedExecutor",
    "RecordedModels",
    "RecordedPorts",
    "ReplayLog",
    "ReplayResult",
    "ShrinkResult",
    "WhatIf",
    "check_fixed",
    "check_replayable",
    "events_before",
    "find_tampering",
    "read_live",
    "recorded_approvals",
    "recorded_turn",
    "replay",
    "seal_run",
    "shrink",
    "with_new_outcomes",
]
