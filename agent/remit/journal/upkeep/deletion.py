"""Deletes runs a part at a time, so that other writers do not wait, and returns their disk space."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from remit.core import UsageError
from remit.journal.storage.arm_counts import arm_of, counting
from remit.journal.storage.core_tables import APPROVAL, EVENT, HEAD, PAYLOAD, RUN, SEALED
from remit.journal.storage.database import Sql, Transaction
from remit.journal.store import Journal

DELETED_AT_ONCE: Final = 500  # events in one transaction

_of: sa.BindParameter[str] = sa.bindparam("of")
_ENDED: Final = Sql(sa.select(RUN.c.ended).where(RUN.c.run == _of))
_PART: Final = tuple(
    Sql(
        table.delete().where(
            table.c.run == _of,
            table.c.seq.in_(
                sa.select(table.c.seq).where(table.c.run == _of).order_by(table.c.seq).limit(sa.bindparam("most"))
            ),
        )
    )
    for table in (PAYLOAD, EVENT)
)
_REST: Final = tuple(Sql(table.delete().where(table.c.run == _of)) for table in (APPROVAL, SEALED, HEAD, RUN))


def delete_run(journal: Journal, run: str) -> None:
    """Delete every event of a run, and the copies of them. Raises UsageError if it has not ended. An interrupted call is completed by the next one."""
    more = True
    while more:
        with journal.writing(durable=False) as transaction:
            check_ended(transaction, run)
            counts = [transaction.changed(statement, {"of": run, "most": DELETED_AT_ONCE}) for statement in _PART]
        more = max(counts) >= DELETED_AT_ONCE
    if journal.copies is not None:
        journal.copies.forget(run)
    journal.bodies.forget(run)
    with journal.writing() as transaction, counting(transaction, run, arm_of(transaction, run)):
        for statement in _REST:  # INVARIANT: last. While the list has the run, a later call deletes the rest.
            transaction.execute(statement, {"of": run})


def release_space(journal: Journal) -> None:
    """Return the disk space of deleted events to the file system.

    To be called after each run: SQLite looks through the whole list of free pages for each page that it returns.
    """
    with journal.failing("written"):
        more = True
        while more:
            with journal.letting_others_write():
                more = journal.database.release()


def check_ended(transaction: Transaction, run: str) -> None:
    """Raise UsageError if the run has not finished: its state is still computed from its events."""
    rows = transaction.execute(_ENDED, {"of": run})
    if rows and not rows[0][0]:
        raise UsageError(f"run {run!r} has not finished and still needs its events: finish it first")


def bodies_of(run: str) -> str:
    """The lock for sealing a run and for erasing its bodies: a body that is read, erased and then sealed would come back."""
    return f"bodies/{run}"
