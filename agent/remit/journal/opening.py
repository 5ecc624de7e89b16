"""Opens the journal of a workspace: a file, a PostgreSQL database, or memory."""

from __future__ import annotations

import grp
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import sqlalchemy as sa

from remit import __version__
from remit.core import RunEnded, UsageError
from remit.core.events import event_types
from remit.journal.copies.chain_copies import ChainCopies
from remit.journal.copies.sealed_bodies import SealedBodies
from remit.journal.storage.core_tables import EVENT, SCHEMA, VERSIONS
from remit.journal.storage.database import Database, Sql
from remit.journal.storage.sqlite import SqliteDatabase
from remit.journal.store import FIX, Journal
from remit.storage import Store

POSTGRES: Final = ("postgresql://", "postgres://")
_VERSION: Final = Sql(VERSIONS.select())
_NEW_VERSION: Final = Sql(VERSIONS.insert())
_TYPES: Final = Sql(sa.select(EVENT.c.type, sa.func.count()).group_by(EVENT.c.type))


def open_journal(
    location: Path | str | None,
    *,
    tenant: str = "default",
    group: str = "",
    copies: Store | None = None,
    clock: Callable[[], int] = time.time_ns,
) -> Journal:
    """Open the journal, and create it if it does not exist.

    `location` is the path of a SQLite file, a `postgresql://` URL, or None: in memory, until it is closed.
    `copies` is the shared storage to which its chains are copied and the bodies of sealed runs go, None: to none. `tenant` names the schema and the role in PostgreSQL. The accounts of the operating-system `group` share a file; "": its
    owner only.

    Raises:
        UsageError: the URL, the group or the version of the tables does not fit; nothing was changed.
        RunEnded: `unrecorded`: the database cannot be opened.
    """
    name, database = _name(location), _opened(location, tenant, group)
    try:
        _check_schema(database, name)
    except database.failures as failure:
        database.close()
        raise _cannot_open(name, failure) from failure
    except BaseException:
        database.close()
        raise
    journal = Journal(database, name, clock=clock)
    journal.copies = None if copies is None else ChainCopies(copies)
    journal.bodies = SealedBodies(copies)
    return journal


def _opened(location: Path | str | None, tenant: str, group: str) -> Database:
    try:
        return _database(location, tenant, group)
    except UsageError:
        raise
    except Exception as failure:
        raise _cannot_open(_name(location), failure) from failure


def _cannot_open(name: str, failure: Exception) -> RunEnded:
    cause = getattr(failure, "strerror", None) or str(failure).strip() or type(failure).__name__
    return RunEnded("unrecorded", f"the journal {name} cannot be opened: {cause}", fix=FIX)


def _database(location: Path | str | None, tenant: str, group: str) -> Database:
    if isinstance(location, str):
        if not location.startswith(POSTGRES):
            raise UsageError(f"{location!r} is no journal: write a postgresql:// URL, or leave the setting out")
        if find_spec("psycopg") is None:
            raise UsageError('a journal in PostgreSQL needs psycopg: pip install "remit[postgres]"')
        from remit.journal.storage.postgres import PostgresDatabase

        return PostgresDatabase(location, tenant=tenant)
    return SqliteDatabase(location, group=_group_id(group))


def _group_id(group: str) -> int | None:
    if not group:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(
            f"the group {group!r} does not exist on this machine: create it, or change journal_group"
        ) from None


def _check_schema(database: Database, name: str) -> None:
    """Create the tables in an empty database. Raises UsageError for tables of another version."""
    # INVARIANT: first. Another process may create all tables at once between the two looks.
    has_events = database.has_table("event")
    if not database.has_table(VERSIONS.name):
        if has_events:
            raise _is_older(name)
        database.create()
    rows = database.read(_VERSION)
    if not rows:
        with database.transaction(durable=True) as transaction:
            transaction.lock("create")
            if not transaction.execute(_VERSION):
                transaction.execute(_NEW_VERSION, {"version_num": SCHEMA})
        return
    version = str(rows[0][0])
    if version < SCHEMA:
        raise _is_older(name)
    if version > SCHEMA:
        raise UsageError(
            f"the journal {name} has tables of version {version}, and Remit {__version__} reads {SCHEMA}: install a newer one"
        )


@dataclass(frozen=True, kw_only=True)
class JournalFormat:
    """What a journal holds: the version of its tables ("": from before versions), and how many events of each type."""

    version: str
    events: Mapping[str, int]

    @property
    def unknown(self) -> Mapping[str, int]:
        """The events that this version of Remit does not know."""
        return {name: count for name, count in self.events.items() if name not in event_types()}


def journal_format(location: Path | str, *, tenant: str = "default", group: str = "") -> JournalFormat | None:
    """The format of a journal, which is neither created nor changed; None if there is none yet. Reads the type of every event.

    Raises as `open_journal`, but for no version of the tables.
    """
    if isinstance(location, Path) and not location.exists():
        return None
    database = _opened(location, tenant, group)
    try:
        if not database.has_table("event"):
            return None
        rows = database.read(_VERSION) if database.has_table(VERSIONS.name) else []
        return JournalFormat(version=str(rows[0][0]) if rows else "", events=dict(database.read(_TYPES)))
    except database.failures as failure:
        raise _cannot_open(_name(location), failure) from failure
    finally:
        database.close()


def _is_older(name: str) -> UsageError:
    return UsageError(
        f"the journal {name} was written by an older version of Remit: "
        "move it away to begin a new one, or read it with the version that wrote it"
    )


def _name(location: Path | str | None) -> str:
    if location is None:
        return "in memory"
    if isinstance(location, Path):
        return location.name
    parts = urlsplit(location)
    return f"{parts.hostname or 'localhost'}{parts.path}"
