"""Limits that all runs share: never more than the limit in any window, also if processes claim at once."""

from __future__ import annotations

import secrets
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.core import Claim, Exhausted
from remit.core.events import BudgetSpent
from remit.journal import Journal, StoredRecord, check_projections, limits, open_journal
from remit.journal.limits import BUCKETS, grant
from support.events import EPOCH, RUN, claim, started
from support.journals import ON_FILE, ON_POSTGRES, WAITING_FOR_LOCK, query, script, until

WINDOW = 6_000
WIDTH = WINDOW // BUCKETS


def claimed(journal: Journal, made: Claim, now: int) -> bool:
    """True if the claim is granted at that time."""
    try:
        with journal.writing() as transaction:
            grant(transaction, made, now)
    except Exhausted:
        return False
    return True


def fits(journal: Journal, made: Claim, now: int) -> bool:
    """True if the claim would be granted at that time; nothing is counted."""

    class Fits(Exception):
        pass

    try:
        with journal.writing() as transaction:
            grant(transaction, made, now)
            raise Fits
    except Fits:
        return True
    except Exhausted:
        return False


def test_a_claim_is_granted_up_to_the_limit_and_again_after_the_window(journal: Journal) -> None:
    one = Claim(scope="s", amount=1, most=2, window_ns=WINDOW)
    assert [claimed(journal, one, EPOCH) for _ in range(3)] == [True, True, False]
    assert not claimed(journal, one, EPOCH + WINDOW - 1)
    assert claimed(journal, Claim(scope="t", amount=2, most=2, window_ns=WINDOW), EPOCH)
    assert claimed(journal, one, EPOCH + WINDOW + WIDTH)  # a part leaves the window as a whole


def test_a_refused_claim_names_a_time_at_which_it_fits(journal: Journal) -> None:
    for at, amount in ((EPOCH, 1), (EPOCH + 2_000, 2)):
        assert claimed(journal, Claim(scope="s", amount=amount, most=3, window_ns=WINDOW), at)
    for amount in (1, 2):
        refused = Claim(scope="s", amount=amount, most=3, window_ns=WINDOW)
        with pytest.raises(Exhausted) as exhausted, journal.writing() as transaction:
            grant(transaction, refused, EPOCH + 3_000)
        free_at = exhausted.value.free_at
        assert free_at is not None
        assert EPOCH + 3_000 < free_at <= EPOCH + (0, 0, 2_000)[amount] + WINDOW + WIDTH
        assert not fits(journal, refused, free_at - 1)
        assert fits(journal, refused, free_at)
    too_large = Claim(scope="s", amount=4, most=3, window_ns=WINDOW)
    with pytest.raises(Exhausted) as exhausted, journal.writing() as transaction:
        grant(transaction, too_large, EPOCH)
    assert exhausted.value.free_at is None


@ON_FILE
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    window=st.sampled_from([1, 59, 60, 61, 600, 6_000]),
    most=st.integers(1, 8),
    steps=st.lists(
        st.tuples(
            st.sampled_from([0, 0, 0.5, 1]), st.integers(-12, 12), st.integers(1, 4), st.none() | st.integers(0, 4)
        ),
        max_size=25,
    ),
)
def test_no_window_ever_holds_more_than_the_limit(
    journal: Journal, window: int, most: int, steps: list[tuple[float, int, int, int | None]]
) -> None:
    """Compared with an exact list of what was granted when: whatever the clock says between two claims.

    A claim that the exact list refuses is refused, and one is refused only if the limit is used up within the window and one
    part before it.
    """
    scope, now = secrets.token_hex(8), EPOCH
    granted: list[tuple[int, int]] = []

    def taken(longest: int) -> int:
        return sum(amount for at, amount in granted if at > now - longest)

    for part, offset, amount, used in steps:  # most of what can be wrong is wrong at the edges of the window
        now += max(0, int(part * window) + offset)
        if claimed(journal, Claim(scope=scope, amount=amount, most=most, window_ns=window), now):
            granted.append((now, amount))
            assert taken(window) <= most
            if used is not None and used <= amount:
                correction = Claim(scope=scope, amount=used - amount, window_ns=window, at=now)
                assert claimed(journal, correction, now + 1)
                granted[-1] = (now, used)
        else:
            assert taken(window + 2 * max(1, window // BUCKETS)) + amount > most


def test_what_was_not_used_is_free_again_in_the_part_of_the_window_that_it_was_taken_from(
    journal: Journal, place: Path | str
) -> None:
    assert claimed(journal, Claim(scope="s", amount=10, most=10, window_ns=WINDOW), EPOCH)
    assert not claimed(journal, Claim(scope="s", amount=1, most=10, window_ns=WINDOW), EPOCH + 3_000)
    assert claimed(journal, Claim(scope="s", amount=-7, window_ns=WINDOW, at=EPOCH), EPOCH + 3_000)
    assert claimed(journal, Claim(scope="s", amount=7, most=10, window_ns=WINDOW), EPOCH + 3_000)
    assert query(place, "SELECT start, amount FROM limit_bucket ORDER BY start") == [(EPOCH, 3), (EPOCH + 3_000, 7)]


def test_a_correction_after_its_window_changes_nothing(journal: Journal, place: Path | str) -> None:
    """Its row is deleted at the next claim; a row of less than nothing would raise the limit, and be no sum of events."""
    record = StoredRecord(journal, RUN)
    record.append(started())
    reserved = BudgetSpent(step=0, phase="reserved", at=EPOCH, amounts={"s": 10}, windows={"s": WINDOW})
    later = EPOCH + 3 * WINDOW
    claim(journal, RUN, reserved, Claim(scope="s", amount=10, most=10, window_ns=WINDOW, at=EPOCH))
    second = reserved.model_copy(update={"step": 1, "at": later})
    claim(journal, RUN, second, Claim(scope="s", amount=10, most=10, window_ns=WINDOW, at=later))
    used = reserved.model_copy(update={"phase": "used", "amounts": {"s": 4}})
    claim(journal, RUN, used, Claim(scope="s", amount=-6, window_ns=WINDOW, at=EPOCH))
    assert query(place, "SELECT start, amount FROM limit_bucket") == [(later, 10)]
    assert check_projections(journal) == []


CLAIM = """
import time
from remit.core import Claim, Exhausted
from remit.core.events import BudgetSpent
from remit.journal import StoredRecord
import asyncio
record = StoredRecord(journal, sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
granted = 0
for step in range(40):
    event = BudgetSpent(step=step, phase="reserved", at=time.time_ns(), amounts={"a": 1, "b": 1}, windows={"a": 10**15, "b": 10**15})
    claims = [Claim(scope=scope, amount=1, most=30, window_ns=10**15) for scope in sys.argv[3]]
    try:
        asyncio.run(record.append_claimed(event, claims))
        granted += 1
    except Exhausted:
        pass
print(granted, flush=True)
"""


def test_two_processes_at_once_get_exactly_the_limit(place: Path | str) -> None:
    """They claim two limits in opposite orders, which must not stop them either."""
    with open_journal(place) as journal:
        processes = [script(CLAIM, place, run, order) for run, order in ((RUN, "ab"), ("b" * 32, "ba"))]
        assert [process.read() for process in processes] == ["ready", "ready"]
        for process in processes:
            process.send()
        granted = [int(process.end()) for process in processes]
        assert sum(granted) == 30
        assert sum(len(journal.events(run)) for run in (RUN, "b" * 32)) == 30
        assert query(place, "SELECT scope, sum(amount) FROM limit_bucket GROUP BY scope ORDER BY scope") == [
            ("a", 30),
            ("b", 30),
        ]
        assert check_projections(journal) == []


@ON_POSTGRES
def test_of_two_claims_at_once_of_the_last_unit_only_one_is_granted(
    journal: Journal, other: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one has to see what the first one takes."""
    add, both, granted = limits.add, threading.Barrier(2), list[bool]()

    def slowly(*given: Any) -> None:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        add(*given)

    monkeypatch.setattr(limits, "add", slowly)
    one = Claim(scope="s", amount=1, most=1, window_ns=WINDOW)
    threads = [
        threading.Thread(target=lambda used=used: granted.append(claimed(used, one, EPOCH)))
        for used in (journal, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(granted) == [False, True]


@ON_POSTGRES
def test_two_limits_are_locked_in_one_order_whatever_the_order_of_the_claims(journal: Journal, place: str) -> None:
    """Otherwise two runs could wait for each other, and PostgreSQL would end one of them."""
    made = [Claim(scope=scope, amount=1, most=5, window_ns=WINDOW, at=EPOCH) for scope in ("b", "a")]
    event = BudgetSpent(
        step=0, phase="reserved", at=EPOCH, amounts={"a": 1, "b": 1}, windows={"a": WINDOW, "b": WINDOW}
    )
    import psycopg

    with psycopg.connect(place) as blocking:
        blocking.execute("SELECT pg_advisory_xact_lock(hashtext('remit_default/a'))")
        waiting = threading.Thread(target=claim, args=(journal, RUN, event, *made))
        waiting.start()
        with psycopg.connect(place, autocommit=True) as looking:
            until(lambda: looking.execute(WAITING_FOR_LOCK).fetchone())
            free = looking.execute("SELECT pg_try_advisory_lock(hashtext('remit_default/b'))").fetchone()
            assert free == (True,)  # the claim waits for `a`, and holds nothing that another one could wait for
        blocking.rollback()
        waiting.join(60)
    assert len(journal.events(RUN)) == 1
