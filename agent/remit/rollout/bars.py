"""What is counted against a candidate, and what the runs say about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from remit.core.events import ArmName, Bar, BarEvidence, BarName, RolloutOpened
from remit.journal import ArmRun
from remit.rollout.evidence import EProcess

HARD: Final[tuple[BarName, ...]] = ("in_doubt", "violation")  # no number of these is acceptable
SOFT: Final[tuple[BarName, ...]] = ("refused", "failed", "asked", "slow", "costly")
# A candidate that refuses more makes its runs shorter and cheaper, so time and money of completed runs only are compared.
OF_COMPLETED: Final[Mapping[BarName, str]] = {"slow": "time", "costly": "cost"}


def breaks(run: ArmRun, bar: Bar) -> bool:
    """True if this run counts against its arm."""
    match bar.name:
        case "refused":
            return run.refused
        case "failed":
            return run.outcome != "completed"
        case "asked":
            return run.asked
        case "in_doubt":
            return run.in_doubt
        case "violation":
            return run.violated
        case "slow":
            return bar.above is not None and run.seconds > bar.above
        case "costly":
            return bar.above is not None and run.cost is not None and run.cost > bar.above


def weigh(opened: RolloutOpened, runs: Sequence[ArmRun]) -> tuple[BarEvidence, ...]:
    """The evidence of every bar, from the runs of a rollout that have ended, in the order in which they did.

    INVARIANT: a user counts once for each bar, at their first run that breaks it. All runs of a user have the same arm, so ten
    failures of one user are one observation: counted as ten, a single user with many failures would end one rollout in ten.
    """
    limit = evidence_limit(opened)
    return tuple(_weigh(bar, runs, unit=opened.unit, limit=0.0 if bar.hard else limit) for bar in opened.bars)


def evidence_limit(opened: RolloutOpened) -> float:
    """The logarithm of the e-value at which a bar is broken: alpha is split evenly over the bars that are not hard."""
    return math.log(max(1, sum(not bar.hard for bar in opened.bars)) / opened.alpha)


def _weigh(bar: Bar, runs: Sequence[ArmRun], *, unit: str, limit: float) -> BarEvidence:
    broke: dict[ArmName, set[str]] = {"live": set(), "candidate": set()}
    seen: dict[ArmName, set[str]] = {"live": set(), "candidate": set()}
    process = EProcess()
    for run in runs:
        if bar.name in OF_COMPLETED and run.outcome != "completed":
            continue
        who = run.user if unit == "user" else run.run
        seen[run.arm].add(who)
        if breaks(run, bar) and who not in broke["live"] and who not in broke["candidate"]:
            broke[run.arm].add(who)
            process = process.observe(run.arm == "candidate", run.share)
    return BarEvidence(
        bar=bar.name,
        hard=bar.hard,
        live=len(broke["live"]),
        of_live=len(seen["live"]),
        candidate=len(broke["candidate"]),
        of_candidate=len(seen["candidate"]),
        log_e=0.0 if bar.hard else process.log_value,
        limit=limit,
    )
