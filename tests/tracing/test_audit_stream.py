"""The audit stream: every event of audit arrives, whatever happens to the collector and to the process that sends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from remit.core.events import (
    AcceptedChanges,
    AnyEvent,
    BreakGlassReviewed,
    ContentRead,
    DecisionsGiven,
    EffectSettled,
    GivenDecision,
    HoldLifted,
    HoldSet,
    PolicyAdopted,
    PolicyChanged,
    PolicyPublished,
    RunErased,
    RunPruned,
    RunResumed,
    SecretSet,
)
from remit.core.parsing.json_validation import Mismatch
from remit.journal import (
    EVALUATION_STREAM,
    WORKSPACE_RUN,
    Journal,
    StoredRecord,
    count_unsent,
    erase,
    list_runs,
    note_adoption,
    open_journal,
    seal_run,
)
from remit.tracing import AuditFile, AuditStream, LineSink, NotArrived
from remit.tracing.audit.ocsf import Record
from remit.tracing.audit.records import AUDITED
from support import ocsf
from support.events import RUN, a_whole_run, decided, granted, requested, started
from support.journals import script
from support.otlp_collector import collecting
from support.principals import principal
from support.runs import DONE, Command, Play, Remit, turn

ANN = principal("ann")
D = "sha256:" + "5" * 64
OF_WORKSPACE: tuple[AnyEvent, ...] = (
    HoldSet(number=0, scope="tool:files", reason="upgrade", by=ANN),
    HoldLifted(number=1, scope="tool:files", by=ANN),
    PolicyAdopted(number=0, run=RUN, policy_digest=D, pins_digest=D, by=ANN),
    SecretSet(number=5, name="jira", by=ANN),
    PolicyPublished(
        number=9, files={"policies/rules.csv": ""}, policy_digest=D, earlier_policy=D, reason="quarter end", by=ANN
    ),
    ContentRead(number=6, run=RUN, how="show", by=ANN),
    DecisionsGiven(
        number=8,
        point="todo",
        policy_digest=D,
        by=ANN,
        decisions=(
            GivenDecision(subject="user:ann", action="todo.read", resource="todo:1", allowed=True, code="allowed"),
        ),
    ),
    RunErased(number=7, run=RUN, by=ANN),
    RunPruned(run="e" * 32, head="3:sha256:0", by=ANN),
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with open_journal(tmp_path / "traces" / "journal.db") as opened:
        yield opened


class Kept:
    """A sink that keeps the records, and refuses the first `failures` writes."""

    def __init__(self, failures: int = 0) -> None:
        self.records: list[Record] = []
        self.failures = failures

    def write(self, records: Sequence[Record]) -> None:
        if self.failures:
            self.failures -= 1
            raise NotArrived("away")
        self.records += records

    def close(self) -> None:
        pass


class Killed(BaseException):
    """The process dies."""


class Dying(Kept):
    """A sink whose process dies once the records have arrived, before anybody knows."""

    def write(self, records: Sequence[Record]) -> None:
        super().write(records)
        raise Killed


def fill(journal: Journal) -> set[str]:
    """Runs and streams with every event of audit; returns the ids of their records."""
    record = StoredRecord(journal, RUN)
    for event in (*a_whole_run(), PolicyChanged(count=1, policy_digest=D, problem="line 3: no such action")):
        record.append(event)
    record.append(EffectSettled(step=2, index=0, number=1, landed="landed", by=ANN, reason="saw it"))
    granted_key = "approval.granted/0/0/d/user:bob/1"
    record.append(BreakGlassReviewed(step=0, index=0, granted=granted_key, by=ANN, note="right"))
    for event in OF_WORKSPACE:
        journal.append_shared(WORKSPACE_RUN, event)
    items = [item for run in (RUN, WORKSPACE_RUN) for item in journal.events(run) if item.type in AUDITED]
    resumed = {item.seq for item in items if isinstance(item.event, RunResumed) and item.event.accepted is None}
    return {f"{item.run}/{item.seq}" for item in items if item.run != RUN or item.seq not in resumed}


def uids(records: Sequence[Record]) -> list[str]:
    return [record["metadata"]["uid"] for record in records]


def test_every_event_of_audit_is_a_valid_record_of_its_class(journal: Journal) -> None:
    expected = fill(journal)
    sink = Kept()
    assert AuditStream(journal, sink).send() == len(expected)
    assert set(uids(sink.records)) == expected
    for record in sink.records:
        ocsf.check(dict(record))
    assert {record["class_uid"] for record in sink.records} == set(ocsf.CLASSES)


def test_every_event_that_names_a_person_is_audited_or_known_to_decide_nothing() -> None:
    kinds = get_args(get_args(AnyEvent)[0])
    acts = {kind.model_fields["type"].default for kind in kinds if "by" in kind.model_fields}
    assert acts - AUDITED == {
        "run.started",
        "alert.closed",
        "evaluation.started",
        "rollout.compared",
        "model.responded",  # who makes a call in place of the model has rejected that one, which is audited
    }


def test_a_record_with_a_key_that_its_class_does_not_have_is_not_valid(journal: Journal) -> None:
    """So the test above can fail."""
    fill(journal)
    sink = Kept()
    AuditStream(journal, sink).send()
    with pytest.raises(Mismatch, match="unknown_property"):
        ocsf.check({**sink.records[0], "remit": 1})
    with pytest.raises(Mismatch, match="missing"):
        ocsf.check({name: value for name, value in sink.records[0].items() if name != "severity_id"})


def test_what_was_sent_is_not_sent_again_and_what_came_since_is(journal: Journal) -> None:
    fill(journal)
    AuditStream(journal, Kept()).send()
    assert count_unsent(journal) == 0
    hold = journal.append_shared(WORKSPACE_RUN, HoldSet(number=9, scope="all", reason="drill", by=ANN))
    sink = Kept()
    assert AuditStream(journal, sink).send() == 1
    assert uids(sink.records) == [f"{WORKSPACE_RUN}/{hold.seq}"]


def test_records_arrive_although_the_collector_is_away_and_the_process_is_killed_twice(journal: Journal) -> None:
    """The collector is away for ten minutes of a clock that does not wait; one death is before the records left, one after."""
    expected = fill(journal)
    arrived: list[Record] = []
    away, waited = Kept(failures=10**9), list[float]()

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if sum(waited) >= 600:
            raise Killed

    with pytest.raises(Killed):
        AuditStream(journal, away).follow(lambda _: None, sleep)
    assert max(waited) <= 30
    assert not away.records
    dying = Dying()
    with pytest.raises(Killed):
        AuditStream(journal, dying).send()
    arrived += dying.records
    last = Kept(failures=1)
    with pytest.raises(NotArrived):
        AuditStream(journal, last).send()
    AuditStream(journal, last).send()
    arrived += last.records
    assert set(uids(arrived)) == expected
    assert len(arrived) > len(expected)  # at least once: the receiver drops what has an id that it knows


STREAM = """
from remit.tracing import AuditFile, AuditStream

class Slow(AuditFile):
    def write(self, records):
        if "before" in sys.argv[3]:
            print("leaving", flush=True)
            sys.stdin.readline()
        super().write(records)
        if "after" in sys.argv[3]:
            print("arrived", flush=True)
            sys.stdin.readline()

print(AuditStream(journal, Slow(Path(sys.argv[2]))).send())
"""


def test_kill_9_of_the_stream_before_and_after_records_arrive_loses_none(journal: Journal, tmp_path: Path) -> None:
    expected = fill(journal)
    file = tmp_path / "audit.jsonl"
    for when, line in (("before", "leaving"), ("after", "arrived")):
        process = script(STREAM, tmp_path / "traces" / "journal.db", str(file), when)
        assert process.read() == line
        process.kill()
    process = script(STREAM, tmp_path / "traces" / "journal.db", str(file), "never")
    assert process.end() == f"{len(expected)}\n"
    arrived = uids([json.loads(found) for found in file.read_text().splitlines()])
    assert set(arrived) == expected
    assert len(arrived) == 2 * len(expected)


def test_an_event_that_is_recorded_while_records_are_sent_arrives_the_next_time(journal: Journal) -> None:
    """Also one of a chain that the stream has passed."""
    fill(journal)

    class Late(Kept):
        def write(self, records: Sequence[Record]) -> None:
            super().write(records)
            journal.append_shared(WORKSPACE_RUN, HoldSet(number=99, scope="all", reason="late", by=ANN))

    late = Late()
    AuditStream(journal, late).send()
    sink = Kept()
    AuditStream(journal, sink).send()
    assert [record["metadata"]["event_code"] for record in sink.records] == ["hold.set"]


def test_events_of_a_sealed_run_and_an_erased_event_arrive(journal: Journal) -> None:
    expected = fill(journal)
    erase(journal, RUN, next(item.seq for item in journal.events(RUN) if item.type == "call.decided"))
    seal_run(journal, RUN)
    sink = Kept()
    AuditStream(journal, sink).send()
    assert set(uids(sink.records)) == expected
    erased = [record for record in sink.records if "its texts were erased" in record["message"]]
    assert erased
    for record in sink.records:
        ocsf.check(dict(record))


def test_code_that_is_revoked_and_changes_that_are_accepted_differ_from_holds_and_resumes(
    journal: Journal,
) -> None:
    journal.append_shared(WORKSPACE_RUN, HoldSet(number=0, scope="code:sha256:ab", reason="CVE", by=ANN))
    record = StoredRecord(journal, RUN)
    accepted = AcceptedChanges(changed=("agent/triage/prompt.md",), prompt="You find out why.", actions=())
    for count, changes in ((1, None), (2, accepted)):
        record.append(RunResumed(count=count, by=ANN, bundle=D, policy_digest=D, accepted=changes))
    sink = Kept()
    AuditStream(journal, sink).send()
    assert [(found["activity_name"], found["entity"], found["status_detail"]) for found in sink.records] == [
        ("Resume", {"name": RUN, "type": "run"}, "agent/triage/prompt.md"),
        ("Disable", {"name": "sha256:ab", "type": "code"}, "CVE"),
    ]
    for found in sink.records:
        ocsf.check(dict(found))


def test_evaluations_leave_no_audit_records(journal: Journal) -> None:
    record = StoredRecord(journal, RUN)
    record.append(started(evaluation="ev1"))
    record.append(decided(0, 0))
    StoredRecord(journal, f"{EVALUATION_STREAM}ev1").append(HoldSet(number=0, scope="all", reason="", by=ANN))
    sink = Kept()
    assert AuditStream(journal, sink).send() == 0
    assert count_unsent(journal) == 0


def test_an_emergency_says_who_why_and_until_when(journal: Journal) -> None:
    record = StoredRecord(journal, RUN)
    for event in (
        started(),
        decided(0, 0, "ask"),
        requested(0, 0),
        granted(0, 0, "user:dana", role="role:break-glass", reason="INC-7: down", until=7),
    ):
        record.append(event)
    sink = Kept()
    AuditStream(journal, sink).send()
    emergency = sink.records[-1]
    assert emergency["message"] == "user:dana approves as role:break-glass files.read of agent:triage"
    assert (emergency["severity"], emergency["status_detail"], emergency["unmapped"]["remit.until"]) == (
        "High",
        "INC-7: down",
        7,
    )
    assert emergency["actor"]["user"]["name"] == "user:dana"
    assert emergency["resources"] == [{"name": "file:docs/a.md", "type": "file", "labels": ["read"]}]


def test_arguments_of_calls_are_left_out_unless_asked_for(play: Play) -> None:
    """Also where the model wrote a text as the name of an action, or the call was refused before its decision."""
    played = play(
        [
            turn(ledger__pay={"name": "ann", "amount": 77, "memo": "private words"}, nonsense={"x": "private words"}),
            DONE,
        ]
    )
    journal = played.opened.journal
    sink = Kept()
    AuditStream(journal, sink).send()
    assert "private words" not in json.dumps(sink.records)
    kinds = [record["metadata"]["event_code"] for record in sink.records]
    assert kinds.count("policy.adopted") == 1
    assert kinds.count("call.decided") == 2
    again = StoredRecord(journal, "c" * 32)
    for event in (started(), decided(0, 0)):
        again.append(event)
    asked = Kept()
    AuditStream(journal, asked, arguments=True).send()
    assert asked.records[0]["api"]["request"]["data"] == {"path": "docs/a.md"}
    for record in (*sink.records, *asked.records):
        ocsf.check(dict(record))


def test_a_change_of_rules_or_of_pins_is_noted_once_by_the_first_run_under_them(journal: Journal) -> None:
    def note(run: str, policy: str, pins: str) -> None:
        note_adoption(journal, policy_digest=policy, pins_digest=pins, run=run, by=ANN)

    for run, policy, pins in (("a", "p", "x"), ("b", "p", "x"), ("c", "q", "x"), ("d", "q", "y"), ("e", "p", "x")):
        note(run, policy, pins)
    noted = [item.event for item in journal.every("policy.adopted")]
    assert [(event.run, event.changes) for event in noted if isinstance(event, PolicyAdopted)] == [
        ("a", ("rules", "pins")),
        ("c", ("rules",)),
        ("d", ("pins",)),
        ("e", ("rules", "pins")),
    ]


def test_the_last_line_of_a_file_that_a_killed_process_left_unfinished_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b'{"a": 1}\n{"metadata": {"ui')
    sink = AuditFile(file)
    sink.write([{"b": 2}])
    assert "metadata" not in file.read_text()
    assert [json.loads(line) for line in file.read_text().splitlines()] == [{"a": 1}, {"b": 2}]
    assert file.stat().st_mode & 0o077 in (0, 0o044)


def test_hidden_characters_cannot_control_a_terminal(journal: Journal, capsys: pytest.CaptureFixture[str]) -> None:
    journal.append_shared(WORKSPACE_RUN, HoldSet(number=0, scope="all", reason="\x1b[2Jgone\u202e", by=ANN))
    AuditStream(journal, LineSink(print)).send()
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert json.loads(out)["status_detail"] == "\x1b[2Jgone\u202e"


def test_only_those_who_may_read_the_runs_of_others_read_the_audit_stream(
    clerk: Callable[..., Path], command: Command
) -> None:
    folder = clerk([DONE])
    assert command(folder, "audit").code == 0
    rules = folder / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + "p, role:lead, remit.read, run:*/*, True, allow\n")
    done = command(folder, "audit")
    assert (done.code, "user:operator may not read audit records of clerk" in done.err) == (1, True)


def test_the_command_sends_what_was_not_sent_to_a_collector_a_file_or_standard_output(
    remit: Remit, session: Path
) -> None:
    remit("call", "files.read", '{"path": "secrets/payments.env"}', "--agent", "triage")
    refused = remit(
        "audit",
        "--to",
        "otlp",
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
    )
    assert refused.code == 1
    assert "did not arrive, and stay in the journal" in refused.err
    with collecting() as (endpoint, bodies):
        assert (
            remit("audit", "--to", "otlp", env={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}).out
            == "sent 2 audit records\n"
        )
    logs = [
        log
        for body in bodies
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for log in scope.log_records
    ]
    records: list[dict[str, Any]] = [json.loads(log.body.string_value) for log in logs]
    assert {record["message"] for record in records} == {
        "deny files.read, called by agent:triage",
        "runs start under other rules and pins",
    }
    for record in records:
        ocsf.check(record)
    remit("stop", "--all", "--reason", "drill")
    assert remit("audit", "--to", "audit.jsonl", "--json").json == {"ok": True, "sent": 1}
    assert json.loads((session / "audit.jsonl").read_text())["activity_name"] == "Suspend"
    assert remit("audit").out == ""
    assert remit("audit", "--to", "otlp").code == 2


def test_runs_are_listed_as_before(journal: Journal) -> None:
    """Sending changes nothing that a list, a check or a lease reads."""
    fill(journal)
    before = list(list_runs(journal))
    AuditStream(journal, Kept()).send()
    assert list(list_runs(journal)) == before
    assert journal.verify(RUN) == ()
