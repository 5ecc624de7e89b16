"""Latency, tokens and cost of runs by agent and action, computed from the journal on request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from remit.core import Failed
from remit.core.events import CallAnswered, CallDecided, ModelRequested, ModelResponded, Recorded, RunStarted

ANSWER = "(answer)"  # turns of the model without a call


@dataclass(frozen=True, kw_only=True)
class ActionStatistics:
    """The figures of one agent and one action. Seconds are from the last decision to the result, or of the turn itself.

    The tokens and the cost of a turn are divided equally among its calls. `cost` is the sum of the costs that were recorded, None
    if a turn has none: its model had no price, or reported no tokens.
    """

    agent: str
    action: str
    calls: int
    refused: int
    failed: int
    p50_s: float
    p95_s: float
    input_tokens: int
    output_tokens: int
    cost: float | None


@dataclass
class _Sums:
    calls: int = 0
    refused: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list[float])
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    cost: Decimal | None = Decimal(0)


def tool_statistics(records: Iterable[Recorded]) -> tuple[ActionStatistics, ...]:
    """The rows, sorted by agent and then action. `records` are the events of runs, in order within each run."""
    sums: defaultdict[tuple[str, str], _Sums] = defaultdict(_Sums)
    agents: dict[str, str] = {}
    asked_at: dict[tuple[str, int], int] = {}
    decided: dict[tuple[str, int, int], tuple[str, int]] = {}
    for item in records:
        event, run, agent = item.event, item.run, agents.get(item.run, "")
        match event:
            case RunStarted():
                agents[run] = event.subjects.agent.removeprefix("agent:")
            case ModelRequested():
                asked_at[run, event.step] = item.at
            case ModelResponded():
                _turn(sums, agent, event, (item.at - asked_at.pop((run, event.step), item.at)) / 1e9)
            case CallDecided():
                name = event.call.action if event.call else event.proposed.action
                decided[run, event.step, event.index] = (name, item.at)
            case CallAnswered() if (run, event.step, event.index) in decided:
                name, at = decided.pop((run, event.step, event.index))
                _call(sums[agent, name], event, (item.at - at) / 1e9)
            case _:
                pass
    return tuple(_row(name, entry) for name, entry in sorted(sums.items()))


def _turn(sums: defaultdict[tuple[str, str], _Sums], agent: str, event: ModelResponded, seconds: float) -> None:
    names = [proposed.action for proposed in event.proposed_calls] or [ANSWER]
    for name in names:
        entry = sums[agent, name]
        entry.input_tokens += (event.usage.input_tokens or 0) / len(names)
        entry.output_tokens += (event.usage.output_tokens or 0) / len(names)
        if not event.internal:
            entry.cost = None if entry.cost is None or event.cost is None else entry.cost + event.cost / len(names)
    if not event.proposed_calls:
        sums[agent, ANSWER].calls += 1
        sums[agent, ANSWER].seconds.append(seconds)


def _call(entry: _Sums, event: CallAnswered, seconds: float) -> None:
    entry.calls += 1
    entry.seconds.append(seconds)
    if isinstance(event.result, Failed):
        entry.refused += event.result.refused
        entry.failed += not event.result.refused


def _row(name: tuple[str, str], entry: _Sums) -> ActionStatistics:
    return ActionStatistics(
        agent=name[0],
        action=name[1],
        calls=entry.calls,
        refused=entry.refused,
        failed=entry.failed,
        p50_s=percentile(entry.seconds, 50),
        p95_s=percentile(entry.seconds, 95),
        input_tokens=round(entry.input_tokens),
        output_tokens=round(entry.output_tokens),
        cost=None if entry.cost is None else float(entry.cost),
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile; 0 for no values."""
    if not values:
        return 0.0
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
