"""Alembic's revisions create the tables that the classes declare, so that a later version of Remit can change them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from remit.journal import open_journal
from remit.journal.storage.core_tables import SCHEMA, VERSIONS
from remit.journal.storage.tables import METADATA
from support.journals import query

TENANT: Final = "remit_default"
# What a database says of its tables: one statement each.
DESCRIBED: Final = {
    "sqlite": ("SELECT name, sql FROM sqlite_master ORDER BY name",),
    "postgresql": (
        "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name, ordinal_position"
        f" FROM information_schema.columns WHERE table_schema = '{TENANT}' ORDER BY 1, 2",
        f"SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = '{TENANT}' ORDER BY 1",
        "SELECT attrelid::regclass::text, attname FROM pg_attribute WHERE attstattarget = 0 AND attnum > 0"
        f" AND attrelid::regclass::text LIKE '{TENANT}.%' ORDER BY 1, 2",
    ),
}


def described(place: Path | str) -> list[Any]:
    """The tables, columns, keys and indexes of a database, however their statements were wrapped."""
    statements = DESCRIBED["sqlite" if isinstance(place, Path) else "postgresql"]
    rows = [query(place, statement) for statement in statements]
    return [tuple(re.sub(r"\s+", " ", str(value)) for value in row) for table in rows for row in table]


@contextmanager
def connected(place: Path | str) -> Iterator[sa.Connection]:
    """A connection as Alembic takes it: on PostgreSQL as the role of the tenant, in its schema."""
    if isinstance(place, Path):
        place.parent.mkdir(exist_ok=True)
    url = f"sqlite:///{place}" if isinstance(place, Path) else place.replace("postgresql://", "postgresql+psycopg://")
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            if not isinstance(place, Path):
                connection.execute(sa.text(f"SET search_path TO {TENANT}"))
                connection.commit()
            yield connection
            connection.commit()
    finally:
        engine.dispose()


def without_connection() -> Config:
    made = Config()
    made.set_main_option("script_location", "remit.journal.storage:migrations")
    return made


def config(connection: sa.Connection) -> Config:
    made = without_connection()
    made.attributes["connection"] = connection
    return made


def differences(place: Path | str) -> list[Any]:
    with connected(place) as connection:
        options = {"compare_type": True, "version_table": VERSIONS.name}
        found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)
        return found


def test_a_journal_that_remit_creates_has_the_tables_of_the_classes(place: Path | str) -> None:
    open_journal(place).close()
    assert differences(place) == []


def test_a_table_that_the_classes_do_not_declare_is_a_difference(place: Path | str) -> None:
    """The counterpart: the comparison sees a table that was changed by hand."""
    open_journal(place).close()
    query(place, "CREATE TABLE extra (name TEXT)")
    assert [change[0] for change in differences(place)] == ["remove_table"]


def test_the_revisions_create_what_remit_creates(tmp_path: Path, place: Path | str, postgres: str) -> None:
    """Table by table, with every key, index, collation and default; the version is that of the last revision."""
    open_journal(place).close()
    expected = described(place)
    assert len(expected) > 20
    if isinstance(place, Path):
        empty: Path | str = tmp_path / "other" / "journal.db"
    else:
        empty = place
        query(place, f"DROP SCHEMA {TENANT} CASCADE", f"CREATE SCHEMA {TENANT}")
    with connected(empty) as connection:
        command.upgrade(config(connection), "head")
    assert described(empty) == expected
    assert query(empty, f"SELECT version_num FROM {VERSIONS.name}") == [(SCHEMA,)]


def test_a_journal_that_the_revisions_created_opens(tmp_path: Path) -> None:
    place = tmp_path / "journal.db"
    with connected(place) as connection:
        command.upgrade(config(connection), "head")
    place.chmod(0o600)
    open_journal(place).close()


def test_a_new_journal_has_the_version_of_the_last_revision() -> None:
    assert ScriptDirectory.from_config(without_connection()).get_current_head() == SCHEMA


def test_the_revisions_refuse_to_run_without_a_connection() -> None:
    with pytest.raises((SystemExit, CommandError), match="give an open connection"):
        command.upgrade(without_connection(), "head")
