"""The record of a run that this process drives: applied at once, written together, in one order with what others record."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.core import Claim, Exhausted, RunEnded
from remit.core.events import NANO, AnyEvent, ApprovalGranted, ApprovalRejected, BudgetSpent, Recorded, RunFinished
from remit.journal import SHARED, AlreadyRecorded, Journal, Lease, LiveRecord, RunState, StoredRecord, open_journal
from remit.journal.lease import EXPIRES_S, take_lease
from remit.journal.storage.core_tables import TABLES
from support.events import (
    RUN,
    a_whole_run,
    append,
    ask,
    decided,
    ended,
    failed,
    granted,
    intended,
    rejected,
    requested,
    runs,
    started,
    succeeded,
    turn,
)
from support.journals import ON_FILE, Writes, empty, folded, is_whole, query, soon

DAY: Final = 86_400 * NANO
WORDS: Final = "CANARY of a person"


@pytest.fixture
def writes(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(journal, monkeypatch)


@asynccontextmanager
async def driven(journal: Journal, run: str = RUN, **options: Any) -> AsyncIterator[LiveRecord]:
    """The record of a run that this process drives."""
    async with journal.lease(run) as lease:
        yield LiveRecord(journal, lease, **options)


def stolen(other: Journal, run: str = RUN) -> Lease:
    """The lease of a run, which another process takes because its holder has been silent for too long."""
    return take_lease(other.database, run, time.time_ns() + int((EXPIRES_S + 1) * NANO))


def spent(step: int, amount: int = 1, *, index: int | None = None, most: int = 10) -> tuple[BudgetSpent, list[Claim]]:
    """An event that takes from a shared limit of so many a day, and its claim."""
    at, scope = time.time_ns(), f"{most} calls"
    event = BudgetSpent(step=step, index=index, phase="reserved", at=at, amounts={scope: amount}, windows={scope: DAY})
    return event, [Claim(scope=scope, amount=amount, most=most, window_ns=DAY, at=at)]


def granted_of(state: RunState) -> tuple[ApprovalGranted, ...]:
    """The approvals that count for the first call."""
    approval = state.open[0, 0].approval
    assert approval is not None
    return approval.counted()


def keys(records: Sequence[Recorded]) -> list[str]:
    return [item.key for item in records]


async def test_events_are_applied_at_once_and_written_in_one_transaction(
    journal: Journal, other: Journal, writes: Writes
) -> None:
    """Reads of a run that this process drives come from memory."""
    async with driven(journal) as record:
        for event in a_whole_run()[:6]:
            record.append(event)
        assert record.state.open.keys() == {(0, 0), (0, 1), (0, 2)}
        assert record.get("run.started/-/-/-") == started()
        assert record.every() == a_whole_run()[:6]
        assert other.events(RUN) == []
        await record.commit()
        assert [item.event for item in other.events(RUN)] == a_whole_run()[:6]
        assert record.every() == a_whole_run()[:6]
        assert [len(batch.links) for batch in writes.batches] == [6]


async def test_events_are_written_a_moment_later_if_nobody_waits(journal: Journal, other: Journal) -> None:
    async with driven(journal) as record:
        record.append(started())
        await soon(lambda: len(other.events(RUN)) == 1)


async def test_a_commit_waits_for_the_database_and_the_event_loop_does_not(
    journal: Journal, other: Journal, writes: Writes
) -> None:
    async with driven(journal) as record:
        with writes.paused():
            record.append(started())
            waiting = asyncio.create_task(record.commit())
            await soon(lambda: writes.batches)
            for event in turn(0):  # the run goes on meanwhile
                record.append(event)
            assert not waiting.done()
        await waiting
        assert len(other.events(RUN)) == 3


async def test_a_batch_survives_a_power_failure_if_one_of_its_events_must(journal: Journal, writes: Writes) -> None:
    async with driven(journal) as record:
        record.append(started(), durable=True)
        record.append(turn(0)[0])
        await record.commit()
        record.append(turn(0)[1])
        await record.commit()
        assert [batch.durable for batch in writes.batches] == [True, False]


async def waiting_for_approval(record: LiveRecord) -> None:
    """A run with two calls that wait for people."""
    for event in (started(), *turn(0, ask(), ask()), decided(0, 0, "ask"), decided(0, 1, "ask")):
        record.append(event)
    record.append(requested(0, 0))
    record.append(requested(0, 1))
    await record.commit()


async def test_an_approval_between_two_writes_comes_first_and_everybody_reaches_the_same_state(
    journal: Journal, other: Journal
) -> None:
    seen: list[Recorded] = []
    async with driven(journal, listeners=(seen.append,)) as record:
        await waiting_for_approval(record)
        person = StoredRecord(other, RUN)
        record.append(turn(1)[0])
        record.append(turn(1)[1])
        person.append(granted(0, 0), durable=True)
        await record.commit()
        stored = journal.events(RUN)
        assert keys(stored)[-3:] == [granted(0, 0).key, *(event.key for event in turn(1))]
        assert record.state == folded(journal, RUN)
        assert granted_of(record.state)
        assert [item.state for item in (record, StoredRecord(other, RUN))] == [folded(other, RUN)] * 2
    assert seen == stored
    assert is_whole(journal, RUN)


async def test_an_approval_is_seen_without_a_write(journal: Journal, other: Journal) -> None:
    """A run that waits reads what others recorded; without news it reads nothing."""
    async with driven(journal) as record:
        await waiting_for_approval(record)
        await record.catch_up()
        before = record.state
        await record.catch_up()
        assert record.state is before
        waiting = asyncio.create_task(record.wait_for_change(60))
        StoredRecord(other, RUN).append(granted(0, 0))
        await asyncio.wait_for(waiting, 30)
        await record.catch_up()
        assert granted_of(record.state) == granted_of(folded(other, RUN)) != ()


async def test_an_approval_that_arrives_while_the_record_is_read_is_not_missed(
    journal: Journal, other: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run would wait for an approval that everybody else sees."""
    async with driven(journal) as record:
        await waiting_for_approval(record)
    version = journal.version

    def late(topics: Sequence[str]) -> int:
        if (person := StoredRecord(other, RUN)).get(granted(0, 0).key) is None:
            before = version(topics)
            person.append(granted(0, 0))
            deadline = time.monotonic() + 30
            while version(topics) == before and time.monotonic() < deadline:
                time.sleep(0.01)
        return version(topics)

    monkeypatch.setattr(journal, "version", late)
    async with driven(journal) as record:
        await record.catch_up()
        assert granted_of(record.state)


async def test_in_memory_an_approval_by_another_record_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other connection whose commits SQLite would count."""
    with open_journal(None) as journal:
        async with driven(journal) as record:
            await waiting_for_approval(record)
            await record.catch_up()
            waiting = asyncio.create_task(record.wait_for_change(60))
            await asyncio.sleep(0)
            StoredRecord(journal, RUN).append(granted(0, 0))
            await asyncio.wait_for(waiting, 30)
            await record.catch_up()
            assert granted_of(record.state)


Step = str | tuple[str, AnyEvent]
BETWEEN: Final = ("commit", "catch up", "look", "gather", "claim", "answer while it is written")


@st.composite
def histories(draw: st.DrawFn) -> list[Step]:
    """The events of a random run, and what else happens between them."""
    steps: list[Step] = []
    for event in draw(runs()):
        by_person = isinstance(event, ApprovalGranted | ApprovalRejected)
        steps.append(("person" if by_person else "run", event))
        steps += draw(st.lists(st.sampled_from(BETWEEN), max_size=2))
    return steps


async def caught_up(record: LiveRecord, journal: Journal) -> None:
    """Return once the record has read all that is stored: a notification of PostgreSQL may take a moment."""
    head = journal.head(record.run)
    until = time.monotonic() + 60
    while head is not None and record._head != head:
        assert time.monotonic() < until
        await record.catch_up()
        await asyncio.sleep(0.002)


class Story:
    """A run that one process drives while another one answers, step by step."""

    def __init__(self, record: LiveRecord, other: Journal) -> None:
        self._record, self._other, self._number = record, other, 0

    async def take(self, step: Step) -> None:
        record = self._record
        self._number += 1
        match step:
            case "commit":
                await record.commit()
            case "catch up":
                await record.catch_up()
            case "look":
                await asyncio.sleep(0)
            case "gather":
                await asyncio.sleep(0.006)
            case "claim":
                await record.append_claimed(*spent(max(0, record.state.step), index=self._number, most=1_000_000))
            case "answer while it is written":
                late = granted(0, 0, digest=f"late {self._number}")
                await asyncio.gather(record.commit(), asyncio.to_thread(self._answer, late))
            case ("person", event):
                self._answer(event)
            case (_, event):
                record.append(event)

    def _answer(self, event: AnyEvent) -> None:
        StoredRecord(self._other, self._record.run).append(event)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories())
def test_whatever_others_record_in_between_the_run_is_what_is_stored(
    journal: Journal, other: Journal, place: Path | str, history: list[Step]
) -> None:
    """State, conversation, chain, projections and listeners agree with the stored events."""
    empty(place)
    run = secrets.token_hex(16)
    seen: list[Recorded] = []

    async def drive() -> LiveRecord:
        async with driven(journal, run, listeners=(seen.append,)) as record:
            story = Story(record, other)
            for step in history:
                await story.take(step)
            await record.commit()
            await caught_up(record, journal)
            return record

    record = asyncio.run(drive())
    stored = journal.events(run)
    assert record.state == folded(journal, run)
    assert record.conversation.messages == StoredRecord(other, run).conversation.messages
    assert seen == stored
    assert record.every() == [item.event for item in stored]
    given_events = [step[1] for step in history if isinstance(step, tuple) and step[0] == "run"]
    assert [item.event for item in stored if item.event in given_events] == given_events
    assert is_whole(journal, run)


async def test_a_holder_that_lost_its_lease_records_nothing_more(journal: Journal, other: Journal) -> None:
    """A process that was stopped for too long cannot have an effect after another one has taken over."""
    async with driven(journal) as record:
        record.append(started())
        await record.commit()
        stolen(other)
        before = record.state
        record.append(turn(0)[0])
        with pytest.raises(RunEnded, match=f"another process executes run {RUN}") as refused:
            await record.commit()
        assert refused.value.code == "unrecorded"
        applied = record.state
        with pytest.raises(RunEnded, match="another process executes"):
            record.append(turn(0)[1])
        with pytest.raises(RunEnded, match="another process executes"):
            await record.append_claimed(*spent(0))
        assert (before, record.state) == (folded(other, RUN), applied)
    assert keys(other.events(RUN)) == ["run.started/-/-/-"]
    assert is_whole(other, RUN)


@ON_FILE
async def test_a_file_is_fenced_by_the_number_of_the_lease(journal: Journal, other: Journal) -> None:
    """For `make ablate`, which has no PostgreSQL."""
    await test_a_holder_that_lost_its_lease_records_nothing_more(journal, other)


async def test_a_holder_that_lost_its_lease_records_nothing_even_after_the_events_of_the_new_one(
    journal: Journal, other: Journal
) -> None:
    """Its events are not sealed to the new holder's."""
    async with driven(journal) as record:
        record.append(started())
        await record.commit()
        taken_over = LiveRecord(other, stolen(other))
        record.append(decided(0, 0))
        taken_over.append(turn(0)[0])
        await taken_over.commit()
        with pytest.raises(RunEnded, match="another process executes"):
            await record.commit()
        taken_over.append(turn(0)[1])
        await taken_over.commit()
        assert keys(other.events(RUN)) == ["run.started/-/-/-", *(event.key for event in turn(0))]
        assert taken_over.state == folded(other, RUN)


async def test_a_holder_that_lost_its_lease_takes_nothing_from_a_limit(journal: Journal, other: Journal) -> None:
    async with driven(journal) as record:
        record.append(started())
        await record.commit()
        stolen(other)
        with pytest.raises(RunEnded, match="another process executes"):
            await record.append_claimed(*spent(0))
    assert is_whole(other, RUN)
    assert len(other.events(RUN)) == 1


async def test_without_content_no_text_of_a_person_a_model_or_a_tool_is_stored_or_shown(
    journal: Journal, other: Journal, place: Path | str
) -> None:
    """Only the process that drives the run has it."""
    seen: list[Recorded] = []
    events = [
        started(task=WORDS, prompt=WORDS),
        turn(0, ask(arguments=f'{{"path": "{WORDS}"}}'))[0],
        turn(0)[1].model_copy(update={"text": WORDS, "proposed_calls": (ask(arguments=f'{{"path": "{WORDS}"}}'),)}),
        decided(0, 0, action="files.read"),
        intended(0, 0),
        ended(0, 0, value={"text": WORDS}, stderr=WORDS),
        succeeded(0, 0, value=WORDS),
        RunFinished(outcome="completed", answer=WORDS),
    ]
    async with driven(journal, content=False, listeners=(seen.append,)) as record:
        for event in events:
            record.append(event)
            StoredRecord(other, RUN)  # reads in between change nothing
        await record.append_claimed(*spent(0))
        await record.commit()
        assert [record.get(event.key) for event in events] == events
        assert record.state.task == WORDS
        assert WORDS in record.conversation.messages[1].text
    tables = {table: query(place, f"SELECT * FROM {table}") for table in TABLES}
    assert WORDS not in str(tables)
    assert len(tables["payload"]) == len(events) + 1
    assert WORDS not in str(seen)
    assert len(seen) == len(events) + 1
    assert is_whole(journal, RUN)


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_failed_write_ends_the_run_permanently(journal: Journal, place: Path | str, claimed: bool) -> None:
    """Also if the database comes back: an effect may have been expected of what was lost."""
    seen: list[Recorded] = []
    async with driven(journal, listeners=(seen.append,)) as record:
        record.append(started())
        await record.commit()
        query(place, "ALTER TABLE payload RENAME TO gone")
        record.append(turn(0)[0])
        with pytest.raises(RunEnded, match=r"cannot be written") as refused:
            await (record.append_claimed(*spent(0)) if claimed else record.commit())
        assert refused.value.code == "unrecorded"
        query(place, "ALTER TABLE gone RENAME TO payload")
        applied, head = record.state, journal.head(RUN)
        for again in (turn(0)[1], turn(0)[0]):
            with pytest.raises(RunEnded, match="cannot be written"):
                record.append(again)
        for late in (record.commit(), record.append_claimed(*spent(1))):
            with pytest.raises(RunEnded, match="cannot be written"):
                await late
        assert record.state is applied
        assert journal.head(RUN) == head
    assert keys(seen) == ["run.started/-/-/-"] == keys(journal.events(RUN))
    assert is_whole(journal, RUN)


async def test_a_caller_that_is_cancelled_loses_no_event(journal: Journal, writes: Writes) -> None:
    """What it waited for was begun: the events are written once, and the next ones follow."""
    async with driven(journal) as record:
        with writes.paused():
            record.append(started())
            waiting = asyncio.create_task(record.commit())
            await soon(lambda: writes.batches)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            record.append(turn(0)[0])
        record.append(turn(0)[1])
        await record.commit()
        assert keys(journal.events(RUN)) == ["run.started/-/-/-", *(event.key for event in turn(0))]
        assert record.state == folded(journal, RUN)


@pytest.mark.parametrize("waits_for", ["what was appended before", "the claim"])
async def test_a_claim_whose_caller_is_cancelled_is_recorded_once(
    journal: Journal, writes: Writes, waits_for: str
) -> None:
    """The database has it, or what comes before it, already when the caller ends: the record must know."""
    async with driven(journal) as record:
        record.append(started())
        if waits_for == "the claim":
            await record.commit()
        with writes.paused():
            waiting = asyncio.create_task(record.append_claimed(*spent(0)))
            await soon(lambda: len(writes.batches) == (2 if waits_for == "the claim" else 1))
            record.append(turn(0)[0])
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        record.append(turn(0)[1])
        await record.commit()
        with pytest.raises(AlreadyRecorded):
            await record.append_claimed(*spent(0))
        expected = ["run.started/-/-/-", "budget.spent/0/-/reserved", *(event.key for event in turn(0))]
        assert sorted(keys(journal.events(RUN))) == sorted(expected)
        assert record.state == folded(journal, RUN)
    assert is_whole(journal, RUN)


async def test_claims_are_recorded_in_order_with_what_was_appended_before_and_meanwhile(
    journal: Journal, writes: Writes
) -> None:
    seen: list[Recorded] = []
    async with driven(journal, listeners=(seen.append,)) as record:
        record.append(started())
        record.append(turn(0)[0])
        with writes.paused():
            claiming = asyncio.create_task(record.append_claimed(*spent(0)))
            await soon(lambda: writes.batches)
            record.append(turn(0)[1])
        await claiming
        assert record.get("budget.spent/0/-/reserved") is not None
        await record.commit()
        assert record.state == folded(journal, RUN)
        stored = journal.events(RUN)
    assert set(keys(stored)[:2]) == {"run.started/-/-/-", turn(0)[0].key}
    assert set(keys(stored)[2:]) == {"budget.spent/0/-/reserved", turn(0)[1].key}
    assert seen == stored
    assert is_whole(journal, RUN)


async def test_a_claim_beyond_its_limit_records_nothing_and_the_run_goes_on(journal: Journal) -> None:
    async with driven(journal) as record:
        record.append(started())
        await record.append_claimed(*spent(0, 8))
        record.append(turn(1)[0])
        with pytest.raises(Exhausted, match="10 calls is used up"):
            await record.append_claimed(*spent(1, 3))
        assert record.get("budget.spent/1/-/reserved") is None
        await record.append_claimed(*spent(1, 2))
        await record.commit()
        assert record.state == folded(journal, RUN)
    assert [item.type for item in journal.events(RUN)].count("budget.spent") == 2
    assert is_whole(journal, RUN)


async def test_claims_of_two_tasks_of_one_run_are_both_recorded(journal: Journal) -> None:
    """The calls of a step run in parallel."""
    async with driven(journal) as record:
        record.append(started())
        await asyncio.gather(*(record.append_claimed(*spent(step)) for step in range(5)), record.commit())
        assert record.state == folded(journal, RUN)
    assert len(journal.events(RUN)) == 6
    assert is_whole(journal, RUN)


async def test_a_second_event_of_one_key_is_refused_before_it_is_written(journal: Journal) -> None:
    async with driven(journal) as record:
        first = record.append(started())
        with pytest.raises(AlreadyRecorded) as refused:
            record.append(started(task="another"))
        assert refused.value.earlier == first
        await record.commit()
        assert record.state == folded(journal, RUN)


async def test_a_run_of_which_nothing_is_written_yet_has_lost_nothing_when_others_record_something(
    journal: Journal, other: Journal
) -> None:
    async with driven(journal) as record:
        record.append(started())
        append(other, "b" * 32, started())
        await soon(lambda: journal.version((RUN, SHARED)) >= 0)
        await record.catch_up()
        await record.commit()
    assert keys(journal.events(RUN)) == ["run.started/-/-/-"]


@pytest.mark.parametrize("noticed", ["commit", "catch up", "claim"])
async def test_an_event_that_another_process_recorded_first_ends_the_run(
    journal: Journal, other: Journal, noticed: str
) -> None:
    """Both decided the same thing, and what followed here did not follow from the first decision: nothing of it is kept."""
    async with driven(journal) as record:
        await waiting_for_approval(record)
        for event in (rejected(0, 0, "user:eve"), failed(0, 0, "approval_rejected"), turn(1)[0]):
            record.append(event)
        StoredRecord(other, RUN).append(rejected(0, 0, "user:bob"))
        while journal.version((RUN,)) == record._version:  # a notification may take a moment
            await asyncio.sleep(0.005)
        acts = {"commit": record.commit, "catch up": record.catch_up, "claim": lambda: record.append_claimed(*spent(0))}
        with pytest.raises(AlreadyRecorded, match=r"approval\.rejected/0/0"):
            await acts[noticed]()
        with pytest.raises(AlreadyRecorded):
            record.append(turn(1)[1])
        with pytest.raises(AlreadyRecorded):
            await record.commit()
    assert keys(other.events(RUN))[-1] == "approval.rejected/0/0/d/0/0"
    assert is_whole(other, RUN)


async def test_times_and_numbers_grow_in_a_run_that_two_processes_extend(journal: Journal, other: Journal) -> None:
    async with driven(journal) as record:
        await waiting_for_approval(record)
        for number in range(5):
            record.append(turn(1 + number)[0])
            StoredRecord(other, RUN).append(granted(0, 0, f"user:{number}"))
            record.append(turn(1 + number)[1])
            await record.commit()
        stored = journal.events(RUN)
    assert [item.seq for item in stored] == list(range(len(stored)))
    assert all(before.at <= after.at for before, after in pairwise(stored))
