"""Reading a trace: an intact file is read as recorded, damage is named, changes are detected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.core.errors import UsageError, WorkspaceError
from remit.tracing import TraceFile, read_trace
from support.events import RUN, a_whole_run, decided, ended, recorded, spans, started, succeeded, turn, written


def test_text_of_a_tool_cannot_forge_lines_or_events(tmp_path: Path) -> None:
    """With any characters in it, it stays text in one field of one line."""
    honest = written(tmp_path / "a", recorded(a_whole_run())).read_bytes().split(b"\n")[0].decode()
    forged = f'\n{honest}\n\u2028{honest}\u2029\x85\x0b\x0c\r\n"}}]}}]}}]}}\n{honest}'
    events = [started(task="quiet"), *turn(0), decided(0, 0), ended(0, 0, value=forged), succeeded(0, 0, value=forged)]
    path = written(tmp_path / "b", recorded(events))
    assert list(read_trace(path).records) == recorded(events)
    assert path.read_bytes().count(b"\n") == len(spans(path))


def test_a_cut_off_last_line_is_reported_by_read_and_repaired_by_rebuild(tmp_path: Path) -> None:
    """A killed process loses nothing: the journal has every event."""
    records = recorded(a_whole_run())
    path = written(tmp_path, records)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(WorkspaceError, match="cut off") as torn:
        read_trace(path)
    (problem,) = torn.value.problems
    assert (problem.file, problem.line) == (str(path), whole.count(b"\n"))
    TraceFile(tmp_path, RUN).rebuild(records)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "text",
    ['[{"resourceSpans": []}]', '{"data": [{"traceID": "a", "spans": []}]}', '{"id": "a", "run_type": "tool"}', "3"],
)
def test_a_file_of_another_program_is_not_called_cut_off(tmp_path: Path, text: str) -> None:
    """Many programs write no newline at the end of a file."""
    path = tmp_path / "foreign.json"
    path.write_text(text)
    with pytest.raises(WorkspaceError, match="it is not an OTLP span") as foreign:
        read_trace(path)
    assert "cut off" not in str(foreign.value)


DAMAGED: dict[str, Callable[[str], str]] = {
    "no JSON": lambda line: "{",
    "a list": lambda line: "[1]",
    "no spans": lambda line: '{"resourceSpans": [{}]}',
    "nested without end": lambda line: "[" * 100_000,
    "not UTF-8": lambda line: "\udcff",
    "an event without its seal": lambda line: line.replace("remit.event.hash", "remit.event.hush"),
    "a number that is none": lambda line: line.replace('"intValue":"1"', '"intValue":"one"'),
    "a negative number": lambda line: line.replace('"intValue":"1"', '"intValue":"-1"'),
    "another event in its place": lambda line: line.replace("let me see", "let me be"),
    "a body that is no event": lambda line: line.replace("model.requested\\", "model.dreamt\\"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_broken_line_is_named_with_file_line_and_fix(tmp_path: Path, case: str) -> None:
    """A trace can come from anyone: each damaged line is one problem with file, line and fix."""
    path = written(tmp_path, recorded(a_whole_run()))
    lines = path.read_text().split("\n")
    lines.insert(2, DAMAGED[case](lines[1]))
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    with pytest.raises(WorkspaceError) as broken:
        read_trace(path)
    assert [(problem.file, problem.line) for problem in broken.value.problems] == [(str(path), 3)]
    assert "trace export" in broken.value.problems[0].fix
    assert "\n" not in broken.value.problems[0].what


def test_a_file_that_is_not_the_trace_of_one_run_is_refused(tmp_path: Path) -> None:
    """The message says what the file contains instead."""
    path = tmp_path / "x.jsonl"
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_trace(path)
    path.write_text("")
    with pytest.raises(UsageError, match="contains no run of Remit"):
        read_trace(path)
    path.write_text('{"a": 1}\n' * 9)
    with pytest.raises(WorkspaceError, match=r"not a trace file: .*it has no 'resourceSpans'") as other:
        read_trace(path)
    assert [(problem.file, problem.line) for problem in other.value.problems] == [(str(path), 1)]
    one = written(tmp_path, recorded(a_whole_run())).read_text()
    path.write_text(one + one.replace(RUN, "f" * 32))
    with pytest.raises(WorkspaceError, match="occurs twice, with different content"):
        read_trace(path)


def test_an_edited_result_is_read_and_detected(tmp_path: Path) -> None:
    """An edited file can still be read and replayed, but its faults are reported."""
    path = written(tmp_path, recorded(a_whole_run()))
    path.write_bytes(path.read_bytes().replace(b"hello", b"hullo"))
    faults = read_trace(path).faults()
    assert {fault.kind for fault in faults} == {"edited"}
    assert [fault.seq for fault in faults] == [7, 9, 11, 24]


def test_a_deleted_line_is_detected(tmp_path: Path) -> None:
    """A call that is cut out of the file is reported by its event number."""
    path = written(tmp_path, recorded(a_whole_run()))
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:3], *lines[4:]]))
    assert [(fault.seq, fault.kind) for fault in read_trace(path).faults()] == [(3, "missing")]


def test_spans_as_a_collector_writes_them_are_read(tmp_path: Path) -> None:
    """Many spans a line, numbers as numbers, ids in capitals: the same run."""
    records = recorded(a_whole_run())
    path = written(tmp_path, records)
    document: dict[str, Any] = json.loads(path.read_bytes().split(b"\n")[0])
    document["resourceSpans"][0]["scopeSpans"][0]["spans"] = list(reversed(spans(path)))
    text = json.dumps(document, indent=None).replace(f'"traceId": "{RUN}"', f'"traceId": "{RUN.upper()}"')
    for number in range(100):
        text = text.replace(f'"intValue": "{number}"', f'"intValue": {number}')
    path.write_text(text + "\n")
    assert list(read_trace(path).records) == records
