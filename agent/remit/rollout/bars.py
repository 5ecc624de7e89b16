"""What is counted against a candidate, and what the runs say about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from remit.core.events import NANO, Bar, BarEvidence, BarName, RolloutOpened
from remit.journal import RunSummary
from remit.rollout.evidence import EProcess

HARD: Final[tuple[BarName, ...]] = ("in_doubt", "violation")  # no number of these is acceptable
SOFT: Final[tuple[BarName, ...]] = ("refused", "failed", "asked", "slow", "costly")
# A candidate that refuses more makes its runs shorter and cheaper, so time and money of completed runs only are compared.
OF_COMPLETED: Final[tuple[BarName, ...]] = ("slow", "costly")


def breaks(run: RunSummary, bar: Bar) -> bool:
    """True if this run, which has ended, counts against its arm."""
    match bar.name:
        case "refused":
            return run.denied > 0
        case "failed":
            return run.outcome != "completed"
        case "asked":
            return run.asked > 0
        case "in_doubt":
            return bool(run.in_doubt)
        case "violation":
            return run.violations > 0
        case "slow":
            return bar.above is not None and seconds(run) > bar.above
        case "costly":
            return bar.above is not None and run.cost is not None and run.cost > bar.above


def seconds(run: RunSummary) -> float:
    """How long a run that has ended took."""
    return 0.0 if run.ended_at is None else (run.ended_at - run.started_at) / NANO


def weigh(opened: RolloutOpened, runs: Sequence[RunSummary]) -> tuple[BarEvidence, ...]:
    """The evidence of every bar, from the runs of a rollout that have ended.

    INVARIANT: a user counts once for each bar, at their first run that breaks it. All runs of a user have the same arm, so ten
    failures of one user are one observation: counted as ten, a single user with many failures would end one rollout in ten.
    """
    limit = evidence_limit(opened)
    ended = sorted((run for run in runs if run.ended_at is not None and run.arm is not None), key=_by_end)
    return tuple(_weigh(bar, ended, unit=opened.unit, limit=0.0 if bar.hard else limit) for bar in opened.bars)


def evidence_limit(opened: RolloutOpened) -> float:
    """The logarithm of the e-value at which a bar is broken: alpha is split evenly over the bars that are not hard."""
    return math.log(max(1, sum(not bar.hard for bar in opened.bars)) / opened.alpha)


def _by_end(run: RunSummary) -> tuple[int, str]:
    return run.ended_at or 0, run.run


def _weigh(bar: Bar, runs: Sequence[RunSummary], *, unit: str, limit: float) -> BarEvidence:
    found: dict[str, set[str]] = {"live": set(), "candidate": set()}  # who broke the bar, by arm
    seen: dict[str, set[str]] = {"live": set(), "candidate": set()}
    process = EProcess()
    for run in runs:
        assert run.arm is not None
        who = run.user if unit == "user" else run.run
        if bar.name in OF_COMPLETED and run.outcome != "completed":
            continue
        seen[run.arm.arm].add(who)
        if not breaks(run, bar) or who in found["live"] or who in found["candidate"]:
            continue
        found[run.arm.arm].add(who)
        process = process.observe(run.arm.arm == "candidate", run.arm.share)
    return BarEvidence(
        bar=bar.name,
        hard=bar.hard,
        live=len(found["live"]),
        of_live=len(seen["live"]),
        candidate=len(found["candidate"]),
        of_candidate=len(seen["candidate"]),
        log_e=0.0 if bar.hard else process.log_value,
        limit=limit,
    )
