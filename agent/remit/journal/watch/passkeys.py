"""The passkeys of people, from the stream of the workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from remit.core.events import PasskeyConfirmed, PasskeyEnrolled, PasskeyRevoked
from remit.journal.projections import WORKSPACE_RUN
from remit.journal.storage.core_tables import EVENT
from remit.journal.storage.database import Sql
from remit.journal.store import Journal

_ENROLLED: Final = Sql(
    sa.select(EVENT.c.key)
    .where(EVENT.c.run == WORKSPACE_RUN, EVENT.c.key >= "passkey.enrolled/", EVENT.c.key < "passkey.enrolled0")
    .order_by(EVENT.c.key)
)


@dataclass(frozen=True, kw_only=True)
class Passkey:
    """A passkey that a person has enrolled. `at` is Unix nanoseconds. It signs once it is confirmed, and until it is revoked."""

    enrolled: PasskeyEnrolled
    at: int
    confirmed: PasskeyConfirmed | None
    revoked: PasskeyRevoked | None

    @property
    def id(self) -> str:
        return self.enrolled.id

    @property
    def subject(self) -> str:
        """Whose it is: `user:dana`."""
        return self.enrolled.by.subject

    @property
    def is_active(self) -> bool:
        """True if an approval that it signs counts."""
        return self.confirmed is not None and self.revoked is None


def list_passkeys(journal: Journal) -> list[Passkey]:
    """Every passkey, also revoked ones, the oldest first."""
    ids = [str(row[0]).removeprefix("passkey.enrolled/") for row in journal.read(_ENROLLED)]
    found = [passkey for id in ids if (passkey := find_passkey(journal, id)) is not None]
    return sorted(found, key=lambda passkey: passkey.at)


def find_passkey(journal: Journal, id: str) -> Passkey | None:
    """The passkey with that id; None without one."""
    enrolled = journal.get(WORKSPACE_RUN, f"passkey.enrolled/{id}")
    if enrolled is None or not isinstance(enrolled.event, PasskeyEnrolled):
        return None
    confirmed, revoked = (journal.get(WORKSPACE_RUN, f"passkey.{what}/{id}") for what in ("confirmed", "revoked"))
    return Passkey(
        enrolled=enrolled.event,
        at=enrolled.at,
        confirmed=confirmed.event if confirmed and isinstance(confirmed.event, PasskeyConfirmed) else None,
        # INVARIANT: an event that is there and cannot be read revokes it, too.
        revoked=None if revoked is None else _revoked(revoked.event, enrolled.event),
    )


def enrolled_passkey(journal: Journal, id: str) -> PasskeyEnrolled | None:
    """The event that enrolled the passkey with that id; None without one."""
    found = find_passkey(journal, id)
    return None if found is None else found.enrolled


def _revoked(event: object, enrolled: PasskeyEnrolled) -> PasskeyRevoked:
    if isinstance(event, PasskeyRevoked):
        return event
    return PasskeyRevoked(id=enrolled.id, subject=enrolled.by.subject, reason="its record was erased", by=enrolled.by)
