"""A page of the events of one run, as they are stored: who watches a run reads what is new, and never the whole run again."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from remit.journal.hash_chain import ChainLink
from remit.journal.storage.core_tables import EVENT
from remit.journal.storage.database import Sql
from remit.journal.storage.rows import STORED, as_link
from remit.journal.store import Journal

EVENTS: Final = 200  # of one page

_PAGE: Final = Sql(
    STORED.where(EVENT.c.run == sa.bindparam("of"), EVENT.c.seq > sa.bindparam("after"))
    .order_by(EVENT.c.seq)
    .limit(sa.bindparam("most"))
)


def page_of_events(journal: Journal, run: str, after: int, most: int = EVENTS) -> list[ChainLink]:
    """The events of the run after number `after`, at most `most`, in order. A run that is sealed is unpacked for each page."""
    links = [as_link(row) for row in journal.read(_PAGE, of=run, after=after, most=most)]
    if links and links[0].seq == after + 1:
        return links
    return journal.links(run, after)[:most]
