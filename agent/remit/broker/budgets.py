"""What a run may spend: checked before the effect, counted from events alone."""

from __future__ import annotations

from typing import Final

from remit.core import Error, Failed, Json, Refusal
from remit.core.events import NANO
from remit.journal import RunState
from remit.workspace import Agent, Budget

_TOO_MANY: Final = "one turn holds too many calls: this one and all after it are not looked at"
_IN_PARTS: Final = "ask for the most important ones first, and for the others in a later turn"
CALLS_PER_TURN: Final = 128  # of the model; it is told of one more that nothing beyond was looked at


def check_position(index: int) -> None:
    """Raise `budget_exhausted` where a call comes after those that one turn may hold."""
    if index >= CALLS_PER_TURN:
        raise Refusal(
            "budget_exhausted", _TOO_MANY, details={"limit": "calls_a_turn", "of": CALLS_PER_TURN}, next_step=_IN_PARTS
        )


def too_many_calls() -> Failed:
    """What is said of a call that is not even recorded, because a turn holds so many."""
    details: dict[str, Json] = {"limit": "calls_a_turn", "of": CALLS_PER_TURN}
    return Failed(error=Error(code="budget_exhausted", message=_TOO_MANY, details=details, next_step=_IN_PARTS))


def check_call(facts: RunState, budget: Budget, now: int, *, output: int = 0) -> None:
    """Raise `budget_exhausted` where one more call would pass a limit; `now` is Unix nanoseconds.

    `output` is the most that this call and those under way may still return, in bytes.
    """
    if facts.attempted >= budget.calls:
        raise _exhausted("calls", budget.calls, f"this run may make {budget.calls} calls and has made them")
    if budget.output is not None and facts.output_bytes + output > budget.output:
        what = f"this run may read {budget.output} bytes of results, and this call could pass that"
        raise _exhausted("output", budget.output, what)
    check_wall(facts, budget, now)


def check_wall(facts: RunState, budget: Budget, now: int) -> None:
    """Raise `budget_exhausted` where the run has lasted longer than it may."""
    if facts.started_at is not None and now - facts.started_at > budget.wall * NANO:
        raise _exhausted("wall", budget.wall, f"this run may last {budget.wall:g} s and has lasted longer")


def wall_end(facts: RunState, budget: Budget) -> int:
    """When the run's time is up, in Unix nanoseconds."""
    return (facts.started_at or 0) + int(budget.wall * NANO)


def check_turn(facts: RunState, agent: Agent, step: int, now: int) -> None:
    """Raise `budget_exhausted` where the run may not ask the model again."""
    budget, tokens = agent.budget, facts.input_tokens + facts.output_tokens
    if step >= budget.steps:
        raise _exhausted("steps", budget.steps, f"this run may take {budget.steps} steps and has taken them")
    check_wall(facts, budget, now)
    bounded = [name for name, bound in (("tokens", budget.tokens), ("money", budget.money)) if bound is not None]
    if bounded and facts.unmetered:
        raise _exhausted(
            bounded[0], 0, "the model does not say how many tokens it takes, so what it spends cannot be bounded"
        )
    if budget.tokens is not None and tokens >= budget.tokens:
        raise _exhausted("tokens", budget.tokens, f"this run may take {budget.tokens} tokens and has taken {tokens}")
    if budget.money is not None and cost(facts, agent) >= budget.money * 1_000_000:
        spent = f"{cost(facts, agent) / 1_000_000:g}"
        raise _exhausted("money", budget.money, f"this run may cost {budget.money:g} and has cost {spent}")


def cost(facts: RunState, agent: Agent) -> int:
    """What the run has cost so far, in millionths; 0 where nothing says what a token costs."""
    return 0 if agent.price is None else agent.price.of(facts.input_tokens, facts.output_tokens)


def _exhausted(limit: str, of: float, why: str) -> Refusal:
    return Refusal("budget_exhausted", why, details={"limit": limit, "of": of}, next_step="finish with what is known")
