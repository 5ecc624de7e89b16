"""The state of a workspace as numbers, for gauges and alerts. Only projections are read, and only rows of what is not over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import sqlalchemy as sa

from remit.core.events import NANO
from remit.journal.lease import is_alive
from remit.journal.projections import doubt_of, recent_of
from remit.journal.run_list import count_alerts, count_approvals, count_runs
from remit.journal.run_state import PART_NS, Outcomes
from remit.journal.storage.database import Sql
from remit.journal.storage.tables import APPROVAL, HAS_ENDED, HEAD, IS_IN_DOUBT, RUN
from remit.journal.store import Journal

Age: TypeAlias = Literal["under_5m", "under_30m", "under_4h", "older"]
AGES: Final[Mapping[Age, int]] = {"under_5m": 300, "under_30m": 1800, "under_4h": 14400}  # seconds; "older" is the rest
WINDOW_NS: Final = 900 * NANO  # how far back what ends is counted

_RUNNING: Final = Sql(
    sa.select(RUN.c.run, RUN.c.agent, HEAD.c.holder, HEAD.c.beat)
    .select_from(RUN.join(HEAD, RUN.c.run == HEAD.c.run))
    .where(RUN.c.state == "running", RUN.c.evaluation == "")
)
_IN_DOUBT: Final = Sql(
    sa.select(RUN.c.agent, RUN.c.in_doubt, HEAD.c.holder, HEAD.c.beat)
    .select_from(RUN.join(HEAD, RUN.c.run == HEAD.c.run))
    .where(IS_IN_DOUBT, RUN.c.evaluation == "")
)
_APPROVALS: Final = Sql(sa.select(APPROVAL.c.requested).where(APPROVAL.c.state == "waiting"))
_RECENT = (RUN.c.agent, RUN.c.outcome, RUN.c.code, RUN.c.recent)
_ENDED: Final = Sql(sa.select(*_RECENT).where(HAS_ENDED, RUN.c.ended >= sa.bindparam("since"), RUN.c.evaluation == ""))
_NOT_ENDED: Final = tuple(
    Sql(sa.select(*_RECENT).where(RUN.c.state == state, RUN.c.evaluation == ""))
    for state in ("running", "waiting", "waiting: model")
)


@dataclass(frozen=True, kw_only=True)
class WorkspaceFigures:
    """The state of a workspace as numbers, without runs of evaluations. An agent, a code or a rule that has none is missing.

    `lost` counts the runs that have not ended, wait for nobody, and that no living process drives; `in_doubt` the effects of
    unknown outcome; both by agent. `approvals` counts the calls that wait for people by how long they have waited. `emergencies` are
    those that nobody has reviewed. `outcomes` counts the answers of the last 15 minutes by agent, code ("ok", or `MODEL_FAILED` for
    the model), rule that denied, and action; `ended` the runs that ended in that time by agent, outcome and code ("" without one).
    """

    lost: Mapping[str, int]
    waiting_for_model: int
    in_doubt: Mapping[str, int]
    approvals: Mapping[Age, int]
    emergencies: int
    holds: int
    alerts: int
    outcomes: Mapping[tuple[str, str, str, str], int]
    ended: Mapping[tuple[str, str, str], int]


def workspace_figures(journal: Journal) -> WorkspaceFigures:
    """The numbers as they are now."""
    now = journal.clock()
    outcomes, ended = _recent(journal, now)
    return WorkspaceFigures(
        lost=Counter(_agent(agent) for agent in _lost(journal, now)),
        waiting_for_model=count_runs(journal, "waiting: model"),
        in_doubt=_in_doubt(journal, now),
        approvals=Counter(_age((now - int(row[0])) / NANO) for row in journal.read(_APPROVALS)),
        emergencies=count_approvals(journal, "emergency"),
        holds=len(journal.holds()),
        alerts=count_alerts(journal),
        outcomes=outcomes,
        ended=ended,
    )


def _lost(journal: Journal, now: int) -> Iterator[str]:
    """The agent of each run that no living process drives."""
    for _, agent, holder, beat in journal.read(_RUNNING):
        if not is_alive(holder, beat, now):
            yield agent


def _in_doubt(journal: Journal, now: int) -> Mapping[str, int]:
    """The effects of unknown outcome by agent. A call that a living process carries out at present is none."""
    found: Counter[str] = Counter()
    for agent, lines, holder, beat in journal.read(_IN_DOUBT):
        alive = is_alive(holder, beat, now)
        found[_agent(agent)] += sum(doubt_of(line).answered or not alive for line in lines.splitlines())
    return found


def _age(seconds: float) -> Age:
    return next((age for age, most in AGES.items() if seconds < most), "older")


def _recent(
    journal: Journal, now: int
) -> tuple[Mapping[tuple[str, str, str, str], int], Mapping[tuple[str, str, str], int]]:
    first = (now - WINDOW_NS) // PART_NS + 1  # whole parts only: a count never grows by what is older than the window
    outcomes: Counter[tuple[str, str, str, str]] = Counter()
    ended: Counter[tuple[str, str, str]] = Counter()
    rows = journal.read(_ENDED, since=now - WINDOW_NS)
    for agent, outcome, code, _ in rows:
        ended[_agent(agent), outcome, code] += 1
    for agent, _, _, lines in (*rows, *(row for each in _NOT_ENDED for row in journal.read(each))):
        for (part, ending, rule, action), count in _parts(lines):
            if part >= first:
                outcomes[_agent(agent), ending, rule, action] += count
    return outcomes, ended


def _parts(lines: str) -> Iterator[tuple[Outcomes, int]]:
    return (recent_of(line) for line in lines.split("\n") if line)


def _agent(subject: str) -> str:
    return subject.removeprefix("agent:")
