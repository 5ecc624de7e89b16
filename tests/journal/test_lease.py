"""Leases: one process drives a run; its end frees the run, and a process that was too slow is shut out."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from remit.core import RunEnded, UsageError
from remit.core.events import NANO
from remit.journal import RUN_LOCKED, Journal, LiveRecord, StoredRecord, lease, open_journal, store
from remit.journal.lease import EXPIRES_S, is_alive, keep_leases, release_lease, take_lease, this_process
from support.events import EPOCH, RUN, started
from support.journals import ON_POSTGRES, WAITING_FOR_LOCK, Script, query, script, soon, until

LOCKED = re.escape(RUN_LOCKED.format(RUN))
HOLD = """
with journal.brief_lease(sys.argv[2]) as _:
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
"""


@pytest.fixture
def holder(place: Path | str, journal: Journal) -> Iterator[Script]:
    """Another process that drives the run until it can read a line."""
    process = script(HOLD, place, RUN)
    assert process.read() == "held"
    try:
        yield process
    finally:
        process.kill()


def test_one_process_drives_a_run_until_it_releases_the_lease(journal: Journal, holder: Script) -> None:
    assert journal.is_driven(RUN)
    with pytest.raises(UsageError, match=LOCKED), journal.brief_lease(RUN):
        pass
    with journal.brief_lease("b" * 32):  # another run is free
        holder.send()
        assert holder.end() == "released\n"
    assert not journal.is_driven(RUN)
    with journal.brief_lease(RUN):
        assert journal.is_driven(RUN)


def test_kill_9_of_the_holder_frees_the_run_at_once(journal: Journal, holder: Script) -> None:
    """On the same machine nobody has to wait until the lease expires."""
    holder.kill()
    assert not journal.is_driven(RUN)
    with journal.brief_lease(RUN):
        pass


def test_a_process_that_drives_the_run_itself_is_refused_too(journal: Journal) -> None:
    """Two tasks of one process are no better than two processes."""
    with journal.brief_lease(RUN), pytest.raises(UsageError, match=LOCKED), journal.brief_lease(RUN):
        pass


def test_a_holder_on_another_machine_keeps_the_run_until_it_is_silent_for_too_long(place: Path | str) -> None:
    """Nobody can look up its process from here."""
    now = [EPOCH]
    with open_journal(place, clock=lambda: now[0]) as journal:
        StoredRecord(journal, RUN).append(started())
        query(place, f"UPDATE head SET holder = 'elsewhere:boot:4026531836/7.7 aa', beat = {EPOCH}, fence = 5")
        now[0] = EPOCH + int((EXPIRES_S - 0.1) * NANO)
        assert journal.is_driven(RUN)
        with pytest.raises(UsageError, match=LOCKED), journal.brief_lease(RUN):
            pass
        now[0] = EPOCH + int(EXPIRES_S * NANO)
        assert not journal.is_driven(RUN)
        with journal.brief_lease(RUN) as taken:
            assert taken.fence > 5


def test_a_holder_says_that_it_lives_and_so_keeps_its_lease(
    journal: Journal, other: Journal, place: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BEAT_S", 0.01)

    def beat() -> int:
        ((value,),) = query(place, f"SELECT beat FROM head WHERE run = '{RUN}'")
        return int(value)

    with journal.brief_lease(RUN), journal.brief_lease("b" * 32):
        first = beat()
        until(lambda: beat() > first)
        almost = int((EXPIRES_S - 0.1) * NANO)
        with pytest.raises(UsageError, match=LOCKED):
            take_lease(other.database, RUN, first + almost + 1)
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("remit-lease") == 1  # however many runs it drives


def test_a_lease_that_was_taken_over_is_not_kept_alive_by_its_old_holder(journal: Journal, place: Path | str) -> None:
    first = take_lease(journal.database, RUN, EPOCH)
    later = EPOCH + int(EXPIRES_S * NANO)
    second = take_lease(journal.database, RUN, later)
    assert second.fence > first.fence
    keep_leases(journal.database, [first], later + 7)
    release_lease(journal.database, first)
    assert query(place, "SELECT beat, fence, holder <> '' FROM head") in (
        [(later, second.fence, 1)],
        [(later, second.fence, True)],
    )
    keep_leases(journal.database, [second], later + 7)
    assert query(place, "SELECT beat FROM head") == [(later + 7,)]


def test_a_run_that_never_began_leaves_no_row(journal: Journal, place: Path | str) -> None:
    with journal.brief_lease(RUN):
        assert query(place, "SELECT count(*) FROM head") == [(1,)]
    assert query(place, "SELECT count(*) FROM head") == [(0,)]
    with journal.brief_lease(RUN):
        StoredRecord(journal, RUN).append(started())
    assert query(place, "SELECT seq, holder FROM head") == [(0, "")]


async def test_an_old_holder_stays_shut_out_after_the_row_of_the_lease_was_removed(
    journal: Journal, other: Journal
) -> None:
    """The numbers of a run that never began do not start again: the third holder would have that of the first."""
    lost = LiveRecord(journal, take_lease(journal.database, RUN, EPOCH))
    later = EPOCH + int(EXPIRES_S * NANO)
    release_lease(other.database, take_lease(other.database, RUN, later))
    take_lease(other.database, RUN, later + 1)
    lost.append(started())
    with pytest.raises(RunEnded, match=LOCKED):
        await lost.commit()
    assert other.events(RUN) == []


@ON_POSTGRES
def test_of_two_processes_that_begin_one_run_at_once_the_other_one_is_refused(journal: Journal, place: str) -> None:
    """Neither sees the row of the other before it is committed."""
    import psycopg

    found: list[BaseException] = []

    def take() -> None:
        try:
            take_lease(journal.database, RUN, EPOCH)
        except BaseException as failure:  # noqa: BLE001 - the test looks at it
            found.append(failure)

    with psycopg.connect(place) as connection:
        connection.execute("SET search_path TO remit_default")
        connection.execute("INSERT INTO head VALUES (%s, -1, '', %s, %s, 1, -1)", (RUN, f"{this_process()} aa", EPOCH))
        second = threading.Thread(target=take)
        second.start()
        until(lambda: query(place, WAITING_FOR_LOCK))
        connection.commit()
        second.join(60)
    assert [str(failure) for failure in found] == [RUN_LOCKED.format(RUN)]


def test_a_process_number_that_is_used_again_is_not_the_holder() -> None:
    """The start of a process is part of its name."""
    me = this_process()
    machine, _, process = me.rpartition("/")
    number, _, start = process.partition(".")
    assert is_alive(f"{me} aa", EPOCH, EPOCH)
    assert not is_alive(f"{machine}/{number}.{int(start) + 1} aa", EPOCH, EPOCH)
    assert not is_alive(f"{machine}/{2**22 + 1}.{start} aa", EPOCH, EPOCH)
    assert is_alive(f"x{machine}/{2**22 + 1}.{start} aa", EPOCH, EPOCH)  # of another machine: nobody can know
    assert not is_alive(f"{me} aa", EPOCH, EPOCH + int(EXPIRES_S * NANO))
    assert not is_alive("", EPOCH, EPOCH)


def test_a_process_that_has_ended_is_not_the_holder_even_before_its_parent_looks() -> None:
    """Its number is still taken until then."""
    machine = this_process().rpartition("/")[0]
    with subprocess.Popen(["sleep", "60"]) as process:
        name = f"{machine}/{process.pid}.{lease._start_of(process.pid)} aa"
        assert is_alive(name, EPOCH, EPOCH)
        process.kill()
        until(lambda: not is_alive(name, EPOCH, EPOCH))
        assert Path(f"/proc/{process.pid}").exists()


def test_a_process_in_another_namespace_of_process_numbers_counts_as_another_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a container the same number is another process."""
    here = this_process()
    lease._machine.cache_clear()
    real = os.stat
    fake = cast("Any", type("Stat", (), {"st_ino": 1}))
    with monkeypatch.context() as patched:
        patched.setattr(
            os, "stat", lambda path, *args, **named: fake if "ns/pid" in str(path) else real(path, *args, **named)
        )
        there = this_process()
    lease._machine.cache_clear()
    assert there.rpartition("/")[2] == here.rpartition("/")[2]
    assert there != here
    assert is_alive(f"{there}9 aa", time.time_ns(), time.time_ns())


async def test_a_caller_that_is_cancelled_while_it_takes_the_lease_leaves_the_run_free(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise this process would say for ever that it drives the run."""
    begun, free, taken = threading.Event(), threading.Event(), threading.Event()

    def slowly(*given: Any) -> Any:
        begun.set()
        assert free.wait(60)
        found = take_lease(*given)
        taken.set()
        return found

    monkeypatch.setattr(store, "take_lease", slowly)

    async def drive() -> None:
        async with journal.lease(RUN):
            raise AssertionError("it was cancelled before")

    driving = asyncio.create_task(drive())
    await soon(begun.is_set)
    driving.cancel()
    await asyncio.sleep(0)
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await driving
    await soon(taken.is_set)
    await soon(lambda: not journal.is_driven(RUN))
    assert journal._leases == set()


async def test_a_caller_that_is_cancelled_twice_still_releases_the_lease(journal: Journal) -> None:
    """The second time while the release waits for other work of the journal."""
    driven, free = asyncio.Event(), threading.Event()

    async def drive() -> None:
        async with journal.lease(RUN):
            driven.set()
            await asyncio.sleep(60)

    driving = asyncio.create_task(drive())
    await driven.wait()
    busy = [asyncio.create_task(journal.run_in_thread(free.wait, 60)) for _ in range(4)]
    await asyncio.sleep(0)
    for _ in range(2):
        driving.cancel()
        await asyncio.sleep(0.01)
    free.set()
    with pytest.raises(asyncio.CancelledError):
        await driving
    await asyncio.gather(*busy)
    await soon(lambda: not journal.is_driven(RUN))
    assert journal._leases == set()
