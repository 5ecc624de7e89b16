"""Read-only SQL on one SQLite file, limited to the tables of the decision."""

import math
import sqlite3
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

MOST_ROWS = 200
EXACT = 2**53 - 1  # the largest integer that every JSON reader keeps
READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE}

Cell = str | int | float | None


class NotFound(Exception):
    """There is no such database."""


class NotADatabase(Exception):
    """The file is not a SQLite database."""


class BadQuery(Exception):
    """SQLite cannot run the query."""


class TableNotDecided(Exception):
    """The query uses a table that is not part of the decision."""


class Rows(TypedDict):
    columns: list[str]
    rows: list[list[Cell]]
    complete: bool  # False: there are more rows than these


def query(
    query: Annotated[str, Field(max_length=4000)],
    resources: list[str],
    database: str = "data/orders.db",
) -> Rows:
    """Run one SELECT on `database` and return at most 200 rows."""
    # Remit sets `resources` and hides it from the model: the file and the tables of this call's decision.
    if not Path(database).is_file():
        raise NotFound(f"there is no database {database!r}")
    decided = {name.removeprefix("table:") for name in resources if name.startswith("table:")}
    # immutable: SQLite looks for no lock and no journal, so it needs one readable file only.
    connection = sqlite3.connect(f"{Path(database).absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    guard = _Guard(decided)
    try:
        guard.hold(connection)
        cursor = connection.execute(query)
        rows = [[_cell(value) for value in row] for row in islice(cursor, MOST_ROWS + 1)]
        columns = [column[0] for column in cursor.description or ()]
    except (sqlite3.Error, sqlite3.Warning) as error:
        if guard.refused:
            raise TableNotDecided(f"the query uses {guard.refused}, which this call may not use") from error
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise NotADatabase(f"{database!r} is not a SQLite database") from error
        raise BadQuery(str(error)) from error
    finally:
        connection.close()
    return {"columns": columns, "rows": rows[:MOST_ROWS], "complete": len(rows) <= MOST_ROWS}


class _Guard:
    """Allows SQLite to read the decided tables only; keeps the first refusal."""

    def __init__(self, decided: set[str]) -> None:
        self.decided = decided
        self.existing: set[str] = set()
        self.refused = ""

    def hold(self, connection: sqlite3.Connection) -> None:
        self.existing = {name.lower() for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        connection.execute("PRAGMA temp_store = MEMORY")  # sorting must not ask for a temporary file
        connection.set_authorizer(self.judge)

    def judge(self, action: int, first: str | None, second: str | None, schema: str | None, via: str | None) -> int:
        if action in READS:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION and second != "load_extension":
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ:
            table = (first or "").lower()
            # SQLite reports the name of a subquery or of WITH without a column. It is not a table; the tables inside it
            # are checked by themselves.
            named_here = second == "" and table not in self.existing and not table.startswith(("sqlite_", "pragma_"))
            if table in self.decided or named_here:
                return sqlite3.SQLITE_OK
        self.refused = self.refused or first or "a statement that is not a read"
        return sqlite3.SQLITE_DENY


def _cell(value: object) -> Cell:
    """The value for JSON: bytes in hexadecimal, huge numbers as text."""
    if isinstance(value, bytes):
        return value.hex()
    if (isinstance(value, int) and abs(value) > EXACT) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    assert value is None or isinstance(value, str | int | float)
    return value
