"""Compares the projections with the events that they follow from, and computes them again: `remit journal check|rebuild`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from remit.core.events import BudgetSpent, Recorded, RolloutOpened
from remit.journal.limits import bucket_of
from remit.journal.projections import (
    CIRCUIT_STREAM,
    EVALUATION_STREAM,
    WORKSPACE_RUN,
    apply_rollout,
    circuit_changes,
    evaluation_changes,
    is_run,
    next_circuit,
    rollout_changes,
    run_rows,
    workspace_changes,
)
from remit.journal.reducer import apply_event
from remit.journal.run_state import ROLLOUT_STREAM, Circuit, RolloutState, RunState
from remit.journal.storage.arm_counts import arm_of, arm_runs, count_arms, count_row, recount
from remit.journal.storage.core_tables import APPROVAL, ARM_COUNT, EVALUATION, HEAD, PROJECTIONS, ROLLOUT
from remit.journal.storage.database import Drop, Put, Sql, drop_statement, put_statement
from remit.journal.store import Journal

PAGE: Final = 500  # streams whose names are read at once

Row: TypeAlias = Mapping[str, Any]
Place: TypeAlias = tuple[str, tuple[Any, ...]]  # a table, and a primary key in it
Progress: TypeAlias = Callable[[int], None]  # called with the number of each stream


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One row that differs from what its events say. None: there is no such row."""

    table: str
    key: tuple[Any, ...]
    stored: Row | None
    computed: Row | None

    def __str__(self) -> str:
        name = f"{self.table} {'/'.join(str(part) for part in self.key)}"
        if self.stored is None:
            return f"{name}: the row is missing"
        if self.computed is None:
            return f"{name}: no event explains the row"
        columns = [column for column in self.computed if self.computed[column] != self.stored[column]]
        return f"{name}: {', '.join(columns)} differ from the events"


def check_projections(journal: Journal, progress: Progress = lambda _: None) -> list[Difference]:
    """Every row of the projections that differs from the events. A run that goes on meanwhile may look different."""
    computed, stored = _computed(journal, progress), _stored(journal)
    return [
        Difference(table=place[0], key=place[1], stored=stored.get(place), computed=computed.get(place))
        for place in sorted({*computed, *stored}, key=str)
        if not _agree(place[0], stored.get(place), computed.get(place))
    ]


def rebuild_projections(journal: Journal, progress: Progress = lambda _: None) -> int:
    """Write the rows that differ from the events again. Returns how many differed.

    A run may go on meanwhile: its rows are computed while nobody can append to it.
    """
    differences = check_projections(journal, progress)
    for run in dict.fromkeys(str(item.key[0]) for item in differences if item.table in _OF_RUNS):
        rebuild_run(journal, run)
    with journal.writing() as transaction:
        for item in differences:
            table = _TABLES[item.table]
            if item.table in _OF_RUNS:  # done above
                continue
            if item.computed is not None:
                transaction.execute(put_statement(table), item.computed)
            else:
                key = dict(zip((column.name for column in table.primary_key), item.key, strict=True))
                transaction.execute(drop_statement(table), key)
    return len(differences)


def rebuild_run(journal: Journal, run: str) -> None:
    """Write the rows of one run again: after events of it were erased, or because they differ."""
    with journal.writing() as transaction:
        transaction.execute(_LOCK, {"of": run})
        rows = _run_puts(run, journal.events(run))
        rollouts = {arm_of(transaction, run)[0]}
        for table in (_TABLES["run"], APPROVAL):
            transaction.execute(table.delete().where(table.c.run == run))
        for put in rows:
            transaction.execute(put_statement(put.table), put.row)
        for rollout in rollouts | {arm_of(transaction, run)[0]}:
            recount(transaction, rollout)


_OF_RUNS: Final = ("run", "approval")
_TABLES: Final = {table.name: table for table in PROJECTIONS}
_of: sa.BindParameter[str] = sa.bindparam("of")
_LOCK: Final = Sql(HEAD.update().where(HEAD.c.run == _of).values(seq=HEAD.c.seq))  # those who append wait for it


def _stored(journal: Journal) -> dict[Place, Row]:
    found: dict[Place, Row] = {}
    for table in PROJECTIONS:
        names = [column.name for column in table.columns]
        for values in journal.read(sa.select(table)):
            row = dict(zip(names, values, strict=True))
            found[_place(table, row)] = row
    return found


def _computed(journal: Journal, progress: Progress) -> dict[Place, Row]:
    rows: dict[Place, Row] = {}
    for number, stream in enumerate(_streams(journal)):
        progress(number)
        events = journal.events(stream)
        for change in _run_puts(stream, events) if is_run(stream) else _shared_puts(stream, events):
            rows[_place(change.table, change.row)] = change.row
        for (scope, start), amount in spent(events).items():
            place = ("limit_bucket", (scope, start))
            rows[place] = {"scope": scope, "start": start, "amount": amount + rows.get(place, {"amount": 0})["amount"]}
    return rows | _arm_counts(rows)


def _arm_counts(rows: Mapping[Place, Row]) -> dict[Place, Row]:
    """The rows of `arm_count`, which follow from those of rollouts and of runs."""
    ended: dict[str, list[Row]] = {}
    for (table, _), row in rows.items():
        if table == "run" and row["rollout"] and row["ended"]:
            ended.setdefault(row["rollout"], []).append(row)
    found: dict[Place, Row] = {}
    for rollout, runs in ended.items():
        if (opened := rows.get((ROLLOUT.name, (rollout,)))) is not None:
            counts = count_arms(RolloutOpened.model_validate_json(opened["opened"]), arm_runs(runs))
            counted = (count_row(rollout, place, numbers) for place, numbers in counts.items())
            found |= {_place(ARM_COUNT, row): row for row in counted}
    return found


def _streams(journal: Journal) -> Iterator[str]:
    last = ""
    while True:
        after = sa.select(HEAD.c.run).where(HEAD.c.run > last, HEAD.c.seq >= 0).order_by(HEAD.c.run).limit(PAGE)
        found = [str(row[0]) for row in journal.read(after)]
        yield from found
        if len(found) < PAGE:
            return
        last = found[-1]


def _run_puts(run: str, events: Iterable[Recorded]) -> Iterable[Put]:
    state = RunState()
    for recorded in events:
        state = apply_event(state, recorded)
    return run_rows(run, state).values()


def _shared_puts(stream: str, events: Iterable[Recorded]) -> list[Put]:
    """The rows that a stream of holds, of one circuit breaker, of one evaluation or of one rollout leads to."""
    kept: dict[Place, Put] = {}
    circuit: Circuit | None = None
    rollout: RolloutState | None = None
    for recorded in events:
        if stream == WORKSPACE_RUN:
            changes = workspace_changes(recorded)
        elif stream.startswith(ROLLOUT_STREAM):
            rollout = apply_rollout(rollout, recorded)
            changes = rollout_changes(rollout)
        elif stream.startswith(EVALUATION_STREAM):
            before = kept.get((EVALUATION.name, (stream.removeprefix(EVALUATION_STREAM),)))
            changes = evaluation_changes({} if before is None else before.row, recorded)
        else:
            circuit = next_circuit(circuit, recorded.event, recorded.at)
            changes = circuit_changes(stream.removeprefix(CIRCUIT_STREAM), circuit)
        for change in changes:
            match change:
                case Put():
                    kept[_place(change.table, change.row)] = change
                case Drop():
                    kept.pop(_place(change.table, change.key), None)
    return list(kept.values())


def spent(events: Iterable[Recorded]) -> dict[tuple[str, int], int]:
    """What a run took from shared limits, by limit and part of its window."""
    spent: dict[tuple[str, int], int] = {}
    reserved: dict[tuple[int | None, int | None], BudgetSpent] = {}
    for recorded in events:
        event = recorded.event
        if not isinstance(event, BudgetSpent):
            continue
        before = reserved.get((event.step, event.index)) if event.phase == "used" else None
        if event.phase == "reserved":
            reserved[event.step, event.index] = event
        elif before is None:  # erased: what the correction belongs to is not known any more
            continue
        for scope, amount in event.amounts.items():
            at = event.at if before is None else before.at
            key = scope, bucket_of(at, event.windows[scope])
            spent[key] = spent.get(key, 0) + amount - (before.amounts.get(scope, 0) if before else 0)
    return spent


def _agree(table: str, stored: Row | None, computed: Row | None) -> bool:
    """True if the row is what the events say.

    A counter of a limit may be higher: runs that were deleted have taken from it, too. What has left the window is deleted at
    the next claim, or was before.
    """
    if table == "limit_bucket":
        return stored is None or computed is None or stored["amount"] >= computed["amount"]
    return stored == computed


def _place(table: sa.Table, row: Row) -> Place:
    return table.name, tuple(row[column.name] for column in table.primary_key)
