"""The journal in PostgreSQL, for many processes and machines.

Each tenant has a schema and a role of its own, which every connection takes with `SET ROLE`. psycopg is an optional dependency:
`pip install "remit[postgres]"`.
"""

from __future__ import annotations

import queue
import select
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Final

import psycopg
import sqlalchemy as sa
from psycopg import errors, sql

from remit.core import UsageError
from remit.journal.storage.core_tables import EVENT, HEAD, PAYLOAD, RUN, SEALED, VERSIONS
from remit.journal.storage.database import (
    Batch,
    Dialect,
    HeadMoved,
    Params,
    Put,
    Row,
    Sql,
    append_events,
    create_tables,
    dialect_of,
    payload_of,
    text_and_params,
)

CONNECT_TIMEOUT_S: Final = 10
POOL: Final = 8  # connections of one process; a thread that finds none free waits for one
LISTEN_S: Final = 5.0  # how often the listener checks that its connection is alive
RECONNECT_S: Final = 0.2


class PostgresDatabase:
    """One schema of a PostgreSQL database. libpq reads what the URL does not say from its variables, such as PGPASSWORD.

    `tenant` names the schema and the role: `remit_TENANT`.
    """

    dialect: Dialect = "postgresql"
    failures: tuple[type[Exception], ...] = (psycopg.Error, OSError)
    conflicts: tuple[type[Exception], ...] = (
        errors.UniqueViolation,
        errors.SerializationFailure,
        errors.DeadlockDetected,
    )

    def __init__(self, url: str, *, tenant: str) -> None:
        self._url = url
        self.schema: Final = f"remit_{tenant}"
        self._free: queue.LifoQueue[psycopg.Connection[Row] | None] = queue.LifoQueue()
        self._closed = False
        self._listener: _Listener | None = None
        self._listening = threading.Lock()
        for _ in range(POOL):
            self._free.put(None)  # opened when it is first used
        with self._connection():
            pass

    # -- connections --

    def connect(self) -> psycopg.Connection[Row]:
        """A connection that acts as the role of the tenant, in its schema. Creates both if they are missing."""
        connection: psycopg.Connection[Row] = psycopg.connect(
            self._url,
            autocommit=True,
            prepare_threshold=1,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name="remit",
        )
        name = sql.Identifier(self.schema)
        try:
            schema = connection.execute("SELECT to_regnamespace(%s)", (f'"{self.schema}"',)).fetchone()
            if schema is None or schema[0] is None:
                self._create_role(connection)
            connection.execute(sql.SQL("SET ROLE {}").format(name))
            connection.execute(sql.SQL("SET search_path TO {}").format(name))
        except BaseException:
            connection.close()
            raise
        return connection

    def _create_role(self, connection: psycopg.Connection[Row]) -> None:
        """Create the role and the schema of the tenant. Raises UsageError with the statements if this login may not."""
        name = sql.Identifier(self.schema)
        try:
            # UniqueViolation: two processes create it at once.
            with suppress(errors.DuplicateObject, errors.UniqueViolation), connection.transaction():
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(name))
                connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
            with suppress(errors.UniqueViolation), connection.transaction():
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(name, name))
        except errors.InsufficientPrivilege:
            login = connection.info.user
            raise UsageError(
                f"the database has no role {self.schema}, and {login} may not create it. As an administrator of the database, "
                f'run: CREATE ROLE "{self.schema}" NOLOGIN; GRANT "{self.schema}" TO "{login}"; '
                f'CREATE SCHEMA "{self.schema}" AUTHORIZATION "{self.schema}";'
            ) from None

    @contextmanager
    def _connection(self) -> Generator[psycopg.Connection[Row]]:
        connection = self._free.get()
        try:
            if connection is None or _is_lost(connection):
                connection = self.connect()
            yield connection
        finally:
            if connection is not None and (connection.closed or self._closed):
                connection.close()
                connection = None
            self._free.put(connection)

    # -- `Database` --

    def read(self, statement: Sql | sa.ClauseElement, params: Params | None = None) -> list[Row]:
        text, values = text_and_params(statement, params, "postgresql")
        with self._connection() as connection:
            return connection.execute(_query(text), values).fetchall()

    @contextmanager
    def snapshot(self) -> Generator[PostgresTransaction]:
        with self._connection() as connection, connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield PostgresTransaction(connection, self.schema)

    @contextmanager
    def transaction(self, *, durable: bool) -> Generator[PostgresTransaction]:
        with self._connection() as connection, connection.transaction():
            connection.execute(f"SET LOCAL synchronous_commit TO {'on' if durable else 'off'}")
            yield PostgresTransaction(connection, self.schema)

    def append(self, batch: Batch) -> None:
        row = _only_run_row(batch)
        if row is None or batch.before == -1:
            self._append_by_statements(batch)
            return
        first, last = batch.links[0], batch.links[-1]
        columns = {name: [link.header[name] for link in batch.links] for name in _EVENT_COLUMNS}
        payloads = [payload_of(link) for link in batch.links]
        params = {
            **(row or {}),
            "of": batch.run,
            "before": first.seq - 1,
            "last_seq": last.seq,
            "last_hash": last.hash,
            "held": batch.fence,
            "beat": batch.beat,
            "sync": "on" if batch.durable else "off",
            **{f"e_{name}": values for name, values in columns.items()},
            "p_salt": [payload["salt"] for payload in payloads],
            "p_body": [payload["body"] for payload in payloads],
            "channel": self.schema,
            "topics": list(batch.topics),
        }
        text = _append_text(with_row=bool(row), held=batch.fence is not None, notify=bool(batch.topics))
        try:
            with self._connection() as connection:
                moved = connection.execute(_query(text), params).fetchone()
        except errors.UniqueViolation as conflict:
            raise HeadMoved(str(conflict)) from conflict
        if moved is None or not moved[0]:
            raise HeadMoved(f"the chain of run {batch.run} has moved on")

    def _append_by_statements(self, batch: Batch) -> None:
        try:
            with self.transaction(durable=batch.durable) as transaction:
                append_events(transaction, batch)
                transaction.notify(batch.topics)
        except self.conflicts as conflict:
            raise HeadMoved(str(conflict)) from conflict

    def append_now(self, batch: Batch) -> bool:
        return False  # each commit is a round trip

    def version(self, topics: Sequence[str]) -> int:
        return self._listen().count(topics)

    def wait(self, before: int, timeout: float) -> int:
        return self._listen().wait(before, timeout)

    def _listen(self) -> _Listener:
        with self._listening:
            if self._listener is None:
                self._listener = _Listener(self)
            return self._listener

    def create(self) -> None:
        """Create the tables that are missing."""
        with self.transaction(durable=True) as transaction:
            # Two processes that create one schema at once: the second one waits, and finds the tables. It leaves them alone, because
            # to look for an index locks its table, which the first process may be writing to.
            transaction.lock("create")
            if transaction.has_table(self.schema, VERSIONS.name):
                return
            create_tables(transaction, "postgresql")
            for name, columns in _WITHOUT_STATISTICS.items():
                for column in columns:
                    transaction.run(f'ALTER TABLE {name} ALTER COLUMN "{column}" SET STATISTICS 0')

    def has_table(self, name: str) -> bool:
        """True if the schema of the tenant has a table of that name."""
        with self._connection() as connection:
            return PostgresTransaction(connection, self.schema).has_table(self.schema, name)

    def forget_deleted(self) -> None:
        """Does nothing: old rows and the write-ahead log are the server's; see the how-to about erasing."""

    def release(self) -> bool:
        return False  # autovacuum does it

    def close(self) -> None:
        self._closed = True
        with self._listening:
            if self._listener is not None:
                self._listener.close()
        free: list[psycopg.Connection[Row] | None] = []
        with suppress(queue.Empty):
            while True:
                free.append(self._free.get_nowait())
        for connection in free:
            if connection is not None:
                connection.close()
            self._free.put(None)


class PostgresTransaction:
    """One transaction of a connection; see `database.Transaction`."""

    def __init__(self, connection: psycopg.Connection[Row], channel: str) -> None:
        self._connection = connection
        self._channel = channel

    def execute(self, statement: Sql | sa.ClauseElement, params: Params | None = None) -> list[Row]:
        cursor = self._run(statement, params)
        return cursor.fetchall() if cursor.description is not None else []

    def changed(self, statement: Sql | sa.ClauseElement, params: Params | None = None) -> int:
        return self._run(statement, params).rowcount

    def many(self, statement: Sql, params: Sequence[Params]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(_query(statement.text("postgresql")), params)

    def has_table(self, schema: str, name: str) -> bool:
        found = self._connection.execute(
            "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = %s", (schema, name)
        )
        return found.fetchone() is not None

    def lock(self, name: str) -> None:
        self._connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"{self._channel}/{name}",))

    def run(self, text: str) -> None:
        self._connection.execute(_query(text))

    def notify(self, topics: Sequence[str]) -> None:
        for topic in topics:
            self._connection.execute("SELECT pg_notify(%s, %s)", (self._channel, topic))

    def _run(self, statement: Sql | sa.ClauseElement, params: Params | None) -> psycopg.Cursor[Row]:
        text, values = text_and_params(statement, params, "postgresql")
        return self._connection.execute(_query(text), values)


class _Listener:
    """Counts notifications by topic, in a thread of its own. While its connection is lost, every look is a change."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._counts: Counter[str] = Counter()
        self._total = 0  # of all topics, and of the times at which something may have been missed
        self._missed = 0
        self._connected = threading.Event()
        self._alive = 0.0  # when the server has last answered
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="remit-listen", daemon=True)
        self._thread.start()
        self._connected.wait(CONNECT_TIMEOUT_S)

    def count(self, topics: Sequence[str]) -> int:
        """A number that differs after something of these topics has changed."""
        with self._changed:
            silent = time.monotonic() - self._alive > 2 * LISTEN_S + CONNECT_TIMEOUT_S  # the network may be gone
            if silent or not self._connected.is_set():  # nothing is known to be unchanged
                self._missed += 1
                self._total += 1
            return self._missed + sum(self._counts[topic] for topic in topics)

    def wait(self, before: int, timeout: float) -> int:
        """Wait until the number of all changes differs from `before`, at most so many seconds. Returns it."""
        with self._changed:
            self._changed.wait_for(lambda: self._total != before or self._closed, timeout)
            return self._total

    def close(self) -> None:
        """End the thread at its next look."""
        self._closed = True
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._closed:
            with suppress(psycopg.Error, OSError):
                self._listen()
            self._connected.clear()
            self._tick(None)
            if not self._closed:
                time.sleep(RECONNECT_S)

    def _listen(self) -> None:
        with self._database.connect() as connection:
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._database.schema)))
            self._alive = time.monotonic()
            self._connected.set()
            self._tick(None)  # changes before the connection was there
            while not self._closed:
                for notice in connection.notifies(timeout=LISTEN_S, stop_after=1):
                    self._tick(notice.payload)
                connection.execute("SELECT 1")
                self._alive = time.monotonic()

    def _tick(self, topic: str | None) -> None:
        with self._changed:
            self._total += 1
            if topic is None:
                self._missed += 1
            else:
                self._counts[topic] += 1
            self._changed.notify_all()


# -- one statement, and so one round trip, for a batch that changes no other projection than its run --

_EVENT_COLUMNS: Final = tuple(column.name for column in EVENT.columns if column.name != "run")
_NUMBERS: Final = ("seq", "at")


# Statistics of a column are samples of its values, which erasing a row does not remove.
_WITHOUT_STATISTICS: Final = {
    RUN.name: ("user", "task", "task_digest"),
    PAYLOAD.name: ("salt", "body"),
    SEALED.name: ("chain", "bodies"),
}


def _is_lost(connection: psycopg.Connection[Row]) -> bool:
    """True if an idle connection is closed, also by a server that has been restarted: then its socket can be read."""
    if connection.closed:
        return True
    asked = select.poll()  # `select` knows no descriptor above 1,023
    asked.register(connection.fileno(), select.POLLIN)
    if not asked.poll(0):
        return False
    connection.close()
    return True


def _only_run_row(batch: Batch) -> Params | None:
    """The row of the run if it is the only change of the batch, {} if there is no change, None if there are others."""
    if not batch.changes:
        return {}
    (first, *others) = batch.changes
    return first.row if isinstance(first, Put) and first.table is RUN and not others else None


@cache
def _append_text(*, with_row: bool, held: bool, notify: bool) -> str:
    """The statement that moves the head and, only if it was where it should be, inserts everything else."""
    types = ", ".join(f"%(e_{name})s::{'bigint' if name in _NUMBERS else 'text'}[]" for name in _EVENT_COLUMNS)
    names = ", ".join(_EVENT_COLUMNS)
    fence, beat = (" AND fence = %(held)s", ", beat = %(beat)s") if held else ("", "")
    parts = [
        f"moved AS (UPDATE {HEAD.name} SET seq = %(last_seq)s, hash = %(last_hash)s{beat}"
        f" WHERE run = %(of)s AND seq = %(before)s{fence} RETURNING 1)",
        f"events AS (INSERT INTO {EVENT.name} (run, {names})"
        f" SELECT %(of)s, u.* FROM moved, unnest({types}) AS u ({names}))",
        f"payloads AS (INSERT INTO {PAYLOAD.name} (run, seq, salt, body) SELECT %(of)s, u.* FROM moved,"
        " unnest(%(e_seq)s::bigint[], %(p_salt)s::text[], %(p_body)s::text[]) AS u (seq, salt, body))",
    ]
    if with_row:
        columns = [(column.name, str(column.type.compile(dialect_of("postgresql")))) for column in RUN.columns]
        values = ", ".join(f"%({name})s::{kind}" for name, kind in columns)
        quoted = ", ".join(f'"{name}"' for name, _ in columns)
        rest = ", ".join(f'"{name}" = excluded."{name}"' for name, _ in columns if name != "run")
        parts.append(
            f"rows AS (INSERT INTO {RUN.name} ({quoted}) SELECT {values} FROM moved"
            f" ON CONFLICT (run) DO UPDATE SET {rest})"
        )
    notified = ", (SELECT count(pg_notify(%(channel)s, topic)) FROM moved, unnest(%(topics)s::text[]) AS topic)"
    return (
        f"WITH {', '.join(parts)} SELECT (SELECT count(*) FROM moved),"
        f" set_config('synchronous_commit', %(sync)s, true){notified if notify else ''}"
    )


def _query(text: str) -> bytes:
    """The statement for psycopg, whose type of a text is a literal: it is made of the names of tables only."""
    return text.encode()
