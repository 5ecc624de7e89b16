"""The projections follow from the events: whatever happened, and however they were damaged."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.core import BREAK_GLASS, Claim, Exhausted, KeyScope
from remit.core.events import (
    AlertClosed,
    AlertRaised,
    AnyEvent,
    ApprovalGranted,
    ApprovalRequested,
    BreakGlassReviewed,
    BudgetSpent,
    CallDecided,
    EvaluationFinished,
    EvaluationGraded,
    EvaluationStarted,
    Grade,
    GradeOutcome,
    HoldLifted,
    HoldSet,
    KeyCreated,
    PolicyPublished,
    RunArm,
    RunFinished,
    RunStarted,
    ScenarioInfo,
    ToolFailed,
    ToolRecovered,
    ToolTrialStarted,
    Variant,
)
from remit.journal import (
    CIRCUIT_STREAM,
    EVALUATION_STREAM,
    ROLLOUT_STREAM,
    WORKSPACE_RUN,
    AlreadyRecorded,
    Journal,
    LiveRecord,
    StoredRecord,
    approvals_in_state,
    check_projections,
    count_approvals,
    delete_run,
    erase,
    list_runs,
    rebuild_projections,
)
from remit.journal.storage.core_tables import PROJECTIONS, TABLES
from remit.rollout import finish, move_to, open_of, open_rollout, roll_back
from support.events import RUN, a_whole_run, append, ask, claim, decided, granted, requested, runs, started, turn
from support.journals import empty, is_whole, query
from support.principals import principal
from support.rollouts import rollout_opened

TOOLS: Final = ("files", "mail")
WINDOW: Final = 60_000_000_000
# Of an earlier decision: the call still waits.
EMERGENCY: Final = granted(0, 0, "user:eve", digest="earlier", role=BREAK_GLASS, reason="it burns", until=2**62)


EVALUATED: Final = EvaluationStarted(
    agent="triage",
    by=principal("ann"),
    scenarios=(ScenarioInfo(name="one", note="a note", digest="sha256:d", repeats=3),),
    variants=(
        Variant(
            name="disk", model="script:a.yaml", bundle="sha256:b", policy_digest="sha256:p", agent_digest="sha256:a"
        ),
    ),
)
GRADE: Final = Grade(
    scenario="one", variant="disk", repeat=0, run=RUN, outcome="passed", seconds=1.5, calls=2, tokens=3
)


def alert_raised(subject: str, run: str = RUN) -> AlertRaised:
    return AlertRaised(kind="drift", agent="triage", subject=subject, run=run, text=f"{subject} rose")


def hold_set(number: int, scope: str = "all") -> HoldSet:
    return HoldSet(number=number, scope=scope, reason="upgrade", by=principal("ann"))


def review(granted: ApprovalGranted) -> BreakGlassReviewed:
    return BreakGlassReviewed(step=0, index=0, granted=granted.key, by=principal("user:kim"), note="it was right")


def spent(phase: Any, amount: int, at: int, scope: str = "calls") -> BudgetSpent:
    return BudgetSpent(step=0, phase=phase, at=at, amounts={scope: amount}, windows={scope: WINDOW})


def of_limit(amount: int, at: int, scope: str = "calls", most: int | None = None) -> Claim:
    return Claim(scope=scope, amount=amount, most=most, window_ns=WINDOW, at=at)


def key_created(id: str) -> KeyCreated:
    return KeyCreated(id=id, digest="d", subject="service:ci", scope=KeyScope(), by=principal("ann"))


PUBLISHED: Final = PolicyPublished(
    number=0,
    files={"policies/rules.csv": "p, user:ann, *, **, True, allow"},
    policy_digest="sha256:1",
    earlier_policy="sha256:0",
    reason="",
    by=principal("ann"),
)


def fill(journal: Journal) -> None:
    """A row in each projection: a finished run, one that waits, an emergency, a hold, a key, an alert, a circuit, a limit, an evaluation."""
    record = StoredRecord(journal, RUN)
    for event in a_whole_run():
        record.append(event)
    waiting = StoredRecord(journal, "b" * 32)
    for event in (started(), *turn(0, ask(), ask()), decided(0, 0, "ask"), decided(0, 1, "ask")):
        waiting.append(event)
    for event in (requested(0, 0), requested(0, 1), EMERGENCY):
        waiting.append(event)
    claim(journal, "b" * 32, spent("reserved", 3, 7 * WINDOW), of_limit(3, 7 * WINDOW, most=9))
    journal.append_shared(WORKSPACE_RUN, hold_set(0))
    journal.append_shared(WORKSPACE_RUN, key_created("1f"))
    journal.append_shared(WORKSPACE_RUN, PUBLISHED)
    journal.append_shared(WORKSPACE_RUN, alert_raised("cost"))
    failed = ToolFailed(step=0, index=0, attempt=1, tool="mail", run=RUN, code="tool_failed", limit=1, rest_s=5)
    journal.append_shared(f"{CIRCUIT_STREAM}mail", failed)
    for act in (EVALUATED, EvaluationGraded(grade=GRADE)):
        journal.append_shared(f"{EVALUATION_STREAM}e1", act)
    journal.append_shared(f"{ROLLOUT_STREAM}3f2a91c0", rollout_opened())
    tried = StoredRecord(journal, "d" * 32)
    for event in (
        started(arm=RunArm(rollout="3f2a91c0", arm="candidate", share=0.5)),
        RunFinished(outcome="failed", message="it failed"),
    ):
        tried.append(event)


class History:
    """Random acts of a workspace: runs that processes drive, people who answer, operators, tools that fail, limits, erasure."""

    def __init__(self, journal: Journal, draw: Any) -> None:
        self._journal, self._draw, self._now = journal, draw, 100 * WINDOW
        self._scope = secrets.token_hex(8)
        self._runs: list[str] = []
        self._emergencies: list[tuple[str, ApprovalGranted]] = []

    def act(self) -> None:
        acts = [self._run, self._hold, self._alert, self._circuit, self._limit, self._review, self._erase, self._delete]
        acts += [self._evaluation, self._rollout]
        self._draw(st.sampled_from(acts))()

    def _run(self) -> None:
        """A run that one process drives, with answers of people; some in an emergency."""
        events: list[AnyEvent] = self._draw(runs())
        run = secrets.token_hex(16)
        self._runs.append(run)
        rollout = open_of(self._journal, "agent:clerk")
        if rollout is not None and isinstance(events[0], RunStarted):
            arm = self._draw(
                st.sampled_from(
                    [
                        RunArm(rollout=rollout.id, arm="live", share=0.1),
                        RunArm(rollout=rollout.id, arm="candidate", share=0.5),
                    ]
                )
            )
            events[0] = events[0].model_copy(update={"arm": arm})
        for number, event in enumerate(events):
            if isinstance(event, ApprovalGranted) and self._draw(st.booleans()):
                events[number] = event.model_copy(update={"role": BREAK_GLASS, "until": 2**62})
                self._emergencies.append((run, events[number]))  # type: ignore[arg-type]
        if self._draw(st.booleans()):
            asyncio.run(self._drive(run, events))
        else:
            record = StoredRecord(self._journal, run)
            for event in events:
                record.append(event)

    async def _drive(self, run: str, events: Sequence[AnyEvent]) -> None:
        async with self._journal.lease(run) as lease:
            record = LiveRecord(self._journal, lease)
            for event in events:
                if isinstance(event, ApprovalGranted):
                    StoredRecord(self._journal, run).append(event)
                else:
                    record.append(event)
                    if isinstance(event, ApprovalRequested | CallDecided):
                        await record.commit()
            await record.commit()

    def _hold(self) -> None:
        scope = self._draw(st.sampled_from(["all", "tool:mail"]))
        if self._draw(st.booleans()):
            self._journal.append_shared(WORKSPACE_RUN, hold_set(self._unique(), scope))
        else:
            lifted = HoldLifted(number=self._unique(), scope=scope, by=principal("ann"))
            self._journal.append_shared(WORKSPACE_RUN, lifted)

    def _alert(self) -> None:
        alert = alert_raised(self._draw(st.sampled_from(["cost", "latency"])), secrets.token_hex(16))
        closed = AlertClosed(number=self._unique(), alert=alert.alert, by=principal("ann"))
        self._journal.append_shared(WORKSPACE_RUN, alert if self._draw(st.booleans()) else closed)

    def _rollout(self) -> None:
        """The next event of the open rollout, or a new one."""
        rollout = open_of(self._journal, "agent:clerk")
        if rollout is None:
            open_rollout(self._journal, rollout_opened())
        elif rollout.number == 0 and self._draw(st.booleans()):
            move_to(self._journal, rollout, 1, by=principal("ann"))
        elif self._draw(st.booleans()):
            roll_back(self._journal, rollout.id, reason="no")
        else:
            finish(self._journal, rollout, by=principal("ann"))

    def _unique(self) -> int:
        return secrets.randbits(60)

    def _evaluation(self) -> None:
        stream = f"{EVALUATION_STREAM}{secrets.token_hex(8)}"
        self._journal.append_shared(stream, EVALUATED)
        outcomes: list[GradeOutcome] = ["passed", "failed", "infrastructure"]
        for repeat in range(self._draw(st.integers(0, 3))):
            outcome = self._draw(st.sampled_from(outcomes))
            grade = GRADE.model_copy(update={"repeat": repeat, "outcome": outcome})
            self._journal.append_shared(stream, EvaluationGraded(grade=grade))
        if self._draw(st.booleans()):
            self._journal.append_shared(stream, EvaluationFinished())

    def _circuit(self) -> None:
        tool, number = self._draw(st.sampled_from(TOOLS)), self._unique()
        place: dict[str, Any] = {"step": number, "index": 0, "attempt": 1, "tool": tool, "run": RUN}
        event = self._draw(
            st.sampled_from(
                [
                    ToolFailed(**place, code="tool_failed", limit=2, rest_s=0.0001),
                    ToolTrialStarted(step=number, index=0, tool=tool, run=RUN, opened_at=number, number=1),
                    ToolRecovered(**place),
                ]
            )
        )
        self._journal.append_shared(f"{CIRCUIT_STREAM}{tool}", event)

    def _limit(self) -> None:
        run, amount = secrets.token_hex(16), self._draw(st.integers(1, 5))
        self._now += self._draw(st.integers(0, 2 * WINDOW))
        StoredRecord(self._journal, run).append(started())
        try:
            event = spent("reserved", amount, self._now, self._scope)
            claim(self._journal, run, event, of_limit(amount, self._now, self._scope, most=9))
        except Exhausted:
            return
        used = self._draw(st.integers(0, 6))
        correction = of_limit(used - amount, self._now, self._scope)
        claim(self._journal, run, spent("used", used, self._now, self._scope), correction)

    def _review(self) -> None:
        if self._emergencies:
            run, emergency = self._draw(st.sampled_from(self._emergencies))
            try:
                StoredRecord(self._journal, run).append(review(emergency))
            except AlreadyRecorded:
                return

    def _finished(self) -> list[str]:
        return [run for run in self._runs if StoredRecord(self._journal, run).state.finished]

    def _erase(self) -> None:
        if finished := self._finished():
            run = self._draw(st.sampled_from(finished))
            erase(self._journal, run, self._draw(st.integers(0, len(self._journal.events(run)) - 1)))

    def _delete(self) -> None:
        if finished := self._finished():
            run = self._draw(st.sampled_from(finished))
            delete_run(self._journal, run)
            self._runs.remove(run)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_happened_the_projections_are_what_the_events_say(
    journal: Journal, place: Path | str, data: st.DataObject
) -> None:
    empty(place)
    journal.forget_shared()  # PostgreSQL reports the changes that a journal makes, and this was none
    history = History(journal, data.draw)
    for _ in range(data.draw(st.integers(1, 12))):
        history.act()
    assert check_projections(journal) == []
    assert rebuild_projections(journal) == 0


def test_the_runs_of_the_example_fill_every_projection(journal: Journal, place: Path | str) -> None:
    """So the tests of damage below look at each."""
    fill(journal)
    assert all(query(place, f"SELECT * FROM {table.name}") for table in PROJECTIONS)
    assert is_whole(journal, RUN, "b" * 32)


OTHER_COLUMNS: Final = ", ".join(f'"{column.name}"' for column in TABLES["run"].columns if column.name != "run")

DAMAGE: Final = {
    "a changed run": (f"UPDATE run SET denied = 99, state = 'running' WHERE run = '{RUN}'", f"run {RUN}: state, denied differ from the events"),
    "a missing run": ("DELETE FROM run WHERE run = '" + "b" * 32 + "'", f"run {'b' * 32}: the row is missing"),
    "a run without events": (
        f"INSERT INTO run (run, {OTHER_COLUMNS}) SELECT '{'c' * 32}', {OTHER_COLUMNS} FROM run WHERE run = '{RUN}'",
        f"run {'c' * 32}: no event explains the row",
    ),
    "a changed approval": (
        "UPDATE approval SET state = 'answered' WHERE state = 'waiting'",
        f"approval {'b' * 32}/6: state differ from the events",
    ),
    "a missing approval": ("DELETE FROM approval WHERE state = 'emergency'", f"approval {'b' * 32}/7: the row is missing"),
    "an approval without a request": (
        f"INSERT INTO approval VALUES ('{RUN}', 3, 'waiting', 1, 2)",
        f"approval {RUN}/3: no event explains the row",
    ),
    "missing rules": ("DELETE FROM published", "published policy: the row is missing"),
    "a changed key": ("UPDATE api_key SET body = '{}'", "api_key 1f: body differ from the events"),
    "a missing key": ("DELETE FROM api_key", "api_key 1f: the row is missing"),
    "a changed hold": ("UPDATE hold SET body = '{}'", "hold all: body differ from the events"),
    "a missing hold": ("DELETE FROM hold", "hold all: the row is missing"),
    "a hold that nobody set": ("INSERT INTO hold VALUES ('tool:x', 0, '{}')", "hold tool:x: no event explains the row"),
    "a changed alert": ("UPDATE alert SET event = 9", "alert drift:triage:cost: event differ from the events"),
    "a missing alert": ("DELETE FROM alert", "alert drift:triage:cost: the row is missing"),
    "an alert that nobody raised": ("INSERT INTO alert VALUES ('x', 0, '{}')", "alert x: no event explains the row"),
    "a changed rollout": ("UPDATE rollout SET status = 'finished'", "rollout 3f2a91c0: status differ from the events"),
    "a missing rollout": ("DELETE FROM rollout", "rollout 3f2a91c0: the row is missing"),
    "a rollout that nobody opened": (
        "INSERT INTO rollout VALUES ('x', 'open', 0, 1, '{}', '')",
        "rollout x: no event explains the row",
    ),
    "a changed count": ("UPDATE arm_count SET seen = 9 WHERE bar = 'failed'", "arm_count 3f2a91c0/failed/candidate/0.5: seen differ from the events"),
    "a missing count": ("DELETE FROM arm_count WHERE bar = 'failed'", "arm_count 3f2a91c0/failed/candidate/0.5: the row is missing"),
    "a count of no run": (
        "INSERT INTO arm_count VALUES ('3f2a91c0', 'failed', 'live', 0.5, 1, 1)",
        "arm_count 3f2a91c0/failed/live/0.5: no event explains the row",
    ),
    "a changed circuit": ("UPDATE circuit SET failures = 0", "circuit mail: failures differ from the events"),
    "a missing circuit": ("DELETE FROM circuit", "circuit mail: the row is missing"),
    "a circuit without failures": (
        "INSERT INTO circuit VALUES ('x', 1, 1, 1, 1, 1, 1)",
        "circuit x: no event explains the row",
    ),
    "a changed evaluation": ("UPDATE evaluation SET passed = 9", "evaluation e1: passed differ from the events"),
    "a missing evaluation": ("DELETE FROM evaluation", "evaluation e1: the row is missing"),
    "a changed grade": ("UPDATE grade SET outcome = 'failed'", "grade e1/disk/one/0: outcome differ from the events"),
    "a grade that nobody gave": (
        "INSERT INTO grade SELECT evaluation, variant, scenario, 1, run, outcome, seconds, calls, tokens FROM grade",
        "grade e1/disk/one/1: no event explains the row",
    ),
    "a limit of which less was taken": (
        "UPDATE limit_bucket SET amount = amount - 1",
        f"limit_bucket calls/{7 * WINDOW}: amount differ from the events",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_kind_of_damage_is_found_and_repaired(journal: Journal, place: Path | str, damage: str) -> None:
    fill(journal)
    statement, expected = DAMAGE[damage]
    before = [query(place, f"SELECT * FROM {table.name} ORDER BY 1, 2") for table in PROJECTIONS]
    query(place, statement)
    found = [str(item) for item in check_projections(journal)]
    assert expected in found
    assert len(found) == (2 if damage == "a changed approval" else 1)  # both requests wait
    assert rebuild_projections(journal) == len(found)
    assert [query(place, f"SELECT * FROM {table.name} ORDER BY 1, 2") for table in PROJECTIONS] == before
    assert check_projections(journal) == []


def test_a_limit_of_which_deleted_runs_have_taken_is_no_damage(journal: Journal, place: Path | str) -> None:
    """Deleting a run does not give back what it took."""
    fill(journal)
    query(place, "UPDATE limit_bucket SET amount = amount + 1")
    assert check_projections(journal) == []
    StoredRecord(journal, "b" * 32).append(RunFinished(outcome="stopped"))
    delete_run(journal, "b" * 32)
    assert query(place, "SELECT amount FROM limit_bucket") == [(4,)]
    assert check_projections(journal) == []


def test_an_erased_reservation_is_no_damage_of_a_limit(journal: Journal) -> None:
    """Nobody can know any more when its correction counted."""
    at, later = 100 * WINDOW, 100 * WINDOW + WINDOW // 2
    for run in (RUN, "b" * 32):
        append(journal, run, started())
    claim(journal, RUN, spent("reserved", 9, at), of_limit(9, at, most=20))
    claim(journal, RUN, spent("used", 4, later), of_limit(-5, at))
    claim(journal, "b" * 32, spent("reserved", 1, later), of_limit(1, later, most=20))
    assert check_projections(journal) == []
    append(journal, RUN, RunFinished(outcome="completed"))
    erase(journal, RUN, 1)
    assert check_projections(journal) == []


def test_an_emergency_that_was_reviewed_stays_reviewed_when_a_text_of_its_run_is_erased(journal: Journal) -> None:
    """Nobody is asked to review it again."""
    fill(journal)
    run = "b" * 32
    assert count_approvals(journal, "emergency") == 1
    StoredRecord(journal, run).append(review(EMERGENCY))
    assert (count_approvals(journal, "emergency"), count_approvals(journal, "reviewed")) == (0, 1)
    StoredRecord(journal, run).append(RunFinished(outcome="stopped"))
    erase(journal, run, 0)
    assert (count_approvals(journal, "emergency"), count_approvals(journal, "reviewed")) == (0, 1)
    assert check_projections(journal) == []


def test_what_waits_for_people_is_listed_until_they_have_answered(journal: Journal) -> None:
    run = "b" * 32
    fill(journal)
    listed = approvals_in_state(journal, "waiting")
    assert [(name, at) for name, at, _ in listed] == [
        (run, item.at) for item in journal.events(run) if item.type == "approval.requested"
    ]
    assert [ApprovalRequested.model_validate_json(body) for _, _, body in listed] == [requested(0, 0), requested(0, 1)]
    assert count_approvals(journal, "waiting") == 2
    assert next(item.state for item in list_runs(journal) if item.run == run) == "waiting: hold", "all is held, too"
    record = StoredRecord(journal, run)
    record.append(granted(0, 0))
    record.append(granted(0, 1))
    assert count_approvals(journal, "waiting") == 0
    assert count_approvals(journal, "answered") == 2
    assert next(item.state for item in list_runs(journal) if item.run == run) == "waiting: hold", (
        "it is ready, and all is held"
    )
    assert check_projections(journal) == []
