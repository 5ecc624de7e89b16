"""The journal: append-only events, the truth of every run.

Headers and bodies lie in two tables, so that a body can be erased and the chain of headers still holds. No record, no
effect: an event that cannot be written ends the run.
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
PRUNED: Final = "run.pruned/"  # begins the key of what stays recorded of a run that was let go
BUSY_TIMEOUT_S: Final = 10.0
FIX: Final = "make room or give back write access to the journal's folder, then `--resume` the run"


class AlreadyRecorded(RemitError):
    """An event of that key is already there; `earlier` is it."""

    def __init__(self, earlier: Recorded) -> None:
        self.earlier = earlier
        super().__init__(f"{earlier.key} is already recorded as event {earlier.seq}")


class EventRow(SQLModel, table=True):
    """The header of an event: everything that its hash covers."""

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
    """The body of an event and its salt; the row is gone where the body was erased."""

    __tablename__ = "payload"  # pyright: ignore[reportAssignmentType] - declared for SQLAlchemy's own use

    run: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    salt: str
    body: str = Field(sa_type=sa.Text)


class HeadRow(SQLModel, table=True):
    """The last event of each run: appending reads one row, and a cut tail is seen."""

    __tablename__ = "head"  # pyright: ignore[reportAssignmentType] - declared for SQLAlchemy's own use

    run: str = Field(primary_key=True)
    seq: int = Field(sa_type=sa.BigInteger)
    hash: str


class SpendRow(SQLModel, table=True):
    """What one place of one run takes of one shared limit: an index over `budget.spent`, and what makes checking it atomic."""

    __tablename__ = "spend"  # pyright: ignore[reportAssignmentType] - declared for SQLAlchemy's own use

    scope: str = Field(primary_key=True)
    run: str = Field(primary_key=True)
    place: str = Field(primary_key=True)
    at: int = Field(sa_type=sa.BigInteger, index=True)  # Unix nanoseconds
    amount: int = Field(sa_type=sa.BigInteger)


# Core statements on SQLModel's tables: an object per row would double the price of an append.
_EVENT, _PAYLOAD, _HEAD, _SPEND = (SQLModel.metadata.tables[name] for name in ("event", "payload", "head", "spend"))
_STORED: Final = sa.select(_EVENT, _PAYLOAD.c.salt, _PAYLOAD.c.body).select_from(
    _EVENT.outerjoin(_PAYLOAD, (_EVENT.c.run == _PAYLOAD.c.run) & (_EVENT.c.seq == _PAYLOAD.c.seq))
)
_COLUMNS: Final = tuple(column.name for column in _STORED.selected_columns)


def _text(statement: sa.ClauseElement) -> str:
    """What a call runs some dozen times goes to the driver as text: SQLAlchemy takes longer over each than SQLite."""
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
    """The events of every run of a workspace, in one SQLite file (mode 0600).

    Threads may share one; each process opens its own. `clock` gives Unix nanoseconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._durable: bool | None = None
        with self._failing("opened"):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _create_private(path)
            # One connection behind one lock: SQLite has one writer anyway, and a checkout costs as much as a read.
            engine = sa.create_engine(
                sa.URL.create("sqlite", database=str(path)),
                poolclass=StaticPool,
                isolation_level="AUTOCOMMIT",
                connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
            )
            self._connection = engine.connect()
            self._driver = cast("sqlite3.Connection", self._connection.connection.driver_connection)
            _patiently(lambda: _prepare(self._connection))

    def close(self) -> None:
        """Give the file back; nothing is lost without it."""
        with self._lock:
            self._connection.close()
            self._connection.engine.dispose()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def append(self, run: str, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded:
        """Record one event; it survives kill -9 when this returns, and a power cut too where `durable`.

        With `claims`, the event is recorded only if all of them are granted, whatever other processes claim meanwhile.

        Raises:
            AlreadyRecorded: an event of that key is there, from this or another process.
            Exhausted: a claim would pass its limit.
            RunEnded: `unrecorded`, where the event cannot be written.
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
        """The events of a run, in order, from the one that follows `after`."""
        with self._reading():
            return [stored.recorded() for stored in self._links(run, after)]

    def get(self, run: str, key: str) -> Recorded | None:
        """The event of that key, or None."""
        with self._reading():
            row = self._driver.execute(_BY_KEY, {"of": run, "named": key}).fetchone()
        return None if row is None else _link(row).recorded()

    def every(self, *kinds: str, since: int = 0) -> list[Recorded]:
        """All events of those types, over all runs, the oldest first; `since` is Unix nanoseconds."""
        found = _STORED.where(_EVENT.c.type.in_(kinds), _EVENT.c.at >= since)
        with self._reading() as connection:
            rows = connection.execute(found.order_by(_EVENT.c.at, _EVENT.c.run, _EVENT.c.seq))
            return [_link(row).recorded() for row in rows]

    def runs(self) -> list[RunSummary]:
        """Every run, the latest first."""
        summed = _STORED.where(_EVENT.c.run != WORKSPACE_RUN, _EVENT.c.type.in_(SUMMARISED))
        folded: dict[str, RunState] = {}
        with self._reading() as connection:
            for row in connection.execute(summed.order_by(_EVENT.c.run, _EVENT.c.seq)):
                stored = _link(row)
                folded[stored.run] = apply_event(folded.get(stored.run, RunState()), stored.recorded())
        summaries = [summary(run, facts) for run, facts in folded.items()]
        return sorted(summaries, key=lambda item: (-item.started_at, item.run))

    def resolve_run(self, prefix: str) -> str:
        """The one run whose id begins so. Raises UsageError where there is none, none any more, or more than one."""
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
                or f"the journal has no run {prefix!r}: `remit trace list` shows those it has"
            )
        if len(found) > 1:
            shown = ", ".join(run[: len(prefix) + 8] for run in found[:5])
            raise UsageError(f"{prefix!r} begins more than one run ({shown}): write more of it")
        return found[0]

    def _pruned(self, prefix: str) -> str:
        """What is known of runs that begin so and were let go by retention; "" where there are none."""
        gone = _STORED.where(
            _EVENT.c.run == WORKSPACE_RUN, _EVENT.c.key.startswith(f"{PRUNED}{prefix}", autoescape=True)
        )
        with self._reading() as connection:
            found = [_link(row).recorded() for row in connection.execute(gone.order_by(_EVENT.c.at.desc()).limit(5))]
        told: list[str] = []
        for item in found:
            at = datetime.fromtimestamp(item.at / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            who = f" by account {item.event.account!r}" if isinstance(item.event, RunPruned) else ""
            told.append(f"run {item.key.removeprefix(PRUNED)} was pruned at {at}{who}")
        return f"{'; '.join(told)}: only a file that was exported before can still be read" if told else ""

    def chain(self, run: str) -> Chain:
        """The events of a run as they are stored, and its head, both of one moment."""
        with self._reading() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                head = self._driver.execute(_HEAD_OF, {"of": run}).fetchone()
                links = tuple(self._links(run))
            finally:
                connection.exec_driver_sql("COMMIT")
        return Chain(run=run, links=links, head=None if head is None else (int(head[0]), str(head[1])))

    def verify(self, run: str) -> tuple[ChainFault, ...]:
        """What is not as it was recorded; empty means whole."""
        return self.chain(run).verify()

    def erase(self, run: str, seq: int) -> None:
        """Erase the body of one event for good; its header stays, and so does the chain.

        The run's trace file holds a copy: rebuild it afterwards. Raises UsageError where there is no such event, or
        where the run goes on, for then its facts are still needed.
        """
        with self._failing("written"), self._writing(durable=True) as connection:
            rows = connection.execute(sa.select(_EVENT.c.seq, _EVENT.c.type).where(_EVENT.c.run == run))
            types = {int(row[0]): str(row[1]) for row in rows}
            if seq not in types:
                raise UsageError(f"run {run!r} has no event {seq}")
            if "run.finished" not in types.values():
                raise UsageError(f"run {run!r} has not finished, and still needs its events: finish it first")
            connection.execute(_PAYLOAD.delete().where(_PAYLOAD.c.run == run, _PAYLOAD.c.seq == seq))
        with self._failing("written"), self._lock:
            self._connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()  # the old page is in the log too

    def forget(self, run: str) -> None:
        """Remove every event of a run. Raises UsageError where it goes on."""
        with self._failing("written"), self._writing(durable=True) as connection:
            types = {str(row[0]) for row in connection.execute(sa.select(_EVENT.c.type).where(_EVENT.c.run == run))}
            if types and "run.finished" not in types:
                raise UsageError(f"run {run!r} has not finished, and still needs its events: finish it first")
            for table in (_PAYLOAD, _EVENT, _HEAD):
                connection.execute(table.delete().where(table.c.run == run))

    def shrink(self) -> None:
        """Give back the room of what was removed."""
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
        """One transaction that no other writer can slip into."""
        with self._lock:
            if durable != self._durable:  # not possible inside a transaction
                self._driver.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._driver.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._driver.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled back already
                    self._driver.execute("ROLLBACK")
                raise

    @contextmanager
    def _failing(self, verb: str) -> Generator[None]:
        """Turn what a database, a disk or an unwritable event can raise into the end of the run."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as failure:
            cause = getattr(failure, "strerror", None) or getattr(failure, "orig", None) or failure
            raise RunEnded(
                "unrecorded", f"the journal {self._path.name} cannot be {verb}: {cause}", fix=FIX
            ) from failure
        except ValidationError as failure:
            raise RunEnded(
                "unrecorded",
                f"the journal {self._path.name} holds an event that this version cannot read",
                fix="use the version that wrote it, or `remit trace verify` to see whether it was changed",
            ) from failure
        except ValueError as failure:  # encode()
            raise RunEnded(
                "unrecorded",
                f"an event cannot be written as JSON: {failure}",
                fix="report it: text must be cleaned first",
            ) from failure


def _spend(connection: Connection, claim: Claim, run: str, place: str, now: int) -> None:
    """Grant a claim and write it down, or raise `Exhausted`. Called inside the transaction of its event."""
    own = (_SPEND.c.scope == claim.scope) & (_SPEND.c.run == run) & (_SPEND.c.place == place)
    if claim.most is None:
        connection.execute(_SPEND.update().where(own), {"amount": claim.amount})
        return
    connection.execute(_SPEND.delete().where(_SPEND.c.scope == claim.scope, _SPEND.c.at <= now - claim.window_ns))
    spent = connection.execute(sa.select(sa.func.sum(_SPEND.c.amount)).where(_SPEND.c.scope == claim.scope)).scalar()
    over = int(spent or 0) + claim.amount - claim.most
    if over <= 0:
        row = {"scope": claim.scope, "run": run, "place": place, "at": now, "amount": claim.amount}
        connection.execute(_SPEND.insert(), row)
        return
    free_at: int | None = None
    oldest = sa.select(_SPEND.c.at, _SPEND.c.amount).where(_SPEND.c.scope == claim.scope).order_by(_SPEND.c.at)
    for at, amount in connection.execute(oldest):
        over -= int(amount)
        if over <= 0:
            free_at = int(at) + claim.window_ns
            break
    raise Exhausted(claim, free_at)


def _link(row: Sequence[Any]) -> ChainLink:
    named = dict(zip(_COLUMNS, row, strict=True))
    if wrong := next((name for name, value in named.items() if not _is_stored(name, value)), None):
        raise RunEnded(
            "unrecorded",
            f"the journal holds an event whose {wrong} is of another type: it was changed by another program",
            fix="restore the journal, or read the run from its trace file",
        )
    return ChainLink(**named)


def _is_stored(name: str, value: object) -> bool:
    if name in ("seq", "at"):
        return type(value) is int and value >= 0
    return type(value) is str or (value is None and name in ("salt", "body"))


def _create_private(path: Path) -> None:
    # INVARIANT: an existing file is never opened here: closing any descriptor of it would drop SQLite's own locks.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        if path.is_symlink():  # it could point into someone else's file
            raise OSError(errno.ELOOP, "it is a symbolic link") from None
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)  # the log and its index take the file's mode


def _prepare(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA journal_mode=WAL").all()
    connection.exec_driver_sql("PRAGMA secure_delete=ON").all()
    SQLModel.metadata.create_all(connection, tables=[_EVENT, _PAYLOAD, _HEAD, _SPEND])


def _patiently(prepare: Callable[[], None]) -> None:
    """Try until it works: SQLite does not wait by itself when two processes create one file at once."""
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return prepare()
        except OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
