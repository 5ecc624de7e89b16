"""The state of a workspace as numbers, for gauges and alerts. Only projections are read, and only rows of what is not over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import sqlalchemy as sa

from remit.core import is_principal
from remit.core.events import CODE, NANO
from remit.journal.projections import recent_of
from remit.journal.run_list import RunQuery, count_alerts, count_approvals, list_runs
from remit.journal.run_state import PART_NS, Outcomes, RunStatus
from remit.journal.storage.core_tables import APPROVAL, HAS_ENDED, IS_UNFINISHED, RUN
from remit.journal.storage.database import Sql
from remit.journal.store import Journal

Age: TypeAlias = Literal["under_5m", "under_30m", "under_4h", "older"]
AGES: Final[Mapping[Age, int]] = {"under_5m": 300, "under_30m": 1800, "under_4h": 14400}  # seconds; "older" is the rest
WINDOW_NS: Final = 900 * NANO  # how far back what ends is counted

_APPROVALS: Final = Sql(sa.select(APPROVAL.c.requested).where(APPROVAL.c.state == "waiting"))
_RECENT = (RUN.c.agent, RUN.c.outcome, RUN.c.code, RUN.c.recent)
_ENDED: Final = Sql(sa.select(*_RECENT).where(HAS_ENDED, RUN.c.ended >= sa.bindparam("since"), RUN.c.evaluation == ""))
_UNFINISHED: Final = Sql(sa.select(*_RECENT).where(IS_UNFINISHED, RUN.c.evaluation == ""))


@dataclass(frozen=True, kw_only=True)
class WorkspaceFigures:
    """The state of a workspace as numbers, without runs of evaluations. An agent, a code or a rule that has none is missing.

    `unfinished` counts the runs that have not ended by agent and state, `in_doubt` the effects of unknown outcome by agent.
    `approvals` counts the calls that wait for people by how long they have waited. `emergencies` are those that nobody has reviewed,
    `holds` those in force on runs, agents, tools or everything: no revocation of code, and no principal that is disabled. `outcomes` counts the answers of the last 15 minutes by agent,
    code ("ok", or `MODEL_FAILED` for the model), rule that denied, and action; `ended` the runs that ended in that time by agent,
    outcome and code ("" without one).
    """

    unfinished: Mapping[tuple[str, RunStatus], int]
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
        unfinished=Counter((_agent(run.agent), run.state) for run in list_runs(journal, RunQuery(unfinished=True))),
        in_doubt=_in_doubt(journal),
        approvals=Counter(_age((now - int(row[0])) / NANO) for row in journal.read(_APPROVALS)),
        emergencies=count_approvals(journal, "emergency"),
        holds=sum(not scope.startswith(CODE) and not is_principal(scope) for scope in journal.holds()),
        alerts=count_alerts(journal),
        outcomes=outcomes,
        ended=ended,
    )


def _in_doubt(journal: Journal) -> Mapping[str, int]:
    """The effects of unknown outcome by agent. A call that a living process carries out at present is none."""
    found: Counter[str] = Counter()
    for run in list_runs(journal, RunQuery(in_doubt=True)):
        found[_agent(run.agent)] += sum(item.answered or run.state != "running" for item in run.in_doubt)
    return found


def _age(seconds: float) -> Age:
    for age, most in AGES.items():
        if seconds < most:
            return age
    return "older"


def _recent(
    journal: Journal, now: int
) -> tuple[Mapping[tuple[str, str, str, str], int], Mapping[tuple[str, str, str], int]]:
    first = (now - WINDOW_NS) // PART_NS + 1  # whole parts only: a count never grows by what is older than the window
    outcomes: Counter[tuple[str, str, str, str]] = Counter()
    ended: Counter[tuple[str, str, str]] = Counter()
    rows = journal.read(_ENDED, since=now - WINDOW_NS)
    for agent, outcome, code, _ in rows:
        ended[_agent(agent), outcome, code] += 1
    for agent, _, _, lines in (*rows, *journal.read(_UNFINISHED)):
        for (part, ending, rule, action), count in _parts(lines):
            if part >= first:
                outcomes[_agent(agent), ending, rule, action] += count
    return outcomes, ended


def _parts(lines: str) -> Iterator[tuple[Outcomes, int]]:
    return (recent_of(line) for line in lines.split("\n") if line)


def _agent(subject: str) -> str:
    return subject.removeprefix("agent:")
