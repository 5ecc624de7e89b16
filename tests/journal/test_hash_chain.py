"""The hash chain of a run: each kind of damage has its own fault, and an intact record has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from remit.core.errors import RunEnded
from remit.journal import Journal, StoredRecord
from remit.journal.hash_chain import ChainFault, link, payload_digest, verify_chain
from support.events import RUN, a_whole_run, recorded, started, succeeded
from support.journals import query


@pytest.fixture
def journal(journal: Journal) -> Journal:
    """A journal with one complete run."""
    record = StoredRecord(journal, RUN)
    for event in a_whole_run():
        record.append(event)
    return journal


DAMAGE: dict[str, tuple[list[str], list[tuple[int, str]]]] = {
    "an edited body": (
        [f"UPDATE payload SET body = replace(body, 'hello', 'hullo') WHERE run = '{RUN}' AND seq = 9"],
        [(9, "edited")],
    ),
    "an edited header": (["UPDATE event SET at = at + 1 WHERE seq = 5"], [(5, "edited")]),
    "a rewritten type": (["UPDATE event SET type = 'call.denied' WHERE seq = 5"], [(5, "edited")]),
    "a lost event": (["DELETE FROM event WHERE seq = 5"], [(5, "missing")]),
    "lost events": (["DELETE FROM event WHERE seq BETWEEN 5 AND 8"], [(5, "missing")]),
    "a lost beginning": (["DELETE FROM event WHERE seq = 0"], [(0, "missing")]),
    "missing last events": (["DELETE FROM event WHERE seq > 20"], [(21, "missing")]),
    "two events exchanged": (
        [
            f"UPDATE {table} SET seq = {new} WHERE seq = {old}"
            for table in ("event", "payload")
            for old, new in ((5, 999), (6, 5), (999, 6))
        ],
        [(5, "reordered"), (6, "reordered")],
    ),
    "an erased body": (["DELETE FROM payload WHERE seq = 5"], [(5, "erased")]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_kind_of_damage_has_its_own_fault(journal: Journal, place: Path | str, damage: str) -> None:
    """The fault names what happened to the record, and no consequence is reported."""
    statements, expected = DAMAGE[damage]
    query(place, *statements)
    faults = journal.verify(RUN)
    assert [(fault.seq, fault.kind) for fault in faults] == expected
    assert all(fault.broken == (fault.kind != "erased") for fault in faults)


def test_a_forged_event_does_not_fit_the_next_one(journal: Journal, place: Path | str) -> None:
    """An attacker can seal a forged event correctly; the hash in the next event reveals it."""
    before = journal.events(RUN)
    forged = link(RUN, 5, before[5].at, before[4].hash, succeeded(7, 7, value="forged"), "0" * 32)
    query(
        place,
        f"UPDATE event SET type = '{forged.type}', key = '{forged.key}', hash = '{forged.hash}', "
        f"payload_digest = '{forged.payload_digest}' WHERE seq = 5",
        f"UPDATE payload SET salt = '{forged.salt}', body = '{forged.body}' WHERE seq = 5",
    )
    assert [(fault.seq, fault.kind) for fault in journal.verify(RUN)] == [(6, "forged")]


def test_a_chain_that_was_forged_to_its_end_does_not_fit_its_head(journal: Journal) -> None:
    """The head is stored separately, so even a completely forged chain is detected if the head is intact."""
    forged = recorded([started(task="something else"), *a_whole_run()[1:]])
    head = journal.chain(RUN).head
    assert verify_chain(forged) == ()
    last = len(forged) - 1
    what = "the last event is not the one that was recorded last"
    assert verify_chain(forged, head=head) == (ChainFault(seq=last, kind="forged", what=what),)


def test_records_in_another_order_are_reordered() -> None:
    """Records in the wrong order are reported as reordered, not as edited."""
    records = recorded(a_whole_run()[:4])
    faults = verify_chain([records[0], records[2], records[1], records[3]])
    assert {fault.kind for fault in faults} == {"reordered"}


def test_an_event_of_another_version_is_not_read_and_still_verifies(journal: Journal, place: Path | str) -> None:
    """The hash covers the text that was written, so this version can verify an event that it cannot read."""
    assert journal.verify(RUN) == ()
    old = replace(
        journal.chain(RUN).links[1], body='{"type":"model.requested","step":0,"model":"m","input_digest":"i"}'
    )
    digest = payload_digest(old.salt or "", old.body or "")
    shorter = replace(old, payload_digest=digest)  # a version whose events had fewer fields
    assert verify_chain([replace(shorter, seq=0, prev="", hash=replace(shorter, seq=0, prev="").sealed)]) == ()
    query(place, 'UPDATE payload SET body = \'{"type":"model.dreamt"}\' WHERE seq = 1')
    with pytest.raises(RunEnded, match="has an event that this version cannot read"):
        journal.events(RUN)
