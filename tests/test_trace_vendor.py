"""Sharing with a vendor, who learns shapes and no values."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playing import Command, Play, Played, turn
from run_events import a_whole_run, recorded

from remit.chain import verify_chain
from remit.event import EVENT, CallDecided
from remit.shapes import Declared, replaced
from remit.trace import read

SAID = "Kowalski"


@pytest.fixture
def shared(play: Play, command: Command) -> tuple[Played, Path]:
    turns = [
        turn(f"about {SAID}", ledger__look={"name": f"{SAID}-1", "text": f"{SAID} owes 4711"}),
        turn(ledger__pay={"name": "vault", "amount": 4711, "memo": SAID}, ledger__look={"name": f"{SAID}-1"}),
        {"say": "x", "calls": [{"ledger__pay": f'{{"{SAID}": 1'}, {"ledger__look": {"name": "gone"}}]},
        {"say": f"{SAID} is done"},
    ]
    played = play(turns, user="user:lea", account="kowalski")
    path = played.folder / "shapes.jsonl"
    said = command(played.folder, "trace", "export", played.ended.run, "--for", "vendor", "-o", str(path))
    assert said.code == 0, said.err
    return played, path


def test_a_vendor_reads_how_it_went_and_nothing_of_what_it_was(shared: tuple[Played, Path], command: Command) -> None:
    played, path = shared
    text = path.read_text()
    for word in (
        SAID,
        SAID.lower(),
        "4711",
        played.ended.run,
        "keep the ledger",
        "Nobody touches the vault",
        "Keep the ledger.",
    ):
        assert word not in text, word
    trace = read(path)
    assert trace.faults() == ()
    assert [item.type for item in trace.records] == [item.type for item in played.records]
    assert [item.at for item in trace.records] == [item.at for item in played.records]
    shown = command(played.folder, "trace", "show", str(path)).out
    assert shown.startswith("completed  4 turns, 5 calls, 2 refused, 1 failed")
    assert "content replaced: this run can be read, not replayed" in shown
    assert "ledger.pay account:" in shown
    assert re.search(r"policy_denied: \[[0-9a-f]{8} \d+\]", shown)
    assert command(played.folder, "trace", "verify", str(path)).code == 0
    assert command(played.folder, "replay", str(path)).code == 2


def test_equal_values_stay_equal_and_two_exports_have_nothing_in_common(
    shared: tuple[Played, Path], command: Command
) -> None:
    played, path = shared
    decided = [item.event for item in read(path).records if isinstance(item.event, CallDecided)]
    resources = [event.call.touches[0].resource for event in decided if event.call is not None]
    assert resources[0] == resources[2]
    assert resources[0] != resources[1]
    again = command(played.folder, "trace", "export", played.ended.run, "--for", "vendor", "-o", "again.jsonl")
    assert again.code == 0
    other = (played.folder / "again.jsonl").read_text()
    assert resources[0] not in other


def test_every_kind_of_event_can_be_shared_and_no_text_of_it_gets_through() -> None:
    """Also fields that nobody thought of here: what is not named as kept is replaced."""
    records = recorded(a_whole_run())
    chain = replaced(records, Declared(), run="e" * 32)
    assert verify_chain(chain.links, head=chain.head) == ()
    bodies = "".join(link.body or "" for link in chain.links)
    for word in (
        "docs/a.md",
        "ann",
        "bob",
        "as the rule says",
        "let me see",
        "hello",
        "/etc/passwd",
        "not now",
        "slow",
    ):
        assert f'"{word}' not in bodies, word
        assert f":{word}" not in bodies, word
    types = {json.loads(link.body or "{}")["type"] for link in chain.links}
    assert types == {item.type for item in records}
    assert {"policy_denied", "invalid_arguments", "outcome_unknown"} <= set(re.findall(r'"code":"(\w+)"', bodies))
    for link in chain.links:
        EVENT.validate_json(link.body or "")
