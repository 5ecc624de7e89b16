"""The journal: an append-only store of the events of every run. Everything else is computed from it.

Headers and bodies are in two tables, so that a body can be erased while the chain of headers can still be verified. No
effect happens before its event is written: an event that cannot be written ends the run.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.pool import StaticPool
from sqlmodel import Field, SQLModel

from remit.core import Claim, Exhausted, RemitError, RunEnded, UsageError
from remit.core.events import AnyEvent, Recorded, RunPruned
from remit.journal.hash_chain import Chain, ChainFault, ChainLink, link
from remit.journal.reducer import apply_event
from remit.journal.run_state import SUMMARISED, RunState, RunSummary, summary

__all__ = ["WORKSPACE_RUN", "AlreadyRecorded", "Journal", "RunSummary"]

WORKSPACE_RUN: Final = "workspace"
PRUNED: Final = "run.pruned/"  # the beginning of the key of `RunPruned`, which stays after a run was pruned
BUSY_TIMEOUT_S: Final = 10.0
FIX: Final = (
    "free disk space or restore write access to the journal's folder, then resume the run: `remit run --resume`"
)


class AlreadyRecorded(RemitError):
    """The run already has an event with that key, which is `earlier`."""

    def __init__(self, earlier: Recorded) -> None:
        self.earlier = earlier
        super().__init__(f"{earlier.key} is already recorded as event {earlier.seq}")


class EventRow(SQLModel, table=True):
    """The header of an event: everything that its hash covers. The key is unique in its run, so one event is never written twice."""

    __tablename__ = "event"  # pyright: ignore[reportAssignmentType] - declared for SQLAlchemy's own use
    __table_args__ = (sa.UniqueConstraint("run", "key"), {"sqlite_with_rowid": False})

    run: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    at: int = Field(sa_type=sa.BigInteger)  # Unix nanoseconds
    type: str
    key: str
    prev: str
    hash: str
    payload_digest: str


class PayloadRow(SQLModel, table=True):
    """The body of an event and its salt. An erased body has no row."""

    __tablename__ = "payload"  # pyright: ignore[reportAssignmentType] - declared for SQLAlchemy's own use

    run: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    salt: str
    body: str = Field(sa_type=sa.Text)


class HeadRow(SQLModel, table=True):
    """The last event of each run: appending reads one row, and missing last events are detected."""

    __tablename__ = "head"  # pyright: ignore[reportAssignmentType] - declared for SQLAlchemy's own use

    run: str = Field(primary_key=True)
    seq: int = Field(sa_type=sa.BigInteger)
    hash: str


class SpendRow(SQLModel, table=True):
    """How much of one shared limit one call or turn takes, as `budget.spent` records it.

    It is a table of its own so that the limit is checked and the amount written in one transaction, without reading all events.
    `place` is the key of the event without its last part.
    """

    __tablename__ = "spend"  # pyright: ignore[reportAssignmentType] - declared for SQLAlchemy's own use

    scope: str = Field(primary_key=True)
    run: str = Field(primary_key=True)
    place: str = Field(primary_key=True)
    at: int = Field(sa_type=sa.BigInteger, index=True)  # Unix nanoseconds
    amount: int = Field(sa_type=sa.BigInteger)


# SQLAlchemy Core on SQLModel's tables: an object for each row would double the time of an append.
_EVENT, _PAYLOAD, _HEAD, _SPEND = (SQLModel.metadata.tables[name] for name in ("event", "payload", "head", "spend"))
_STORED: Final = sa.select(_EVENT, _PAYLOAD.c.salt, _PAYLOAD.c.body).select_from(
    _EVENT.outerjoin(_PAYLOAD, (_EVENT.c.run == _PAYLOAD.c.run) & (_EVENT.c.seq == _PAYLOAD.c.seq))
)
_COLUMNS: Final = tuple(column.name for column in _STORED.selected_columns)


def _text(statement: sa.ClauseElement) -> str:
    """The SQL text of a statement, for the driver. A call runs some of these a dozen times, and SQLAlchemy takes longer than SQLite."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))


_IN_ORDER: Final = _text(
    _STORED.where(_EVENT.c.run == sa.bindparam("of"), _EVENT.c.seq > sa.bindparam("after")).order_by(_EVENT.c.seq)
)
_BY_KEY: Final = _text(_STORED.where(_EVENT.c.run == sa.bindparam("of"), _EVENT.c.key == sa.bindparam("named")))
_HEAD_OF: Final = _text(sa.select(_HEAD.c.seq, _HEAD.c.hash).where(_HEAD.c.run == sa.bindparam("of")))
_NEW_EVENT: Final = _text(_EVENT.insert())
_NEW_PAYLOAD: Final = _text(_PAYLOAD.insert())
_NEW_HEAD: Final = _text(
    insert(_HEAD).on_conflict_do_update(
        index_elements=["run"], set_={name: insert(_HEAD).excluded[name] for name in ("seq", "hash")}
    )
)


class Journal:
    """The events of every run of a workspace, in one SQLite file (mode 0600); `path` None: in memory, until it is closed.

    Threads may share one; each process opens its own. `clock` gives Unix nanoseconds.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._name = "in memory" if path is None else path.name
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = False
        self._durable: bool | None = None  # the level of `PRAGMA synchronous` that is set; None before the first write
        with self._failing("opened"):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                _create_private(path)
            # One connection behind one lock: SQLite allows one writer anyway, and taking one from a pool costs as much as a read.
            engine = sa.create_engine(
                sa.URL.create("sqlite", database=":memory:" if path is None else str(path)),
                poolclass=StaticPool,
                isolation_level="AUTOCOMMIT",
                connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
            )
            self._connection = engine.connect()
            self._driver = cast("sqlite3.Connection", self._connection.connection.driver_connection)
            _with_retries(lambda: _prepare(self._connection))

    def close(self) -> None:
        """Close the file. Nothing is lost if a process dies without it."""
        with self._lock:
            self._closed = True
            self._connection.close()
            self._connection.engine.dispose()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def append(self, run: str, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded:
        """Record one event. When this returns it survives kill -9, and with `durable` also a power failure.

        With `claims`, the event is recorded only if all of them are granted; other processes cannot claim in between.

        Raises:
            AlreadyRecorded: the run has an event with that key, from this or another process.
            Exhausted: a claim would pass its limit.
            RunEnded: `unrecorded`: the event cannot be written.
        """
        salt = secrets.token_hex(16)
        with self._failing("written"), self._writing(durable) as connection:
            execute = self._driver.execute
            head = execute(_HEAD_OF, {"of": run}).fetchone()
            seq, prev = (0, "") if head is None else (int(head[0]) + 1, str(head[1]))
            sealed = link(run, seq, self._clock(), prev, event, salt)
            try:
                execute(_NEW_EVENT, sealed.header)
            except sqlite3.IntegrityError as conflict:
                # The unique key is the fence between two workers of one run: the second one to record the same step of the
                # same call gets the first one's event instead, and makes no effect of its own.
                earlier = execute(_BY_KEY, {"of": run, "named": event.key}).fetchone()
                if earlier is None:
                    raise
                raise AlreadyRecorded(_link(earlier).recorded()) from conflict
            for claim in claims:
                _spend(connection, claim, run, event.key.rpartition("/")[0], sealed.at)
            execute(_NEW_PAYLOAD, {"run": run, "seq": seq, "salt": salt, "body": sealed.body})
            execute(_NEW_HEAD, {"run": run, "seq": seq, "hash": sealed.hash})
        return sealed.of(event)

    def events(self, run: str, after: int = -1) -> list[Recorded]:
        """The events of a run in order, beginning with the one after number `after`."""
        with self._reading():
            return [stored.recorded() for stored in self._links(run, after)]

    def get(self, run: str, key: str) -> Recorded | None:
        """The event with that key, None without one."""
        with self._reading():
            row = self._driver.execute(_BY_KEY, {"of": run, "named": key}).fetchone()
        return None if row is None else _link(row).recorded()

    def every(self, *kinds: str, since: int = 0) -> list[Recorded]:
        """All events of those types in all runs, the oldest first; `since` is Unix nanoseconds."""
        matching = _STORED.where(_EVENT.c.type.in_(kinds), _EVENT.c.at >= since)
        with self._reading() as connection:
            rows = connection.execute(matching.order_by(_EVENT.c.at, _EVENT.c.run, _EVENT.c.seq))
            return [_link(row).recorded() for row in rows]

    def runs(self) -> list[RunSummary]:
        """Every run, the latest first."""
        summarised = _STORED.where(_EVENT.c.run != WORKSPACE_RUN, _EVENT.c.type.in_(SUMMARISED))
        states: dict[str, RunState] = {}
        with self._reading() as connection:
            for row in connection.execute(summarised.order_by(_EVENT.c.run, _EVENT.c.seq)):
                stored = _link(row)
                states[stored.run] = apply_event(states.get(stored.run, RunState()), stored.recorded())
        summaries = [summary(run, state) for run, state in states.items()]
        return sorted(summaries, key=lambda item: (-item.started_at, item.run))

    def resolve_run(self, prefix: str) -> str:
        """The id of the one run that begins with `prefix`. Raises UsageError if there is none, more than one, or it was pruned."""
        begins = sa.select(_HEAD.c.run).where(
            _HEAD.c.run.startswith(prefix, autoescape=True), _HEAD.c.run != WORKSPACE_RUN
        )
        with self._reading() as connection:
            found = [str(row[0]) for row in connection.execute(begins.order_by(_HEAD.c.run).limit(6))]
        if prefix in found:
            return prefix
        if not prefix or not found:
            raise UsageError(
                (prefix and self._pruned(prefix))
                or f"the journal has no run {prefix!r}: `remit trace list` shows all runs"
            )
        if len(found) > 1:
            shown = ", ".join(run[: len(prefix) + 8] for run in found[:5])
            raise UsageError(f"more than one run begins with {prefix!r} ({shown}): write more of its id")
        return found[0]

    def _pruned(self, prefix: str) -> str:
        """Which pruned runs begin with `prefix`, as a message; "" without any."""
        gone = _STORED.where(
            _EVENT.c.run == WORKSPACE_RUN, _EVENT.c.key.startswith(f"{PRUNED}{prefix}", autoescape=True)
        )
        with self._reading() as connection:
            found = [_link(row).recorded() for row in connection.execute(gone.order_by(_EVENT.c.at.desc()).limit(5))]
        lines: list[str] = []
        for item in found:
            at = datetime.fromtimestamp(item.at / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            who = f" by account {item.event.by.account!r}" if isinstance(item.event, RunPruned) else ""
            lines.append(f"run {item.key.removeprefix(PRUNED)} was pruned at {at}{who}")
        return f"{'; '.join(lines)}: read a file that was exported before" if lines else ""

    def chain(self, run: str) -> Chain:
        """The events of a run as they are stored and its head, read in one transaction: an append in between would look like damage."""
        with self._reading() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                head = self._driver.execute(_HEAD_OF, {"of": run}).fetchone()
                links = tuple(self._links(run))
            finally:
                connection.exec_driver_sql("COMMIT")
        return Chain(run=run, links=links, head=None if head is None else (int(head[0]), str(head[1])))

    def verify(self, run: str) -> tuple[ChainFault, ...]:
        """Every difference from what was recorded; empty if there is none."""
        return self.chain(run).verify()

    def erase(self, run: str, seq: int) -> None:
        """Erase the body of one event permanently. Its header stays, so the chain can still be verified.

        The run's trace file holds a copy of the body: write that file again afterwards. Raises UsageError if there is no such
        event, or if the run has not finished: its state is still computed from the event.
        """
        with self._failing("written"), self._writing(durable=True) as connection:
            rows = connection.execute(sa.select(_EVENT.c.seq, _EVENT.c.type).where(_EVENT.c.run == run))
            types = {int(row[0]): str(row[1]) for row in rows}
            if seq not in types:
                raise UsageError(f"run {run!r} has no event {seq}")
            if "run.finished" not in types.values():
                raise UsageError(f"run {run!r} has not finished and still needs its events: finish it first")
            connection.execute(_PAYLOAD.delete().where(_PAYLOAD.c.run == run, _PAYLOAD.c.seq == seq))
        with self._failing("written"), self._lock:
            self._connection.exec_driver_sql(
                "PRAGMA wal_checkpoint(TRUNCATE)"
            ).all()  # the write-ahead log still has the old page

    def delete_run(self, run: str) -> None:
        """Delete every event of a run. Raises UsageError if it has not finished."""
        with self._failing("written"), self._writing(durable=True) as connection:
            types = {str(row[0]) for row in connection.execute(sa.select(_EVENT.c.type).where(_EVENT.c.run == run))}
            if types and "run.finished" not in types:
                raise UsageError(f"run {run!r} has not finished and still needs its events: finish it first")
            for table in (_PAYLOAD, _EVENT, _HEAD):
                connection.execute(table.delete().where(table.c.run == run))

    def vacuum(self) -> None:
        """Return the disk space of deleted events to the file system."""
        with self._failing("written"), self._lock:
            self._connection.exec_driver_sql("VACUUM")
            self._connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()

    def _links(self, run: str, after: int = -1) -> Generator[ChainLink]:
        for row in self._driver.execute(_IN_ORDER, {"of": run, "after": after}):
            yield _link(row)

    @contextmanager
    def _reading(self) -> Generator[Connection]:
        with self._failing("read"), self._lock:
            yield self._connection

    @contextmanager
    def _writing(self, durable: bool) -> Generator[Connection]:
        """One write transaction. Other writers, also of other processes, wait for its end."""
        with self._lock:
            # FULL syncs the write-ahead log to disk at each commit; NORMAL leaves that to checkpoints, which is safe against
            # kill -9 but not against a power failure. SQLite does not change it inside a transaction.
            if durable != self._durable:
                self._driver.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            # IMMEDIATE takes the write lock before the head is read: otherwise two processes could read one head and seal
            # two events to it.
            self._driver.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._driver.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite itself rolls back when the disk is full
                    self._driver.execute("ROLLBACK")
                raise

    @contextmanager
    def _failing(self, verb: str) -> Generator[None]:
        """Raise RunEnded for every error of the database, of the disk and of an event that cannot be written."""
        if self._closed:
            raise UsageError(f"the journal {self._name} is closed: open its workspace again")
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as failure:
            cause = getattr(failure, "strerror", None) or getattr(failure, "orig", None) or failure
            raise RunEnded("unrecorded", f"the journal {self._name} cannot be {verb}: {cause}", fix=FIX) from failure
        except ValidationError as failure:
            raise RunEnded(
                "unrecorded",
                f"the journal {self._name} has an event that this version cannot read",
                fix="use the version of Remit that wrote it, or check it for changes with `remit trace verify`",
            ) from failure
        except ValueError as failure:  # encode()
            raise RunEnded(
                "unrecorded",
                f"an event cannot be written as JSON: {failure}",
                fix="report this as a bug: the text must be sanitized before it is recorded",
            ) from failure


def _spend(connection: Connection, claim: Claim, run: str, place: str, now: int) -> None:
    """Grant a claim and store it, or raise `Exhausted`. Called inside the transaction of its event.

    The claim and its event are committed together: after a crash neither is there without the other.
    """
    own = (_SPEND.c.scope == claim.scope) & (_SPEND.c.run == run) & (_SPEND.c.place == place)
    if claim.most is None:  # the final amount of a claim that was granted before
        connection.execute(_SPEND.update().where(own), {"amount": claim.amount})
        return
    connection.execute(_SPEND.delete().where(_SPEND.c.scope == claim.scope, _SPEND.c.at <= now - claim.window_ns))
    spent = connection.execute(sa.select(sa.func.sum(_SPEND.c.amount)).where(_SPEND.c.scope == claim.scope)).scalar()
    over = int(spent or 0) + claim.amount - claim.most
    if over <= 0:
        row = {"scope": claim.scope, "run": run, "place": place, "at": now, "amount": claim.amount}
        connection.execute(_SPEND.insert(), row)
        return
    # The claim fits as soon as enough of the oldest amounts have left the window. None: it is larger than the limit itself.
    free_at: int | None = None
    oldest = sa.select(_SPEND.c.at, _SPEND.c.amount).where(_SPEND.c.scope == claim.scope).order_by(_SPEND.c.at)
    for at, amount in connection.execute(oldest):
        over -= int(amount)
        if over <= 0:
            free_at = int(at) + claim.window_ns
            break
    raise Exhausted(claim, free_at)


def _link(row: Sequence[Any]) -> ChainLink:
    columns = dict(zip(_COLUMNS, row, strict=True))
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


def _create_private(path: Path) -> None:
    # INVARIANT: an existing file is never opened here. POSIX record locks belong to the process: closing any descriptor of
    # the file would release the locks that SQLite holds on it (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        if path.is_symlink():  # it could point to a file of another user
            raise OSError(errno.ELOOP, "it is a symbolic link") from None
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)  # SQLite gives the write-ahead log and its index the mode of this file


def _prepare(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA journal_mode=WAL").all()  # readers do not wait for a writer
    connection.exec_driver_sql("PRAGMA secure_delete=ON").all()  # an erased body is overwritten, not only unlinked
    SQLModel.metadata.create_all(connection, tables=[_EVENT, _PAYLOAD, _HEAD, _SPEND])


def _with_retries(prepare: Callable[[], None]) -> None:
    """Try until it succeeds: SQLite's own timeout does not apply when two processes create one file at once."""
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return prepare()
        except OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
