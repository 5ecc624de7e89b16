from .evaluated import ScenarioRun
from .executor import GivenAnswer, Source
from .playing import Candidate, Counterfactual, RecordedRun, play_from
from .row import WrittenRow, write_row
from .seed_copy import Place

__all__ = [
    "Candidate",
    "Counterfactual",
    "GivenAnswer",
    "Place",
    "RecordedRun",
    "ScenarioRun",
    "Source",
    "WrittenRow",
    "play_from",
    "write_row",
]
