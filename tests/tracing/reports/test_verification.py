"""Each change of a record is detected and named; an unchanged record has no faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from remit.core.events import (
    AnyEvent,
    ApprovalGranted,
    AttemptBegun,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    Recorded,
)
from remit.journal import erase
from remit.journal.hash_chain import link
from remit.tracing import TraceFile, open_trace, read_trace, write_portable
from remit.tracing.reports.verification import find_contradictions, verify
from support.runs import DONE, Command, Play, Played, turn

TURNS = [turn(ledger__look={"name": "ann"}), turn(ledger__pay={"name": "ben", "amount": 500}), DONE]
APPROVALS = [{"action": "ledger.pay", "approver": "user:lea", "role": "role:lead"}]


@pytest.fixture
def played(play: Play) -> Played:
    return play(TURNS, approvals=APPROVALS)


@pytest.fixture
def exported(played: Played) -> Path:
    path = played.folder / "incident.jsonl"
    write_portable(open_trace(played.opened.traces, played.opened.journal, played.ended.run), path)
    return path


def lines(change: Callable[[list[str]], list[str]]) -> Callable[[str], str]:
    return lambda text: "\n".join([*change(text.split("\n")[:-1]), ""])


def first(old: str, new: str) -> Callable[[str], str]:
    """Replace the first place only; it must be there."""

    def change(text: str) -> str:
        assert old in text, old
        return text.replace(old, new, 1)

    return change


def exchange(text: str) -> str:
    """Exchanges the numbers of two events."""
    one, other = '"remit.event.seq","value":{"intValue":"3"}', '"remit.event.seq","value":{"intValue":"4"}'
    return text.replace(one, "@@").replace(other, one).replace("@@", other)


def added(text: str) -> str:
    """Adds a line with a span that no event makes."""
    line: dict[str, Any] = json.loads(text.split("\n")[2])
    span = line["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span.update(spanId="f" * 16, name="execute_tool ledger.pay", events=[])
    return text + json.dumps(line) + "\n"


# The change of the file, the kind of the fault, and its message.
IN_THE_FILE: dict[str, tuple[Callable[[str], str], str, str]] = {
    "a result is edited": (lambda text: text.replace('\\"paid\\"', '\\"lent\\"'), "edited", "body of"),
    "a time is edited": (
        first('"remit.event.at","value":{"intValue":"', '"remit.event.at","value":{"intValue":"1'),
        "edited",
        "header of",
    ),
    "an event is renamed": (first('"name":"attempt.ended"', '"name":"attempt.lost"'), "edited", "header of"),
    "a call is cut out": (lines(lambda all: [*all[:2], *all[5:]]), "missing", "not there"),
    "the tail is cut off": (lines(lambda all: all[:-4]), "missing", "not there"),
    "two events are exchanged": (exchange, "reordered", "was recorded as event"),
    "what a viewer shows is edited": (
        first('"remit.verdict","value":{"stringValue":"ask"}', '"remit.verdict","value":{"stringValue":"allow"}'),
        "edited",
        "does not match its events",
    ),
    "a span is added": (added, "edited", "does not match its events"),
}


@pytest.mark.parametrize("what", IN_THE_FILE)
def test_each_change_of_a_file_is_named(played: Played, exported: Path, what: str) -> None:
    """With the journal, or with the head of its chain alone."""
    change, kind, message = IN_THE_FILE[what]
    exported.write_text(change(exported.read_text()))
    original = played.opened.journal.chain(played.ended.run)
    for faults in (verify(read_trace(exported), original=original), verify(read_trace(exported), head=original.head)):
        found = [fault for fault in faults if fault.broken]
        assert kind in {fault.kind for fault in found}, (what, faults)
        assert any(message in fault.what for fault in found), (what, faults)


def resealed(played: Played, folder: Path, change: Callable[[AnyEvent], AnyEvent | None]) -> Path:
    """The whole record, changed and sealed again by an attacker: its chain verifies."""
    records: list[Recorded] = []
    for item in played.records:
        event = None if item.event is None else change(item.event)
        if event is not None:
            prev = records[-1].hash if records else ""
            records.append(link(item.run, len(records), item.at, prev, event, item.salt or "").of(event))
    file = TraceFile(folder / "forged", played.ended.run)
    file.rebuild(records)
    file.close()
    return file.path


def on(kind: type[AnyEvent], **update: Any) -> Callable[[AnyEvent], AnyEvent | None]:
    return lambda event: event.model_copy(update=update) if isinstance(event, kind) else event


def other_arguments(event: AnyEvent) -> AnyEvent:
    if isinstance(event, CallDecided) and event.call is not None and event.step == 1:
        arguments = {**event.call.arguments, "amount": 5000}
        return event.model_copy(update={"call": event.call.model_copy(update={"arguments": arguments})})
    return event


def other_rules(event: AnyEvent) -> AnyEvent:
    if isinstance(event, CallDecided) and event.decision is not None and event.step == 0:
        return event.model_copy(update={"decision": event.decision.model_copy(update={"policy_digest": "sha256:0"})})
    return event


SEALED_AGAIN: dict[str, tuple[Callable[[AnyEvent], AnyEvent | None], str]] = {
    "the arguments that were decided": (
        other_arguments,
        "the digest of the request does not match the recorded request",
    ),
    "the rules that decided": (other_rules, "the digest of the decision does not match this request and these rules"),
    "the decision that was approved": (
        on(ApprovalGranted, decision_digest="sha256:0"),
        "user:lea answered a request for approval that does not exist",
    ),
    "the request that ran": (
        on(AttemptBegun, request_digest="sha256:0"),
        "the attempt executed another request than the decided one",
    ),
    "the decision that it ran under": (
        on(AttemptBegun, decision_digest="sha256:0"),
        "the attempt names a decision of another call",
    ),
    "what the attempt returned": (on(AttemptEnded, value="lent"), "the result differs from what the attempt returned"),
    "an attempt that failed": (on(AttemptEnded, code="timeout"), "the call succeeded, but no attempt did"),
    "the approval, left out": (
        lambda event: None if event.type == "approval.requested" else event,
        "answered a request for approval that does not exist",
    ),
    "the allowing decision, left out": (
        lambda event: None if event.key == "call.decided/1/0/1" else event,
        "the attempt began, but no decision allows the call",
    ),
    "the decision of a call, left out": (
        lambda event: None if event.key == "call.decided/0/0/0" else event,
        "there is no decision about this call",
    ),
    "the beginning of an attempt, left out": (
        lambda event: None if isinstance(event, AttemptBegun) else event,
        "the attempt ended, but never began",
    ),
}


@pytest.mark.parametrize("what", SEALED_AGAIN)
def test_a_chain_that_was_sealed_again_contradicts_itself_and_does_not_match_its_head(
    played: Played, tmp_path: Path, what: str
) -> None:
    change, message = SEALED_AGAIN[what]
    trace = read_trace(resealed(played, tmp_path, change))
    assert trace.faults() == ()
    found = find_contradictions(trace.records)
    assert any(message in fault.what for fault in found), found
    original = played.opened.journal.chain(played.ended.run)
    for faults in (verify(trace, original=original), verify(trace, head=original.head)):
        assert {fault.kind for fault in faults} & {"forged", "missing", "edited"}


def test_events_of_another_run_are_detected(played: Played, play: Play, exported: Path) -> None:
    name = played.ended.run
    other = play(TURNS, approvals=APPROVALS)
    file = (other.folder / "traces" / f"{other.ended.run}.jsonl").read_text()
    exported.write_text(file.replace(other.ended.run, name))
    assert {"edited"} <= {fault.kind for fault in verify(read_trace(exported))}


def test_the_verify_command_names_changes_of_file_rules_and_journal(
    played: Played, exported: Path, command: Command, tmp_path: Path
) -> None:
    name = played.ended.run
    whole = command(played.folder, "trace", "verify", name)
    assert (whole.code, whole.out.splitlines()[0]) == (0, f"{len(played.records)} events: integrity check passed")
    head = whole.out.splitlines()[1].removeprefix("head ")
    assert command(tmp_path, "trace", "verify", str(exported), "--head", head).code == 0
    text = exported.read_text()
    exported.write_text(lines(lambda all: [*all[:-3], all[-1]])(text))
    cut = command(tmp_path, "trace", "verify", str(exported), "--head", head, "--json")
    assert (cut.code, cut.json["faults"][0]["kind"]) == (1, "missing")
    exported.write_text(first("g, user:leo, role:lead", "g, user:eve, role:lead")(text))
    assert "does not match its digest" in command(tmp_path, "trace", "verify", str(exported)).err

    rules = next(
        path for path in (played.folder / "traces" / "objects").iterdir() if b"ledger.look" in path.read_bytes()
    )
    rules.write_bytes(rules.read_bytes() + b"# edited\n")
    done = command(played.folder, "trace", "verify", name)
    assert done.code == 1
    assert "was changed after it was stored" in done.out
    file = played.folder / "traces" / f"{name}.jsonl"
    file.write_text(file.read_text().replace("paid", "lent"))
    assert "of the file differs from the journal" in command(played.folder, "trace", "verify", name).out
    assert command(played.folder, "trace", "verify", name, "--head", "x").code == 2


def test_an_erased_text_is_reported_and_does_not_break_the_chain(played: Played, command: Command) -> None:
    name = played.ended.run
    last = played.records[-1].seq
    erase(played.opened.journal, name, last)
    done = command(played.folder, "trace", "verify", name, "--json")
    assert (done.code, done.json["ok"]) == (0, True)
    assert [(fault["seq"], fault["kind"]) for fault in done.json["faults"]] == [(last, "erased")]
    assert verify(read_trace(played.folder / "traces" / f"{name}.jsonl"))[0].kind == "erased"


def kinds(records: Sequence[Recorded]) -> set[str]:
    return {item.type for item in records}


def test_an_honest_record_has_no_contradictions(play: Play) -> None:
    """With refused, retried and failed calls in it."""
    turns = [
        turn(ledger__look={"name": "busy1"}, ledger__pay={"name": "vault", "amount": 1}),
        {"say": "x", "calls": [{"ledger__look": {"name": "crash"}}, {"ledger__pay": '{"name":'}, {"shell": {}}]},
        DONE,
    ]
    played = play(turns)
    assert {"attempt.ended", "call.answered", "run.finished"} <= kinds(played.records)
    assert find_contradictions(played.records) == []
    assert {item.event.result.ok for item in played.records if isinstance(item.event, CallAnswered)} == {True, False}
