"""What all runs share, read from its projections: holds, API keys, circuit breakers and open rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from remit.core.events import EVENT, HoldSet, KeyCreated, RolloutFinished, RolloutOpened, RolloutRolledBack
from remit.journal.projections import CIRCUIT_COLUMNS
from remit.journal.run_state import Circuit, RolloutState
from remit.journal.storage.core_tables import API_KEY, CIRCUIT, HOLD, IS_OPEN, PUBLISHED, ROLLOUT
from remit.journal.storage.database import Database, Row, Sql

_HOLDS: Final = Sql(sa.select(HOLD.c.scope, HOLD.c.body))
_PUBLISHED: Final = Sql(sa.select(PUBLISHED.c.event))
_KEYS: Final = Sql(sa.select(API_KEY.c.id, API_KEY.c.body))
_CIRCUITS: Final = Sql(sa.select(CIRCUIT.c.tool, *(CIRCUIT.c[name] for name in CIRCUIT_COLUMNS)))
_OPEN: Final = Sql(sa.select(ROLLOUT).where(IS_OPEN).order_by(ROLLOUT.c.at, ROLLOUT.c.rollout))


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The holds in force by scope, the key of the event that published the rules in force or "", the API keys that are not revoked by id, the circuit breakers of tools that failed by tool, and
    the open rollouts, the oldest first.
    """

    holds: Mapping[str, HoldSet]
    published: str
    keys: Mapping[str, KeyCreated]
    circuits: Mapping[str, Circuit]
    rollouts: Sequence[RolloutState]


def read_shared(database: Database) -> Shared:
    """What all runs share, as it is now."""
    holds: dict[str, HoldSet] = {}
    for scope, body in database.read(_HOLDS):
        event = EVENT.validate_json(body)
        assert isinstance(event, HoldSet)
        holds[scope] = event
    circuits = {row[0]: circuit_of(row[1:]) for row in database.read(_CIRCUITS)}
    keys = {id: KeyCreated.model_validate_json(body) for id, body in database.read(_KEYS)}
    published = next((str(row[0]) for row in database.read(_PUBLISHED)), "")
    return Shared(
        published=published,
        holds=holds,
        keys=keys,
        circuits=circuits,
        rollouts=tuple(map(rollout_of, database.read(_OPEN))),
    )


def circuit_of(row: Row) -> Circuit:
    """The circuit breaker of a row of `circuit` without its tool."""
    return Circuit(**dict(zip(CIRCUIT_COLUMNS, row, strict=True)))


def rollout_of(row: Row) -> RolloutState:
    """The rollout of a row of `rollout`."""
    columns = dict(zip((column.name for column in ROLLOUT.columns), row, strict=True))
    ended = EVENT.validate_json(columns["ended"]) if columns["ended"] else None
    assert ended is None or isinstance(ended, RolloutRolledBack | RolloutFinished)
    return RolloutState(
        id=columns["rollout"],
        opened=RolloutOpened.model_validate_json(columns["opened"]),
        opened_at=columns["at"],
        number=columns["stage"],
        ended=ended,
    )
