"""The tables of the journal, for SQLite and PostgreSQL. Alembic reads them from here.

`event` and `payload` are the truth: headers and bodies are apart, so that a body can be erased while the chain of headers can
still be verified. `head` says where each chain ends and which process may extend it, and `used_token` which tokens of applications
are used up. The other tables are projections: they
are written in the transaction of the event that changes them, and `remit journal rebuild` computes them again from the events.

Statements use `core_tables`, which has the same tables without SQLModel and the ORM: loading these takes 0.2 s, and each command would pay it.
After a change, write its columns again: python tests/support/journal_columns.py --write
"""

# pyright: reportAssignmentType=false
# `__tablename__` is declared for SQLAlchemy's own use.
from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

from remit.journal.storage.core_tables import (
    BYTES,
    HAS_ARM,
    HAS_CONVERSATION,
    HAS_ENDED,
    HAS_FAILED,
    IS_IN_DOUBT,
    IS_LEASED,
    IS_LOOKED_UP,
    IS_OPEN,
    IS_QUEUED,
    IS_TO_AUDIT,
    IS_UNFINISHED,
    WAS_REFUSED,
)


def _partial(name: str, condition: sa.TextClause, *columns: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


class JournalRow(SQLModel, registry=registry()):
    """A row of the journal. Its tables are apart from those of a program that uses SQLModel itself."""


class SchemaRow(JournalRow, table=True):
    """The version of the tables in this database: one row. Alembic reads and writes it, too, so its form is Alembic's."""

    __tablename__ = "remit_schema"
    __table_args__ = (sa.PrimaryKeyConstraint("version_num", name="remit_schema_pkc"),)

    version_num: str = Field(sa_type=sa.String(32), primary_key=True)


class EventRow(JournalRow, table=True):
    """The header of an event: everything that its hash covers. The key is unique in its run, so one event is never written twice."""

    __tablename__ = "event"
    __table_args__ = (
        sa.UniqueConstraint("run", "key"),
        _partial("event_by_type", IS_LOOKED_UP, "type", "at"),
        {"sqlite_with_rowid": False},
    )

    run: str = Field(primary_key=True, sa_type=BYTES)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    at: int = Field(sa_type=sa.BigInteger)  # Unix nanoseconds
    type: str
    key: str = Field(sa_type=BYTES)
    prev: str
    hash: str
    payload_digest: str


class PayloadRow(JournalRow, table=True):
    """The body of an event and its salt. An erased body has no row."""

    __tablename__ = "payload"

    run: str = Field(primary_key=True, sa_type=BYTES)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    salt: str
    body: str = Field(sa_type=sa.Text)


class HeadRow(JournalRow, table=True):
    """The last event of each chain, and the lease of the process that may extend it.

    `seq` is -1 before the first event. `holder` names the process that drives the run, "" without one; `beat` is when it last
    said that it lives (Unix nanoseconds). `fence` grows by one with each new holder: an append with an older number is refused.
    `audited` is the number of the last event that has left for the audit stream, -1 without one.
    """

    __tablename__ = "head"
    __table_args__ = (_partial("head_to_audit", IS_TO_AUDIT, "run"), _partial("head_with_lease", IS_LEASED, "run"))

    run: str = Field(primary_key=True, sa_type=BYTES)
    seq: int = Field(sa_type=sa.BigInteger)
    hash: str
    holder: str = ""
    beat: int = Field(default=0, sa_type=sa.BigInteger)
    fence: int = Field(default=0, sa_type=sa.BigInteger)
    audited: int = Field(default=-1, sa_type=sa.BigInteger)


class RunRow(JournalRow, table=True):
    """One run, as lists and filters need it. `started` and `ended` are Unix nanoseconds (`ended` 0: it has not ended).

    `task` is the beginning of the task, `task_digest` the digest of all its words, "" without content.
    `asked` counts the calls for which people were asked. `cost` is the money, "" if it is not known. `violations` counts the
    attempts that tried to reach what was not authorized. `rollout`, `arm` and `share` are those of `RunArm`, "" and 0 without one.
    `evaluation` is the id of its evaluation, "import:NAME" for an imported run, and "" for a live run. `labels` are those of the run, one a word. `in_doubt` has a line
    for each effect of unknown outcome: `STEP INDEX ANSWERED ACTION`. `bundles` are digests, one a word. `actions` has a line for
    each action that succeeded: `COUNT ACTION`. `response_model` is the model that answered last, as its provider names it. `recent`
    counts the outcomes of its last hour, one a line: `PART COUNT CODE ACTION RULE`; see `RunState.recent`.
    `state` is `RunState.status`, and `waits_until` when a waiting run goes on without an answer (Unix nanoseconds, 0 if it does not
    wait). `driver` is the framework whose graph drives the run, "" for Remit's own. `conversation`, `number` and `message` are those of
    `ConversationRun`, "" and 0 for a run on its own. `priority` is that of `RunStarted`, 0 without one. `observe_until` and `let_through` are those of `RunSummary`.
    """

    __tablename__ = "run"
    __table_args__ = (
        sa.Index("run_by_start", "started", "run"),
        sa.Index("run_by_agent", "agent", "started", "run"),
        sa.Index("run_by_task", "agent", "task_digest", "started"),
        sa.Index("run_by_user", "user", "started", "run"),
        _partial("run_unfinished", IS_UNFINISHED, "started", "run"),
        _partial("run_by_end", HAS_ENDED, "ended", "run"),
        _partial("run_that_failed", HAS_FAILED, "started", "run"),
        _partial("run_with_refusal", WAS_REFUSED, "started", "run"),
        _partial("run_in_doubt", IS_IN_DOUBT, "started", "run"),
        _partial("run_by_rollout", HAS_ARM, "rollout", "started", "run"),
        _partial("run_by_conversation", HAS_CONVERSATION, "conversation", "number"),
        _partial("run_by_arm", HAS_ARM, "rollout", "user"),
        _partial("run_in_queue", IS_QUEUED, "state", "priority", "started"),
        _partial("run_in_queue_by_time", IS_QUEUED, "waits_until"),
    )

    run: str = Field(primary_key=True, sa_type=BYTES)
    tenant: str
    user: str
    agent: str
    started: int = Field(sa_type=sa.BigInteger)
    ended: int = Field(sa_type=sa.BigInteger)
    state: str
    outcome: str
    code: str
    task: str = Field(sa_type=sa.Text)
    task_digest: str
    model: str
    scripted: int
    content: str
    steps: int
    calls: int
    denied: int
    first_denied: str
    first_failed: str
    in_doubt: str = Field(sa_type=sa.Text)
    labels: str
    bundles: str = Field(sa_type=sa.Text)
    asked: int
    cost: str
    violations: int
    rollout: str
    arm: str
    share: float
    evaluation: str
    actions: str = Field(sa_type=sa.Text)
    response_model: str
    recent: str = Field(sa_type=sa.Text)
    waits_until: int = Field(sa_type=sa.BigInteger)
    driver: str
    conversation: str
    number: int
    message: str
    observe_until: int = Field(sa_type=sa.BigInteger)
    let_through: int
    priority: int


class ApprovalRow(JournalRow, table=True):
    """A request for approval whose call has no answer yet, or an emergency approval; `seq` is the number of its event.

    `state` is `waiting` while people have to answer and `answered` until the call is carried out; `emergency` and `reviewed` are
    those of emergency approvals, whose rows stay. `requested` and `expires` are Unix nanoseconds.
    """

    __tablename__ = "approval"
    __table_args__ = (sa.Index("approval_by_state", "state", "requested"),)

    run: str = Field(primary_key=True, sa_type=BYTES)
    seq: int = Field(primary_key=True, sa_type=sa.BigInteger)
    state: str
    requested: int = Field(sa_type=sa.BigInteger)
    expires: int = Field(sa_type=sa.BigInteger)


class SealedRow(JournalRow, table=True):
    """All events of a finished run up to number `last`, compressed; see `sealing`. They are no longer in `event` and `payload`."""

    __tablename__ = "sealed"

    run: str = Field(primary_key=True, sa_type=BYTES)
    last: int = Field(sa_type=sa.BigInteger)
    chain: bytes = Field(sa_type=sa.LargeBinary)
    bodies: bytes = Field(sa_type=sa.LargeBinary)


class HoldRow(JournalRow, table=True):
    """A hold in force. `event` is the number of its event in the stream of the workspace."""

    __tablename__ = "hold"

    scope: str = Field(primary_key=True)
    event: int = Field(sa_type=sa.BigInteger)
    body: str = Field(sa_type=sa.Text)


class PublishedRow(JournalRow, table=True):
    """The rules that were published, if any are in force: one row, `policy`. `event` is the key of their event."""

    __tablename__ = "published"

    name: str = Field(primary_key=True)
    event: str


class KeyRow(JournalRow, table=True):
    """An API key that is not revoked. `event` is the number of its event in the stream of the workspace."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    event: int = Field(sa_type=sa.BigInteger)
    body: str = Field(sa_type=sa.Text)


class AlertRow(JournalRow, table=True):
    """An alert in force. `event` is the number of its event in the stream of the workspace."""

    __tablename__ = "alert"

    alert: str = Field(primary_key=True)
    event: int = Field(sa_type=sa.BigInteger)
    body: str = Field(sa_type=sa.Text)


class CircuitRow(JournalRow, table=True):
    """The circuit breaker of one tool that failed; see `run_state.Circuit`. Times are Unix nanoseconds."""

    __tablename__ = "circuit"

    tool: str = Field(primary_key=True)
    failures: int
    rest_s: float
    opened_at: int = Field(sa_type=sa.BigInteger)
    openings: int
    trials: int
    tried_at: int = Field(sa_type=sa.BigInteger)


class RolloutRow(JournalRow, table=True):
    """A rollout; see `rollouts.RolloutState`. `opened` and `ended` are the bodies of its first and last event."""

    __tablename__ = "rollout"
    __table_args__ = (
        sa.Index("rollout_by_time", "at", "rollout"),
        _partial("rollout_that_is_open", IS_OPEN, "at", "rollout"),
    )

    rollout: str = Field(primary_key=True, sa_type=BYTES)
    status: str
    stage: int
    at: int = Field(sa_type=sa.BigInteger)  # when it was opened, in Unix nanoseconds
    opened: str = Field(sa_type=sa.Text)
    ended: str = Field(sa_type=sa.Text)


class ArmCountRow(JournalRow, table=True):
    """What the runs of a rollout say of one bar: how many users of an arm they had at a share, and how many of these broke the bar.

    A user counts at the share of the first run, and as one who broke the bar at that of the first run that broke it.
    """

    __tablename__ = "arm_count"

    rollout: str = Field(primary_key=True, sa_type=BYTES)
    bar: str = Field(primary_key=True)
    arm: str = Field(primary_key=True)
    share: float = Field(primary_key=True)
    seen: int
    broke: int


class LimitBucketRow(JournalRow, table=True):
    """What was taken from one shared limit in one part of its window. `start` is Unix nanoseconds."""

    __tablename__ = "limit_bucket"

    scope: str = Field(primary_key=True)
    start: int = Field(primary_key=True, sa_type=sa.BigInteger)
    amount: int = Field(sa_type=sa.BigInteger)


class UsedTokenRow(JournalRow, table=True):
    """A token of an application that was used and has not ended. `token` is a digest of issuer and number, `until` Unix nanoseconds."""

    __tablename__ = "used_token"
    __table_args__ = (sa.Index("used_token_by_end", "until"),)

    token: str = Field(primary_key=True)
    until: int = Field(sa_type=sa.BigInteger)


class EvaluationRow(JournalRow, table=True):
    """One evaluation of an agent. Times are Unix nanoseconds (`ended` 0: it has not ended).

    `runs` is how many grades it will have; `passed`, `failed` and `infrastructure` count those that it has.
    """

    __tablename__ = "evaluation"
    __table_args__ = (sa.Index("evaluation_by_start", "started"),)

    evaluation: str = Field(primary_key=True)
    agent: str
    started: int = Field(sa_type=sa.BigInteger)
    ended: int = Field(sa_type=sa.BigInteger)
    runs: int
    passed: int
    failed: int
    infrastructure: int


class GradeRow(JournalRow, table=True):
    """The grade of one run of an evaluation."""

    __tablename__ = "grade"
    __table_args__ = (sa.Index("grade_by_run", "run"),)

    evaluation: str = Field(primary_key=True)
    variant: str = Field(primary_key=True)
    scenario: str = Field(primary_key=True)
    repeat: int = Field(primary_key=True)
    run: str
    outcome: str
    seconds: float
    calls: int
    tokens: int = Field(sa_type=sa.BigInteger)


METADATA: Final = JournalRow.metadata
