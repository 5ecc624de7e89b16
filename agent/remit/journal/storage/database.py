"""What the journal needs of a database: statements that run on SQLite and PostgreSQL, transactions, and a counter of changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Final, Literal, Protocol, TypeAlias

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from remit.core import Claim, RemitError
from remit.journal.hash_chain import ChainLink
from remit.journal.storage.core_tables import EVENT, HEAD, PAYLOAD

SHARED: Final = "shared"  # the topic of holds, API keys, circuits and rollouts: every run reads them

Dialect: TypeAlias = Literal["sqlite", "postgresql"]
Row: TypeAlias = tuple[Any, ...]
Params: TypeAlias = Mapping[str, Any]

_PARAMETERS: Final[Mapping[Dialect, str]] = {"sqlite": "named", "postgresql": "pyformat"}


@cache
def dialect_of(name: Dialect) -> sa.Dialect:
    """How SQLAlchemy writes statements for that database. A process loads only the dialect of its journal."""
    dialect: sa.Dialect = import_module(f"sqlalchemy.dialects.{name}").dialect(paramstyle=_PARAMETERS[name])
    return dialect


def insert_or(table: sa.Table, dialect: Dialect) -> Any:
    """An insert that says what happens if the row exists. Both dialects have the construct, and each reads only its own."""
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)


class HeadMoved(RemitError):
    """Another process appended to the chain first, or took over the lease; nothing was recorded."""


class Sql:
    """One statement, compiled once for each database.

    A call runs some of these a dozen times, and SQLAlchemy takes longer to compile one than SQLite to run it. A function makes
    a statement that differs between the databases.
    """

    def __init__(self, statement: sa.ClauseElement | Callable[[Dialect], sa.ClauseElement]) -> None:
        self._statement = statement
        self._compiled: dict[Dialect, tuple[str, Params]] = {}

    def text(self, dialect: Dialect) -> str:
        """The statement as the driver of that database reads it."""
        return self._for(dialect)[0]

    def values(self, params: Params | None, dialect: Dialect) -> Params:
        """Every value of the statement: the given ones, and those that are part of it, which differ between databases."""
        fixed = self._for(dialect)[1]
        return {**fixed, **(params or {})} if fixed else params or {}

    def _for(self, dialect: Dialect) -> tuple[str, Params]:
        if dialect not in self._compiled:
            statement = self._statement(dialect) if callable(self._statement) else self._statement
            compiled = statement.compile(dialect=dialect_of(dialect))
            fixed = {name: value for name, value in (compiled.params or {}).items() if value is not None}
            self._compiled[dialect] = str(compiled), fixed
        return self._compiled[dialect]


@dataclass(frozen=True, kw_only=True)
class Put:
    """Write this row: insert it, or replace the row of the same primary key."""

    table: sa.Table
    row: Params


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Delete the row of this primary key, if it exists."""

    table: sa.Table
    key: Params


Change: TypeAlias = Put | Drop


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Events that are appended to one chain in one transaction, and the rows of projections that change with them.

    `before` is the number of the event to which the first one is sealed, -1 for none. With a `fence`, only the holder of
    the lease of that number may append. `claims` are granted, or nothing is recorded. `durable` means that the events survive a
    power failure, too. `topics` are what waiting processes are notified of. `beat` is when the holder of the lease said that it
    lives, in Unix nanoseconds: with a `fence`, an append says it too.
    """

    run: str
    before: int
    links: Sequence[ChainLink]
    changes: Sequence[Change] = ()
    claims: Sequence[Claim] = ()
    fence: int | None = None
    durable: bool = False
    topics: Sequence[str] = ()
    beat: int = 0


class Transaction(Protocol):
    """One write transaction. Its statements take effect together, or none does."""

    def execute(self, statement: Sql | sa.ClauseElement, params: Params | None = None) -> list[Row]:
        """Run one statement and return its rows."""
        ...

    def changed(self, statement: Sql | sa.ClauseElement, params: Params | None = None) -> int:
        """Run one statement and return how many rows it changed."""
        ...

    def many(self, statement: Sql, params: Sequence[Params]) -> None:
        """Run one statement for each of the parameters."""
        ...

    def run(self, text: str) -> None:
        """Run a statement that is already a text."""
        ...

    def lock(self, name: str) -> None:
        """Wait until no other transaction holds the lock of this name, and hold it to the end."""
        ...

    def notify(self, topics: Sequence[str]) -> None:
        """Tell the processes that wait for one of these topics, once the transaction is committed."""
        ...


class Database(Protocol):
    """One database that holds a journal. Threads share it.

    Every method raises the errors of its driver; `failures` are their classes, and `conflicts` those of two processes that
    wrote at once, so that the later one has to look again.
    """

    dialect: Dialect
    failures: tuple[type[Exception], ...]
    conflicts: tuple[type[Exception], ...]

    def read(self, statement: Sql | sa.ClauseElement, params: Params | None = None) -> list[Row]:
        """The rows of one statement."""
        ...

    def snapshot(self) -> AbstractContextManager[Transaction]:
        """Several reads of one state of the database."""
        ...

    def transaction(self, *, durable: bool) -> AbstractContextManager[Transaction]:
        """One write transaction. Other writers of the same rows wait for its end."""
        ...

    def append(self, batch: Batch) -> None:
        """Append a batch that has no claims, in as few round trips as possible. Raises HeadMoved."""
        ...

    def append_now(self, batch: Batch) -> bool:
        """As `append`, if the batch need not be on disk and the commit waits for nothing. False: nothing was recorded."""
        ...

    def version(self, topics: Sequence[str]) -> int:
        """A number that differs after a process, also this one, has changed something of these topics."""
        ...

    def wait(self, before: int, timeout: float) -> int:
        """Wait until the number of changes of all topics differs from `before`, at most so many seconds. Returns the number."""
        ...

    def create(self) -> None:
        """Create the tables that are missing."""
        ...

    def has_table(self, name: str) -> bool:
        """True if the database has a table of that name."""
        ...

    def forget_deleted(self) -> None:
        """Return once no part of the database's own log holds what was deleted, as far as the database can."""
        ...

    def release(self) -> bool:
        """Return some disk space of deleted rows to the file system. False if none is left."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


def text_and_params(statement: Sql | sa.ClauseElement, params: Params | None, dialect: Dialect) -> tuple[str, Params]:
    """The statement as the driver reads it, and its parameters."""
    if isinstance(statement, Sql):
        return statement.text(dialect), statement.values(params, dialect)
    compiled = statement.compile(dialect=dialect_of(dialect), compile_kwargs={"render_postcompile": True})
    return str(compiled), {**(compiled.params or {}), **(params or {})}


@cache
def put_statement(table: sa.Table) -> Sql:
    """Insert a row, or replace the row of its primary key."""
    key = [column.name for column in table.primary_key]
    rest = [column.name for column in table.columns if column.name not in key]

    def put(dialect: Dialect) -> sa.ClauseElement:
        insert = insert_or(table, dialect)
        done: sa.ClauseElement = insert.on_conflict_do_update(
            index_elements=key, set_={name: insert.excluded[name] for name in rest}
        )
        return done

    return Sql(put)


@cache
def drop_statement(table: sa.Table) -> Sql:
    """Delete the row of a primary key."""
    return Sql(table.delete().where(*(column == sa.bindparam(column.name) for column in table.primary_key)))


def create_tables(transaction: Transaction, dialect: Dialect) -> None:
    """Create the tables and indexes that are missing."""
    # Imported here: it takes 0.2 s, and only a new journal needs it.
    from remit.journal.storage.tables import METADATA  # noqa: PLC0415

    for table in METADATA.tables.values():
        missing: list[sa.ClauseElement] = [CreateTable(table, if_not_exists=True)]
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            missing.append(CreateIndex(index, if_not_exists=True))
        for statement in missing:
            transaction.run(str(statement.compile(dialect=dialect_of(dialect))))


NEW_EVENT: Final = Sql(EVENT.insert())
NEW_PAYLOAD: Final = Sql(PAYLOAD.insert())
NEW_HEAD: Final = Sql(HEAD.insert())
_AT_HEAD = (HEAD.c.run == sa.bindparam("of"), HEAD.c.seq == sa.bindparam("before"))
_MOVED: Mapping[str, sa.BindParameter[Any]] = {"seq": sa.bindparam("seq"), "hash": sa.bindparam("hash")}
_HELD: Mapping[str, sa.BindParameter[Any]] = {**_MOVED, "beat": sa.bindparam("beat")}
MOVE_HEAD: Final = Sql(HEAD.update().where(*_AT_HEAD).values(_MOVED))
MOVE_HELD_HEAD: Final = Sql(HEAD.update().where(*_AT_HEAD, HEAD.c.fence == sa.bindparam("held")).values(_HELD))


def append_events(transaction: Transaction, batch: Batch) -> None:
    """Append a batch inside a transaction, statement by statement. Raises HeadMoved; the transaction must then be rolled back."""
    last = batch.links[-1]
    moved = {"of": batch.run, "before": batch.before, "seq": last.seq, "hash": last.hash}
    if batch.fence is not None:
        found = transaction.changed(MOVE_HELD_HEAD, {**moved, "held": batch.fence, "beat": batch.beat})
    else:
        found = transaction.changed(MOVE_HEAD, moved)
        if not found and batch.before == -1:
            row = {
                "run": batch.run,
                "seq": last.seq,
                "hash": last.hash,
                "holder": "",
                "beat": 0,
                "fence": 0,
                "audited": -1,
            }
            transaction.execute(NEW_HEAD, row)
            found = 1
    if not found:
        raise HeadMoved(f"the chain of run {batch.run} has moved on")
    transaction.many(NEW_EVENT, [link.header for link in batch.links])
    transaction.many(NEW_PAYLOAD, [payload_of(link) for link in batch.links])
    for change in batch.changes:
        match change:
            case Put():
                transaction.execute(put_statement(change.table), change.row)
            case Drop():
                transaction.execute(drop_statement(change.table), change.key)


def payload_of(link: ChainLink) -> dict[str, Any]:
    """The row of the body of an event."""
    return {"run": link.run, "seq": link.seq, "salt": link.salt, "body": link.body}
