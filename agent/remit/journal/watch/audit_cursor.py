"""How far the audit stream has come in each chain. The cursor is of the journal: a stream that is killed goes on from there.

There is no order of all events: processes append to their chains at the same time, and a clock may be wrong. So each chain has its own
cursor, and an index names the chains with events behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from remit.journal.storage.core_tables import HEAD, IS_TO_AUDIT
from remit.journal.storage.database import Sql
from remit.journal.store import Journal

PAGE: Final = 200  # chains that are read at once

_last: sa.BindParameter[str] = sa.bindparam("of")
_PENDING: Final = Sql(
    sa.select(HEAD.c.run, HEAD.c.audited).where(IS_TO_AUDIT, HEAD.c.run > _last).order_by(HEAD.c.run).limit(PAGE)
)
_COUNT: Final = Sql(sa.select(sa.func.count()).select_from(HEAD).where(IS_TO_AUDIT))
_MARK: Final = Sql(
    HEAD.update()
    .where(HEAD.c.run == sa.bindparam("of"), HEAD.c.audited < sa.bindparam("to"))
    .values(audited=sa.bindparam("to"))
)


@dataclass(frozen=True, kw_only=True)
class UnsentChain:
    """A chain with events that the audit stream has not sent: those after number `after`."""

    run: str
    after: int


def unsent_chains(journal: Journal) -> Iterator[UnsentChain]:
    """The chains with events that were not sent, in the order of their names, each once. Pages are read while the iterator goes on."""
    last = ""
    while True:
        rows = journal.read(_PENDING, of=last)
        for run, audited in rows:
            yield UnsentChain(run=run, after=audited)
        if len(rows) < PAGE:
            return
        last = rows[-1][0]


def count_unsent(journal: Journal) -> int:
    """The number of chains with events that the audit stream has not sent."""
    return int(journal.read(_COUNT)[0][0])


def mark_sent(journal: Journal, sent: Mapping[str, int]) -> None:
    """Record that the events up to these numbers have arrived, by chain. A number never goes back."""
    with journal.writing(durable=False) as transaction:
        transaction.many(_MARK, [{"of": run, "to": number} for run, number in sent.items()])
