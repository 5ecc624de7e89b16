"""Traces of other tools become runs that are listed, shown, compared and decided again, and that nothing mistakes for live ones."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from remit.client import import_traces
from remit.core import UsageError, WorkspaceError
from remit.core.events import CallAnswered, CallDecided, ModelResponded
from remit.journal import Journal, RunQuery, list_runs, workspace_figures
from remit.tracing import AuditStream, Coverage, ImportedAs, read_spans
from remit.tracing.audit.ocsf import Record
from remit.workspace import open_session
from support.foreign_traces import FILES, SECOND, ToolCall, document, span, trace_of, write_lines
from support.principals import OPERATOR
from support.runs import Remit

MAP = {"read_file": "files.read", "close_ticket": "tickets.close"}
MAPPED = [part for tool, action in MAP.items() for part in ("--map", f"{tool}={action}")]
LOG: ToolCall = ("read_file", {"path": "logs/checkout.log"}, "3 errors")
CALLS = int(os.environ.get("REMIT_IMPORTED_CALLS", "300"))
TO = ("--agent", "triage", "--user", "operator", "--as", "july")


class Desk:
    """The starter workspace, into which traces are imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened = open_session(folder)

    @property
    def journal(self) -> Journal:
        return self.opened.journal

    def takes(self, *documents: dict[str, Any], agent: str = "triage", name: str = "july") -> Coverage:
        file = write_lines(self.folder / "spans.jsonl", documents)
        return self.takes_file(file, agent=agent, name=name)

    def takes_file(self, *files: Path, agent: str = "triage", name: str = "july") -> Coverage:
        what = ImportedAs(name=name, agent=agent, user="user:operator", actions=MAP)
        return import_traces(self.opened, files, what, by=OPERATOR).coverage

    def events(self, kind: type[Any]) -> list[Any]:
        runs = list(list_runs(self.journal, RunQuery(evaluation="import:july")))
        return [one.event for run in runs for one in self.journal.events(run.run) if isinstance(one.event, kind)]


@pytest.fixture
def desk(session: Path) -> Desk:
    return Desk(session)


@pytest.mark.parametrize("file", ["openinference_langchain.jsonl", "openllmetry_langchain.json.gz", "pydantic_ai.json"])
def test_a_trace_of_another_tool_is_imported_listed_shown_and_decided_again(file: str, remit: Remit) -> None:
    done = remit("trace", "import", str(FILES / file), *TO, *MAPPED)
    assert done.out.splitlines()[0] == "1 trace, 3 turns, 3 calls, of which 100% can be decided again"
    (listed,) = remit("trace", "list", "--imported", "july", "--json").json
    assert (listed["agent"], listed["outcome"], listed["calls"]) == ("agent:triage", "completed", 3)
    assert remit("trace", "list", "--json").json == []
    shown = remit("trace", "show", listed["run"]).out
    for part in (
        "imported files.read file:runbooks/disk-full.md",
        "side effects\n  not recorded: another tool ran the calls\n",
        "next commands\n  remit policy backtest --imported july",
        "files.read file:logs/checkout.log",
        "tickets.close store:tickets ticket:INC-7",
        "not decided: another tool ran it",
        "task: Read runbooks/disk-full.md and close INC-7",
        "answer: INC-7 is closed.",
    ):
        assert part in shown
    assert remit("trace", "verify", listed["run"]).code == 0
    backtest = remit("policy", "backtest", "--imported", "july", "--json").json
    assert (backtest["calls"], backtest["covered"]) == (3, 3)
    flips = [(flip["action"], flip["before"], flip["after"]) for flip in backtest["flips"]]
    assert flips == [("tickets.close", "allow", "ask")]


def test_three_tools_that_record_the_same_run_give_the_same_calls(desk: Desk, remit: Remit) -> None:
    desk.takes_file(*sorted(FILES.glob("*.json*")))
    runs = [run.run for run in list_runs(desk.journal, RunQuery(evaluation="import:july"))]
    made = [
        [(one.call.action, one.call.arguments) for one in _of(desk, run, CallDecided) if one.call is not None]
        for run in runs
    ]
    assert len(made) == 3
    assert made[0] == made[1] == made[2]
    values = [[one.result.value for one in _of(desk, run, CallAnswered)] for run in runs]
    assert values == [["The disk of db1 is full."] * 2 + ["closed"]] * 3
    assert "no divergence: both runs made the same calls" in remit("trace", "diff", *runs[:2]).out


def _of(desk: Desk, run: str, kind: type[Any]) -> list[Any]:
    return [one.event for one in desk.journal.events(run) if isinstance(one.event, kind)]


SHAPES: dict[str, Callable[[Sequence[dict[str, Any]]], bytes]] = {
    "one object": lambda found: json.dumps(
        {"resourceSpans": [inner for one in found for inner in one["resourceSpans"]]}, indent=1
    ).encode(),
    "an array": lambda found: json.dumps(found).encode(),
    "JSON Lines": lambda found: b"\n\n".join(json.dumps(one).encode() for one in found),
    "compressed": lambda found: gzip.compress(json.dumps(found).encode()),
    "compressed in parts": lambda found: gzip.compress(b"[") + gzip.compress(json.dumps(found).encode()[1:]),
}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_every_shape_of_a_file_has_the_same_spans(shape: str, tmp_path: Path) -> None:
    documents = [trace_of(0, LOG), trace_of(1, LOG, LOG)]
    plain = list(read_spans(write_lines(tmp_path / "plain.jsonl", documents)))
    path = tmp_path / "file"
    path.write_bytes(SHAPES[shape](documents))
    assert list(read_spans(path)) == plain
    assert len(plain) == 10


BROKEN: dict[str, tuple[bytes, int | None, str]] = {
    "nothing": (b" \n", None, "the file is empty"),
    "no JSON": (b"hello", None, "not valid JSON"),
    "another document": (b'{"spans": []}', None, "it has no 'resourceSpans'"),
    "a damaged line": (json.dumps(trace_of(0, LOG)).encode() + b'\n{"resourceSpans": [', 2, "not valid JSON"),
    "nesting": (b"[" * 100_000, None, "nested too deeply"),
    "compressed and cut off": (gzip.compress(b"[]" * 5000)[:-12], None, "the compressed file is cut off"),
    "damaged after compression": (gzip.compress(b"[]")[:10] + b"\xff" * 20, None, "cannot be decompressed"),
    "a trace of Remit": (
        json.dumps(document(span("1", "a", 1), scope="remit.trace")).encode(),
        None,
        "of Remit itself",
    ),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_damaged_file_is_refused_with_its_line_and_nothing_is_imported(name: str, desk: Desk) -> None:
    data, line, what = BROKEN[name]
    path = desk.folder / "spans"
    path.write_bytes(data)
    with pytest.raises(WorkspaceError) as refused:
        desk.takes_file(path)
    (problem,) = refused.value.problems
    assert (problem.file, problem.line) == (str(path), line)
    assert what in problem.what
    assert problem.fix
    assert list(list_runs(desk.journal, RunQuery(evaluation=None))) == []


def test_a_small_file_that_decompresses_to_a_huge_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remit.tracing.imported.documents.LARGEST_IMPORT", 1 << 20)
    path = tmp_path / "spans.gz"
    path.write_bytes(gzip.compress(b" " * (2 << 20)))
    with pytest.raises(WorkspaceError, match="decompressed, it is larger than 1 MiB"):
        list(read_spans(path))


def test_values_of_every_other_type_are_no_error(desk: Desk) -> None:
    """Attributes come from anyone: what is not as a convention says counts as absent."""
    strange: list[Any] = [7, "", "[", "{}", '[1, null, {"parts": 3}]', '{"role": []}', '[{"parts": [{"type": 1}, 5]}]']
    spans = [
        span(f"{number:032x}", "x", 1000 + number, **{key: value, f"{kind}": word})
        for number, (value, key, (kind, word)) in enumerate(
            (value, key, named)
            for value in strange
            for key in (
                "gen_ai__output__messages",
                "gen_ai__tool__call__arguments",
                "llm__output_messages__0",
                "output__value",
            )
            for named in (("gen_ai__operation__name", "chat"), ("openinference__span__kind", "TOOL"))
        )
    ]
    found = desk.takes(document(*spans))
    assert found.traces == len(spans)
    assert found.decidable == 0


def test_what_cannot_be_decided_is_counted_by_its_reason_and_the_tool_is_named(desk: Desk) -> None:
    found = desk.takes(
        trace_of(
            0,
            LOG,
            ("send_fax", {"to": "555"}, "sent"),
            ("read_file", {"path": "logs/a.log", "mode": "rb"}, "x"),
            ("read_file", {"path": "/etc/passwd"}, "root"),
            asked_only=[("read_file", {"path": "logs/never.log"}, None)],
        )
    )
    assert (found.calls, found.decidable, found.not_executed) == (4, 1, 1)
    assert found.left_out["the workspace has no action for the tool"] == 1
    assert found.unknown_tools == {"send_fax": 1}
    assert sum(found.left_out.values()) == 3
    actions = [event.call.action for event in desk.events(CallDecided)]
    assert actions == ["files.read", "imported.send_fax", "files.read", "files.read"]
    responded = desk.events(ModelResponded)
    assert [call.arguments for call in responded[-1].proposed_calls] == ['{"path": "logs/never.log"}']


def test_a_call_that_no_tool_ran_is_never_decided_nor_suggested(desk: Desk, remit: Remit) -> None:
    """Another system may have refused it: a rule that allows it must not follow from the import."""
    desk.takes(trace_of(0, LOG, asked_only=[("read_file", {"path": "reports/a.md"}, None)]), agent="librarian")
    drafted = remit("policy", "suggest", "--imported", "july", "--approver", "role:oncall-lead").out
    assert "file:logs/checkout.log" in drafted
    assert "reports" not in drafted


def test_results_have_the_labels_of_the_manifest_and_no_secrets(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_API_KEY", "s3cr3t-9f8e7d6c5b4a")
    desk.takes(trace_of(0, ("read_file", {"path": "logs/a.log"}, "the key is s3cr3t-9f8e7d6c5b4a")))
    (answered,) = desk.events(CallAnswered)
    assert answered.result.labels == ("untrusted",)
    assert "s3cr3t" not in answered.result.value
    (row,) = list_runs(desk.journal, RunQuery(evaluation="import:july"))
    assert row.labels == ("untrusted",)


def test_nothing_is_imported_twice(desk: Desk, remit: Remit) -> None:
    remit("trace", "import", str(write_lines(desk.folder / "a.jsonl", [trace_of(0, LOG)])), *TO, *MAPPED)
    again = write_lines(desk.folder / "a.jsonl", [trace_of(0, LOG), trace_of(1, LOG)])
    assert "imported 1 run as july; 1 run imported before" in remit("trace", "import", str(again), *TO, *MAPPED).out
    assert len(remit("trace", "list", "--imported", "july", "--json").json) == 2


class Kept:
    """A sink that keeps the records."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, records: Sequence[Record]) -> None:
        self.records += records

    def close(self) -> None:
        pass


def test_nothing_mistakes_an_imported_run_for_a_live_one(desk: Desk, remit: Remit) -> None:
    """Neither lists, figures, audit records nor a backtest of live runs contain it, and it can be neither replayed nor resumed."""
    desk.takes(trace_of(0, LOG, ("send_fax", {}, "sent"), begin=time.time_ns() - 60 * SECOND))
    (row,) = list_runs(desk.journal, RunQuery(evaluation=None))
    figures = workspace_figures(desk.journal)
    assert (figures.outcomes, figures.ended, figures.unfinished) == ({}, {}, {})
    sink = Kept()
    AuditStream(desk.journal, sink).send()
    assert not any(row.run in json.dumps(record) for record in sink.records)
    assert remit("trace", "list", "--json").json == []
    remit("trace", "show", row.run)
    assert "no run is recorded here" in remit("policy", "backtest").err
    assert "imported from another tool" in remit("replay", row.run).err
    assert remit("run", "--resume", row.run).code != 0


def test_the_names_of_an_import_are_checked_first(desk: Desk) -> None:
    path = write_lines(desk.folder / "a.jsonl", [trace_of(0, LOG)])
    for given, message in (
        ({"name": "Ju ly"}, "not a name of an import"),
        ({"agent": "nobody"}, "there is no agent 'nobody'"),
        ({"user": "operator"}, "not a user"),
        ({"actions": {"read_file": "files.eat"}}, "cannot stand for files.eat"),
    ):
        options: dict[str, Any] = {"name": "a", "agent": "triage", "user": "user:operator", "actions": {}, **given}
        with pytest.raises(UsageError, match=message):
            import_traces(desk.opened, [path], ImportedAs(**options), by=OPERATOR)


def month(calls: int) -> list[dict[str, Any]]:
    """Traces of ten calls each: logs, runbooks and reports read, tickets closed, and one credential."""
    kinds: list[Callable[[int], ToolCall]] = [
        lambda at: ("read_file", {"path": f"logs/service{at % 40}.log"}, "ok"),
        lambda at: ("read_file", {"path": f"runbooks/{at % 7}.md"}, "ok"),
        lambda at: ("read_file", {"path": "reports/weekly.md"}, "ok"),
        lambda at: ("close_ticket", {"key": f"INC-{at}", "reason": "done"}, {"status": "closed"}),
        lambda at: ("read_file", {"path": "secrets/payments.env"} if at == 4 else {"path": "logs/a.log"}, "ok"),
    ]
    return [trace_of(run, *(kinds[at % 5](at) for at in range(run * 10, run * 10 + 10))) for run in range(calls // 10)]


def test_a_month_of_calls_gives_a_rulebook_with_coverage(desk: Desk, remit: Remit, tmp_path: Path) -> None:
    """It allows what was done, asks where an effect cannot be undone, works against no deny, and reaches nothing else."""
    file, begun = write_lines(desk.folder / "month.jsonl", month(CALLS)), time.monotonic()
    to = ("--agent", "librarian", "--user", "operator", "--as", "july")
    assert (
        f"{CALLS} calls, of which 100% can be decided"
        in remit("trace", "import", str(file), *to, *MAPPED, timeout=600).out
    )
    options = ("--imported", "july", "--approver", "role:oncall-lead")
    found = remit("policy", "suggest", *options, "--json", timeout=600).json
    print(
        f"{CALLS} calls imported, and rules drafted, in {time.monotonic() - begun:.1f} s: {found['before']} {found['after']}"
    )
    assert found["before"] == {"allowed": 0, "asks": 0, "denied": 1, "unmentioned": CALLS - 1}
    assert found["after"] == {"allowed": CALLS * 4 // 5 - 1, "asks": CALLS // 5, "denied": 1, "unmentioned": 0}
    rows = [line for line in found["rules"].splitlines() if line.startswith("p, agent:")]
    assert rows == [
        "p, agent:librarian, files.read, file:logs/**, True, allow",
        "p, agent:librarian, files.read, file:reports/weekly.md, True, allow",
        "p, agent:librarian, files.read, file:runbooks/**, True, allow",
        "p, agent:librarian, tickets.close, store:tickets, approved('role:oncall-lead'), allow",
        "p, agent:librarian, tickets.close, ticket:*, approved('role:oncall-lead'), allow",
    ]
    for name, text in (("rules.csv", found["rules"]), ("cases.yaml", found["cases"])):
        with (desk.folder / "policies" / name).open("a") as opened:
            opened.write(f"\n{text}")
    assert "0 failed; 0 rules and 0 actions not covered" in remit("policy", "test").out
    after = remit("policy", "backtest", "--imported", "july", "--json", timeout=600).json
    assert sum(flip["after"] == "deny" for flip in after["flips"]) == 1
