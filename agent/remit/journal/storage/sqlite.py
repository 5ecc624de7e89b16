"""The journal in one SQLite file, for one machine."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from remit.journal.storage.database import (
    SHARED,
    Batch,
    Dialect,
    HeadMoved,
    Params,
    Row,
    Sql,
    append_events,
    create_tables,
    text_and_params,
)

BUSY_TIMEOUT_S: Final = 10.0
CREATED_S: Final = (
    0.5  # how long errors that are not about locks are tried again, while another process may create the file
)
_MODE: Final = 0o600
_GROUP_MODE: Final = 0o660  # of a file that a group shares
RELEASED_AT_ONCE: Final = 512  # pages of 4 KiB
# A full disk, a read-only folder, a missing right: what was recorded before can still be read.
_UNWRITABLE: Final = frozenset(
    {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
)
_UNWRITABLE_ERRNO: Final = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES})
CHECKPOINT: Final = (
    100  # commits, some 4 MiB of the write-ahead log, after which it is copied into the file and both are synced
)
LOOK_S: Final = 0.05  # how often a waiting thread looks at the counter of changes, which takes 20 microseconds


class SqliteDatabase:
    """One SQLite file (mode 0600, or 0660 for a `group`); `path` None: in memory, until it is closed.

    One connection writes and another one reads, each behind a lock: a reader does not wait for a commit. If the file cannot be
    opened to write, because of a full disk or a read-only folder, it is opened to read, and every transaction that writes raises
    what prevented it.
    """

    dialect: Dialect = "sqlite"
    failures: tuple[type[Exception], ...] = (sqlite3.Error, OSError)
    conflicts: tuple[type[Exception], ...] = (sqlite3.IntegrityError,)  # another process wrote the same key first

    def __init__(self, path: Path | None, *, group: int | None = None) -> None:
        self._path = path
        self._writing = threading.Lock()
        self._reading = self._writing if path is None else threading.Lock()
        self._commits = 0
        self._since = 0  # commits since the last checkpoint
        self._noted = 0  # commits of this process that concern all runs
        self._shared = 0  # the number of changes of what all runs share; those below are what it was computed from
        self._seen = -1
        self._others = (-1, -1)
        self._durable: bool | None = None  # the level of `PRAGMA synchronous` that is set; None before the first write
        self._unwritable = ""  # why the file cannot be written; "": it can
        try:
            self._open(path, group)
        except (sqlite3.Error, OSError) as failure:
            if path is None or not _is_unwritable(failure) or not path.is_file() or not path.stat().st_size:
                raise
            self._open_to_read(path, group, failure)
        self._look = (
            self._reader.cursor()
        )  # of `version`, which every request asks: a new cursor takes as long as the answer

    def _open(self, path: Path | None, group: int | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _create_private(path, group)
        self._writer = _connect(":memory:" if path is None else str(path))
        try:
            _with_retries(self._prepare)
            # A database in memory belongs to one connection.
            self._reader = self._writer if path is None else _connect(str(path))
        except BaseException:
            self._writer.close()
            raise

    def _open_to_read(self, path: Path, group: int | None, cause: sqlite3.Error | OSError) -> None:
        """Open the file without writing. Raises `cause` if that is not possible either."""
        _check_private(path, group)
        # SQLite reads newer pages from the write-ahead log. Without a log the file alone has everything, and `immutable` needs no
        # other file beside it.
        log = path.with_name(f"{path.name}-wal")
        whole = not log.exists() or not log.stat().st_size
        for option in ("mode=ro", "mode=ro&immutable=1") if whole else ("mode=ro",):
            connection = _connect(f"{path.absolute().as_uri()}?{option}", uri=True)
            try:
                connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            except sqlite3.Error:
                connection.close()
                continue
            self._reader = self._writer = connection
            self._reading = self._writing
            self._unwritable = _obstacle(path, cause)
            return
        raise cause

    def _prepare(self) -> None:
        self._writer.execute("PRAGMA auto_vacuum=INCREMENTAL")  # counts only before the first page is written
        self._writer.execute("PRAGMA journal_mode=WAL")  # readers do not wait for a writer
        self._writer.execute(
            "PRAGMA wal_autocheckpoint=0"
        )  # a checkpoint syncs, and `append_now` must not wait for a disk
        self._writer.execute("PRAGMA secure_delete=ON")  # an erased body is overwritten, not only unlinked

    def read(self, statement: Sql | sa.ClauseElement, params: Params | None = None) -> list[Row]:
        text, values = text_and_params(statement, params, "sqlite")
        with self._reading:
            return self._reader.execute(text, values).fetchall()

    @contextmanager
    def snapshot(self) -> Generator[SqliteTransaction]:
        with self._reading:
            self._reader.execute("BEGIN")
            try:
                yield SqliteTransaction(self._reader)
            finally:
                self._reader.execute("COMMIT")

    @contextmanager
    def transaction(self, *, durable: bool) -> Generator[SqliteTransaction]:
        if self._unwritable:
            raise sqlite3.OperationalError(self._unwritable)
        with self._writing:
            self._set_level(durable)
            with self._begun() as transaction:
                yield transaction
            if self._since >= CHECKPOINT:
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                self._since = 0

    def _set_level(self, durable: bool) -> None:
        # FULL syncs the write-ahead log to disk at each commit; NORMAL leaves that to checkpoints, which is safe against
        # kill -9 but not against a power failure. SQLite does not change it inside a transaction.
        if durable != self._durable:
            self._writer.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    @contextmanager
    def _begun(self) -> Generator[SqliteTransaction]:
        """One write transaction, for who has the lock `_writing`."""
        # IMMEDIATE takes the write lock before the head is read: otherwise two processes could read one head and seal
        # two events to it.
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            transaction = SqliteTransaction(self._writer)
            yield transaction
            self._writer.execute("COMMIT")
            self._commits += 1
            self._since += 1
            self._noted += SHARED in transaction.topics
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite itself rolls back when the disk is full
                self._writer.execute("ROLLBACK")
            raise

    def append(self, batch: Batch) -> None:
        with self.transaction(durable=batch.durable) as transaction:
            self._append(transaction, batch)

    def append_now(self, batch: Batch) -> bool:
        if batch.durable or self._unwritable or self._since >= CHECKPOINT or not self._writing.acquire(blocking=False):
            return False
        try:
            self._set_level(durable=False)
            self._writer.execute("PRAGMA busy_timeout=0")
            with self._begun() as transaction:
                self._append(transaction, batch)
            return True
        except sqlite3.OperationalError as failure:
            if failure.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return False  # another process writes
        finally:
            self._writer.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000:.0f}")
            self._writing.release()

    def _append(self, transaction: SqliteTransaction, batch: Batch) -> None:
        try:
            append_events(transaction, batch)
            transaction.notify(batch.topics)
        except self.conflicts as conflict:
            # The unique key is the fence between two processes that append without a lease.
            raise HeadMoved(str(conflict)) from conflict

    def version(self, topics: Sequence[str]) -> int:
        with self._reading:
            if self._path is None:
                return self._commits
            count = _data_version(self._look)
            return count if tuple(topics) != (SHARED,) else self._shared_version(count)

    def _shared_version(self, count: int) -> int:
        """The number of changes that may concern all runs, if the reader counts so many commits.

        The reader counts also what the runs of this process record. Its own writer counts the commits of other processes only.
        """
        if count != self._seen:
            self._seen = count
            if self._writing.acquire(blocking=False):  # not while it commits: the event loop does not wait for a disk
                try:
                    others = _data_version(self._writer), self._noted
                finally:
                    self._writing.release()
                # INVARIANT: read after `count`, so a later commit of another process changes `count` again.
                self._shared += others != self._others
                self._others = others
            else:
                self._shared += 1
        return self._shared

    def wait(self, before: int, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (now := self.version(())) == before and (left := until - time.monotonic()) > 0:
            time.sleep(min(LOOK_S, left))
        return now

    def create(self) -> None:
        """Create the tables that are missing."""
        with self.transaction(durable=True) as transaction:
            create_tables(transaction, "sqlite")

    def has_table(self, name: str) -> bool:
        """True if the database has a table of that name."""
        with self._reading:
            found = self._reader.execute("SELECT 1 FROM sqlite_master WHERE type='table' AND name=?", (name,))
            return found.fetchone() is not None

    def forget_deleted(self) -> None:
        with self._writing:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def release(self) -> bool:
        with self._writing:
            before = self._free_pages()
            # Not `execute`, which makes one step of the statement, and so frees one page.
            self._writer.executescript(f"PRAGMA incremental_vacuum({RELEASED_AT_ONCE})")
            return 0 < self._free_pages() < before

    def _free_pages(self) -> int:
        return int(self._writer.execute("PRAGMA freelist_count").fetchone()[0])

    def close(self) -> None:
        with self._writing:
            self._writer.close()
        if self._reader is not self._writer:
            with self._reading:
                self._reader.close()


class SqliteTransaction:
    """One transaction of a connection; see `database.Transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.topics: set[str] = set()

    def execute(self, statement: Sql | sa.ClauseElement, params: Params | None = None) -> list[Row]:
        return self._run(statement, params).fetchall()

    def changed(self, statement: Sql | sa.ClauseElement, params: Params | None = None) -> int:
        return self._run(statement, params).rowcount

    def many(self, statement: Sql, params: Sequence[Params]) -> None:
        self._connection.executemany(statement.text("sqlite"), params)

    def lock(self, name: str) -> None:
        """Does nothing: SQLite has one writer at a time."""

    def notify(self, topics: Sequence[str]) -> None:
        """Note the topics: SQLite counts every commit, whatever it concerns; see `SqliteDatabase.version`."""
        self.topics.update(topics)

    def run(self, text: str) -> None:
        self._connection.execute(text)

    def _run(self, statement: Sql | sa.ClauseElement, params: Params | None) -> sqlite3.Cursor:
        return self._connection.execute(*text_and_params(statement, params, "sqlite"))


def _data_version(reader: sqlite3.Connection | sqlite3.Cursor) -> int:
    """A number that differs after another connection, also of this process, has committed."""
    return int(reader.execute("PRAGMA data_version").fetchall()[0][0])


def _connect(name: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=uri)


def _is_unwritable(failure: sqlite3.Error | OSError) -> bool:
    """True if the file may be readable although it cannot be written."""
    if isinstance(failure, OSError):
        return failure.errno in _UNWRITABLE_ERRNO
    return (getattr(failure, "sqlite_errorcode", 0) & 0xFF) in _UNWRITABLE


def _obstacle(path: Path, failure: sqlite3.Error | OSError) -> str:
    """Why the file cannot be written; SQLite says only that some file cannot be opened."""
    if not os.access(path.parent, os.W_OK):
        return "its folder is read-only"
    return "the disk is full" if not os.statvfs(path).f_bavail else getattr(failure, "strerror", None) or str(failure)


def _create_private(path: Path, group: int | None) -> None:
    """Create the file with its mode before SQLite opens it: SQLite gives the write-ahead log and its index the same mode."""
    # INVARIANT: an existing file is never opened here. POSIX record locks belong to the process: closing any descriptor of
    # the file would release the locks that SQLite holds on it (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    mode = _MODE if group is None else _GROUP_MODE
    if group is not None and os.stat(path.parent).st_uid == os.geteuid():
        # The group may create the write-ahead log and the lock files; the set-group-ID bit gives them the group.
        os.chown(path.parent, -1, group)
        path.parent.chmod(0o2770)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            if group is not None:
                os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
    except FileExistsError:
        _check_private(path, group)
        status = path.stat()
        if group is not None and status.st_gid != group and status.st_uid == os.geteuid():
            os.chown(path, -1, group)
        if status.st_mode & 0o777 != mode and status.st_uid == os.geteuid():
            path.chmod(mode)


def _check_private(path: Path, group: int | None) -> None:
    """Raise OSError if the file is that of another account, and further accounts can read it."""
    if path.is_symlink():  # it could point to a file of another user
        raise OSError(errno.ELOOP, "it is a symbolic link")
    status = path.stat()
    if status.st_uid != os.geteuid() and status.st_mode & 0o077 & ~(_MODE if group is None else _GROUP_MODE):
        raise OSError(errno.EPERM, "other accounts can read it, and it belongs to another account")


def _with_retries(prepare: Callable[[], None]) -> None:
    """Try until it succeeds: SQLite's own timeout does not apply when two processes create one file at once."""
    begun = time.monotonic()
    while True:
        try:
            return prepare()
        except sqlite3.OperationalError as failure:
            if time.monotonic() - begun > (CREATED_S if _is_unwritable(failure) else BUSY_TIMEOUT_S):
                raise
            time.sleep(0.01)
