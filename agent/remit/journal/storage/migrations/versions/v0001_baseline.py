"""The first version of the tables. It stays as it is: later versions change what it creates."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None

_BYTES: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_LOOKED_UP: Final = sa.text(
    "type IN ('act.requested', 'alert.raised', 'approval.granted', 'break_glass.reviewed', 'hold.set', 'hold.lifted',"
    " 'policy.adopted', 'run.pruned', 'shadow.decided')"
)
_ENDED: Final = sa.text("ended > 0")
_ARMS: Final = sa.text("rollout <> ''")
_TALKS: Final = sa.text("conversation <> ''")
_TO_AUDIT: Final = sa.text("audited < seq")

_QUEUED: Final = sa.text("priority > 0 AND ended = 0")

_QUEUES: Final = {
    "run_in_queue": ["state", "priority", "started"],
    "run_in_queue_by_time": ["waits_until"],
}
_SOME_RUNS: Final = {
    "run_unfinished": "ended = 0",
    "run_that_failed": "outcome <> 'completed'",
    "run_with_refusal": "denied > 0",
    "run_in_doubt": "in_doubt <> ''",
}

# Statistics of a column are samples of its values, which erasing a row does not remove.
_WITHOUT_STATISTICS: Final = {
    "run": ("user", "task", "task_digest"),
    "payload": ("salt", "body"),
    "sealed": ("chain", "bodies"),
}


def upgrade() -> None:
    """Create every table and index."""
    _events()
    _runs()
    _projections()
    _evaluations()
    if op.get_context().dialect.name == "postgresql":
        for table, columns in _WITHOUT_STATISTICS.items():
            for column in columns:
                op.execute(f'ALTER TABLE {table} ALTER COLUMN "{column}" SET STATISTICS 0')


def _events() -> None:
    op.create_table(
        "event",
        sa.Column("run", _BYTES, primary_key=True),
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("key", _BYTES, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("prev", "hash", "payload_digest")),
        sa.UniqueConstraint("run", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("event_by_type", "event", ["type", "at"], sqlite_where=_LOOKED_UP, postgresql_where=_LOOKED_UP)
    op.create_table(
        "payload",
        sa.Column("run", _BYTES, primary_key=True),
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("salt", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "head",
        sa.Column("run", _BYTES, primary_key=True),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("audited", sa.BigInteger(), nullable=False),
    )
    op.create_index("head_to_audit", "head", ["run"], sqlite_where=_TO_AUDIT, postgresql_where=_TO_AUDIT)
    leased = sa.text("holder <> ''")
    op.create_index("head_with_lease", "head", ["run"], sqlite_where=leased, postgresql_where=leased)
    op.create_table(
        "sealed",
        sa.Column("run", _BYTES, primary_key=True),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("chain", sa.LargeBinary(), nullable=False),
        sa.Column("bodies", sa.LargeBinary(), nullable=False),
    )


def _runs() -> None:
    op.create_table(
        "run",
        sa.Column("run", _BYTES, primary_key=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("tenant", "user", "agent")),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("started", "ended")),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("state", "outcome", "code")),
        sa.Column("task", sa.Text(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("task_digest", "model")),
        sa.Column("scripted", sa.Integer(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("steps", "calls", "denied")),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("first_denied", "first_failed")),
        sa.Column("in_doubt", sa.Text(), nullable=False),
        sa.Column("labels", sa.String(), nullable=False),
        sa.Column("bundles", sa.Text(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("cost", sa.String(), nullable=False),
        sa.Column("violations", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("rollout", "arm")),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("evaluation", sa.String(), nullable=False),
        sa.Column("actions", sa.Text(), nullable=False),
        sa.Column("response_model", sa.String(), nullable=False),
        sa.Column("recent", sa.Text(), nullable=False),
        sa.Column("waits_until", sa.BigInteger(), nullable=False),
        sa.Column("driver", sa.String(), nullable=False),
        sa.Column("conversation", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("observe_until", sa.BigInteger(), nullable=False),
        sa.Column("let_through", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
    )
    op.create_index("run_by_start", "run", ["started", "run"])
    op.create_index("run_by_agent", "run", ["agent", "started", "run"])
    op.create_index("run_by_task", "run", ["agent", "task_digest", "started"])
    op.create_index("run_by_user", "run", ["user", "started", "run"])
    op.create_index("run_by_end", "run", ["ended", "run"], sqlite_where=_ENDED, postgresql_where=_ENDED)
    by_rollout = ["rollout", "started", "run"]
    op.create_index("run_by_rollout", "run", by_rollout, sqlite_where=_ARMS, postgresql_where=_ARMS)
    by_conversation = ["conversation", "number"]
    op.create_index("run_by_conversation", "run", by_conversation, sqlite_where=_TALKS, postgresql_where=_TALKS)
    op.create_index("run_by_arm", "run", ["rollout", "user"], sqlite_where=_ARMS, postgresql_where=_ARMS)
    for name, columns in _QUEUES.items():
        op.create_index(name, "run", columns, sqlite_where=_QUEUED, postgresql_where=_QUEUED)
    for name, rows in _SOME_RUNS.items():
        condition = sa.text(rows)
        op.create_index(name, "run", ["started", "run"], sqlite_where=condition, postgresql_where=condition)


def _projections() -> None:
    op.create_table(
        "approval",
        sa.Column("run", _BYTES, primary_key=True),
        sa.Column("seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("requested", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
    )
    op.create_index("approval_by_state", "approval", ["state", "requested"])
    op.create_table(
        "hold",
        sa.Column("scope", sa.String(), primary_key=True),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "published",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("event", sa.String(), nullable=False),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "alert",
        sa.Column("alert", sa.String(), primary_key=True),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
    op.create_table(
        "circuit",
        sa.Column("tool", sa.String(), primary_key=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("rest_s", sa.Float(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("openings", sa.Integer(), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("tried_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "limit_bucket",
        sa.Column("scope", sa.String(), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "used_token",
        sa.Column("token", sa.String(), primary_key=True),
        sa.Column("until", sa.BigInteger(), nullable=False),
    )
    op.create_index("used_token_by_end", "used_token", ["until"])
    op.create_table(
        "rollout",
        sa.Column("rollout", _BYTES, primary_key=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("opened", "ended")),
    )
    op.create_index("rollout_by_time", "rollout", ["at", "rollout"])
    is_open = sa.text("status = 'open'")
    by_time = ["at", "rollout"]
    op.create_index("rollout_that_is_open", "rollout", by_time, sqlite_where=is_open, postgresql_where=is_open)
    op.create_table(
        "arm_count",
        sa.Column("rollout", _BYTES, primary_key=True),
        *(sa.Column(name, sa.String(), primary_key=True) for name in ("bar", "arm")),
        sa.Column("share", sa.Float(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("seen", "broke")),
    )


def _evaluations() -> None:
    op.create_table(
        "evaluation",
        sa.Column("evaluation", sa.String(), primary_key=True),
        sa.Column("agent", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("started", "ended")),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("runs", "passed", "failed", "infrastructure")),
    )
    op.create_index("evaluation_by_start", "evaluation", ["started"])
    op.create_table(
        "grade",
        *(sa.Column(name, sa.String(), primary_key=True) for name in ("evaluation", "variant", "scenario")),
        sa.Column("repeat", sa.Integer(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("run", "outcome")),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
    )
    op.create_index("grade_by_run", "grade", ["run"])
