"""The journal: recorded events are never lost, and damage is detected."""

from __future__ import annotations

import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.core.errors import RunEnded, UsageError
from remit.core.events import HoldSet, ModelFailed, ModelRequested, RunFinished, RunStarted
from remit.journal import (
    WORKSPACE_RUN,
    AlreadyRecorded,
    Journal,
    StoredRecord,
    erase,
    forget_deleted,
    list_runs,
    open_journal,
    resolve_run,
)
from remit.journal.hash_chain import ChainFault
from remit.journal.projections import run_row, summary
from remit.journal.reducer import apply_event
from remit.journal.run_state import RunState
from remit.journal.storage.core_tables import TABLES
from support import CORPORA
from support.events import RUN, a_whole_run, append, started, succeeded
from support.journals import ON_FILE, query, script
from support.principals import principal


def fill(journal: Journal, run: str = RUN) -> None:
    for event in a_whole_run():
        append(journal, run, event)


def asked(step: int) -> ModelRequested:
    return ModelRequested(step=step, model="script:script.yaml", input_digest="i")


def test_every_event_comes_back_as_it_was_recorded(journal: Journal, place: Path | str) -> None:
    """Also in a process that opens the journal later."""
    appended = [append(journal, RUN, event) for event in a_whole_run()]
    assert [item.event for item in appended] == a_whole_run()
    with open_journal(place) as other:
        assert other.events(RUN) == appended
        assert other.verify(RUN) == ()


def test_events_are_read_from_where_the_reader_left_off(journal: Journal) -> None:
    """A process that waits reads only what is new."""
    fill(journal)
    assert journal.events(RUN, after=20) == journal.events(RUN)[21:]
    assert journal.events("nothing") == []


def test_an_event_is_found_by_its_key(journal: Journal) -> None:
    """The broker finds out by key whether something has already happened."""
    fill(journal)
    found = journal.get(RUN, "call.answered/0/1/-")
    assert found is not None
    assert found == journal.events(RUN)[found.seq]
    assert journal.get(RUN, "call.answered/9/9/-") is None


def test_a_second_event_of_the_same_key_is_refused_and_names_the_first(journal: Journal) -> None:
    """Two workers cannot both begin the same attempt."""
    first = append(journal, RUN, asked(0))
    with pytest.raises(AlreadyRecorded, match=r"model\.requested/0/-/- is already recorded as event 0") as refused:
        append(journal, RUN, asked(0))
    assert refused.value.earlier == first
    assert append(journal, RUN, asked(1)).seq == 1
    assert journal.verify(RUN) == ()


def test_runs_do_not_see_each_other(journal: Journal) -> None:
    """The same key in two runs belongs to two events, each the first of its own chain."""
    assert append(journal, RUN, asked(0)).seq == append(journal, "b" * 32, asked(0)).seq == 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_every_json_value_survives(journal: Journal, value: Any) -> None:
    """Results come from tools: nothing in them is lost, and nothing in them breaks the chain."""
    run = secrets.token_hex(16)
    append(journal, run, succeeded(0, 0, value=value))
    assert [item.event for item in journal.events(run)] == [succeeded(0, 0, value=value)]
    assert journal.verify(run) == ()


def test_naughty_strings_survive(journal: Journal) -> None:
    """Quotes, separators, controls, bidirectional marks and injections are stored like any other text."""
    file = CORPORA / "blns.json"
    strings = (
        json.loads(file.read_text()) if file.exists() else ["'; DROP TABLE event;--", "a\nb", "\u202e", "\x00", "😀"]
    )
    record = StoredRecord(journal, RUN)
    for step, text in enumerate(strings):
        record.append(ModelFailed(step=step, message=text))
    assert [item.event.message for item in journal.events(RUN) if isinstance(item.event, ModelFailed)] == strings
    assert journal.verify(RUN) == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"a": ["\udfff"]}])
def test_a_value_that_json_cannot_express_ends_the_run_and_records_nothing(journal: Journal, value: Any) -> None:
    """An event that cannot be written is not recorded partially either."""
    with pytest.raises(RunEnded, match="cannot be written as JSON") as refused:
        append(journal, RUN, succeeded(0, 0, value=value))
    assert refused.value.code == "unrecorded"
    assert journal.events(RUN) == []
    assert append(journal, RUN, asked(0)).seq == 0


@ON_FILE
def test_only_its_owner_can_read_the_journal(place: Path) -> None:
    """Results may be confidential, so the mode does not depend on the umask."""
    before = os.umask(0)
    try:
        with open_journal(place) as journal:
            append(journal, RUN, asked(0))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in place.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


APPEND = """
from remit.core.events import ModelRequested, ModelFailed
from remit.journal import AlreadyRecorded, StoredRecord
run, name, count = sys.argv[2], sys.argv[3], int(sys.argv[4])
won = 0
with journal:
    record = StoredRecord(journal, run)
    for step in range(count):
        try:
            record.append(ModelRequested(step=step, model=name, input_digest="contested"))
            won += 1
        except AlreadyRecorded:
            pass
        record.append(ModelFailed(step=step + (0 if name == "a" else 100000), message=name), durable=step % 20 == 0)
print(won, flush=True)
"""


def test_processes_that_append_to_one_run_lose_nothing_and_never_both_win(place: Path | str) -> None:
    """Each contested key is recorded once, and all that each process appended is one unbroken chain."""
    processes = [script(APPEND, place, RUN, name, "150") for name in ("a", "b")]
    won = [int(process.end()) for process in processes]
    with open_journal(place) as journal:
        assert journal.verify(RUN) == ()
        records = journal.events(RUN)
    assert [item.seq for item in records] == list(range(450))  # 150 contested, 150 of each process's own
    assert sum(won) == sum(item.type == "model.requested" for item in records) == 150
    assert len({item.key for item in records}) == len(records)


FOREVER = """
from remit.core.events import ModelRequested
from remit.journal import StoredRecord
record = StoredRecord(journal, sys.argv[2])
step = len(record.every())
while True:
    record.append(ModelRequested(step=step, model="m", input_digest="x" * 3000), durable=step % 7 == 0)
    print(step, flush=True)
    step += 1
"""


def test_kill_9_loses_nothing_that_was_recorded(place: Path | str) -> None:
    """Every append that returned is there afterwards, the chain is intact, and the next process continues it."""
    printed = -1
    for after in (1, 40, 95, 160):
        process = script(FOREVER, place, RUN)
        while printed < after:
            printed = int(process.read())
        printed = max([printed, *(int(line) for line in process.kill().split("\n")[:-1])])
        with open_journal(place) as journal:
            assert journal.verify(RUN) == ()
            assert len(journal.events(RUN)) in (printed + 1, printed + 2)  # one may be recorded and not yet printed


FULL_DISK = """
import resource
from remit.core.errors import RunEnded
from remit.core.events import ModelRequested
from remit.journal import StoredRecord
record = StoredRecord(journal, sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for step in range(1000):
    try:
        record.append(ModelRequested(step=step, model="m", input_digest="x" * 5000))
    except RunEnded as ended:
        print(step, ended.code, ended)
        break
"""


@ON_FILE
def test_a_full_disk_ends_the_run_and_damages_nothing(place: Path) -> None:
    """The event that does not fit is not recorded, earlier ones are, and the error says what to do."""
    out = script(FULL_DISK, place, RUN).end()
    step, code, text = out.split(" ", 2)
    assert code == "unrecorded"
    assert "the journal journal.db cannot be written" in text
    assert "fix: free disk space" in text
    with open_journal(place) as journal:
        assert journal.verify(RUN) == ()
        assert len(journal.events(RUN)) == int(step)
        assert append(journal, RUN, asked(int(step))).seq == int(step)


@ON_FILE
def test_a_journal_without_its_tables_ends_the_run(journal: Journal, place: Path) -> None:
    """For every error of the database the run ends: nothing may happen without a record."""
    append(journal, RUN, asked(0))
    query(place, "DROP TABLE payload")
    with pytest.raises(RunEnded, match="unrecorded"):
        append(journal, RUN, asked(1))
    with pytest.raises(RunEnded, match="cannot be read"):
        journal.events(RUN)
    query(place, "CREATE TABLE payload (run, seq, salt, body, PRIMARY KEY (run, seq))")
    assert append(journal, RUN, asked(1)).seq == 1  # the half-written event was rolled back


@ON_FILE
@pytest.mark.parametrize("damage", ["a folder", "not a database", "a link"])
def test_a_journal_that_cannot_be_opened_is_one_clear_error(place: Path, damage: str) -> None:
    """One line and a fix, never a traceback."""
    place.parent.mkdir()
    if damage == "a folder":
        place.mkdir()
    elif damage == "a link":
        place.symlink_to(place.parent / "elsewhere.db")
    else:
        place.write_bytes(b"not a database, but long enough to be asked for its header" * 20)
    with pytest.raises(RunEnded, match=r"the journal journal\.db cannot be opened"):
        open_journal(place)


def test_erasing_leaves_a_valid_chain_and_no_trace_of_the_text(journal: Journal, place: Path | str) -> None:
    """A person's data can be erased on request; the record still shows that an event was erased."""
    append(journal, RUN, started(task="find Ann Example's order"))
    append(journal, RUN, RunFinished(outcome="completed"))
    erase(journal, RUN, 0)
    assert journal.verify(RUN) == (ChainFault(seq=0, kind="erased", what="the body of 'run.started/-/-/-' was erased"),)
    assert not journal.verify(RUN)[0].broken
    first = journal.events(RUN)[0]
    assert (first.event, first.salt) == (None, None)
    assert [run.task for run in list_runs(journal)] == [""]
    assert "Ann Example" not in str([query(place, f"SELECT * FROM {table}") for table in TABLES])


@ON_FILE
def test_erasing_leaves_no_trace_of_the_text_in_any_file(journal: Journal, place: Path) -> None:
    """Also not in free pages, nor in the write-ahead log of a journal that stays open."""
    append(journal, RUN, started(task="find Ann Example's order"))
    append(journal, RUN, RunFinished(outcome="completed"))
    assert any(b"Ann Example" in file.read_bytes() for file in place.parent.iterdir())
    erase(journal, RUN, 0)
    forget_deleted(journal)
    assert all(b"Ann Example" not in file.read_bytes() for file in place.parent.iterdir())
    journal.close()
    assert all(b"Ann Example" not in file.read_bytes() for file in place.parent.iterdir())


def test_an_unfinished_run_keeps_its_events(journal: Journal) -> None:
    """Its state is still needed: without an erased label or rejection, a refused call could be allowed."""
    append(journal, RUN, started())
    with pytest.raises(UsageError, match="has not finished"):
        erase(journal, RUN, 0)
    with pytest.raises(UsageError, match="has no event 7"):
        erase(journal, RUN, 7)


def test_the_list_of_runs_agrees_with_the_run_state(journal: Journal) -> None:
    """The newest run comes first; the run `workspace` is not listed."""
    journal.append_shared(WORKSPACE_RUN, HoldSet(number=0, scope="all", reason="upgrade", by=principal("ann")))
    fill(journal, "a" * 32)
    append(journal, "b" * 32, started(task="another"))
    listed = list(list_runs(journal))
    state = RunState()
    for item in journal.events("a" * 32):
        state = apply_event(state, item)
    assert [item.run for item in listed] == ["b" * 32, "a" * 32]
    assert listed[1] == summary(run_row("a" * 32, state), "finished")
    assert (listed[0].state, listed[0].task, listed[0].outcome) == ("waiting: hold", "another", None)


def test_a_run_is_found_by_the_beginning_of_its_id(journal: Journal) -> None:
    """A unique prefix is enough, as in git; an ambiguous one is refused."""
    for run in ("ab" * 16, "ac" * 16):
        append(journal, run, started())
    journal.append_shared(WORKSPACE_RUN, HoldSet(number=0, scope="all", reason="upgrade", by=principal("ann")))
    assert resolve_run(journal, "ab") == resolve_run(journal, "ab" * 16) == "ab" * 16
    for prefix, message in (
        ("a", "more than one run begins with"),
        ("f", "has no run 'f'"),
        ("", "has no run"),
        ("%", "has no run"),
    ):
        with pytest.raises(UsageError, match=message):
            resolve_run(journal, prefix)
    with pytest.raises(UsageError, match="has no run"):
        resolve_run(journal, WORKSPACE_RUN)


def test_the_clock_is_the_callers(place: Path | str) -> None:
    """All times come from one clock, which a test or a replay can replace."""
    with open_journal(place, clock=lambda: 42) as journal:
        assert append(journal, RUN, asked(0)).at == 42


@ON_FILE
def test_appending_costs_the_same_in_a_long_run(journal: Journal) -> None:
    """The cost of an append, counted in database steps and not in seconds, does not grow with the run."""
    counts: list[int] = []
    record, connection = StoredRecord(journal, RUN), cast("Any", journal.database)._writer
    for step in range(600):
        if step in (5, 599):
            steps = [0]

            def tick(steps: list[int] = steps) -> int:
                steps[0] += 1
                return 0

            connection.set_progress_handler(tick, 1)
        record.append(asked(step))
        if step in (5, 599):
            connection.set_progress_handler(None, 0)
            counts.append(steps[0])
    assert counts[1] < counts[0] * 1.5


def test_reading_an_event_returns_its_type(journal: Journal) -> None:
    """Reading an event returns its type, not only its data."""
    append(journal, RUN, started())
    assert isinstance(journal.events(RUN)[0].event, RunStarted)
