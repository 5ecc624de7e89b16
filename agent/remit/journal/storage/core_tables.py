"""The tables of the journal as statements use them: names and columns of `tables.py`, without what only a new journal needs.

INVARIANT: the columns and their types are those of the classes in `tables.py`. `tests/journal/test_tables.py` compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from remit.journal.storage.columns import COLUMNS, KEYS

SCHEMA: Final = "0001"  # the version of these tables: the last revision in `migrations/versions`

# Events of these types are rare and are looked up by their type over all runs. A query must contain the same text to use the index.
LOOKED_UP: Final = (
    "act.requested",
    "alert.raised",
    "approval.granted",
    "break_glass.reviewed",
    "hold.set",
    "hold.lifted",
    "policy.adopted",
    "run.pruned",
    "shadow.decided",
)
IS_LOOKED_UP = sa.text("type IN ({})".format(", ".join(f"'{name}'" for name in LOOKED_UP)))

# Conditions of partial indexes. A query must contain the same text, too.
HAS_ENDED = sa.text("ended > 0")
IS_UNFINISHED = sa.text("ended = 0")
HAS_FAILED = sa.text("outcome <> 'completed'")  # also runs that have not ended: some of them are lost
WAS_REFUSED = sa.text("denied > 0")
IS_IN_DOUBT = sa.text("in_doubt <> ''")
HAS_ARM = sa.text("rollout <> ''")
HAS_CONVERSATION = sa.text("conversation <> ''")
IS_LEASED = sa.text("holder <> ''")
IS_QUEUED = sa.text("priority > 0 AND ended = 0")
IS_OPEN = sa.text("status = 'open'")
IS_TO_AUDIT = sa.text("audited < seq")

# Ids and keys are compared byte by byte in both databases, so that the ids with one beginning are a range of the index.
BYTES: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

TYPES: Final[Mapping[str, sa.types.TypeEngine[Any]]] = {
    "id": BYTES,
    "word": sa.String(),
    "version": sa.String(32),
    "text": sa.Text(),
    "number": sa.Integer(),
    "big number": sa.BigInteger(),
    "fraction": sa.Float(),
    "bytes": sa.LargeBinary(),
}
TABLES: Final = {
    name: sa.Table(
        name,
        sa.MetaData(),
        *(sa.Column(column, TYPES[kind], primary_key=column in KEYS[name]) for column, kind in columns.items()),
    )
    for name, columns in COLUMNS.items()
}
VERSIONS: Final = TABLES["remit_schema"]
EVENT, PAYLOAD, HEAD, SEALED, RUN = (TABLES[name] for name in ("event", "payload", "head", "sealed", "run"))
APPROVAL, HOLD, PUBLISHED, API_KEY, ALERT, CIRCUIT, LIMIT_BUCKET = (
    TABLES[name] for name in ("approval", "hold", "published", "api_key", "alert", "circuit", "limit_bucket")
)
USED_TOKEN: Final = TABLES["used_token"]
EVALUATION, GRADE, ROLLOUT, ARM_COUNT = (TABLES[name] for name in ("evaluation", "grade", "rollout", "arm_count"))
PROJECTIONS: Final = (
    RUN,
    APPROVAL,
    HOLD,
    PUBLISHED,
    API_KEY,
    ALERT,
    CIRCUIT,
    LIMIT_BUCKET,
    EVALUATION,
    GRADE,
    ROLLOUT,
    ARM_COUNT,
)
