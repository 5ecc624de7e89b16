"""The gauges of a workspace, read from the projections of its journal. An alert on them needs no process that was there before.

A number of what is over is that of the last 15 minutes, so it falls to 0 by itself; `remit metrics` and each run send the same.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, get_args

from remit.core import SOURCES, ErrorSource
from remit.journal import AGES, MODEL_FAILED, Journal, RunStatus, WorkspaceFigures, workspace_figures
from remit.tracing.metrics import GAUGES, OK, OTHER, Measurement

STATES: Final = tuple(state for state in get_args(RunStatus) if state != "finished")
ENGINES: Final = "engines_disagree"  # the reason of a decision, in place of a rule
FRESH_S: Final = 1.0  # for so long all gauges are of one reading


class GaugeReader:
    """Reads the gauges of a workspace. Threads may share one.

    `agents` are the names of its agents: their gauges are 0 where the journal has nothing, so that an alert sees the first one.
    Reading raises RunEnded (`unrecorded`) if the journal cannot be read.
    """

    def __init__(self, journal: Journal, agents: Iterable[str]) -> None:
        self._journal = journal
        self._agents = tuple(sorted(agents))
        self._read_at = 0.0
        self._last: Mapping[str, Sequence[Measurement]] = {}

    def read(self) -> Mapping[str, Sequence[Measurement]]:
        """The measurements of each gauge, by its name."""
        if not self._last or time.monotonic() - self._read_at > FRESH_S:
            found: dict[str, list[Measurement]] = {name: [] for name in GAUGES}
            for measurement in _measurements(workspace_figures(self._journal), self._agents):
                found[measurement.name].append(measurement)
            self._last, self._read_at = found, time.monotonic()
        return self._last

    def observe(self, name: str) -> Callable[[], Sequence[Measurement]]:
        """Reads one gauge."""
        return lambda: self.read()[name]


def _measurements(figures: WorkspaceFigures, agents: Sequence[str]) -> Iterator[Measurement]:
    yield _gauge("remit.emergencies.unreviewed", figures.emergencies)
    yield _gauge("remit.holds", figures.holds)
    yield _gauge("remit.alerts", figures.alerts)
    for age in (*AGES, "older"):
        yield _gauge("remit.approvals.waiting", figures.approvals.get(age, 0), age=age)
    disagreements: Counter[str] = Counter()
    errors: Counter[tuple[str, ErrorSource]] = Counter()
    for (agent, code, rule, action), count in sorted(figures.outcomes.items()):
        if rule == ENGINES:
            disagreements[agent] += count
        if (source := source_of(code)) is not None:
            errors[agent, source] += count
        if code != MODEL_FAILED:
            yield _gauge("remit.calls.recent", count, agent=agent, action=action or OTHER, code=code, rule=rule)
    for (agent, outcome, code), count in sorted(figures.ended.items()):
        if (source := source_of(code)) == "remit":
            errors[agent, source] += count
        yield _gauge("remit.runs.recent", count, agent=agent, outcome=outcome, code=code or OK)
    unfinished = figures.unfinished
    known = {*agents, *figures.in_doubt, *disagreements, *(agent for agent, _ in (*errors, *unfinished))}
    for agent in sorted(known):
        for state in STATES:
            yield _gauge("remit.runs.unfinished", unfinished.get((agent, state), 0), agent=agent, state=state)
        yield _gauge("remit.effects.in_doubt", figures.in_doubt.get(agent, 0), agent=agent)
        yield _gauge("remit.engines.disagreements", disagreements[agent], agent=agent)
        for source in get_args(ErrorSource):
            yield _gauge("remit.errors.recent", errors[agent, source], agent=agent, source=source)


def _gauge(name: str, value: float, **attributes: str) -> Measurement:
    return Measurement(name=name, value=value, attributes=attributes)


def source_of(code: str) -> ErrorSource | None:
    """Whose error a code is; None for `ok`."""
    if code == MODEL_FAILED:
        return "model"
    return SOURCES.get(code)
