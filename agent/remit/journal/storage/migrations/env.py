"""Alembic runs this to bring the tables of a journal to another version.

The caller gives an open connection: `config.attributes["connection"]`. On PostgreSQL it acts as the role of the tenant, in its schema.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection

from remit.journal.storage.core_tables import VERSIONS
from remit.journal.storage.tables import METADATA

_connection: Any = context.config.attributes.get("connection")
if not isinstance(_connection, Connection):
    raise SystemExit('give an open connection: config.attributes["connection"]')
context.configure(
    connection=_connection,
    target_metadata=METADATA,
    version_table=VERSIONS.name,
    compare_type=True,
    compare_server_default=True,
    render_as_batch=_connection.dialect.name == "sqlite",  # which cannot change a column in place
)
with context.begin_transaction():
    context.run_migrations()
