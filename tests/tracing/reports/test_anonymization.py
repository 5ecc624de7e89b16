"""The export for a vendor: structure and placeholders, no data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from remit.core import Principal
from remit.core.events import EVENT, AnyEvent, CallDecided, EffectSettled
from remit.journal.hash_chain import verify_chain
from remit.tracing import Trace, read_trace
from remit.tracing.reports.anonymization import KEPT, KeptWords, anonymize_run
from remit.tracing.reports.verification import verify
from support import golden
from support.events import a_whole_run, recorded
from support.principals import principal
from support.runs import Command, Play, Played, turn

NAME = "Kowalski"


@pytest.fixture
def shared(play: Play, command: Command) -> tuple[Played, Path]:
    turns = [
        turn(f"about {NAME}", ledger__look={"name": f"{NAME}-1", "text": f"{NAME} owes 471100815"}),
        turn(ledger__pay={"name": "vault", "amount": 471100815, "memo": NAME}, ledger__look={"name": f"{NAME}-1"}),
        {"say": "x", "calls": [{"ledger__pay": f'{{"{NAME}": 1'}, {"ledger__look": {"name": "gone"}}]},
        {"say": f"{NAME} is done"},
    ]
    played = play(turns, user="user:lea", account="kowalski")
    path = played.folder / "shapes.jsonl"
    done = command(played.folder, "trace", "export", played.ended.run, "--for", "vendor", "-o", str(path))
    assert done.code == 0, done.err
    return played, path


def test_a_vendor_sees_what_happened_and_none_of_the_data(shared: tuple[Played, Path], command: Command) -> None:
    played, path = shared
    text = path.read_text()
    for word in (
        NAME,
        NAME.lower(),
        "471100815",
        played.ended.run,
        "keep the ledger",
        "Nobody touches the vault",
        "Keep the ledger.",
    ):
        assert word not in text, word
    trace = read_trace(path)
    assert trace.faults() == ()
    assert [item.type for item in trace.records] == [item.type for item in played.records]
    assert [item.at for item in trace.records] == [item.at for item in played.records]
    shown = command(played.folder, "trace", "show", str(path)).out
    assert shown.startswith("completed, 2 refused  4 turns, 5 calls, 2 refused, 1 failed")
    assert "content anonymized: this run can be read, not replayed" in shown
    assert "ledger.pay account:" in shown
    assert re.search(r"policy_denied: \[[0-9a-f]{8} \d+\]", shown)
    assert command(played.folder, "trace", "verify", str(path)).code == 0
    assert command(played.folder, "replay", str(path)).code == 2


def test_equal_values_stay_equal_and_two_exports_have_nothing_in_common(
    shared: tuple[Played, Path], command: Command
) -> None:
    played, path = shared
    decided = [item.event for item in read_trace(path).records if isinstance(item.event, CallDecided)]
    resources = [event.call.touches[0].resource for event in decided if event.call is not None]
    assert resources[0] == resources[2]
    assert resources[0] != resources[1]
    again = command(played.folder, "trace", "export", played.ended.run, "--for", "vendor", "-o", "again.jsonl")
    assert again.code == 0
    other = (played.folder / "again.jsonl").read_text()
    assert resources[0] not in other


def test_every_kind_of_event_can_be_anonymized_and_no_text_remains() -> None:
    """Also fields that this test does not name: every field that is not listed as kept is replaced."""
    records = recorded(a_whole_run())
    chain = anonymize_run(records, KeptWords(), run="e" * 32)
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


EVENTS = get_args(get_args(AnyEvent)[0])
NUMBER = 4711.5


def filled(kind: Any, json_value: Any, pick: int = 0) -> Any:
    """A value of that type that contains `NAME` in every text, and `json_value` where any JSON is valid.

    `pick` says which of several types is meant.
    """
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        values = {name: filled(field.annotation, json_value, pick) for name, field in fields}
        return kind.model_construct(**(values | ({"subject": f"user:{NAME}"} if kind is Principal else {})))
    if get_origin(kind) is Annotated:
        return filled(get_args(kind)[0], json_value, pick)
    origin, parts = get_origin(kind), [part for part in get_args(kind) if part is not NoneType]
    if origin is Literal:
        return parts[0]
    if origin in (Union, UnionType):
        return filled(parts[pick], json_value, pick)
    if origin is tuple:
        return tuple(filled(part, json_value, pick) for part in parts if part is not ...)
    if origin is dict:
        return {NAME: filled(parts[1], json_value, pick)}
    return json_value if kind is Any else {str: NAME, int: 1, float: 1.0, bool: True, Decimal: Decimal(1)}[kind]


def fields_with_name(model: BaseModel) -> Iterator[tuple[type[BaseModel], str]]:
    """The fields that still contain what `filled` put there."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, BaseModel):
                yield from fields_with_name(item)
            elif NAME in repr(item) or repr(NUMBER) in repr(item):
                yield type(model), name


@pytest.mark.parametrize(
    "json_value", [NAME, NUMBER, [NAME, NUMBER], {NAME: [NUMBER]}], ids=["text", "number", "list", "object"]
)
def test_of_every_field_of_every_event_only_the_listed_fields_are_kept(json_value: Any) -> None:
    """Also fields of a later version: the test fails if `KEPT` has a field too many or too few."""
    found: set[tuple[type[BaseModel], str]] = set()
    for kind, pick in product(EVENTS, (0, -1)):  # a result is one of two
        (link,) = anonymize_run(recorded([filled(kind, json_value, pick)]), KeptWords(), run="e" * 32).links
        found |= set(fields_with_name(EVENT.validate_json(link.body or "")))
    assert found == {(kind, name) for kind, names in KEPT.items() for name in names}


def test_an_anonymized_settlement_still_shows_whether_a_person_or_a_probe_made_it() -> None:
    probe = EffectSettled(step=0, index=0, number=1, landed="landed", probe="ledger.wired")
    person = EffectSettled(step=0, index=0, number=1, landed="landed", by=principal("ann"), reason="I looked")
    shaped = [
        EVENT.validate_json(link.body or "")
        for link in anonymize_run(recorded([probe, person]), KeptWords(), run="e" * 32).links
    ]
    assert [event.source.partition(":")[0] for event in shaped if isinstance(event, EffectSettled)] == ["probe", "user"]


@pytest.mark.parametrize("path", sorted(golden.FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_the_anonymized_copy_of_each_golden_trace_verifies(path: Path) -> None:
    chain = anonymize_run(read_trace(path).records, KeptWords(), run="e" * 32)
    assert verify(Trace(run=chain.run, records=tuple(link.recorded() for link in chain.links), chain=chain)) == ()
