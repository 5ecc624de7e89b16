"""Erases what people, models and tools wrote, on request. Headers stay, so that the chain can still be verified."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from remit.core import UsageError
from remit.journal.storage.core_tables import PAYLOAD, SEALED
from remit.journal.storage.database import Sql
from remit.journal.storage.sealed import without_bodies
from remit.journal.store import SEALED_OBJECT, Journal
from remit.journal.upkeep.check import rebuild_run
from remit.journal.upkeep.deletion import bodies_of, check_ended

_of: sa.BindParameter[str] = sa.bindparam("of")
_RESEAL: Final = Sql(SEALED.update().where(SEALED.c.run == _of).values(bodies=sa.bindparam("left")))
_ERASE: Final = Sql(PAYLOAD.delete().where(PAYLOAD.c.run == _of, PAYLOAD.c.seq == sa.bindparam("number")))


def erase(journal: Journal, run: str, *numbers: int) -> None:
    """Erase the bodies of these events permanently, or of all, and what the list of runs has of them.

    The run's trace file holds a copy: write that file again afterwards. Call `forget_deleted` after the last run.
    Raises UsageError if there is no such event, or if the run has not finished: its state is still computed from its events.
    """
    known = {link.seq for link in journal.links(run)}
    erased = set(numbers) or known
    if missing := sorted(erased - known):
        raise UsageError(f"run {run!r} has no event {missing[0]}")
    with journal.writing() as transaction:
        transaction.lock(bodies_of(run))
        check_ended(transaction, run)
        for _, chain, bodies in transaction.execute(SEALED_OBJECT, {"of": run}):
            transaction.execute(_RESEAL, {"of": run, "left": without_bodies(run, chain, bodies, erased)})
        for number in sorted(erased):
            transaction.execute(_ERASE, {"of": run, "number": number})
    rebuild_run(journal, run)


def forget_deleted(journal: Journal) -> None:
    """Return once the database's own log holds nothing that was erased, as far as the database can do that."""
    with journal.failing("written"):
        journal.database.forget_deleted()
