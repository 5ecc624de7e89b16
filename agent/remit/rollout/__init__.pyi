from .bars import HARD, SOFT, evidence_limit, weigh
from .candidate import OF_ALL_RUNS, Definition, files_of_definition, is_rules, open_definition
from .delay import Delay, expected_delay
from .evidence import RATIOS, EProcess, bet, chance_of_arm
from .placement import CandidateRules, Placement, give_up, place, place_again
from .rollouts import (
    arm_of,
    check_bars,
    evidence_of,
    evidence_text,
    find_rollout,
    finish,
    move_to,
    named_rollout,
    open_of,
    open_rollout,
    place_of,
    roll_back,
)

__all__ = [
    "HARD",
    "OF_ALL_RUNS",
    "RATIOS",
    "SOFT",
    "CandidateRules",
    "Definition",
    "Delay",
    "EProcess",
    "Placement",
    "arm_of",
    "bet",
    "chance_of_arm",
    "check_bars",
    "evidence_limit",
    "evidence_of",
    "evidence_text",
    "expected_delay",
    "files_of_definition",
    "find_rollout",
    "finish",
    "give_up",
    "is_rules",
    "move_to",
    "named_rollout",
    "open_definition",
    "open_of",
    "open_rollout",
    "place",
    "place_again",
    "place_of",
    "roll_back",
    "weigh",
]
