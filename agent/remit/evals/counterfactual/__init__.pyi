from .evaluated import ScenarioRun
from .executor import Answer, Source
from .playing import Candidate, Counterfactual, RecordedRun, play_from
from .row import write_row
from .seed_copy import Place

__all__ = [
    "Answer",
    "Candidate",
    "Counterfactual",
    "Place",
    "RecordedRun",
    "ScenarioRun",
    "Source",
    "play_from",
    "write_row",
]
