"""Incident tickets in one SQLite store, shared with other writers through a lock file."""

import json
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

STORE = Path("stores/tickets/tickets.db")
LOCK = Path("stores/tickets/tickets.lock")
STALE_AFTER_S = 60
SCHEMA = """
CREATE TABLE IF NOT EXISTS ticket (
  key TEXT PRIMARY KEY, title TEXT NOT NULL, body TEXT NOT NULL, status TEXT NOT NULL, opened_at TEXT NOT NULL,
  closed_at TEXT, close_reason TEXT, idempotency_key TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS comment (
  number INTEGER PRIMARY KEY, ticket TEXT NOT NULL REFERENCES ticket(key), at TEXT NOT NULL, text TEXT NOT NULL,
  idempotency_key TEXT NOT NULL UNIQUE);
"""

Key = Annotated[str, Field(max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=10_000)]


class NotFound(Exception):
    """There is no such ticket."""


class Exists(Exception):
    """Another ticket has that key."""


class AlreadyClosed(Exception):
    """The ticket is closed already."""


class Busy(Exception):
    """Another writer has locked the store, or left its lock behind; nothing was changed."""


class Comment(TypedDict):
    at: str
    text: str


class Ticket(TypedDict):
    key: str
    title: str
    body: str
    status: Literal["open", "closed"]
    opened_at: str
    closed_at: str | None
    close_reason: str | None
    comments: list[Comment]


class Status(TypedDict):
    key: str
    status: Literal["open", "closed"]
    comments: int


def get(key: Key) -> Ticket:
    """Read one ticket with its comments."""
    if not STORE.is_file():
        raise NotFound(f"there is no ticket {key!r}")
    with closing(_connect("ro")) as store:
        try:
            row = store.execute("SELECT * FROM ticket WHERE key = ?", (key,)).fetchone()
            comments = store.execute("SELECT at, text FROM comment WHERE ticket = ? ORDER BY number", (key,)).fetchall()
        except sqlite3.OperationalError as error:
            raise Busy(f"the ticket store cannot be read now: {error}") from error
    if row is None:
        raise NotFound(f"there is no ticket {key!r}")
    return {
        "key": row["key"],
        "title": row["title"],
        "body": row["body"],
        "status": row["status"],
        "opened_at": row["opened_at"],
        "closed_at": row["closed_at"],
        "close_reason": row["close_reason"],
        "comments": [{"at": comment["at"], "text": comment["text"]} for comment in comments],
    }


def create(key: Key, title: Text, body: Text, idempotency_key: str) -> Status:
    """Open a new ticket."""
    with _writing() as store:
        made_before = "SELECT 1 FROM ticket WHERE key = ? AND idempotency_key = ?"
        if store.execute(made_before, (key, idempotency_key)).fetchone() is None:
            new = "INSERT INTO ticket VALUES (?, ?, ?, 'open', ?, NULL, NULL, ?)"
            try:
                store.execute(new, (key, title, body, _now(), idempotency_key))
            except sqlite3.IntegrityError as error:
                raise Exists(f"ticket {key!r} exists already") from error
        return _status(store, key)


def comment(key: Key, text: Text, idempotency_key: str) -> Status:
    """Add a comment to a ticket."""
    with _writing() as store:
        _status(store, key)
        new = "INSERT INTO comment (ticket, at, text, idempotency_key) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        store.execute(new, (key, _now(), text, idempotency_key))
        return _status(store, key)


def close(key: Key, reason: Text) -> Status:
    """Close a ticket permanently."""
    with _writing() as store:
        if _status(store, key)["status"] == "closed":
            raise AlreadyClosed(f"ticket {key!r} is closed already")
        end = "UPDATE ticket SET status = 'closed', closed_at = ?, close_reason = ? WHERE key = ?"
        store.execute(end, (_now(), reason, key))
        return _status(store, key)


@contextmanager
def _writing() -> Generator[sqlite3.Connection]:
    """The store for one change, as one transaction, while no other writer has the lock."""
    _take_lock()
    try:
        with closing(_connect("rwc")) as store, store:
            store.executescript(SCHEMA)
            store.execute("BEGIN IMMEDIATE")
            yield store
    except sqlite3.OperationalError as error:
        raise Busy(f"the ticket store cannot be written now: {error}") from error
    finally:
        LOCK.unlink(missing_ok=True)


def _take_lock() -> None:
    """Make the lock file; Busy if another writer has it. The lock of a crashed writer is removed for the next try."""
    try:
        handle = os.open(LOCK, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        owner, since = _holder()
        if abs(time.time() - since) < STALE_AFTER_S:  # a lock from far in the future is stale too
            raise Busy(f"{owner} is writing to the ticket store") from None
        # Not retried here: another writer may have removed the stale lock too and have made its own by now.
        LOCK.unlink(missing_ok=True)
        raise Busy(f"{owner} left a stale lock on the ticket store; it is removed now, try again") from None
    with os.fdopen(handle, "w") as lock:
        json.dump({"owner": "tickets", "since": int(time.time())}, lock)


def _holder() -> tuple[str, float]:
    """The owner of the lock, and its time (Unix seconds).

    The time is read from the text, because the time of the file changes when its folder is copied.
    """
    try:
        held = json.loads(LOCK.read_text())
        return str(held["owner"]), float(held["since"])
    except FileNotFoundError:
        return "a writer that has just finished", time.time()
    except (ValueError, KeyError, TypeError):  # the writer died before it wrote the whole lock
        return "an unknown writer", LOCK.stat().st_mtime


def _connect(mode: Literal["ro", "rwc"]) -> sqlite3.Connection:
    store = sqlite3.connect(f"{STORE.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=1.0)
    store.row_factory = sqlite3.Row
    return store


def _status(store: sqlite3.Connection, key: str) -> Status:
    row = store.execute(
        "SELECT status, (SELECT count(*) FROM comment WHERE ticket = key) FROM ticket WHERE key = ?", (key,)
    ).fetchone()
    if row is None:
        raise NotFound(f"there is no ticket {key!r}")
    return {"key": key, "status": row[0], "comments": row[1]}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
