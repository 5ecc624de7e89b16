"""The columns of the tables of the journal, as `remit/journal/storage/columns.py` lists them.

python tests/support/journal_columns.py --write      write that file again after a change of `tables.py`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import sqlalchemy as sa

import remit.journal.storage
from remit.journal.storage.core_tables import TYPES
from remit.journal.storage.tables import METADATA

FILE: Final = Path(remit.journal.storage.__path__[0]) / "columns.py"
HEAD: Final = '''"""Every column of `tables.py` with its type, and the primary keys.

Written by `python tests/support/journal_columns.py --write`: change the classes in `tables.py` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

'''


def text_of_columns() -> str:
    """The text of `columns.py` for the classes as they are now."""
    lines = [HEAD, "COLUMNS: Final[Mapping[str, Mapping[str, str]]] = {\n"]
    for table in METADATA.tables.values():
        lines.append(f"    {json.dumps(table.name)}: {{\n")
        lines += [f'        "{column.name}": "{name_of(column.type)}",\n' for column in table.columns]
        lines.append("    },\n")
    lines.append("}\n\nKEYS: Final[Mapping[str, tuple[str, ...]]] = {\n")
    for table in METADATA.tables.values():
        key = ", ".join(f'"{column.name}"' for column in table.primary_key)
        lines.append(f'    "{table.name}": ({key}{"," if len(table.primary_key) == 1 else ""}),\n')
    return "".join([*lines, "}\n"])


def name_of(kind: sa.types.TypeEngine[object]) -> str:
    """The name of the type in `TYPES`: of the one that both databases write in the same way."""
    (name,) = (name for name, known in TYPES.items() if written(known) == written(kind))
    return name


def written(kind: sa.types.TypeEngine[object]) -> tuple[str, ...]:
    """The type as each database writes it."""
    dialects = [sa.create_mock_engine(f"{url}://", lambda *_: None).dialect for url in ("sqlite", "postgresql+psycopg")]
    return tuple(str(kind.compile(dialect=dialect)) for dialect in dialects)


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    FILE.write_text(text_of_columns())
