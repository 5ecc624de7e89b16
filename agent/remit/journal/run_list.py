"""The lists of runs, evaluations, rollouts and alerts, read from their projections; runs a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, Literal, TypeAlias

import sqlalchemy as sa

from remit.core import UsageError, near_names, spelled
from remit.core.events import AlertRaised, RolloutOpened, RunPruned
from remit.journal.lease import holder_text, status_now
from remit.journal.projections import WORKSPACE_RUN, summary
from remit.journal.run_state import RolloutState, RunStatus, RunSummary
from remit.journal.storage.arm_counts import COUNTS, ArmCounts, counts_of
from remit.journal.storage.core_tables import (
    ALERT,
    APPROVAL,
    EVALUATION,
    EVENT,
    HAS_ARM,
    HAS_CONVERSATION,
    HAS_ENDED,
    HAS_FAILED,
    HEAD,
    IS_IN_DOUBT,
    IS_UNFINISHED,
    PAYLOAD,
    ROLLOUT,
    RUN,
    WAS_REFUSED,
)
from remit.journal.storage.database import Row, Sql
from remit.journal.storage.shared import rollout_of
from remit.journal.store import AlreadyRecorded, Journal

PAGE: Final = 200  # rows that are read at once
PRUNED: Final = "run.pruned/"  # the beginning of the key of `RunPruned`, which stays after a run was pruned

_of: sa.BindParameter[str] = sa.bindparam("of")
_WITH_LEASE: Final = sa.select(RUN, HEAD.c.holder, HEAD.c.beat).select_from(
    RUN.outerjoin(HEAD, RUN.c.run == HEAD.c.run)
)
_ONE: Final = Sql(_WITH_LEASE.where(RUN.c.run == _of))
MOST_COMPARED: Final = 100  # newest runs that the id of none is compared with
_NAMED: Final = Sql(
    sa.select(RUN.c.run)
    .where(RUN.c.run >= sa.bindparam("prefix"), RUN.c.run < sa.bindparam("end"))
    .order_by(RUN.c.run)
    .limit(6)
)
_PRUNED: Final = Sql(
    sa.select(EVENT.c.key)
    .where(EVENT.c.run == WORKSPACE_RUN, EVENT.c.key >= sa.bindparam("prefix"), EVENT.c.key < sa.bindparam("end"))
    .order_by(EVENT.c.key)
    .limit(5)
)
_ENDED: Final = Sql(
    sa.select(RUN.c.run, RUN.c.agent, RUN.c.outcome, RUN.c.labels, RUN.c.rollout, RUN.c.ended)
    .where(HAS_ENDED, RUN.c.ended < sa.bindparam("before"))
    .order_by(RUN.c.ended.desc(), RUN.c.run.desc())
)
_LAST_GOOD: Final = Sql(
    _WITH_LEASE.where(
        RUN.c.agent == sa.bindparam("by"),
        RUN.c.task_digest == sa.bindparam("task"),
        RUN.c.started < sa.bindparam("before"),
        RUN.c.outcome == "completed",
        RUN.c.evaluation == "",
    )
    .order_by(RUN.c.started.desc())
    .limit(1)
)
_IN_STATE: Final = Sql(
    sa.select(APPROVAL.c.run, APPROVAL.c.seq, APPROVAL.c.requested, PAYLOAD.c.body, APPROVAL.c.expires)
    .select_from(APPROVAL.outerjoin(PAYLOAD, (APPROVAL.c.run == PAYLOAD.c.run) & (APPROVAL.c.seq == PAYLOAD.c.seq)))
    .where(APPROVAL.c.state == sa.bindparam("state"))
    .order_by(APPROVAL.c.requested)
)
Place: TypeAlias = tuple[int, str, int]  # in a list of requests: time in Unix nanoseconds, run, number of the event
FIRST: Final[Place] = (-1, "", -1)  # before every request
_AFTER: Final = Sql(
    sa.select(APPROVAL.c.run, APPROVAL.c.seq, APPROVAL.c.requested, PAYLOAD.c.body, APPROVAL.c.expires)
    .select_from(APPROVAL.outerjoin(PAYLOAD, (APPROVAL.c.run == PAYLOAD.c.run) & (APPROVAL.c.seq == PAYLOAD.c.seq)))
    .where(
        APPROVAL.c.state == sa.bindparam("state"),
        sa.tuple_(APPROVAL.c.requested, APPROVAL.c.run, APPROVAL.c.seq)
        > sa.tuple_(sa.bindparam("since"), sa.bindparam("of"), sa.bindparam("number")),
    )
    .order_by(APPROVAL.c.requested, APPROVAL.c.run, APPROVAL.c.seq)
    .limit(sa.bindparam("most"))
)
_OF_CONVERSATION = sa.select(RUN.c.run, RUN.c.number, RUN.c.message, RUN.c.ended).where(
    HAS_CONVERSATION, RUN.c.conversation == _of
)
_LAST: Final = Sql(_OF_CONVERSATION.order_by(RUN.c.number.desc()).limit(1))
_CONVERSATION: Final = Sql(sa.select(RUN.c.conversation).where(RUN.c.run == _of))
_OF_MESSAGE: Final = Sql(_OF_CONVERSATION.where(RUN.c.message == sa.bindparam("written")).order_by(RUN.c.number.desc()))
_ALERTS: Final = Sql(sa.select(ALERT.c.event, ALERT.c.body))
_ALERTS_IN_FORCE: Final = Sql(sa.select(sa.func.count()).select_from(ALERT))
_COUNTED: Final = Sql(sa.select(sa.func.count()).select_from(APPROVAL).where(APPROVAL.c.state == sa.bindparam("state")))


@dataclass(frozen=True, kw_only=True)
class RunQuery:
    """The conditions that listed runs meet; "", False and None are no condition.

    `evaluation` is "" for live runs only, the id of an evaluation for its runs, "import:NAME" for imported runs, and None for all. `run` is
    a whole id; `conversation` is the id of one, `agent` and
    `user` are whole subjects (`agent:triage`); `rollout` is the id of one. `failed` runs have ended, but not as completed, or are
    lost; `unfinished` ones have not ended. `since` is Unix nanoseconds.
    """

    evaluation: str | None = ""
    run: str = ""
    agent: str = ""
    user: str = ""
    tenant: str = ""
    state: RunStatus | Literal[""] = ""
    rollout: str = ""
    conversation: str = ""
    failed: bool = False
    denied: bool = False
    in_doubt: bool = False
    unfinished: bool = False
    since: int | None = None

    @property
    def conditions(self) -> Sequence[sa.ColumnElement[bool]]:
        """The conditions as SQL. The state of a run that has not ended is known from its lease: see `accepts`."""
        equal = {"run": self.run, "agent": self.agent, "user": self.user, "tenant": self.tenant}
        found: list[Any] = [RUN.c[name] == value for name, value in equal.items() if value]
        if self.rollout:
            found += [HAS_ARM, RUN.c.rollout == self.rollout]
        if self.conversation:
            found += [HAS_CONVERSATION, RUN.c.conversation == self.conversation]
        if self.evaluation is not None:
            found.append(RUN.c.evaluation == self.evaluation)
        some = {HAS_FAILED: self.failed, WAS_REFUSED: self.denied, IS_IN_DOUBT: self.in_doubt}
        some |= {HAS_ENDED: self.state == "finished"}
        some |= {IS_UNFINISHED: self.unfinished or self.state not in ("", "finished")}
        found += [condition for condition, asked in some.items() if asked]
        if self.since is not None:
            found.append(RUN.c.started >= self.since)
        return found

    def accepts(self, run: RunSummary) -> bool:
        """True if the run is in the state that is asked for, now."""
        return self.state in ("", run.state) and (not self.failed or run.state in ("finished", "lost"))


LIVE_RUNS: Final = RunQuery()


def list_runs(
    journal: Journal, query: RunQuery = LIVE_RUNS, *, page: int = PAGE, before: tuple[int, str] | None = None
) -> Iterator[RunSummary]:
    """The runs that match, the latest first. Pages are read while the iterator goes on.

    `before` is a place in the list, the start in Unix nanoseconds and the id of a run: only runs after it are listed.
    """
    last = before
    while True:
        statement = _WITH_LEASE.where(*query.conditions)
        if last is not None:
            # A comparison of rows is a range of the index; with `OR` each page would read all earlier ones.
            statement = statement.where(sa.tuple_(RUN.c.started, RUN.c.run) < last)
        rows = journal.read(statement.order_by(RUN.c.started.desc(), RUN.c.run.desc()).limit(page))
        yield from filter(query.accepts, _summaries(journal, rows))
        if len(rows) < page:
            return
        last = _column(rows[-1], "started"), _column(rows[-1], "run")


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    """What decides how long a run is kept, once it has ended. `rollout` is the id of its rollout or "", `ended_at` Unix nanoseconds."""

    run: str
    agent: str
    outcome: str
    labels: tuple[str, ...]
    rollout: str
    ended_at: int


def ended_runs(journal: Journal, before: int) -> list[EndedRun]:
    """The runs that ended before that time (Unix nanoseconds), the latest first."""
    return [
        EndedRun(run=run, agent=agent, outcome=outcome, labels=tuple(labels.split()), rollout=rollout, ended_at=ended)
        for run, agent, outcome, labels, rollout, ended in journal.read(_ENDED, before=before)
    ]


def find_run(journal: Journal, run: str) -> RunSummary | None:
    """The run with this id; None if there is none."""
    rows = journal.read(_ONE, of=run)
    return _summaries(journal, rows)[0] if rows else None


def last_completed(journal: Journal, run: RunSummary) -> RunSummary | None:
    """The last run of the same agent and task that completed before `run` began; None if there is none."""
    if not run.task_digest:
        return None
    rows = journal.read(_LAST_GOOD, by=run.agent, task=run.task_digest, before=run.started_at)
    return _summaries(journal, rows)[0] if rows else None


def resolve_run(journal: Journal, prefix: str) -> str:
    """The id of the one run that begins with `prefix`. Raises UsageError if there is none, more than one, or it was pruned."""
    named = prefix if prefix.isascii() and prefix.isprintable() else ""
    found = runs_named(journal, named)
    if prefix in found:
        return prefix
    if not found:
        near = _near(journal, named)
        raise UsageError(
            (named and _pruned(journal, named))
            or f"the journal has no run {spelled(prefix)}: {near}`remit trace list` shows all runs"
        )
    if len(found) > 1:
        shown = ", ".join(run[: len(prefix) + 8] for run in found[:5])
        raise UsageError(f"more than one run begins with {prefix!r} ({shown}): write more of its id")
    return found[0]


def _near(journal: Journal, prefix: str) -> str:
    """The newest run whose id begins much like that, as a question; "" without one."""
    newest = [row.run[: len(prefix)] for row in islice(list_runs(journal, RunQuery()), MOST_COMPARED)]
    return "".join(f"did you mean {run}? " for run in near_names(prefix, newest, cutoff=0.7)) if prefix else ""


def runs_named(journal: Journal, prefix: str) -> list[str]:
    """The ids of the first runs that begin with `prefix`, at most 6; none for "". The prefix is printable ASCII."""
    return [str(row[0]) for row in journal.read(_NAMED, prefix=prefix, end=_after(prefix))] if prefix else []


def approvals_in_state(journal: Journal, state: str, *, ended: int | None = None) -> list[tuple[str, int, str]]:
    """The approvals in that state, the oldest first, without erased ones: run, time in Unix nanoseconds, body of the event.

    With `ended`, only those whose end is not after that time, in Unix nanoseconds.
    """
    found: list[tuple[str, int, str]] = []
    for run, seq, at, stored, expires in journal.read(_IN_STATE, state=state):
        if ended is not None and not 0 < expires <= ended:
            continue
        body = stored if stored is not None else _sealed_body(journal, run, seq)
        if body is not None:
            found.append((run, at, body))
    return found


def approvals_after(journal: Journal, state: str, after: Place, most: int) -> list[tuple[Place, int, str | None]]:
    """The approvals in that state after that place, the oldest first, at most so many.

    Place, end in Unix nanoseconds (0: none), and the body of the event, None once it was erased.
    """
    since, run, number = after
    rows = journal.read(_AFTER, state=state, since=since, of=run, number=number, most=most)
    return [
        ((at, run, seq), expires, stored if stored is not None else _sealed_body(journal, run, seq))
        for run, seq, at, stored, expires in rows
    ]


def _sealed_body(journal: Journal, run: str, seq: int) -> str | None:
    return next((link.body for link in journal.links(run, after=seq - 1) if link.seq == seq), None)


def count_approvals(journal: Journal, state: str) -> int:
    """How many approvals are in that state."""
    return int(journal.read(_COUNTED, state=state)[0][0])


def alerts_in_force(journal: Journal) -> list[AlertRaised]:
    """The alerts that nobody has closed, the oldest first."""
    with journal.failing("read"):
        return [AlertRaised.model_validate_json(body) for _, body in sorted(journal.read(_ALERTS))]


def raise_alert(journal: Journal, alert: AlertRaised) -> bool:
    """Record the alert. False if one of that name is in force, or was raised at the same run."""
    if any(other.alert == alert.alert for other in alerts_in_force(journal)):
        return False
    try:
        journal.append_shared(WORKSPACE_RUN, alert)
    except AlreadyRecorded:
        return False
    return True


def count_alerts(journal: Journal) -> int:
    """How many alerts are in force."""
    return int(journal.read(_ALERTS_IN_FORCE)[0][0])


def used_bundles(journal: Journal) -> set[str]:
    """The digests of the bundles that runs of the journal used, and of the candidates of its rollouts."""
    rows = journal.read(sa.select(RUN.c.bundles).distinct())
    opened = (RolloutOpened.model_validate_json(row[0]) for row in journal.read(sa.select(ROLLOUT.c.opened)))
    return {digest for row in rows for digest in str(row[0]).split()} | {event.candidate for event in opened}


def arm_counts(journal: Journal, rollout: str) -> ArmCounts:
    """What the runs of a rollout that have ended say about each of its bars."""
    return counts_of(journal.read(COUNTS, of=rollout))


@dataclass(frozen=True, kw_only=True)
class RunInConversation:
    """One run of a conversation: its number, the digest of the message that began it, and if it has ended."""

    run: str
    number: int
    message: str
    has_ended: bool


def last_of_conversation(journal: Journal, conversation: str) -> RunInConversation | None:
    """The latest run of that conversation; None if it has none."""
    found = [_in_conversation(*row) for row in journal.read(_LAST, of=conversation)]
    return found[0] if found else None


def conversation_of(journal: Journal, run: str) -> str:
    """The id of the conversation of that run; "" for a run on its own, or without that run."""
    return next((str(row[0]) for row in journal.read(_CONVERSATION, of=run)), "")


def runs_of_message(journal: Journal, conversation: str, message: str) -> list[RunInConversation]:
    """The runs that this message of the conversation began, the latest first."""
    return [_in_conversation(*row) for row in journal.read(_OF_MESSAGE, of=conversation, written=message)]


def _in_conversation(run: str, number: int, message: str, ended: int) -> RunInConversation:
    return RunInConversation(run=run, number=number, message=message, has_ended=ended > 0)


def list_rollouts(journal: Journal, *, limit: int = PAGE) -> list[RolloutState]:
    """The latest rollouts, open or not, the latest first."""
    latest = sa.select(ROLLOUT).order_by(ROLLOUT.c.at.desc(), ROLLOUT.c.rollout).limit(limit)
    return [rollout_of(row) for row in journal.read(latest)]


@dataclass(frozen=True, kw_only=True)
class EvaluationSummary:
    """One evaluation. `started` and `ended` are Unix nanoseconds (`ended` None: it has not ended). `runs` will have a grade in all."""

    evaluation: str
    agent: str
    started: int
    ended: int | None
    runs: int
    passed: int
    failed: int
    infrastructure: int


def list_evaluations(journal: Journal, *, limit: int = PAGE) -> list[EvaluationSummary]:
    """The latest evaluations."""
    rows = journal.read(sa.select(EVALUATION).order_by(EVALUATION.c.started.desc()).limit(limit))
    names = [column.name for column in EVALUATION.columns]
    found = [dict[str, Any](zip(names, row, strict=True)) for row in rows]
    for row in found:
        row["ended"] = row["ended"] or None
    return [EvaluationSummary(**row) for row in found]


def _pruned(journal: Journal, prefix: str) -> str:
    """Which pruned runs begin with `prefix`, as a message; "" without any."""
    rows = journal.read(_PRUNED, prefix=f"{PRUNED}{prefix}", end=_after(f"{PRUNED}{prefix}"))
    found = [item for row in rows if (item := journal.get(WORKSPACE_RUN, str(row[0]))) is not None]
    lines: list[str] = []
    for item in sorted(found, key=lambda item: -item.at):
        at = datetime.fromtimestamp(item.at / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        who = f" by account {item.event.by.account!r}" if isinstance(item.event, RunPruned) else ""
        lines.append(f"run {item.key.removeprefix(PRUNED)} was pruned at {at}{who}")
    return f"{'; '.join(lines)}: read a file that was exported before" if lines else ""


def _after(prefix: str) -> str:
    """The smallest text after every text that begins with `prefix`: a range is found in an index, a pattern is not."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


_NAMES: Final = tuple(column.name for column in RUN.columns)


def _column(row: Row, name: str) -> Any:
    return row[_NAMES.index(name)]


def _summaries(journal: Journal, rows: Sequence[Row]) -> list[RunSummary]:
    """The summaries of rows of `run` with their leases. None in a lease: the run has no row in `head`."""
    held, now = journal.holds().keys(), journal.clock()
    found: list[RunSummary] = []
    for *values, holder, beat in rows:
        columns = dict(zip(_NAMES, values, strict=True))
        state = status_now(
            columns["state"],
            columns["waits_until"],
            (holder or "", beat or 0),
            now,
            held=not held.isdisjoint(("all", f"run:{columns['run']}", columns["agent"])),
            graph=columns["driver"] != "",
        )
        found.append(summary(columns, state, holder_text(holder or "")))
    return found
