"""The requests for approval that wait, without their bodies: a watcher asks for them every few seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from remit.core.events import ApprovalRequested
from remit.journal.storage.core_tables import APPROVAL, EVENT, RUN
from remit.journal.storage.database import Sql
from remit.journal.storage.rows import STORED, as_link
from remit.journal.store import Journal

_WAITING: Final = Sql(
    sa.select(APPROVAL.c.run, APPROVAL.c.seq, APPROVAL.c.requested, RUN.c.agent)
    .select_from(APPROVAL.join(RUN, APPROVAL.c.run == RUN.c.run))
    .where(APPROVAL.c.state == "waiting", APPROVAL.c.expires > sa.bindparam("now"))
    .order_by(APPROVAL.c.requested)
)
_ONE: Final = Sql(STORED.where(EVENT.c.run == sa.bindparam("of"), EVENT.c.seq == sa.bindparam("number")))


@dataclass(frozen=True, kw_only=True)
class WaitingRequest:
    """A request for approval that waits: event `seq` of its run, recorded at that time (Unix nanoseconds)."""

    run: str
    seq: int
    at: int
    agent: str


def waiting_requests(journal: Journal) -> list[WaitingRequest]:
    """The requests that wait for people and have not expired, the oldest first."""
    return [
        WaitingRequest(run=run, seq=seq, at=at, agent=agent)
        for run, seq, at, agent in journal.read(_WAITING, now=journal.clock())
    ]


def request_of(journal: Journal, waiting: WaitingRequest) -> ApprovalRequested | None:
    """The event of the request; None if it was erased."""
    for row in journal.read(_ONE, of=waiting.run, number=waiting.seq):
        with journal.failing("read"):
            event = as_link(row).recorded().event
        return event if isinstance(event, ApprovalRequested) else None
    return None
