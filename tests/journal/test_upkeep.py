"""Upkeep: sealed runs are read like any other, and nothing that was erased comes back."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from remit.core import BREAK_GLASS
from remit.core.events import ApprovalGranted, BreakGlassReviewed, EffectSettled, RunFinished
from remit.journal import (
    AlreadyRecorded,
    Journal,
    StoredRecord,
    approvals_in_state,
    check_projections,
    erase,
    list_runs,
    open_journal,
    seal_run,
    unsealed_runs,
)
from remit.journal.storage.core_tables import TABLES
from remit.journal.upkeep import sealing
from support.events import RUN, a_whole_run, append, ask, decided, granted, requested, started, turn
from support.journals import folded, is_whole, query
from support.principals import principal


def fill(journal: Journal) -> None:
    record = StoredRecord(journal, RUN)
    for event in a_whole_run():
        record.append(event)


def settled() -> EffectSettled:
    return EffectSettled(step=1, index=0, landed="landed", number=1, by=principal("ann"), reason="it was seen")


def test_a_sealed_run_is_read_verified_and_listed_as_before(journal: Journal, place: Path | str) -> None:
    fill(journal)
    before, listed = journal.chain(RUN), list(list_runs(journal))
    assert unsealed_runs(journal, 2**62) == [RUN]
    assert seal_run(journal, RUN)
    assert not seal_run(journal, RUN)
    assert unsealed_runs(journal, 2**62) == []
    assert query(place, "SELECT count(*) FROM event") == query(place, "SELECT count(*) FROM payload") == [(0,)]
    assert journal.chain(RUN) == before
    assert journal.events(RUN, after=20) == [link.recorded() for link in before.links[21:]]
    answered = next(link for link in before.links if link.key == "call.answered/0/0/-")
    assert journal.get(RUN, "call.answered/0/0/-") == answered.recorded()
    assert list(list_runs(journal)) == listed
    assert is_whole(journal, RUN)


def test_an_event_follows_a_sealed_run_once(journal: Journal) -> None:
    fill(journal)
    seal_run(journal, RUN)
    with pytest.raises(AlreadyRecorded):
        append(journal, RUN, started())
    append(journal, RUN, settled())
    assert StoredRecord(journal, RUN).state == folded(journal, RUN)
    assert folded(journal, RUN).in_doubt == ()
    assert is_whole(journal, RUN)


def test_an_emergency_of_a_sealed_run_still_waits_for_its_review(journal: Journal) -> None:
    """A run may be sealed before anybody has looked at it."""
    emergency = granted(0, 0, "user:eve", role=BREAK_GLASS, reason="it burns", until=2**62)
    record = StoredRecord(journal, RUN)
    for event in (
        started(),
        *turn(0, ask()),
        decided(0, 0, "ask"),
        requested(0, 0),
        emergency,
        RunFinished(outcome="stopped"),
    ):
        record.append(event)
    listed = approvals_in_state(journal, "emergency")
    assert [ApprovalGranted.model_validate_json(body) for _, _, body in listed] == [emergency]
    seal_run(journal, RUN)
    assert approvals_in_state(journal, "emergency") == listed
    done = BreakGlassReviewed(step=0, index=0, granted=emergency.key, by=principal("kim"), note="it was right")
    StoredRecord(journal, RUN).append(done)
    assert approvals_in_state(journal, "emergency") == []
    assert approvals_in_state(journal, "reviewed") == listed
    assert is_whole(journal, RUN)
    erase(journal, RUN)
    assert approvals_in_state(journal, "reviewed") == []
    assert check_projections(journal) == []


def test_what_is_erased_while_its_run_is_sealed_does_not_come_back(
    journal: Journal, other: Journal, place: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sealed object must not hold a body that was read before it was erased."""
    fill(journal)
    pack, erasing = sealing.pack, threading.Thread(target=erase, args=(other, RUN, 0))

    def slowly(links):  # type: ignore[no-untyped-def]
        if erasing.ident is None:
            erasing.start()
        erasing.join(0.5)  # it has to wait, or is done now
        return pack(links)

    monkeypatch.setattr(sealing, "pack", slowly)
    seal_run(journal, RUN)
    erasing.join(60)
    assert journal.events(RUN)[0].event is None
    assert [fault.kind for fault in journal.verify(RUN)] == ["erased"]
    assert "restart checkout" not in str([query(place, f"SELECT * FROM {table}") for table in TABLES])


def test_the_space_of_deleted_events_is_returned_in_large_parts(tmp_path: Path) -> None:
    """A part of one page would take minutes for a run: the parts of others come in between."""
    place = tmp_path / "journal.db"
    with open_journal(place) as journal:
        connection = sqlite3.connect(place)
        connection.execute(
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
            " INSERT INTO payload SELECT 'r', i, '', printf('%.3000c', 'x') FROM n"
        )
        connection.execute("DELETE FROM payload")
        connection.commit()
        connection.close()
        parts = 1
        while journal.database.release():
            parts += 1
    assert query(place, "PRAGMA freelist_count") == [(0,)]
    assert 2 <= parts <= 8
