"""Stored events: the statement that reads them, and their rows as links of a chain."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from remit.core import RunEnded
from remit.journal.hash_chain import ChainLink
from remit.journal.storage.core_tables import EVENT, PAYLOAD
from remit.journal.storage.database import Row

STORED: Final = sa.select(EVENT, PAYLOAD.c.salt, PAYLOAD.c.body).select_from(
    EVENT.outerjoin(PAYLOAD, (EVENT.c.run == PAYLOAD.c.run) & (EVENT.c.seq == PAYLOAD.c.seq))
)
COLUMNS: Final = tuple(column.name for column in STORED.selected_columns)


def as_link(row: Row) -> ChainLink:
    """A stored event. Raises RunEnded if another program wrote a value of the wrong type."""
    columns = dict(zip(COLUMNS, row, strict=True))
    # SQLite stores any type in any column, so a changed file may hold a text where a number was.
    if changed := next((name for name, value in columns.items() if not _is_stored(name, value)), None):
        raise RunEnded(
            "unrecorded",
            f"the journal has an event whose {changed} has the wrong type: another program changed it",
            fix="restore the journal from a backup, or read the run from its trace file",
        )
    return ChainLink(**columns)


def _is_stored(name: str, value: object) -> bool:
    """True if a column of that name can hold the value."""
    if name in ("seq", "at"):
        return type(value) is int and value >= 0
    return type(value) is str or (value is None and name in ("salt", "body"))
