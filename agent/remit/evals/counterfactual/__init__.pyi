from .executor import Answer, Source
from .playing import Candidate, Counterfactual, RecordedRun, play_from
from .row import write_row

__all__ = [
    "Answer",
    "Candidate",
    "Counterfactual",
    "RecordedRun",
    "Source",
    "play_from",
    "write_row",
]
