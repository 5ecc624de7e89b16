"""What is counted against a candidate, and what the runs say about it."""

from __future__ import annotations

import math
from typing import Final

from remit.core.events import ArmName, Bar, BarEvidence, BarName, RolloutOpened
from remit.journal import ArmCounts
from remit.rollout.evidence import EProcess

HARD: Final[tuple[BarName, ...]] = ("in_doubt", "violation")  # no number of these is acceptable
SOFT: Final[tuple[BarName, ...]] = ("refused", "failed", "asked", "slow", "costly")


def weigh(opened: RolloutOpened, counts: ArmCounts) -> tuple[BarEvidence, ...]:
    """The evidence of every bar, from what the runs of the rollout that have ended say."""
    limit = evidence_limit(opened)
    return tuple(_weigh(bar, counts, limit=0.0 if bar.hard else limit) for bar in opened.bars)


def evidence_limit(opened: RolloutOpened) -> float:
    """The logarithm of the e-value at which a bar is broken: alpha is split evenly over the bars that are not hard."""
    return math.log(max(1, sum(not bar.hard for bar in opened.bars)) / opened.alpha)


def _weigh(bar: Bar, counts: ArmCounts, *, limit: float) -> BarEvidence:
    seen: dict[ArmName, int] = {"live": 0, "candidate": 0}
    broke: dict[ArmName, int] = {"live": 0, "candidate": 0}
    process = EProcess()
    for (name, arm, share), (users, breaking) in sorted(counts.items()):
        if name == bar.name:
            seen[arm] += users
            broke[arm] += breaking
            process = process.observe(arm == "candidate", share, times=breaking)
    return BarEvidence(
        bar=bar.name,
        hard=bar.hard,
        live=broke["live"],
        of_live=seen["live"],
        candidate=broke["candidate"],
        of_candidate=seen["candidate"],
        log_e=0.0 if bar.hard else process.log_value,
        limit=limit,
    )
