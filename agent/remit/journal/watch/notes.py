"""Notes acts that belong to no run: other rules or pins than before, a secret that was set, a read of content.

A person who edits rules in an editor or with git records nothing, so the first run under them notes the change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import sqlalchemy as sa

from remit.core import Principal
from remit.core.events import AlertClosed, AlertRaised, AnyEvent, PolicyAdopted
from remit.journal.projections import WORKSPACE_RUN
from remit.journal.run_list import alerts_in_force, raise_alert
from remit.journal.storage.core_tables import EVENT, IS_LOOKED_UP
from remit.journal.storage.database import Sql
from remit.journal.store import AlreadyRecorded, Journal

_LATEST: Final = Sql(
    sa.select(EVENT.c.key)
    .where(IS_LOOKED_UP, EVENT.c.type == "policy.adopted", EVENT.c.run == WORKSPACE_RUN)
    .order_by(EVENT.c.at.desc())
    .limit(1)
)


def note_adoption(journal: Journal, *, policy_digest: str, pins_digest: str, run: str, by: Principal) -> None:
    """Record `PolicyAdopted` if the run starts under other rules or pins than the live run before it."""
    last = _latest(journal)
    while last is None or (last.policy_digest, last.pins_digest) != (policy_digest, pins_digest):
        event = PolicyAdopted(
            number=0 if last is None else last.number + 1,
            run=run,
            policy_digest=policy_digest,
            pins_digest=pins_digest,
            earlier_policy="" if last is None else last.policy_digest,
            earlier_pins="" if last is None else last.pins_digest,
            by=by,
        )
        try:
            journal.append_shared(WORKSPACE_RUN, event, durable=False)
            return
        except AlreadyRecorded:  # another run noted a change first
            last = _latest(journal)


def note_act(journal: Journal, make: Callable[[int], AnyEvent], *, durable: bool = False) -> None:
    """Record an act in the stream of the workspace. `make` gets the number of the event."""
    number = (journal.head(WORKSPACE_RUN) or (-1, ""))[0] + 1
    while True:
        try:
            journal.append_shared(WORKSPACE_RUN, make(number), durable=durable)
            return
        except AlreadyRecorded:  # another process recorded one first
            number += 1


def note_server(journal: Journal, *, tool: str, agent: str, run: str, changes: Sequence[str]) -> None:
    """Raise the alert that the server of a tool differs from its pin, if there are `changes`, and close it if there are none."""
    text = f"the server of {tool} lists other tools than were pinned; what differs does not run: remit tool pin {tool}"
    alert = AlertRaised(kind="server", agent=agent, subject=tool, run=run, text=text, changes=tuple(changes))
    if changes:
        raise_alert(journal, alert)
    elif any(other.alert == alert.alert for other in alerts_in_force(journal)):
        note_act(journal, lambda number: AlertClosed(number=number, alert=alert.alert), durable=True)


def changed_servers(journal: Journal) -> dict[str, tuple[str, ...]]:
    """How the servers of tools differ from their pins, by tool, as runs have seen it."""
    alerts = (alert for alert in alerts_in_force(journal) if alert.kind == "server")
    return {alert.subject: alert.changes for alert in alerts}


def _latest(journal: Journal) -> PolicyAdopted | None:
    rows = journal.read(_LATEST)
    found = journal.get(WORKSPACE_RUN, rows[0][0]) if rows else None
    return found.event if found is not None and isinstance(found.event, PolicyAdopted) else None
