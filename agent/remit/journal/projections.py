"""The rows of the projections: what lists, gauges and checks read instead of events.

Every function here is pure: a row follows from the state of its run, or from the events of its stream, and from nothing else.
So `remit journal rebuild` computes the same rows again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, TypeAlias

from remit.core.events import (
    AlertClosed,
    AlertRaised,
    AnyEvent,
    EvaluationFinished,
    EvaluationGraded,
    EvaluationStarted,
    HoldLifted,
    HoldSet,
    KeyCreated,
    KeyRevoked,
    PolicyPublished,
    Recorded,
    RolloutFinished,
    RolloutOpened,
    RolloutRolledBack,
    RolloutStaged,
    RunArm,
    RunStarted,
    ToolFailed,
    ToolRecovered,
    ToolTrialStarted,
)
from remit.core.parsing import digest_bytes
from remit.journal.hash_chain import encode
from remit.journal.run_state import (
    ROLLOUT_STREAM,
    Circuit,
    InDoubt,
    Outcomes,
    RolloutState,
    RunState,
    RunStatus,
    RunSummary,
)
from remit.journal.storage.core_tables import (
    ALERT,
    API_KEY,
    APPROVAL,
    CIRCUIT,
    EVALUATION,
    GRADE,
    HOLD,
    PUBLISHED,
    ROLLOUT,
    RUN,
)
from remit.journal.storage.database import Change, Drop, Put

WORKSPACE_RUN: Final = "workspace"  # the stream of holds, alerts and pruned runs
CIRCUIT_STREAM: Final = "circuit:"  # the beginning of the name of the stream of one tool's circuit breaker
EVALUATION_STREAM: Final = "evaluation:"  # the beginning of the name of the stream of one evaluation

QUEUE: Final = "queue"  # the topic of runs that a worker can take: their start, and answers that let them go on

POLICY: Final = "policy"  # the one row of the rules that were published
LONGEST_TASK: Final = 500  # characters of a task in the list of runs

Key: TypeAlias = tuple[str, int]
Rows: TypeAlias = Mapping[Key, Put]


def is_run(stream: str) -> bool:
    """True if events of this stream belong to a run, and not to the workspace."""
    return stream != WORKSPACE_RUN and not stream.startswith((CIRCUIT_STREAM, EVALUATION_STREAM, ROLLOUT_STREAM))


def queue_topics(state: RunState, *, first: bool = False) -> tuple[str, ...]:
    """Who gets a notification that the run can go on: the workers, if they drive it. `first`: its first event is just recorded."""
    queued = state.started is not None and state.started.priority is not None
    return (QUEUE,) if queued and (first or state.status == "ready") else ()


def run_rows(run: str, state: RunState) -> Rows:
    """Every row of a run, by table and number of event. Empty before the run began."""
    if state.started_at is None:
        return {}
    rows = {("run", 0): Put(table=RUN, row=run_row(run, state))}
    for row in approval_rows(run, state):
        rows["approval", row["seq"]] = Put(table=APPROVAL, row=row)
    return rows


def run_row(run: str, state: RunState) -> dict[str, Any]:
    """The row of one run."""
    return {
        "run": run,
        **_started_columns(state.started),
        "started": state.started_at or 0,
        "ended": state.ended_at or 0,
        "state": state.status,
        "outcome": state.outcome or "",
        "code": state.code or "",
        "steps": state.step + 1,
        "calls": state.attempted,
        "denied": state.denied,
        "first_denied": _text(state.first_denied or ""),
        "first_failed": _text(state.first_failed or ""),
        "in_doubt": _text("\n".join(_doubt_line(item) for item in state.in_doubt)),
        "labels": " ".join(sorted(state.labels)),
        "bundles": " ".join(state.bundles),
        "asked": state.asked,
        "cost": "" if state.unpriced else format(state.cost, "f"),
        "violations": state.violations,
        "actions": "\n".join(f"{count} {action}" for action, count in sorted(state.settled.items())),
        "response_model": _text(state.response_model),
        "recent": _text("\n".join(recent_line(key, count) for key, count in state.recent.items())),
        "waits_until": state.waits_until,
        "let_through": state.let_through,
    }


def _started_columns(started: RunStarted | None) -> dict[str, Any]:
    """The columns of the first event of a run; without texts if it was erased."""
    if started is None:
        subject = ("tenant", "user", "agent", "task", "task_digest", "model", "driver")
        texts = (*subject, "rollout", "arm", "evaluation", "conversation", "message")
        numbers = {"scripted": 0, "share": 0.0, "number": 0, "observe_until": 0, "priority": 0}
        return {**dict.fromkeys(texts, ""), **numbers, "content": "complete"}
    arm = started.arm
    # What an evaluation plays is no part of the conversation.
    place = None if started.evaluation else started.conversation
    return {
        "tenant": started.tenant,
        "user": _text(started.subjects.user),
        "agent": started.subjects.agent,
        "task": _text(started.task)[:LONGEST_TASK],
        "task_digest": task_digest(started.task) if started.content == "complete" else "",
        "model": _text(started.model),
        "scripted": int(started.scripted),
        "content": started.content,
        "rollout": arm.rollout if arm else "",
        "arm": arm.arm if arm else "",
        "share": arm.share if arm else 0.0,
        "evaluation": started.apart,
        "driver": started.driver,
        "conversation": place.id if place else "",
        "number": place.number if place else 0,
        "message": place.message if place else "",
        "observe_until": started.observe.until if started.observe else 0,
        "priority": started.priority or 0,
    }


def summary(row: Mapping[str, Any], state: RunStatus, holder: str = "") -> RunSummary:
    """The line of the list of runs that a row of `run` stands for; `state` and `holder` are those of now."""
    return RunSummary(
        run=row["run"],
        tenant=row["tenant"],
        started_at=row["started"],
        ended_at=row["ended"] or None,
        agent=row["agent"],
        user=row["user"],
        task=row["task"],
        task_digest=row["task_digest"],
        model=row["model"],
        scripted=bool(row["scripted"]),
        state=state,
        outcome=row["outcome"] or None,
        code=row["code"] or None,
        steps=row["steps"],
        calls=row["calls"],
        denied=row["denied"],
        first_denied=row["first_denied"] or None,
        first_failed=row["first_failed"] or None,
        content=row["content"],
        labels=tuple(row["labels"].split()),
        in_doubt=tuple(_doubt_of(line) for line in row["in_doubt"].split("\n") if line),
        asked=row["asked"],
        cost=Decimal(row["cost"]) if row["cost"] else None,
        violations=row["violations"],
        arm=RunArm(rollout=row["rollout"], arm=row["arm"], share=row["share"]) if row["rollout"] else None,
        evaluation=row["evaluation"],
        actions={
            action: int(count)
            for count, _, action in (line.partition(" ") for line in row["actions"].split("\n") if line)
        },
        response_model=row["response_model"],
        bundles=tuple(row["bundles"].split()),
        driver=row["driver"],
        **{name: row[name] for name in ("priority", "waits_until", "observe_until", "let_through")},
        holder=holder,
    )


def approval_rows(run: str, state: RunState) -> list[dict[str, Any]]:
    """The requests of a run whose calls have no answer yet, and its emergency approvals.

    A run of an evaluation has none: nobody is to answer it.
    """
    if state.started is not None and state.started.evaluation:
        return []
    rows = [
        {
            "run": run,
            "seq": approval.seq,
            "state": "waiting" if approval.waits() and not call.allowed else "answered",
            "requested": approval.at,
            "expires": approval.requested.expires_at
            if approval.waits() and not call.allowed
            else approval.granted_until,
        }
        for call in state.open.values()
        if (approval := call.approval) is not None
    ]
    emergencies = [
        {
            "run": run,
            "seq": item.seq,
            "state": "reviewed" if item.reviewed else "emergency",
            "requested": item.at,
            "expires": item.until,
        }
        for item in state.emergencies
    ]
    return rows + emergencies


def changed_rows(before: Rows, after: Rows) -> list[Change]:
    """The changes that lead from one set of rows of a run to another one."""
    dropped = [Drop(table=put.table, key=put.row) for key, put in before.items() if key not in after]
    return [*(put for key, put in after.items() if before.get(key) != put), *_keys_only(dropped)]


def _keys_only(dropped: Sequence[Drop]) -> list[Drop]:
    return [
        Drop(table=drop.table, key={column.name: drop.key[column.name] for column in drop.table.primary_key})
        for drop in dropped
    ]


def workspace_changes(recorded: Recorded) -> list[Change]:
    """The changes that follow from one event of the stream of the workspace."""
    match recorded.event:
        case HoldSet() as event:
            return [Put(table=HOLD, row={"scope": event.scope, "event": recorded.seq, "body": encode(event)})]
        case HoldLifted() as event:
            return [Drop(table=HOLD, key={"scope": event.scope})]
        case PolicyPublished() as event if event.files:
            return [Put(table=PUBLISHED, row={"name": POLICY, "event": event.key})]
        case PolicyPublished():
            return [Drop(table=PUBLISHED, key={"name": POLICY})]
        case KeyCreated() as event:
            return [Put(table=API_KEY, row={"id": event.id, "event": recorded.seq, "body": encode(event)})]
        case KeyRevoked() as event:
            return [Drop(table=API_KEY, key={"id": event.id})]
        case AlertRaised() as event:
            return [Put(table=ALERT, row={"alert": event.alert, "event": recorded.seq, "body": encode(event)})]
        case AlertClosed() as event:
            return [Drop(table=ALERT, key={"alert": event.alert})]
        case _:
            return []


def evaluation_changes(before: Mapping[str, Any], recorded: Recorded) -> list[Change]:
    """The rows that follow from one event of the stream of an evaluation; `before` is its row, empty without one."""
    name = recorded.run.removeprefix(EVALUATION_STREAM)
    match recorded.event:
        case EvaluationStarted() as event:
            runs = len(event.variants) * sum(scenario.repeats for scenario in event.scenarios)
            row = {"evaluation": name, "agent": event.agent, "started": recorded.at, "ended": 0, "runs": runs}
            return [Put(table=EVALUATION, row={**row, "passed": 0, "failed": 0, "infrastructure": 0})]
        case EvaluationGraded(grade=grade):
            row = {column: getattr(grade, column) for column in _GRADE_COLUMNS}
            counted = {**before, grade.outcome: before[grade.outcome] + 1}
            return [Put(table=GRADE, row={"evaluation": name, **row}), Put(table=EVALUATION, row=counted)]
        case EvaluationFinished():
            return [Put(table=EVALUATION, row={**before, "ended": recorded.at})]
        case _:
            return []


_GRADE_COLUMNS: Final = tuple(column.name for column in GRADE.columns if column.name != "evaluation")


def circuit_changes(tool: str, circuit: Circuit | None) -> list[Change]:
    """The row of the circuit breaker of a tool; None: it has no failures, and no row."""
    if circuit is None:
        return [Drop(table=CIRCUIT, key={"tool": tool})]
    row = {name: getattr(circuit, name) for name in CIRCUIT_COLUMNS}
    return [Put(table=CIRCUIT, row={"tool": tool, **row})]


def rollout_changes(rollout: RolloutState | None) -> list[Change]:
    """The row of a rollout; none before it was opened."""
    if rollout is None:
        return []
    row = {
        "rollout": rollout.id,
        "status": rollout.status,
        "stage": rollout.number,
        "at": rollout.opened_at,
        "opened": encode(rollout.opened),
        "ended": "" if rollout.ended is None else encode(rollout.ended),
    }
    return [Put(table=ROLLOUT, row=row)]


CIRCUIT_COLUMNS: Final = tuple(column.name for column in CIRCUIT.columns if column.name != "tool")


def next_circuit(before: Circuit | None, event: AnyEvent | None, at: int) -> Circuit | None:
    """The circuit breaker of a tool after one more event; None without failures."""
    if isinstance(event, ToolFailed | ToolTrialStarted | ToolRecovered):
        return apply_circuit(before, event, at)
    return before


def apply_circuit(
    before: Circuit | None, event: ToolFailed | ToolTrialStarted | ToolRecovered, at: int
) -> Circuit | None:
    """The circuit breaker of a tool after one more event at that time (Unix nanoseconds); None: it has no failures."""
    before = before or Circuit()
    match event:
        case ToolRecovered():
            return None
        case ToolTrialStarted():
            return replace(before, trials=before.trials + 1, tried_at=at)
        case ToolFailed():
            now = replace(before, failures=before.failures + 1, rest_s=event.rest_s)
            # A failure during a rest is of a call that began before it, and changes nothing. A failure after a rest is of the
            # trial, so the tool rests again, twice as long.
            if (before.opened_at and at >= before.rests_until) or (
                not before.opened_at and now.failures >= event.limit
            ):
                now = replace(now, opened_at=at, openings=before.openings + 1, trials=0, tried_at=0)
            return now


def apply_rollout(before: RolloutState | None, recorded: Recorded) -> RolloutState | None:
    """A rollout after one more event of its stream; None before it was opened. Nothing changes one that has ended."""
    event = recorded.event
    if isinstance(event, RolloutOpened) and before is None:
        id = recorded.run.removeprefix(ROLLOUT_STREAM)
        return RolloutState(id=id, opened=event, opened_at=recorded.at)
    if before is None or before.ended is not None:
        return before
    match event:
        case RolloutStaged():
            return replace(before, number=event.number)
        case RolloutRolledBack() | RolloutFinished():
            return replace(before, ended=event)
        case _:
            return before


def recent_line(key: Outcomes, count: int) -> str:
    """One line of `recent`. The rule is last: the name of its file may have spaces."""
    part, code, rule, action = key
    return f"{part} {count} {code} {action or '-'} {' '.join(rule.split())}"


def recent_of(line: str) -> tuple[Outcomes, int]:
    """The outcomes that one line of `recent` counts, and how many."""
    part, count, code, action, rule = line.split(" ", 4)
    return (int(part), code, rule, action.removeprefix("-")), int(count)


def _doubt_line(doubt: InDoubt) -> str:
    return f"{doubt.step} {doubt.index} {int(doubt.answered)} {doubt.action}"


def _doubt_of(line: str) -> InDoubt:
    """The effect of unknown outcome that one line of `in_doubt` names."""
    step, index, answered, action = line.split(" ", 3)
    return InDoubt(step=int(step), index=int(index), action=action, answered=answered == "1")


def task_digest(task: str) -> str:
    """What two runs with the same task have in common: the digest of its words."""
    return digest_bytes(" ".join(task.split()).encode(errors="replace"))


def _text(value: str) -> str:
    """The text as both databases store it: PostgreSQL has no NUL in a text."""
    return value.replace("\x00", "\ufffd")
