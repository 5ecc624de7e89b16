"""Seals finished runs: all events of a run become one compressed object, which takes about a tenth of the space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from remit.core import UsageError
from remit.journal.hash_chain import ChainLink, verify_chain
from remit.journal.storage.core_tables import EVENT, PAYLOAD, RUN, SEALED
from remit.journal.storage.database import Sql
from remit.journal.storage.rows import as_link
from remit.journal.storage.sealed import pack
from remit.journal.store import IN_ORDER, Journal
from remit.journal.upkeep.deletion import bodies_of, check_ended

_of: sa.BindParameter[str] = sa.bindparam("of")
_SEAL: Final = Sql(SEALED.insert())
_DELETE: Final = tuple(
    Sql(table.delete().where(table.c.run == _of, table.c.seq <= sa.bindparam("last"))) for table in (PAYLOAD, EVENT)
)
_BODIES: Final = Sql(
    sa.select(sa.func.count()).select_from(PAYLOAD).where(PAYLOAD.c.run == _of, PAYLOAD.c.seq <= sa.bindparam("last"))
)
_UNSEALED: Final = Sql(
    sa.select(RUN.c.run).where(
        sa.text("ended > 0"),
        RUN.c.ended < sa.bindparam("before"),
        ~sa.exists().where(SEALED.c.run == RUN.c.run),
    )
)


def unsealed_runs(journal: Journal, before: int) -> list[str]:
    """The runs that ended before this time (Unix nanoseconds) and are not sealed."""
    return [str(row[0]) for row in journal.read(_UNSEALED, before=before)]


def seal_run(journal: Journal, run: str) -> bool:
    """Make one compressed object of the events of a finished run. False if that was done before.

    An event that is recorded later, such as a settled effect, follows in the table of events.
    Raises UsageError if the run has not ended, or if its chain is damaged: damage must stay visible.
    """
    while True:
        links = [as_link(row) for row in journal.read(IN_ORDER, of=run, after=-1)]
        if not links or links[0].seq:
            return False
        if any(fault.broken for fault in verify_chain(links)):
            raise UsageError(f"run {run} is damaged, so that it is not sealed: remit trace verify {run}")
        if _replace(journal, run, links):
            return True


def _replace(journal: Journal, run: str, links: Sequence[ChainLink]) -> bool:
    """Write the sealed object of these events instead of them. False if a body was erased since they were read."""
    chain, bodies = pack(links)
    last = links[-1].seq
    with journal.writing() as transaction:
        transaction.lock(bodies_of(run))
        check_ended(transaction, run)
        if transaction.execute(_BODIES, {"of": run, "last": last}) != [(sum(link.body is not None for link in links),)]:
            return False
        kept = journal.bodies.put(run, bodies)  # INVARIANT: under the lock, so that nothing of it was erased meanwhile
        transaction.execute(_SEAL, {"run": run, "last": last, "chain": chain, "bodies": kept})
        for statement in _DELETE:
            transaction.execute(statement, {"of": run, "last": last})
    return True
