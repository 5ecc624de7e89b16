"""Tokens that may be used once: which of them a process of the workspace has accepted, until they have ended."""

from __future__ import annotations

import sqlalchemy as sa

from remit.core.parsing import digest
from remit.journal.storage.core_tables import USED_TOKEN
from remit.journal.storage.database import Dialect, Sql, insert_or
from remit.journal.store import Journal


def _use(dialect: Dialect) -> sa.ClauseElement:
    done: sa.ClauseElement = insert_or(USED_TOKEN, dialect).on_conflict_do_nothing()
    return done


_USE = Sql(_use)
_FORGET = Sql(USED_TOKEN.delete().where(USED_TOKEN.c.until <= sa.bindparam("now")))


def use_token(journal: Journal, issuer: str, number: str, *, until: int) -> bool:
    """True for the first use of the token of that number; False for every later one, in any process. `until` is when it ends (Unix ns).

    INVARIANT: True is returned once it is written, so that the use is known after a power failure too. The rows of tokens that have
    ended are deleted with each use: there are as many rows as tokens that were used and have not ended.
    """
    row = {"token": digest([issuer, number]), "until": until}
    with journal.failing("written"), journal.database.transaction(durable=True) as transaction:
        transaction.execute(_FORGET, {"now": journal.clock()})
        return transaction.changed(_USE, row) == 1
