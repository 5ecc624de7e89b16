"""The rows that change with an event of no run: of the workspace, a circuit breaker, a rollout, an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from remit.core.events import Recorded
from remit.journal.projections import (
    CIRCUIT_STREAM,
    EVALUATION_STREAM,
    apply_rollout,
    circuit_changes,
    evaluation_changes,
    next_circuit,
    rollout_changes,
    workspace_changes,
)
from remit.journal.run_state import ROLLOUT_STREAM
from remit.journal.storage.core_tables import EVALUATION
from remit.journal.storage.database import Change, Sql

if TYPE_CHECKING:
    from remit.journal.store import Journal

_EVALUATION: Final = Sql(sa.select(EVALUATION).where(EVALUATION.c.evaluation == sa.bindparam("of")))


def stream_changes(journal: Journal, recorded: Recorded) -> Sequence[Change]:
    """The rows that change with this event, which is the next one of its stream."""
    if recorded.run.startswith(CIRCUIT_STREAM):
        tool = recorded.run.removeprefix(CIRCUIT_STREAM)
        return circuit_changes(tool, next_circuit(journal.circuit(tool), recorded.event, recorded.at))
    if recorded.run.startswith(ROLLOUT_STREAM):
        return rollout_changes(apply_rollout(journal.rollout(recorded.run.removeprefix(ROLLOUT_STREAM)), recorded))
    if recorded.run.startswith(EVALUATION_STREAM):
        rows = journal.read(_EVALUATION, of=recorded.run.removeprefix(EVALUATION_STREAM))
        names = [column.name for column in EVALUATION.columns]
        return evaluation_changes(dict(zip(names, rows[0], strict=True)) if rows else {}, recorded)
    return workspace_changes(recorded)
