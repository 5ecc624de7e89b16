"""The queue of the workers: the runs that a worker is to start or to continue now.

There is no table of jobs. A run is in the queue because of its own row, which every event of it changes in the same transaction; a
worker owns a run because it holds its lease. So no job can exist without its run, be done twice, or be forgotten.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

import sqlalchemy as sa

from remit.core.events import NANO
from remit.journal.lease import is_alive
from remit.journal.storage.core_tables import HEAD, IS_LEASED, IS_QUEUED, RUN
from remit.journal.storage.database import Row, Sql
from remit.journal.store import Journal

MOST: Final = 32  # runs of each kind that one look finds
LOOK_AGAIN_S: Final = 1.0  # how often a worker looks whether another process that drives runs has died

_now: sa.BindParameter[int] = sa.bindparam("now")
_GOES_ON: Final = sa.or_(RUN.c.state == "running", RUN.c.state == "ready")
_LEASED: Final = sa.func.coalesce(HEAD.c.holder, "") != ""
_QUEUED: Final = (
    sa.select(
        RUN.c.run, RUN.c.agent, RUN.c.user, RUN.c.priority, RUN.c.started, RUN.c.state, HEAD.c.holder, HEAD.c.beat
    )
    .select_from(RUN.outerjoin(HEAD, RUN.c.run == HEAD.c.run))
    .where(IS_QUEUED)
)
_DRIVEN: Final = Sql(_QUEUED.where(IS_LEASED, _GOES_ON))
_TIMED: Final = Sql(
    _QUEUED.where(RUN.c.waits_until > 0, RUN.c.waits_until <= _now).order_by(RUN.c.waits_until).limit(MOST)
)
_NEXT: Final = Sql(sa.select(sa.func.min(RUN.c.waits_until)).where(IS_QUEUED, RUN.c.waits_until > _now))
_COUNT: Final = Sql(sa.select(sa.func.count()).select_from(RUN).where(IS_QUEUED, _GOES_ON))


@dataclass(frozen=True, kw_only=True)
class Queued:
    """What a worker finds in the queue of one workspace.

    `runs` can go on now, the first ones first, without those on hold; there may be more. The first `alike` of them have the same
    priority: workers that look at one time take different ones of these. `driven` counts those that processes drive.
    `again_in` is in how many seconds to look again although nothing is recorded until then; None: only after a change.
    """

    runs: tuple[str, ...]
    driven: int
    again_in: float | None
    alike: int = 0


def look_into_queue(journal: Journal) -> Queued:
    """The runs that a worker can take now, by priority and then by age; those whose process has died come first.

    INVARIANT: a run that waits for people costs nothing. Without a driven run and without a time to wait for, no worker needs to
    look again until something is recorded.
    """
    now, held = journal.clock(), set(journal.holds())
    leased = journal.read(_DRIVEN)
    lost = [row for row in leased if not _is_driven(row, now)]
    timed = [row for row in journal.read(_TIMED, now=now) if not _is_driven(row, now)]
    found = [*sorted(lost, key=_place), *sorted([*timed, *_free(journal, held)], key=_place)]
    driven = len(leased) - len(lost)
    (following,) = journal.read(_NEXT, now=now)[0]
    times = [LOOK_AGAIN_S] if driven else []
    times += [] if following is None else [(following - now) / NANO]
    able = [row for row in found if held.isdisjoint(("all", f"run:{row[0]}", row[1], row[2]))]
    return Queued(
        runs=tuple(row[0] for row in able),
        driven=driven,
        again_in=min(times, default=None),
        alike=len(list(takewhile(lambda row: row[3] == able[0][3], able))),
    )


def count_queued(journal: Journal) -> int:
    """How many runs wait for a worker, or are driven by one. Those that wait for people or for their model do not count."""
    return int(journal.read(_COUNT)[0][0])


def _free(journal: Journal, held: Collection[str]) -> list[Row]:
    """The runs that no process drives. A thousand of them on hold must not hide one that can go on."""
    free = _QUEUED.where(_GOES_ON, ~_LEASED)
    for scope in held:
        column = {"run": RUN.c.run, "agent": RUN.c.agent, "user": RUN.c.user}.get(scope.partition(":")[0])
        free = free if column is None else free.where(column != scope.removeprefix("run:"))
    return journal.read(free.order_by(RUN.c.priority.desc(), RUN.c.started, RUN.c.run).limit(MOST))


def _is_driven(row: Row, now: int) -> bool:
    return is_alive(row[6] or "", row[7] or 0, now)


def _place(row: Row) -> tuple[int, int, str]:
    return (-row[3], row[4], row[0])
