"""Compares live runs with the targets of `agent.toml` and `tool.toml`, and says what the next month will cost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from statistics import fmean
from typing import Final, Literal, TypeAlias

from remit.core.events import NANO, AlertRaised, Recorded
from remit.evals.monitoring.measures import seconds
from remit.journal import RunSummary
from remit.tracing.reports import ActionStatistics, percentile, tool_statistics
from remit.workspace import Workspace
from remit.workspace.manifest import Target

State: TypeAlias = Literal[
    "met",
    "passed",  # the value is higher than the target
    "expected",  # the forecast for the next month is higher than the target
    "unknown",  # too few runs, or a cost that is not known
]
Name: TypeAlias = Literal["p95", "money_per_run", "money_per_month"]  # as in `Target`
RUNS: Final = "runs"  # in place of an action: the runs of the agent as a whole
LEAST: Final = 20  # of fewer values, the 95th percentile is the largest one
MONTH_NS: Final = int(timedelta(days=30).total_seconds()) * NANO
_WEEK_NS: Final = int(timedelta(weeks=1).total_seconds()) * NANO
_LEAST_WEEKS: Final = 2
_MOST_WEEKS: Final = 8
_DRAWS: Final = 1000
_NO_CALLS: Final = ActionStatistics(
    agent="", action="", calls=0, refused=0, failed=0, p50_s=0.0, p95_s=0.0, input_tokens=0, output_tokens=0, cost=0.0
)


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """One target and what was measured, in seconds or money.

    `value` is None if too little is known. `forecast` is what the next 30 days will cost at most, in 9 of 10 cases; None without a
    target of the month, or with less than two weeks of runs. `count` is the number of calls or runs. `run` is the last one.
    """

    agent: str
    action: str  # or `RUNS`
    measure: Name
    target: float
    value: float | None
    count: int
    run: str
    forecast: float | None = None

    @property
    def subject(self) -> str:
        return f"{self.measure} of {self.action}"

    @property
    def state(self) -> State:
        if self.value is not None and self.value > self.target:
            return "passed"
        if self.forecast is not None and self.forecast > self.target:
            return "expected"
        return "unknown" if self.value is None else "met"

    @property
    def text(self) -> str:
        """`p95 of files.read is 3.2 s, and its target is 2 s`."""
        unit = " s" if self.measure == "p95" else ""
        value = "not known" if self.value is None else f"{self.value:.4g}{unit}"
        expected = "" if self.forecast is None else f", up to {self.forecast:.4g} expected in the next 30 days"
        return f"{self.subject} is {value}{expected}, and its target is {self.target:g}{unit}"

    @property
    def alert(self) -> AlertRaised:
        return AlertRaised(kind="target", agent=self.agent, subject=self.subject, run=self.run, text=self.text)


def compare_with_targets(
    workspace: Workspace,
    runs: Mapping[str, Sequence[RunSummary]],
    events: Callable[[str], Iterable[Recorded]],
    *,
    since: int,
    now: int,
) -> list[TargetResult]:
    """Each target of the agents of `runs`, with what was measured.

    `runs` are the finished runs of each agent, of the last eight weeks or more. `events` reads those of one run, which targets of
    actions need. `since` and `now` are Unix nanoseconds: the times and the costs of a run are those of runs that began since then, and
    the month ends now.
    """
    found: list[TargetResult] = []
    for agent, own in runs.items():
        if agent not in workspace.agents or not own:
            continue
        recent = [run for run in own if run.started_at >= since]
        found += _of_runs(workspace.agents[agent].target, agent, own, recent, now)
        targets = {name: workspace.action(name)[1].target for name in workspace.agents[agent].actions}
        targets = {name: target for name, target in targets.items() if target != Target()}
        if targets:
            monthly = any(target.money_per_month is not None for target in targets.values())
            month = [run for run in own if run.started_at >= now - MONTH_NS] if monthly else []
            found += _of_actions(targets, agent, recent, _statistics(recent, events), _statistics(month, events))
    return found


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """The value of one measure, from so many calls or runs."""

    value: float | None
    count: int
    forecast: float | None = None


def _of_runs(
    target: Target, agent: str, own: Sequence[RunSummary], recent: Sequence[RunSummary], now: int
) -> list[TargetResult]:
    completed = [seconds(run) for run in recent if run.outcome == "completed" and not run.asked]
    costs = _known([run.cost for run in recent])
    month = [run for run in own if run.started_at >= now - MONTH_NS]
    spent = _known([run.cost for run in month])
    measured: dict[Name, _Measured] = {
        "p95": _Measured(value=_p95(completed), count=len(completed)),
        "money_per_run": _Measured(value=fmean(costs) if costs and len(costs) >= LEAST else None, count=len(recent)),
        "money_per_month": _Measured(
            value=None if spent is None else sum(spent), count=len(month), forecast=forecast(own, now)
        ),
    }
    return _results(target, agent, RUNS, own[-1].run, measured)


def _of_actions(
    targets: Mapping[str, Target],
    agent: str,
    recent: Sequence[RunSummary],
    statistics: Mapping[str, ActionStatistics],
    month: Mapping[str, ActionStatistics],
) -> list[TargetResult]:
    found: list[TargetResult] = []
    for action, target in targets.items():
        row, of_month = statistics.get(action, _NO_CALLS), month.get(action, _NO_CALLS)
        runs = sum(action in run.actions for run in recent)
        per_run = row.cost / runs if row.cost is not None and runs >= LEAST else None
        measured: dict[Name, _Measured] = {
            "p95": _Measured(value=row.p95_s if row.calls >= LEAST else None, count=row.calls),
            "money_per_run": _Measured(value=per_run, count=runs),
            "money_per_month": _Measured(value=of_month.cost, count=of_month.calls),
        }
        found += _results(target, agent, action, recent[-1].run if recent else "", measured)
    return found


def _results(
    target: Target, agent: str, action: str, run: str, measured: Mapping[Name, _Measured]
) -> list[TargetResult]:
    """The results of the targets that are given."""
    given: dict[Name, float | None] = {
        "p95": target.p95,
        "money_per_run": target.money_per_run,
        "money_per_month": target.money_per_month,
    }
    return [
        TargetResult(agent=agent, action=action, measure=name, target=most, run=run, **vars(measured[name]))
        for name, most in given.items()
        if most is not None
    ]


def _p95(values: Sequence[float]) -> float | None:
    return percentile(values, 95) if len(values) >= LEAST else None


def _statistics(runs: Iterable[RunSummary], events: Callable[[str], Iterable[Recorded]]) -> dict[str, ActionStatistics]:
    rows = tool_statistics(event for run in runs for event in events(run.run))
    return {row.action: row for row in rows}


def _known(costs: Sequence[Decimal | None]) -> list[float] | None:
    """The costs; None if one of them is not known: a sum without it would be too small."""
    return None if None in costs else [float(cost) for cost in costs if cost is not None]


def forecast(runs: Sequence[RunSummary], now: int) -> float | None:
    """What 30 days will cost at most, in 9 of 10 cases, if each week is like one of the last eight; None if too little is known.

    Months are put together from whole weeks drawn at random, so that what differs within a week stays in it. The same runs
    always give the same forecast.
    """
    first = min((run.started_at for run in runs), default=now)
    known = min(_MOST_WEEKS, (now - first) // _WEEK_NS)
    weeks: list[list[Decimal | None]] = [[] for _ in range(known)]
    for run in runs:
        if (week := (now - run.started_at - 1) // _WEEK_NS) < known:
            weeks[week].append(run.cost)
    costs = [_known(week) for week in weeks]
    spent = [sum(week) for week in costs if week is not None]
    if known < _LEAST_WEEKS or len(spent) < known:
        return None
    chance = random.Random(0)  # noqa: S311 - no secret
    whole, rest = divmod(MONTH_NS, _WEEK_NS)
    months = sorted(sum(chance.choices(spent, k=whole)) + chance.choice(spent) * rest / _WEEK_NS for _ in range(_DRAWS))
    return percentile(months, 90)
