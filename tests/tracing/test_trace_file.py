"""The trace file contains the complete run in a standard format, independent of the environment."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from remit.core.errors import RunEnded, UsageError
from remit.core.events import AnyEvent
from remit.journal import erase, open_journal
from remit.journal.hash_chain import link_of
from remit.tracing import TraceFile, open_trace, read_trace
from remit.tracing.spans import Spans
from support import CORPORA
from support.events import (
    RUN,
    a_whole_run,
    append,
    decided,
    ended,
    granted,
    intended,
    recorded,
    requested,
    runs,
    spans,
    started,
    succeeded,
    turn,
    written,
)


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values())) for item in span["attributes"]}


def tree(path: Path) -> list[str]:
    """The names of the spans, indented by depth."""
    found = spans(path)
    parents = {span["spanId"]: span.get("parentSpanId") for span in found}

    def depth(span_id: str) -> int:
        return 0 if parents[span_id] is None else 1 + depth(parents[span_id])

    return ["  " * depth(span["spanId"]) + span["name"] for span in found]


def test_the_spans_of_a_run_are_one_tree_of_turns_calls_decisions_and_attempts(tmp_path: Path) -> None:
    """Denied calls are in the tree too."""
    assert tree(written(tmp_path, recorded(a_whole_run()))) == [
        "invoke_agent triage",
        "  chat script.yaml",
        "  execute_tool files.read",
        "    remit.decide",
        "    remit.attempt",
        "    remit.attempt",
        "  execute_tool service.restart",
        "    remit.decide",
        "  execute_tool files.read",
        "    remit.decide",
        "  chat script.yaml",
        "  execute_tool service.restart",
        "    remit.decide",
        "    remit.decide",
        "    remit.approval",
        "    remit.attempt",
        "  execute_tool service.restart",
        "    remit.decide",
        "    remit.approval",
        "  chat script.yaml",
    ]


def test_a_denied_call_has_a_span_with_its_code_and_its_rule(tmp_path: Path) -> None:
    """Instrumentations that wrap the tool never see a denied call; this one must."""
    found = spans(written(tmp_path, recorded(a_whole_run())))
    denied = next(span for span in found if span["status"].get("message") == "no rule allows it")
    values = attributes(denied)
    assert denied["status"]["code"] == 2
    assert (values["error.type"], values["remit.verdict"], values["gen_ai.tool.name"]) == (
        "policy_denied",
        "deny",
        "service.restart",
    )
    below = next(span for span in found if span.get("parentSpanId") == denied["spanId"])
    assert attributes(below)["remit.rules"] == {
        "values": [{"stringValue": "policies/rules.csv:3 p, agent:triage, *, **, , allow"}]
    }


def test_the_file_is_valid_otlp(tmp_path: Path) -> None:
    """OpenTelemetry's own schema reads every line, and knows every field."""
    for line in written(tmp_path, recorded(a_whole_run())).read_bytes().split(b"\n")[:-1]:
        document = json.loads(line)
        for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            for name in ("traceId", "spanId", "parentSpanId"):  # OTLP writes ids in hexadecimal, protobuf in base64
                if name in span:
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
        parsed = ParseDict(document, TracesData()).resource_spans[0].scope_spans[0].spans[0]
        assert len(parsed.trace_id) == 16
        assert len(parsed.span_id) == 8
        assert parsed.start_time_unix_nano <= parsed.end_time_unix_nano


def test_every_attribute_is_registered_or_in_the_namespace_of_remit(tmp_path: Path) -> None:
    """Names and types by the OpenTelemetry registry, or below `remit.` and `gen_ai.`."""
    file = CORPORA / "semconv_1_41.json"
    registered = json.loads(file.read_text())["attributes"] if file.exists() else REGISTERED
    types = {
        "stringValue": {"string", "enum", "any"},
        "intValue": {"int", "any"},
        "boolValue": {"boolean", "any"},
        "doubleValue": {"double", "any"},
        "arrayValue": {"string[]", "any"},
    }
    path = written(tmp_path, recorded(a_whole_run()))
    resources = [json.loads(line)["resourceSpans"][0]["resource"] for line in path.read_bytes().split(b"\n")[:-1]]
    for holder in [*resources, *spans(path), *(event for span in spans(path) for event in span["events"])]:
        for item in holder["attributes"]:
            known = registered.get(item["key"])
            if known is None:
                assert item["key"].startswith(("remit.", "gen_ai.")), item["key"]
            else:
                assert known["type"] in types[next(iter(item["value"]))], item["key"]
                assert not known["deprecated"], item["key"]


REGISTERED = {
    "service.name": {"type": "string", "deprecated": None},
    "error.type": {"type": "enum", "deprecated": None},
    "enduser.id": {"type": "string", "deprecated": None},
}


@settings(max_examples=60, deadline=None)
@given(events=runs())
def test_the_file_contains_the_run_event_for_event(
    events: list[AnyEvent], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is read from the file is what was recorded, its chain included, whether or not the run ended."""
    records = recorded(events)
    trace = read_trace(written(tmp_path_factory.mktemp("traces"), records))
    assert list(trace.records) == records
    assert trace.run == RUN
    assert trace.faults() == ()


@settings(max_examples=60, deadline=None)
@given(events=runs())
def test_a_file_rebuilt_from_the_events_is_the_file_that_was_written_live(
    events: list[AnyEvent], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also if the writer was killed at any event, and another process rebuilt the file and continued."""
    records = recorded(events)
    live = written(tmp_path_factory.mktemp("traces"), records).read_bytes()
    folder = tmp_path_factory.mktemp("traces")
    rebuilt = TraceFile(folder, RUN)
    rebuilt.rebuild(records)
    assert rebuilt.path.read_bytes() == live
    for middle in {1, len(records) // 2}:
        killed = TraceFile(folder, RUN)
        for item in records[:middle]:
            killed.see(item)
        again = TraceFile(folder, RUN)
        again.rebuild(records[:middle])
        for item in records[middle:]:
            again.see(item)
        again.close()
        assert again.path.read_bytes() == live
    assert [file.name for file in folder.iterdir()] == [f"{RUN}.jsonl"]


def test_trace_file_and_journal_contain_the_same_events_and_chain(tmp_path: Path) -> None:
    """The file can replace the journal: the events and the hash chain are equal."""
    with open_journal(tmp_path / "journal.db") as journal:
        file = TraceFile(tmp_path, RUN, journal)
        for event in a_whole_run():
            file.see(append(journal, RUN, event))
        file.close()
        copy, original = read_trace(file.path), open_trace(tmp_path, journal, RUN)
    assert copy.records == original.records
    assert copy.chain.links == original.chain.links
    assert copy.faults() == original.faults() == ()


def test_events_that_another_process_recorded_are_fetched(tmp_path: Path) -> None:
    """An approver writes to the journal while the run waits; the file must not lose that."""
    with open_journal(tmp_path / "journal.db") as journal:
        file = TraceFile(tmp_path, RUN, journal)
        seen = [append(journal, RUN, event) for event in a_whole_run()]
        for item in (seen[0], seen[5], seen[3], seen[-1]):
            file.see(item)
        file.close()
    assert list(read_trace(file.path).records) == seen


def test_unfinished_spans_are_marked(tmp_path: Path) -> None:
    """A run that was stopped in the middle shows what was under way."""
    events = [started(), *turn(0), decided(0, 0, "ask"), requested(0, 0), decided(0, 1), intended(0, 1)]
    marked = {
        span["name"]: attributes(span).get("remit.unfinished", False)
        for span in spans(written(tmp_path, recorded(events)))
    }
    assert marked == {
        "invoke_agent triage": True,
        "chat script.yaml": False,
        "execute_tool files.read": True,
        "remit.decide": False,
        "remit.approval": True,
        "remit.attempt": True,
    }


def test_an_approval_that_comes_too_late_is_not_lost(tmp_path: Path) -> None:
    """Its call has a result and the run has ended; exactly one span still contains the event."""
    records = recorded([*a_whole_run(), granted(1, 1, "user:eve")])
    assert list(read_trace(written(tmp_path, records)).records) == records


def test_a_long_run_keeps_only_open_spans_in_memory(tmp_path: Path) -> None:
    """A thousand steps need no more memory than one."""
    growing = Spans(RUN)
    events: list[AnyEvent] = [started()]
    for step in range(1000):
        events += [*turn(step), decided(step, 0), intended(step, 0), ended(step, 0), succeeded(step, 0)]
    kinds = Counter[str]()
    for item in recorded(events):
        kinds.update(span.name.split()[0] for span in growing.see(item))
        assert len(growing.unfinished()) <= 3
    assert kinds == {"chat": 1000, "execute_tool": 1000, "remit.decide": 1000, "remit.attempt": 1000}


WRITE = """
import sys
from pathlib import Path
from remit.journal.hash_chain import link
from remit.core.events import EVENT
from remit.tracing import Export, TraceFile
folder, run, events = Path(sys.argv[1]), sys.argv[2], sys.stdin.read().split("\\n")[:-1]
file, export, prev = TraceFile(folder, run), Export.from_environment(), ""
for seq, text in enumerate(events):
    event = EVENT.validate_json(text)
    recorded = link(run, seq, 1_800_000_000_000_000_000 + seq * 1_000_000, prev, event, f"{seq:032x}").of(event)
    prev = recorded.hash
    file.see(recorded)
file.close()
print(export)
"""


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_SPAN_EVENT_COUNT_LIMIT": "1"},
        {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "16", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "16"},
        {"OTEL_SERVICE_NAME": "other", "OTEL_RESOURCE_ATTRIBUTES": "a=b", "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_the_environment_does_not_change_a_byte_of_the_file(tmp_path: Path, environment: dict[str, str]) -> None:
    """`OTEL_*` governs what is sent to a backend, never the run's own record."""
    long = "x" * 100_000
    events = [*a_whole_run()[:-1], *turn(3), decided(3, 0), succeeded(3, 0, value=long), a_whole_run()[-1]]
    expected = written(tmp_path / "here", recorded(events)).read_bytes()
    assert long.encode() in expected
    stdin = "".join(link_of(item).body + "\n" for item in recorded(events) if (link_of(item).body))  # type: ignore[operator]
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / "there"), RUN],
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (tmp_path / "there" / f"{RUN}.jsonl").read_bytes() == expected
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_an_erased_event_stays_in_the_file_without_its_text(tmp_path: Path) -> None:
    """A rebuilt file keeps the erasure, and the chain still holds."""
    with open_journal(tmp_path / "journal.db") as journal:
        for event in a_whole_run():
            append(journal, RUN, event)
        erase(journal, RUN, 9)
        erase(journal, RUN, 0)
        file = TraceFile(tmp_path, RUN)
        file.rebuild(journal.events(RUN))
        trace = read_trace(file.path)
        assert list(trace.records) == journal.events(RUN)
    assert b"restart checkout" not in file.path.read_bytes()
    assert [(fault.seq, fault.kind) for fault in trace.faults()] == [(0, "erased"), (9, "erased")]


def test_only_its_owner_can_read_the_file(tmp_path: Path) -> None:
    """While the run goes on, after a rebuild and after closing. A symbolic link in its place is not followed."""
    before = os.umask(0)
    try:
        file = TraceFile(tmp_path / "traces", RUN)
        for item in recorded(a_whole_run())[:9]:
            file.see(item)
        modes = [stat.S_IMODE(file.path.stat().st_mode)]
        file.close()
        modes.append(stat.S_IMODE(file.path.stat().st_mode))
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "traces").stat().st_mode) == 0o700
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / f"{RUN}.jsonl").symlink_to(target)
    with pytest.raises(RunEnded, match="cannot be written"):
        TraceFile(tmp_path, RUN).see(recorded([started()])[0])
    assert target.read_text() == "precious"


@pytest.mark.parametrize("run", ["../../etc/cron.d/x", "workspace", "", "A" * 32, "0" * 31, "0" * 32 + "\n"])
def test_a_text_that_is_not_a_run_id_never_becomes_a_path(tmp_path: Path, run: str) -> None:
    """An id can come from a command line or from a file of anyone."""
    with pytest.raises(UsageError, match="is not a run id"):
        TraceFile(tmp_path, run)


FULL_DISK = """
import resource, sys
from pathlib import Path
from remit.journal.hash_chain import link
from remit.core.errors import RunEnded
from remit.core.events import ModelFailed
from remit.tracing import TraceFile
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
file = TraceFile(Path(sys.argv[1]), sys.argv[2])
try:
    for step in range(1000):
        event = ModelFailed(step=step, message="x" * 3000)
        file.see(link(sys.argv[2], step, 1, "", event, "").of(event))
except RunEnded as ended:
    print(ended)
"""


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    """A run whose file cannot be written stops with a fix; its journal is complete."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), RUN], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith(
        f"unrecorded: the trace file {RUN}.jsonl cannot be written: File too large\n    fix: "
    )


def test_closing_twice_and_closing_nothing_are_harmless(tmp_path: Path) -> None:
    """A run that failed before its first event leaves no file."""
    empty = TraceFile(tmp_path, RUN)
    empty.close()
    assert not empty.path.exists()
    path = written(tmp_path, recorded(a_whole_run()))
    before = path.read_bytes()
    again = TraceFile(tmp_path, RUN)
    again.rebuild(recorded(a_whole_run()))
    again.close()
    again.close()
    assert path.read_bytes() == before
