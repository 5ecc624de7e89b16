"""Erases what people, models and tools wrote, on request. Headers stay, so that the chain can still be verified."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from remit.core import UsageError
from remit.journal.storage.core_tables import EVENT, PAYLOAD, SEALED
from remit.journal.storage.database import Sql
from remit.journal.storage.sealed import pack, unpack, without_bodies
from remit.journal.store import SEALED_OBJECT, Journal
from remit.journal.upkeep.check import rebuild_run
from remit.journal.upkeep.deletion import bodies_of, check_ended

_of: sa.BindParameter[str] = sa.bindparam("of")
_RESEAL: Final = Sql(SEALED.update().where(SEALED.c.run == _of).values(bodies=sa.bindparam("left")))
_SEQS: Final = Sql(sa.select(EVENT.c.seq).where(EVENT.c.run == _of))
NO_BODIES: Final = pack(())[1]
_ERASE: Final = Sql(PAYLOAD.delete().where(PAYLOAD.c.run == _of, PAYLOAD.c.seq == sa.bindparam("number")))


def erase(journal: Journal, run: str, *numbers: int) -> None:
    """Erase the bodies of these events permanently, or of all, and what the list of runs has of them.

    The run's trace file holds a copy: write that file again afterwards. Call `forget_deleted` after the last run.
    Raises UsageError if there is no such event, or if the run has not finished: its state is still computed from its events.
    """
    known = _numbers(journal, run)
    erased = set(numbers) or known
    if missing := sorted(erased - known):
        raise UsageError(f"run {run!r} has no event {missing[0]}")
    with journal.writing() as transaction:
        transaction.lock(bodies_of(run))
        check_ended(transaction, run)
        left = b""
        for _, chain, bodies in transaction.execute(SEALED_OBJECT, {"of": run}):
            whole = erased >= known  # then nothing is read: the object may be missing
            left = journal.bodies.put(
                run, NO_BODIES if whole else without_bodies(run, chain, journal.bodies.get(run, bodies), erased)
            )
            transaction.execute(_RESEAL, {"of": run, "left": left})
        for number in sorted(erased):
            transaction.execute(_ERASE, {"of": run, "number": number})
    # INVARIANT: after the row. What a crash leaves here, the next call removes.
    if journal.copies is not None:
        journal.copies.forget(run)
    journal.bodies.forget(run, but=left)
    rebuild_run(journal, run)


def _numbers(journal: Journal, run: str) -> set[int]:
    """The numbers of the events of a run, also if the bodies of a sealed one are missing."""
    sealed = journal.read(SEALED_OBJECT, of=run)
    numbers = {link.seq for _, chain, _ in sealed for link in unpack(run, chain, NO_BODIES)}
    return numbers | {int(seq) for (seq,) in journal.read(_SEQS, of=run)}


def forget_deleted(journal: Journal) -> None:
    """Return once the database's own log holds nothing that was erased, as far as the database can do that."""
    with journal.failing("written"):
        journal.database.forget_deleted()
