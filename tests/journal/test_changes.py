"""Waiting tasks are woken by what other processes record; nobody looks four times a second."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from remit.core import RunEnded
from remit.core.events import HoldLifted, HoldSet
from remit.journal import SHARED, WORKSPACE_RUN, Journal, StoredRecord, list_runs
from remit.journal.storage import changes, postgres
from support.events import RUN, append, granted, started
from support.journals import ON_POSTGRES, query, script, soon
from support.principals import principal

LONG_S: Final = 60.0
APPEND = """
from remit.core.events import ModelFailed
from remit.journal import StoredRecord
record = StoredRecord(journal, sys.argv[2])
print("ready", flush=True)
import time
for line in sys.stdin:
    record.append(ModelFailed(step=int(line), message=""))
    print(time.time(), flush=True)
"""


def watching() -> int:
    return sum(thread.name == "remit-changes" for thread in threading.enumerate())


async def woken_after(journal: Journal, topics: Sequence[str], before: int) -> float:
    """The time at which a task that waits is woken."""
    await journal.changes.wait(topics, before, LONG_S)
    return time.time()


async def test_a_commit_of_another_process_wakes_every_task_that_waits_for_it(
    journal: Journal, place: Path | str
) -> None:
    """Within half a second. One thread waits for them all, and ends when nobody waits any more."""
    append(journal, RUN, started())
    process = script(APPEND, place, RUN)
    assert process.read() == "ready"
    took: list[float] = []
    for number in range(3):  # the machine may be busy once
        before = journal.version((RUN,))
        waiting = [asyncio.create_task(woken_after(journal, (RUN,), before)) for _ in range(50)]
        await soon(lambda: watching() == 1)
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        process.send(str(number))
        woken = await asyncio.wait_for(asyncio.gather(*waiting), LONG_S)
        took.append(max(woken) - float(await asyncio.to_thread(process.read)))
        assert journal.version((RUN,)) != before
    assert min(took) < 0.5
    process.end()
    await soon(lambda: watching() == 0)


async def test_nobody_waits_longer_than_asked(journal: Journal) -> None:
    began = time.monotonic()
    await journal.changes.wait((RUN,), journal.version((RUN,)), 0.05)
    assert 0.05 <= time.monotonic() - began < 20
    await journal.changes.wait((RUN,), journal.version((RUN,)) - 1, LONG_S)  # has changed before
    assert time.monotonic() - began < 30


async def test_a_task_that_is_cancelled_waits_no_more(journal: Journal) -> None:
    waiting = asyncio.create_task(journal.changes.wait((RUN,), journal.version((RUN,)), LONG_S))
    await soon(lambda: watching() == 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await soon(lambda: watching() == 0)


def test_two_event_loops_wait_at_once(journal: Journal, other: Journal) -> None:
    """The one thread wakes tasks of both."""
    before = journal.version((RUN,))
    asyncio.run(journal.changes.wait((RUN,), before, 0.01))  # a loop that has ended is no harm
    woken: list[float] = []
    threads = [
        threading.Thread(target=lambda: woken.append(asyncio.run(woken_after(journal, (RUN,), before))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    append(other, RUN, started())
    for thread in threads:
        thread.join(LONG_S)
    assert len(woken) == 2


async def test_a_hold_wakes_every_run_and_is_seen_at_once(journal: Journal, other: Journal) -> None:
    assert journal.holds() == {}
    before = journal.version((SHARED,))
    waiting = asyncio.create_task(woken_after(journal, (SHARED,), before))
    hold = HoldSet(number=0, scope="all", reason="upgrade", by=principal("ann"))
    other.append_shared(WORKSPACE_RUN, hold)
    await asyncio.wait_for(waiting, LONG_S)
    assert journal.holds() == {"all": hold}
    assert other.holds() == {"all": hold}


def test_what_a_run_records_does_not_make_every_call_read_again_what_all_runs_share(
    journal: Journal, other: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit of another process does, and so does a hold that this process sets."""
    append(journal, RUN, started())
    known, before = journal.holds(), journal.version((SHARED,))
    for number in range(3):
        append(journal, RUN, granted(number, 0))
        assert journal.version((SHARED,)) == before
        assert journal.holds() is known
    hold = HoldSet(number=0, scope="all", reason="upgrade", by=principal("ann"))
    journal.append_shared(WORKSPACE_RUN, hold)
    assert journal.holds() == {"all": hold}
    append(journal, RUN, granted(3, 0))
    lifted = HoldLifted(number=1, scope="all", by=principal("ann"))
    other.append_shared(WORKSPACE_RUN, lifted)
    append(journal, RUN, granted(4, 0))
    until = time.monotonic() + 10
    while journal.holds() and time.monotonic() < until:  # a notification may take a moment
        time.sleep(0.005)
    assert journal.holds() == {}


async def test_an_event_loop_looks_once_in_each_iteration_for_what_all_runs_share(
    journal: Journal, other: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold of another process counts from the next iteration on, and one of this process at once."""
    looked: list[Sequence[str]] = []
    version = journal.database.version
    monkeypatch.setattr(journal.database, "version", lambda topics: looked.append(topics) or version(topics))  # type: ignore[func-returns-value]
    assert [journal.holds(), dict(journal.keys()), dict(journal.circuits())] == [{}, {}, {}]
    assert len(looked) == 1
    hold = HoldSet(number=0, scope="all", reason="upgrade", by=principal("ann"))
    other.append_shared(WORKSPACE_RUN, hold)
    await soon(lambda: journal.holds() == {"all": hold})
    lifted = HoldLifted(number=1, scope="all", by=principal("ann"))
    journal.append_shared(WORKSPACE_RUN, lifted)
    assert journal.holds() == {}


@ON_POSTGRES
async def test_what_happens_in_one_run_does_not_wake_another_one(journal: Journal, other: Journal) -> None:
    """A thousand runs that wait would all look."""
    append(other, RUN, started())
    append(other, "b" * 32, started())
    before = journal.version((RUN,))
    append(other, "b" * 32, granted(0, 0))
    await journal.changes.wait((RUN,), before, 0.3)
    assert journal.version((RUN,)) == before
    append(other, RUN, granted(0, 0))
    await asyncio.wait_for(woken_after(journal, (RUN,), before), LONG_S)


@ON_POSTGRES
async def test_a_listener_that_the_server_does_not_answer_counts_as_lost(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the network is gone, notifications stop without an error: a hold must be seen all the same."""
    assert journal.version((SHARED,)) == journal.version((SHARED,))
    later = time.monotonic() + 3600
    monkeypatch.setattr(postgres, "time", SimpleNamespace(monotonic=lambda: later, sleep=time.sleep))
    seen = [journal.version((SHARED,)) for _ in range(3)]
    assert len(set(seen)) == 3


@ON_POSTGRES
async def test_nothing_is_missed_while_the_listener_has_no_connection(
    journal: Journal, other: Journal, place: str
) -> None:
    """PostgreSQL keeps no notifications for a connection that was lost."""
    record = StoredRecord(other, RUN)
    record.append(started())
    before = journal.version((RUN,))
    listeners = (
        "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'remit'"
        " AND (query LIKE 'LISTEN%' OR query = 'SELECT 1')"
    )
    waiting = asyncio.create_task(woken_after(journal, (RUN,), before))
    await soon(lambda: watching() == 1)
    ended = query(place, f"SELECT pg_terminate_backend(pid) {listeners}")
    assert ended == [(True,)]
    record.append(granted(0, 0))
    await asyncio.wait_for(waiting, LONG_S)
    await soon(lambda: len(query(place, f"SELECT 1 {listeners}")) == 1)  # it listens again
    await soon(lambda: journal.version((RUN,)) == journal.version((RUN,)))
    before = journal.version((RUN,))
    record.append(granted(0, 0, "user:eve"))
    await asyncio.wait_for(woken_after(journal, (RUN,), before), LONG_S)


@ON_POSTGRES
async def test_what_is_recorded_between_two_connections_of_the_listener_counts_as_a_change(
    journal: Journal, other: Journal, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a task that looked before, and waits only once there is a connection again."""
    append(other, RUN, started())
    journal.version((RUN,))
    database, allowed = cast("Any", journal.database), threading.Event()
    connect = database.connect

    def refused() -> Any:
        if not allowed.is_set():
            raise OSError("no route to host")
        return connect()

    monkeypatch.setattr(database, "connect", refused)
    query(
        place,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'remit' AND (query LIKE 'LISTEN%' OR query = 'SELECT 1')",
    )
    await soon(lambda: not database._listener._connected.is_set())
    before = journal.version((RUN,))
    append(other, RUN, granted(0, 0))
    allowed.set()
    await soon(database._listener._connected.is_set)  # without a look, which is a change itself
    await soon(lambda: journal.version((RUN,)) != before)


async def test_a_database_that_is_gone_does_not_stop_the_thread_that_waits(
    journal: Journal, other: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that waits finds it out when it reads; once the database is back, changes are seen again."""
    monkeypatch.setattr(changes, "WAIT_S", 0.02)
    before, wait, broken = journal.version((RUN,)), journal.database.wait, [True]

    def failing(count: int, timeout: float) -> int:
        if broken[0]:
            raise OSError("gone")
        return wait(count, timeout)

    monkeypatch.setattr(journal.database, "wait", failing)
    waiting = asyncio.create_task(woken_after(journal, (RUN,), before))
    await soon(lambda: watching() == 1)
    await asyncio.sleep(0.05)
    broken[0] = False
    append(other, RUN, started())
    await asyncio.wait_for(waiting, LONG_S)


async def test_a_waiting_task_that_is_cancelled_at_the_moment_of_a_change_ends(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.11's `wait_for` forgets such a cancellation: the task would go on, and the process would not end."""
    monkeypatch.setattr(journal.changes, "_watch", lambda: None)
    waiting = asyncio.create_task(journal.changes.wait((RUN,), journal.version((RUN,)), LONG_S))
    await asyncio.sleep(0)
    ((_, changed),) = cast("Any", journal.changes)._waiting
    changed.set()
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=5)
    assert waiting.cancelled()


async def test_a_task_that_waits_for_a_database_that_fails_returns_and_its_read_says_why(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*given: object) -> Any:
        raise OSError("gone")

    before = journal.version((RUN,))
    monkeypatch.setattr(journal.database, "version", failing)
    await asyncio.wait_for(journal.changes.wait((RUN,), before, LONG_S), LONG_S / 2)
    with pytest.raises(RunEnded, match="cannot be read: gone"):
        journal.version((RUN,))


@ON_POSTGRES
def test_connections_that_a_restart_of_the_server_closed_are_replaced_before_they_are_used(
    journal: Journal, place: str
) -> None:
    """No read and no append fails: each idle connection is looked at first."""
    with (
        ThreadPoolExecutor(4) as threads,
        journal.database.transaction(durable=False),
    ):  # each has a connection of its own
        list(threads.map(lambda number: append(journal, f"{number:032x}", started()), range(4)))
    ended = query(
        place,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'remit'",
    )
    assert len(ended) >= 2
    for number in range(8):
        append(journal, f"{number + 10:032x}", started())
    assert len(list(list_runs(journal))) == 12
