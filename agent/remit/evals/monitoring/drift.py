"""The drifts of an agent: which measure changed, since which run, and which change of the workspace fits best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Final

from remit.core.events import AlertRaised
from remit.evals.monitoring.causes import Definitions, causes
from remit.evals.monitoring.detector import Change, find_changes
from remit.evals.monitoring.measures import Measure, measures
from remit.journal import Journal, RunQuery, RunSummary, list_runs

_SHOWN: Final = 3  # runs before a drift, and after it


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One change of one measure of an agent.

    `since` is the first run after the change, `seen` the one at which the evidence was enough, `seen_at` its end in Unix
    nanoseconds. `was` and `is_now` are the values before and after, as people read them. `causes` are the changes of the
    workspace that fit best. `before` and `after` are runs to compare, with the values that became rare and frequent.
    """

    agent: str
    measure: str
    since: str
    seen: str
    seen_at: int
    more: bool
    was: str
    is_now: str
    causes: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def text(self) -> str:
        """`refusals rose: 2 of 130 runs, and 9 of 14 runs since run 3f2a…`."""
        return f"{self.measure} {'rose' if self.more else 'fell'}: {self.was}, and {self.is_now} since run {self.since[:12]}"

    @property
    def alert(self) -> AlertRaised:
        return AlertRaised(
            kind="drift",
            agent=self.agent,
            subject=self.measure,
            run=self.seen,
            text=self.text,
            changes=self.causes,
            before=self.before,
            after=self.after,
        )


def finished_runs(journal: Journal, *, since: int, agent: str = "") -> dict[str, list[RunSummary]]:
    """The finished runs that began at `since` (Unix nanoseconds) or later, by agent, in the order in which they ended."""
    query = RunQuery(agent=agent and f"agent:{agent}", since=since, state="finished")
    runs = sorted(list_runs(journal, query), key=lambda run: (run.agent, run.ended_at, run.run))
    return {name.removeprefix("agent:"): list(own) for name, own in groupby(runs, key=lambda run: run.agent)}


def find_drifts(runs: Sequence[RunSummary], definitions: Definitions, *, one_in: float) -> list[Drift]:
    """The drifts of one agent, the first one seen first. `runs` are its finished runs, in the order in which they ended.

    While runs are alike, there is at most one false drift in `one_in` runs on average, over all measures together.
    """
    found = [
        _drift(measure, change, definitions)
        for measure in measures(runs)
        for change in find_changes(measure.observations, runs=one_in / measure.weight, first=measure.first)
    ]
    return sorted(found, key=lambda drift: (drift.seen_at, drift.measure))


def _drift(measure: Measure, change: Change, definitions: Definitions) -> Drift:
    looked_at = measure.runs[change.begin : change.seen + 1]
    at = change.at - change.begin
    hits = [run.run for run, hit in zip(looked_at[at:], change.hits[at:], strict=True) if hit]
    misses = [run.run for run, hit in zip(looked_at[:at], change.hits[:at], strict=True) if not hit]
    seen = looked_at[-1]
    return Drift(
        agent=seen.agent.removeprefix("agent:"),
        measure=measure.name,
        since=looked_at[at].run,
        seen=seen.run,
        seen_at=seen.ended_at or 0,
        more=change.more,
        was=_described(measure, measure.values[change.begin : change.at]),
        is_now=_described(measure, measure.values[change.at : change.seen + 1]),
        causes=causes(looked_at, change.hits, at, definitions.of),
        before=tuple(misses[-_SHOWN:]),
        after=tuple(hits[:_SHOWN]),
    )


def _described(measure: Measure, values: Sequence[float]) -> str:
    if measure.is_share:
        return f"{sum(values):g} of {len(values)} runs"
    unit = " s" if measure.kind == "latency" else ""
    return f"median {median(values):.4g}{unit} of {len(values)} runs" if values else "no runs"
