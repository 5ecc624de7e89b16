"""What a run may spend: checked before the effect, counted from events alone."""

from __future__ import annotations

from typing import Final

from remit.errors import Refusal
from remit.facts import Facts
from remit.workspace import Budget

NANO: Final = 1_000_000_000


def check_call(facts: Facts, budget: Budget, now: int) -> None:
    """Raise `budget_exhausted` where one more call would pass a limit; `now` is Unix nanoseconds."""
    if facts.attempted >= budget.calls:
        raise Refusal(
            "budget_exhausted",
            f"this run may make {budget.calls} calls and has made them",
            details={"limit": "calls", "of": budget.calls},
            remedy="finish with what is known",
        )
    check_wall(facts, budget, now)


def check_wall(facts: Facts, budget: Budget, now: int) -> None:
    """Raise `budget_exhausted` where the run has lasted longer than it may."""
    if facts.started_at is not None and now - facts.started_at > budget.wall * NANO:
        raise Refusal(
            "budget_exhausted",
            f"this run may last {budget.wall:g} s and has lasted longer",
            details={"limit": "wall", "of": budget.wall},
            remedy="finish with what is known",
        )
