"""Compares live runs with the targets of `agent.toml` and `tool.toml`, and says what the next month will cost."""

from __future__ import annotations

import random
from collections import defaultdict
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
RUNS: Final = "runs"  # in place of an action: the runs of the agent as a whole
LEAST: Final = 20  # of fewer values, the 95th percentile is the largest one
MONTH_NS: Final = int(timedelta(days=30).total_seconds()) * NANO
_WEEK_NS: Final = int(timedelta(weeks=1).total_seconds()) * NANO
_LEAST_WEEKS: Final = 2
_MOST_WEEKS: Final = 8
_DRAWS: Final = 1000


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """One target and what was measured, in seconds or money.

    `value` is None if too little is known. `forecast` is what the next 30 days will cost at most, in 9 of 10 cases; None without a
    target of the month, or with less than two weeks of runs. `count` is the number of calls or runs. `run` is the last one.
    """

    agent: str
    action: str  # or `RUNS`
    measure: Literal["p95", "money_per_run", "money_per_month"]
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


def _of_runs(
    target: Target, agent: str, own: Sequence[RunSummary], recent: Sequence[RunSummary], now: int
) -> list[TargetResult]:
    completed = [seconds(run) for run in recent if run.outcome == "completed" and not run.asked]
    costs = _known([run.cost for run in recent])
    month = [run for run in own if run.started_at >= now - MONTH_NS]
    spent = _known([run.cost for run in month])
    of_month = None if target.money_per_month is None else forecast(own, now)
    p95 = percentile(completed, 95) if len(completed) >= LEAST else None
    per_run = fmean(costs) if costs and len(costs) >= LEAST else None
    per_month = None if spent is None else sum(spent)
    return _results(
        target, agent, RUNS, (p95, per_run, per_month), (len(completed), len(recent), len(month)), own[-1].run, of_month
    )


def _of_actions(
    targets: Mapping[str, Target],
    agent: str,
    recent: Sequence[RunSummary],
    statistics: Mapping[str, ActionStatistics],
    month: Mapping[str, ActionStatistics],
) -> list[TargetResult]:
    found: list[TargetResult] = []
    for action, target in targets.items():
        row, of_month = statistics.get(action), month.get(action)
        calls = 0 if row is None else row.calls
        p95 = row.p95_s if row is not None and calls >= LEAST else None
        runs = sum(action in run.actions for run in recent)
        per_run = row.cost / runs if row is not None and row.cost is not None and runs >= LEAST else None
        spent = of_month.cost if of_month is not None else 0.0
        counts = (calls, runs, of_month.calls if of_month is not None else 0)
        last = recent[-1].run if recent else ""
        found += _results(target, agent, action, (p95, per_run, spent), counts, last)
    return found


def _results(
    target: Target,
    agent: str,
    action: str,
    values: tuple[float | None, float | None, float | None],
    counts: tuple[int, int, int],
    run: str,
    of_month: float | None = None,
) -> list[TargetResult]:
    names: tuple[Literal["p95", "money_per_run", "money_per_month"], ...] = ("p95", "money_per_run", "money_per_month")
    given = (target.p95, target.money_per_run, target.money_per_month)
    forecasts = (None, None, of_month)
    return [
        TargetResult(
            agent=agent, action=action, measure=name, target=most, value=value, count=count, run=run, forecast=expected
        )
        for name, most, value, count, expected in zip(names, given, values, counts, forecasts, strict=True)
        if most is not None
    ]


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
    weeks: defaultdict[int, Decimal | None] = defaultdict(Decimal)
    for run in runs:
        week = (now - run.started_at - 1) // _WEEK_NS
        before = weeks[week]
        weeks[week] = None if before is None or run.cost is None else before + run.cost
    known = min(_MOST_WEEKS, (now - runs[0].started_at) // _WEEK_NS) if runs else 0
    spent = _known([weeks[week] for week in range(known)])
    if known < _LEAST_WEEKS or spent is None:
        return None
    chance = random.Random(0)  # noqa: S311 - no secret
    whole, rest = divmod(MONTH_NS, _WEEK_NS)
    months = sorted(sum(chance.choices(spent, k=whole)) + chance.choice(spent) * rest / _WEEK_NS for _ in range(_DRAWS))
    return percentile(months, 90)
