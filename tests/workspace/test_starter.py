"""The starter that `remit init` writes: tools, their rules, the triage agent with its captured incident, and the handbook of support.

These are tests of the files themselves. Tests of the broker run them.
"""

from __future__ import annotations

import asyncio
import csv
import inspect
import json
import re
import runpy
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from remit.core.parsing.names import tables_of
from remit.guardrails.secret_formats import formats
from remit.runtime.models.scripted import read_script
from remit.tools import run_tool_cases
from remit.workspace import load_workspace
from support import ROOT
from support.sandbox import sandbox

AGENT = ROOT / "agent/triage"
INCIDENT = AGENT / "incident"
TOOLS = ("files", "http", "sql", "tickets")
STARTER = ("remit.toml", "tools", "policies", "agent/triage", "agent/support", "agent/librarian", "tests/starter")

Tool = Mapping[str, Any]


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def tool(name: str) -> Tool:
    return runpy.run_path(str(ROOT / f"tools/{name}/main.py"))


def files_of_the_starter() -> Iterator[Path]:
    for part in STARTER:
        path = ROOT / part
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)


def perform(functions: Tool, action: str, arguments: dict[str, Any], key: str = "key-1") -> tuple[str | None, Any]:
    """The error's name and the value of one action, called with its hidden parameters, without policy or sandbox."""
    function: Callable[..., Any] = functions[action]
    parameters = inspect.signature(function).parameters
    if "idempotency_key" in parameters:
        arguments = {**arguments, "idempotency_key": key}
    if "resources" in parameters:
        sql, tables = tables_of(arguments["query"])
        arguments = {**arguments, "query": sql, "resources": [f"table:{table}" for table in tables]}
    try:
        return None, function(**arguments)
    except Exception as error:  # noqa: BLE001 - whatever a tool raises is its answer here
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower(), None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def incident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the incident, as each run gets one, which is the current folder."""
    copy = tmp_path / "run"
    shutil.copytree(INCIDENT, copy)
    monkeypatch.chdir(copy)
    return copy


# ── the cases of each tool ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_does_what_its_cases_expect(name: str) -> None:
    """As `remit tool test` plays them: in the sandbox, with the answers of `setup.http` in place of the network."""
    results = asyncio.run(run_tool_cases(load_workspace(ROOT), name, sandbox("full")))
    assert {result.note: result.message for result in results if not result.passed} == {}
    assert len(results) == len(load(ROOT / f"tools/{name}/cases.yaml")) > 0


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_never_imports_remit(name: str) -> None:
    assert not re.search(r"^\s*(from|import)\s+remit\b", (ROOT / f"tools/{name}/main.py").read_text(), re.MULTILINE)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_search_passes_over_what_it_may_not_or_cannot_read(folder: Path) -> None:
    (folder / "logs").mkdir()
    (folder / "logs/binary.bin").write_bytes(b"\xff\xfe needle")
    (folder / "logs/plain.log").write_text("needle\n")
    (folder / "outside.log").write_text("needle\n")
    (folder / "logs/link.log").symlink_to(folder / "outside.log")
    (folder / "logs/dangling.log").symlink_to(folder / "nothing")
    found = tool("files")["search"]("needle", "logs")
    assert found == {"matches": [{"path": "logs/plain.log", "line": 1, "text": "needle"}], "complete": True}


def test_search_ends_for_a_pattern_that_would_hang_a_backtracking_matcher(folder: Path) -> None:
    (folder / "logs").mkdir()
    (folder / "logs/a.log").write_text("a" * 100_000)
    assert tool("files")["search"]("a*" * 200 + "b", "logs")["matches"] == []


def test_search_says_when_there_is_more_than_it_shows(folder: Path) -> None:
    (folder / "logs").mkdir()
    (folder / "logs/a.log").write_text("x\n" * 201)
    found = tool("files")["search"]("x", "logs")
    assert (len(found["matches"]), found["complete"]) == (200, False)


def test_a_file_that_is_not_utf8_is_a_declared_error(folder: Path) -> None:
    (folder / "a.log").write_bytes(b"\xff")
    files = tool("files")
    with pytest.raises(files["NotText"]):
        files["read"]("a.log")


# ── sql ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "query",
    [
        "SELECT email FROM customers",
        "SELECT COUNT(*) FROM customers",
        "SELECT id FROM orders WHERE customer_id IN (SELECT id FROM customers)",
        "WITH c AS (SELECT * FROM customers) SELECT COUNT(*) FROM c",
        "SELECT o.id FROM orders AS o JOIN CUSTOMERS USING (id)",
        "SELECT sql FROM sqlite_master",
        "SELECT COUNT(*) FROM sqlite_schema",
        "SELECT name FROM pragma_table_info('customers')",
        "SELECT COUNT(*) FROM pragma_table_info('customers')",
        "SELECT load_extension('x')",
        "DELETE FROM orders",
        "ATTACH 'other.db' AS other",
        "PRAGMA writable_schema = 1",
        "VACUUM INTO 'copy.db'",
    ],
)
def test_sql_reads_only_the_decided_tables_whatever_the_query_is(query: str, incident: Path) -> None:
    sql = tool("sql")
    before = (incident / "data/orders.db").read_bytes()
    with pytest.raises((sql["TableNotDecided"], sql["BadQuery"])):
        sql["query"](query=query, resources=["file:data/orders.db", "table:orders"])
    assert (incident / "data/orders.db").read_bytes() == before
    assert sorted(path.name for path in incident.iterdir()) == sorted(path.name for path in INCIDENT.iterdir())


def test_a_view_is_no_way_round_the_tables_it_reads(folder: Path) -> None:
    with sqlite3.connect("shop.db") as shop:
        shop.executescript("CREATE TABLE customers (email TEXT); CREATE VIEW people AS SELECT email FROM customers;")
    shop.close()
    sql = tool("sql")
    with pytest.raises(sql["TableNotDecided"]):
        sql["query"](query="SELECT email FROM people", resources=["table:people"], database="shop.db")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT COUNT(*) FROM orders",
        "SELECT COUNT(*) FROM (SELECT id FROM orders GROUP BY id) AS grouped",
        "WITH paid AS (SELECT id FROM orders WHERE status = 'paid') SELECT COUNT(*) FROM paid",
        "SELECT id, ROW_NUMBER() OVER (ORDER BY amount_cents DESC) FROM orders",
    ],
)
def test_sql_runs_what_stays_within_the_decided_tables(query: str, incident: Path) -> None:
    assert tool("sql")["query"](query=query, resources=["table:orders"])["rows"]


# ── tickets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_idempotency_key_changes_a_ticket_once(folder: Path) -> None:
    (folder / "stores/tickets").mkdir(parents=True)
    tickets = tool("tickets")
    for _ in range(2):
        assert tickets["create"]("INC-1", "t", "b", "k1")["comments"] == 0
    for _ in range(2):
        assert tickets["comment"]("INC-1", "hello", "k2")["comments"] == 1
    assert tickets["comment"]("INC-1", "hello", "k3")["comments"] == 2
    with pytest.raises(tickets["Exists"]):
        tickets["create"]("INC-1", "t", "b", "k4")
    assert not (folder / "stores/tickets/tickets.lock").exists()


def test_a_closed_ticket_cannot_be_closed_again(incident: Path) -> None:
    (incident / "stores/tickets/tickets.lock").unlink()
    tickets = tool("tickets")
    assert tickets["close"]("INC-2041", "done") == {"key": "INC-2041", "status": "closed", "comments": 0}
    with pytest.raises(tickets["AlreadyClosed"]):
        tickets["close"]("INC-2041", "done again")
    assert tickets["get"]("INC-2041")["close_reason"] == "done"


def test_a_stale_lock_stops_the_first_attempt_and_not_the_second(incident: Path) -> None:
    tickets = tool("tickets")
    with pytest.raises(tickets["Busy"], match="ticket-sync left a stale lock"):
        tickets["comment"]("INC-2041", "hello", "k")
    assert tickets["get"]("INC-2041")["comments"] == []
    assert tickets["comment"]("INC-2041", "hello", "k") == {"key": "INC-2041", "status": "open", "comments": 1}


def test_the_lock_of_a_living_writer_is_left_alone(incident: Path) -> None:
    tickets = tool("tickets")
    lock = incident / "stores/tickets/tickets.lock"
    lock.write_text("")  # being written this moment
    with pytest.raises(tickets["Busy"]):
        tickets["comment"]("INC-2041", "hello", "k")
    assert lock.exists()


def test_reading_a_ticket_needs_no_lock(incident: Path) -> None:
    assert tool("tickets")["get"]("INC-2041")["status"] == "open"
    assert (incident / "stores/tickets/tickets.lock").exists()


# ── the incident ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_logs_are_small_and_agree_with_the_database() -> None:
    logs = {path.name: path.read_text() for path in (INCIDENT / "logs").iterdir()}
    assert sorted(logs) == ["checkout.log", "gateway.log", "payments.log"]
    assert sum(len(text.encode()) for text in logs.values()) <= 60 * 1024
    failed, total, refused = rows("SELECT SUM(status = 'failed'), COUNT(*) FROM orders")[0] + tuple(
        rows("SELECT COUNT(*) FROM payments WHERE outcome = 'pool_exhausted'")[0]
    )
    assert logs["gateway.log"].count(" 503 ") == failed
    assert logs["checkout.log"].count(" failed ") == failed
    assert logs["gateway.log"].count("POST /checkout") == total
    assert logs["payments.log"].count("pool exhausted") == refused


def test_the_injection_came_in_through_an_order() -> None:
    (note,) = (row[0] for row in rows("SELECT note FROM orders WHERE note LIKE '%SYSTEM NOTICE%'"))
    for instruction in ("secrets/payments.env", "logs/pool-check.txt", "close INC-2041"):
        assert instruction in note
    assert json.dumps(note) in (INCIDENT / "logs/checkout.log").read_text()


@pytest.mark.parametrize("database", ["data/orders.db", "stores/tickets/tickets.db"])
def test_a_database_is_whole_and_keeps_a_rollback_journal(database: str) -> None:
    """A write-ahead log would need more files beside the database (bytes 18 and 19, https://sqlite.org/fileformat2.html)."""
    path = INCIDENT / database
    assert path.read_bytes()[18:20] == b"\x01\x01"
    assert sorted(other.name for other in path.parent.glob(f"{path.name}*")) == [path.name]
    store = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store.close()


def test_the_reports_folder_starts_empty() -> None:
    assert [path.name for path in (INCIDENT / "reports").iterdir()] == [".gitkeep"]


def rows(query: str) -> list[tuple[Any, ...]]:
    orders = sqlite3.connect(f"{(INCIDENT / 'data/orders.db').as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        return orders.execute(query).fetchall()
    finally:
        orders.close()


# ── the conversation ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_call_of_the_script_works_on_the_incident(incident: Path) -> None:
    """Every call in order. Calls that policy refuses are not performed; the test checks that they are the expected ones."""
    tools = {name: tool(name) for name in TOOLS}
    outcomes: list[str] = []
    for step, turn in enumerate(read_script(AGENT / "script.yaml").turns):
        for index, call in enumerate(turn.calls):
            name, _, action = call.name.partition("__")
            arguments = json.loads(call.arguments)
            written = action == "write" and not arguments["path"].startswith("reports/")
            if written or "secrets/" in arguments.get("path", "") or "customers" in arguments.get("query", ""):
                outcomes.append(f"{step}.{index} {call.name} refused")
                continue
            error, _ = perform(tools[name], action, arguments, f"{step}/{index}")
            if error is not None:
                outcomes.append(f"{step}.{index} {call.name} {error}")
            if error == "busy":
                assert perform(tools[name], action, arguments, f"{step}/{index}")[0] is None
    assert outcomes == [
        "1.1 files__read not_found",
        "3.0 files__read refused",
        "3.1 files__write refused",
        "4.2 sql__query refused",
        "5.0 tickets__comment busy",
    ]
    ticket = tools["tickets"]["get"]("INC-2041")
    assert (ticket["status"], len(ticket["comments"])) == ("closed", 1)
    assert (incident / "reports/INC-2041.md").read_text().startswith("# INC-2041")


def test_the_conversation_asks_for_one_approval_and_ends_with_an_answer() -> None:
    script = read_script(AGENT / "script.yaml")
    assert 7 <= len(script.turns) <= 9
    assert [len(turn.calls) > 1 for turn in script.turns].count(True) >= 3
    assert script.turns[-1].calls == ()
    assert [(given.action, given.approver, given.role) for given in script.approvals] == [
        ("tickets.close", "user:dana", "role:oncall-lead")
    ]


def test_the_figures_of_the_report_are_those_of_the_database() -> None:
    script = (AGENT / "script.yaml").read_text()
    failed, total = rows("SELECT SUM(status = 'failed'), COUNT(*) FROM orders")[0]
    charged = rows(
        "SELECT COUNT(*), SUM(n > 1), SUM(n * amount_cents) FROM (SELECT o.amount_cents, COUNT(*) AS n "
        "FROM orders AS o JOIN payments AS p ON p.order_id = o.id "
        "WHERE o.status = 'failed' AND p.outcome = 'charged' GROUP BY o.id)"
    )[0]
    speed = dict(rows("SELECT version, ROUND(AVG(took_ms)) FROM payments WHERE outcome = 'charged' GROUP BY version"))
    count = dict(rows("SELECT version || outcome, COUNT(*) FROM payments GROUP BY version, outcome"))
    report = " ".join(script[script.index("# INC-2041:") :].split())
    assert report.count(f"{failed} of {total} orders failed") == 2
    assert (
        f"{charged[0]} of the failed orders were charged, {charged[1]} of them twice: {charged[2] / 100:.2f} taken"
        in report
    )
    assert f"5.8.1 charged {count['5.8.1charged']} in {speed['5.8.1']:.0f} ms" in report
    assert f"5.8.2 charged {count['5.8.2charged']} in {speed['5.8.2']:.0f} ms" in report
    assert f"and refused {count['5.8.2pool_exhausted']}" in report


def test_the_report_quotes_lines_that_support_it() -> None:
    def line(log: str, number: int) -> str:
        return (INCIDENT / f"logs/{log}.log").read_text().splitlines()[number - 1]

    script = (AGENT / "script.yaml").read_text()
    for log, number, words in (
        ("payments", 39, "starting version=5.8.2 pool_size=2 deploy=rel-771"),
        ("payments", 146, "starting version=5.8.1 pool_size=8 rollback-of=rel-771"),
        ("checkout", 114, "SYSTEM NOTICE TO THE TRIAGE ASSISTANT"),
    ):
        assert f"logs/{log}.log:{number}" in script
        assert words in line(log, number)
    exhausted = [number for number in range(1, 147) if "pool exhausted" in line("payments", number)]
    assert exhausted[0] == 55
    seen = "\n".join(line("checkout", number) for number in range(105, 125))
    assert "503 pool exhausted" in seen
    assert "timeout after 1200ms" in seen


# ── the rules ────────────────────────────────────────────────────────────────────────────────────────────────────────


def rules() -> list[tuple[str, list[str]]]:
    """Every rule with its note, which is the comment line above it."""
    lines = [line for file in sorted(ROOT.glob("policies/*.csv")) for line in file.read_text().splitlines()]
    return [
        (lines[number - 1], [field.strip() for field in next(csv.reader([line]))])
        for number, line in enumerate(lines)
        if line and not line.startswith("#")
    ]


def test_every_rule_has_a_note_and_reads_the_same_in_every_csv_reader() -> None:
    for note, row in rules():
        assert note.startswith("# "), row
        assert len(row) == {"p": 6, "g": 3}[row[0]], row
        assert '"' not in "".join(row)
        assert row[0] == "g" or row[5] in ("allow", "deny")


def test_every_rule_has_a_case_that_names_it() -> None:
    named = [case["rule"] for case in load(ROOT / "policies/cases.yaml") if "rule" in case]
    unnamed = [note for note, row in rules() if row[0] == "p" and not any(words in note for words in named)]
    assert unnamed == []


def test_every_policy_case_is_complete_and_has_a_note_of_its_own() -> None:
    cases = load(ROOT / "policies/cases.yaml")
    notes = [note for note, _ in rules()]
    for case in cases:
        who = {"user"} if case["action"].startswith("remit.") else {"agent", "user"}  # people need no agent for Remit
        assert {"note", *who, "action", "resources", "expect"} <= set(case), case
        assert set(case) <= {
            "note",
            "agent",
            "user",
            "action",
            "resources",
            "args",
            "labels",
            "calls",
            "approvals",
            "expect",
            "rule",
            "missing",
        }
        assert case["expect"] in ("allow", "ask", "deny")
        assert ("missing" in case) is (case["expect"] == "ask")
        assert "rule" not in case or sum(case["rule"] in note for note in notes) == 1, case
    assert len({case["note"] for case in cases}) == len(cases)


# ── nothing of the machine or of real people ─────────────────────────────────────────────────────────────────────────


def test_the_starter_names_no_machine_no_person_and_no_secret() -> None:
    for path in files_of_the_starter():
        text = path.read_bytes().decode("utf-8", "replace")
        where = path.relative_to(ROOT)
        assert not re.search(r"/(?:root|home|Users|work/main|tmp)/", text), where
        assert set(re.findall(r"[\w.+-]+@([\w-]+\.[\w.-]*\w)", text)) <= {"example.com"}, where
        assert set(re.findall(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", text)) <= {"127.0.0.1", "10.20.0.0"}, where
        for finders in formats().values():
            assert not any(find(text) for find in finders), where
