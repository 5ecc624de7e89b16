"""The chain of a run: what happened to its record is told apart, and nothing is called damaged that is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remit.core.errors import RunEnded
from remit.journal.hash_chain import ChainFault, link, payload_digest, verify_chain
from remit.journal.store import Journal
from support.events import RUN, a_whole_run, edit, recorded, started, succeeded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """A journal that holds one whole run."""
    with Journal(path) as opened:
        for event in a_whole_run():
            opened.append(RUN, event)
        yield opened


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
    "a cut tail": (["DELETE FROM event WHERE seq > 20"], [(21, "missing")]),
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
def test_faults_of_the_chain_are_told_apart(journal: Journal, path: Path, damage: str) -> None:
    """What happened to the record is named, and only that."""
    statements, expected = DAMAGE[damage]
    edit(path, *statements)
    faults = journal.verify(RUN)
    assert [(fault.seq, fault.kind) for fault in faults] == expected
    assert all(fault.broken == (fault.kind != "erased") for fault in faults)


def test_an_event_that_was_sealed_anew_does_not_fit_its_neighbours(journal: Journal, path: Path) -> None:
    """Who knows how to seal can forge one event; the next one gives it away."""
    before = journal.events(RUN)
    forged = link(RUN, 5, before[5].at, before[4].hash, succeeded(7, 7, value="forged"), "0" * 32)
    edit(
        path,
        f"UPDATE event SET type = '{forged.type}', key = '{forged.key}', hash = '{forged.hash}', "
        f"payload_digest = '{forged.payload_digest}' WHERE seq = 5",
        f"UPDATE payload SET salt = '{forged.salt}', body = '{forged.body}' WHERE seq = 5",
    )
    assert [(fault.seq, fault.kind) for fault in journal.verify(RUN)] == [(6, "forged")]


def test_a_chain_that_was_sealed_anew_to_its_end_does_not_fit_its_head(journal: Journal) -> None:
    """The head is kept apart from the events, so even a whole forged chain is seen while the head stands."""
    forged = recorded([started(task="something else"), *a_whole_run()[1:]])
    head = journal.chain(RUN).head
    assert verify_chain(forged) == ()
    last = len(forged) - 1
    what = "the last event is not the one that was recorded last"
    assert verify_chain(forged, head=head) == (ChainFault(seq=last, kind="forged", what=what),)


def test_records_in_another_order_are_reordered() -> None:
    """Records that are handed over out of order are told so, not called edited."""
    records = recorded(a_whole_run()[:4])
    faults = verify_chain([records[0], records[2], records[1], records[3]])
    assert {fault.kind for fault in faults} == {"reordered"}


def test_an_event_of_another_version_is_not_read_and_still_verifies(journal: Journal, path: Path) -> None:
    """The seal covers the very text that was written, so what this version cannot read it can still vouch for."""
    assert journal.verify(RUN) == ()
    old = replace(
        journal.chain(RUN).links[1], body='{"type":"model.requested","step":0,"model":"m","input_digest":"i"}'
    )
    digest = payload_digest(old.salt or "", old.body or "")
    shorter = replace(old, payload_digest=digest)  # a version whose events had fewer fields
    assert verify_chain([replace(shorter, seq=0, prev="", hash=replace(shorter, seq=0, prev="").sealed)]) == ()
    edit(path, 'UPDATE payload SET body = \'{"type":"model.dreamt"}\' WHERE seq = 1')
    with pytest.raises(RunEnded, match="has an event that this version cannot read"):
        journal.events(RUN)
