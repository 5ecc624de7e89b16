"""Budgets of a run: checked before the effect, counted from recorded events only."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Final

from remit.core import Error, Failed, Json, Refusal
from remit.core.events import NANO, AttemptEnded
from remit.journal import Record, RunState
from remit.workspace import Budget, Measure

CALLS_PER_TURN: Final = 128  # calls of one turn; one more is recorded, to answer that all others were rejected
_TOO_MANY: Final = f"a turn may contain {CALLS_PER_TURN} calls; this call and all later calls of the turn were rejected"
_IN_PARTS: Final = f"send the rejected calls in later turns, at most {CALLS_PER_TURN} in each"


def check_position(index: int) -> None:
    """Raise `budget_exhausted` for a call beyond `CALLS_PER_TURN`."""
    if index >= CALLS_PER_TURN:
        raise Refusal(
            "budget_exhausted", _TOO_MANY, details={"limit": "calls_a_turn", "of": CALLS_PER_TURN}, next_step=_IN_PARTS
        )


def too_many_calls() -> Failed:
    """The result of a call that is not recorded, because its turn has too many calls."""
    details: dict[str, Json] = {"limit": "calls_a_turn", "of": CALLS_PER_TURN}
    return Failed(error=Error(code="budget_exhausted", message=_TOO_MANY, details=details, next_step=_IN_PARTS))


def check_call(state: RunState, budget: Budget, now: int, *, output: int = 0) -> None:
    """Raise `budget_exhausted` if one more call would exceed a limit; `now` is in Unix nanoseconds.

    `output` is the largest number of bytes that this call and unfinished calls can still return.
    """
    if state.attempted >= budget.calls:
        raise _exhausted("calls", budget.calls, f"the run has used all of its {budget.calls} calls")
    if budget.output is not None and state.output_bytes + output > budget.output:
        why = f"this call could exceed the run's limit of {budget.output} bytes of results"
        raise _exhausted("output", budget.output, why)
    check_wall(state, budget, now)


def check_wall(state: RunState, budget: Budget, now: int) -> None:
    """Raise `budget_exhausted` if the time limit of the run has passed."""
    now = now if state.model_wait is None else state.model_failed_at  # the time limit stands still meanwhile
    now = state.waits_since or now
    if state.started_at is not None and now > wall_end(state, budget):
        raise _exhausted("wall", budget.wall, f"the run has used all of its {budget.wall:g} s")


def wall_end(state: RunState, budget: Budget) -> int:
    """When the time limit of the run passes, in Unix nanoseconds. Time in which it waited does not count."""
    return (state.started_at or 0) + state.waited + int(budget.wall * NANO)


def check_counted(state: RunState, limited: Collection[str]) -> None:
    """Raise `budget_exhausted` if tokens or money are limited, and a turn of the run could not be counted.

    A limit that cannot be counted is not ignored.
    """
    for limit, uncounted in (("tokens", state.unmetered), ("money", state.unpriced)):
        if limit in limited and uncounted:
            why = "does not report its tokens" if state.unmetered else "has no known price"
            raise _exhausted(limit, 0, f"the model {why}, so the {limit} limit cannot be enforced")


def check_turn(state: RunState, budget: Budget, step: int, now: int) -> None:
    """Raise `budget_exhausted` if the run cannot start another model turn."""
    tokens = state.input_tokens + state.output_tokens
    if step >= budget.steps:
        raise _exhausted("steps", budget.steps, f"the run has used all of its {budget.steps} steps")
    check_wall(state, budget, now)
    check_counted(
        state, [name for name, bound in (("tokens", budget.tokens), ("money", budget.money)) if bound is not None]
    )
    if budget.tokens is not None and tokens >= budget.tokens:
        raise _exhausted("tokens", budget.tokens, f"the run has used {tokens} of its {budget.tokens} tokens")
    if budget.money is not None and state.cost >= Decimal(str(budget.money)):
        raise _exhausted("money", budget.money, f"the run has cost {state.cost:.6g} of its {budget.money:g}")


def used_amounts(record: Record, step: int, index: int) -> dict[Measure, int]:
    """The amounts that a call really used, over all of its attempts."""
    calls, wall, output = 0, 0.0, 0
    while isinstance(ended := record.get(f"attempt.ended/{step}/{index}/{calls + 1}"), AttemptEnded):
        calls, wall, output = calls + 1, wall + ended.spent.wall_s, output + ended.spent.output_bytes
    return {"calls": min(calls, 1), "seconds": int(wall * 1000), "bytes": output}


def _exhausted(limit: str, of: float, why: str) -> Refusal:
    return Refusal(
        "budget_exhausted", why, details={"limit": limit, "of": of}, next_step="answer with the results that you have"
    )
