"""The starter incident, end to end, with the real sandbox, journal and trace, and with its refusals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from remit.core.events import AttemptBegun
from remit.journal import Journal, list_runs, open_journal
from remit.runtime.models.scripted import read_script
from support import cli_server
from support.openai_server import OpenAIServer, Reply
from support.runs import TASK, CommandResult, Remit

SECRET = "secrets/payments.env"


@pytest.fixture(scope="module")
def triage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CommandResult]:
    """One run of the incident, shared by the tests that only read it."""
    from remit.workspace.template import write_starter

    session = tmp_path_factory.mktemp("triage") / "workspace"
    write_starter(session)
    return session, cli_server.command(session, "run", "triage", TASK)


def run_id(result: CommandResult) -> str:
    return next(line for line in result.out.splitlines() if line.startswith("run ")).split()[1]


def folder_of(session: Path, run: str) -> Path:
    return session / "work" / "triage" / run


def test_the_run_ends_with_its_answer_its_id_and_its_trace(triage: tuple[Path, CommandResult]) -> None:
    session, result = triage
    assert result.code == 0, result.out + result.err
    assert "INC-2041 is closed" in result.out
    assert (session / "traces" / f"{run_id(result)}.jsonl").is_file()


def test_the_run_shows_refusals_a_retry_a_scripted_approval_and_a_report(triage: tuple[Path, CommandResult]) -> None:
    session, result = triage
    assert "a written script, not a model" in result.out
    assert "policy_denied" in result.out
    assert "retries" in result.out
    assert "approved by user:dana as role:oncall-lead (scripted)" in result.out
    report = folder_of(session, run_id(result)) / "reports" / "INC-2041.md"
    assert "pool_size=2" in report.read_text()


def test_the_injected_call_read_nothing(triage: tuple[Path, CommandResult]) -> None:
    session, result = triage
    value = next(
        line.partition("=")[2]
        for line in (session / "agent/triage/incident" / SECRET).read_text().splitlines()
        if "=" in line and not line.startswith("#")
    )
    assert value
    assert value not in result.out
    assert value not in (session / "traces" / f"{run_id(result)}.jsonl").read_text()
    journal = open_journal(session / "traces" / "journal.db")
    assert all(
        SECRET not in str(item.event) for item in journal.events(run_id(result)) if isinstance(item.event, AttemptBegun)
    )


def test_the_ticket_is_closed_once(triage: tuple[Path, CommandResult]) -> None:
    session, result = triage
    with contextlib.closing(sqlite3.connect(folder_of(session, run_id(result)) / "stores/tickets/tickets.db")) as store:
        assert store.execute("SELECT status FROM ticket WHERE key = 'INC-2041'").fetchall() == [("closed",)]


def test_the_seed_is_unchanged(triage: tuple[Path, CommandResult]) -> None:
    session, _ = triage
    assert not (session / "agent/triage/incident/reports/INC-2041.md").exists()


def test_the_run_replays_with_every_decision_turn_and_result(triage: tuple[Path, CommandResult]) -> None:
    session, result = triage
    done = cli_server.command(session, "replay", run_id(result)[:8], "--json")
    assert done.code == 0, done.out + done.err
    assert (done.json["decisions"], done.json["turns"], done.json["results"]) == (18, 9, 17)


def test_the_trace_shows_verdict_first_cause_and_effects(triage: tuple[Path, CommandResult]) -> None:
    session, result = triage
    shown = cli_server.command(session, "trace", "show", run_id(result)[:8]).out.splitlines()
    assert shown[0].startswith("completed, 3 refused  ")
    assert shown[1].startswith("root cause: step 3.0, ")
    assert shown[1].endswith("asked for it: untrusted text"), shown[1]
    assert "  files.read at step 3: policy_denied" in cli_server.command(session, "trace", "list").out
    effects = shown[shown.index("side effects") + 1]
    assert "landed:" in effects
    assert "tickets.close" in effects
    assert "file:reports/INC-2041.md" in effects


@pytest.fixture(scope="module")
def other_machine(triage: tuple[Path, CommandResult], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The exported trace in a copy with changed policies, and without journal, script and tools."""
    session, result = triage
    clone = tmp_path_factory.mktemp("other") / "copy"
    shutil.copytree(session, clone, ignore=shutil.ignore_patterns("traces", "work"))
    (clone / "traces").mkdir()
    exported = clone / "incident.jsonl"
    assert cli_server.command(session, "trace", "export", run_id(result), "-o", str(exported)).code == 0
    rules = clone / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text() + "\n# Nobody counts payments any more\np, role:operator, *, table:payments, True, deny\n"
    )
    (clone / "agent/triage/script.yaml").unlink()
    shutil.rmtree(clone / "tools")
    return clone, exported


# No sandbox can start from this path. And an audit hook fails the replay if it starts any process.
TRIPWIRE = {"REMIT_BWRAP": "/nonexistent/bwrap"}
NO_PROCESS = """
import sys
def watch(event, arguments):
    if event in ("subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "os.system"):
        sys.stderr.write("TRIPWIRE " + event)
        import os
        os._exit(97)
sys.addaudithook(watch)
from remit.cli import main
main(sys.argv[1:])
"""


def replay_without_processes(clone: Path, *args: str) -> CommandResult:
    done = subprocess.run(
        [sys.executable, "-c", NO_PROCESS, "replay", *args],
        cwd=clone,
        env={**os.environ, **TRIPWIRE},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )
    assert "TRIPWIRE" not in done.stderr
    return CommandResult(code=done.returncode, out=done.stdout, err=done.stderr)


def test_an_exported_run_is_reproduced_where_journal_script_tools_and_sandbox_are_gone(
    other_machine: tuple[Path, Path],
) -> None:
    clone, exported = other_machine
    result = replay_without_processes(clone, str(exported))
    assert result.code == 0, result.out + result.err
    assert "reproduced: 18 decisions, 9 model turns, 17 tool results compared" in result.out


def test_a_replay_with_todays_policy_names_the_step_and_the_rule_that_differ(other_machine: tuple[Path, Path]) -> None:
    clone, exported = other_machine
    result = replay_without_processes(clone, str(exported), "--policy", ".")
    assert result.code == 1
    assert "diverged at step 4.0, decision" in result.out
    assert "Nobody counts payments any more" in result.out


def test_one_edited_result_in_the_file_diverges(other_machine: tuple[Path, Path], tmp_path: Path) -> None:
    clone, exported = other_machine
    text = exported.read_text()
    assert "pool_size=2" in text
    forged = tmp_path / "forged.jsonl"
    lines = text.splitlines(keepends=True)
    number = next(at for at, line in enumerate(lines) if "pool_size=2" in line and "call.answered" in line)
    lines[number] = lines[number].replace("pool_size=2", "pool_size=8", 1)
    forged.write_text("".join(lines))
    result = replay_without_processes(clone, str(forged))
    assert result.code == 1
    assert "tampered" in result.out or "diverged" in result.out


# Ten spellings of one path outside the folder.
SPELLINGS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "logs/../../../../etc/passwd",
    "logs/./../../etc/passwd",
    "..\\..\\etc\\passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "logs//..//..//etc/passwd",
    "．．/．．/etc/passwd",
    "logs/\u0000/../../etc/passwd",
    "....//....//etc/passwd",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_path_that_climbs_out_is_a_structured_error_and_opens_nothing(
    remit: Remit, session: Path, spelling: str
) -> None:
    result = remit("call", "files.read", json.dumps({"path": spelling}), "--agent", "triage", "--json")
    assert result.code == 1
    assert result.json["ok"] is False
    assert result.json["error"]["code"] in ("invalid_arguments", "policy_denied")
    assert "root:" not in result.out
    journal = open_journal(session / "traces" / "journal.db")
    assert all(item.type != "attempt.begun" for item in journal.events(result.json["run"]))
    spans = Path(result.json["trace"]).read_text()
    assert '"name":"execute_tool files.read"' in spans
    assert f'"error.type","value":{{"stringValue":"{result.json["error"]["code"]}"' in spans


def test_a_file_in_the_folder_is_read_by_the_same_command(remit: Remit) -> None:
    result = remit("call", "files.read", '{"path": "runbooks/payments-pool.md"}', "--agent", "triage", "--json")
    assert result.code == 0, result.out + result.err
    assert "pool" in str(result.json["value"])


def test_a_search_over_a_folder_with_a_denied_child_never_reads_it(remit: Remit, session: Path) -> None:
    """A set of files is allowed as a whole or denied. Without the rule, the same search reads the same file."""
    hidden = session / "agent/triage/incident/logs/private"
    hidden.mkdir()
    (hidden / "key.log").write_text("needle in private\n")
    search = ("call", "files.search", '{"pattern": "needle", "folder": "logs"}', "--agent", "triage", "--json")
    allowed = remit(*search)
    assert [match["text"] for match in allowed.json["value"]["matches"]] == ["needle in private"]
    rules = session / "policies" / "rules.csv"
    rules.write_text(
        rules.read_text() + "\n# Private logs stay private\np, agent:triage, *, file:logs/private/**, True, deny\n"
    )
    result = remit(*search)
    assert result.code == 1
    assert result.json["error"]["details"]["rules"] == ["Private logs stay private"]
    assert "needle in private" not in result.out
    journal = open_journal(session / "traces" / "journal.db")
    assert all(item.type != "attempt.begun" for item in journal.events(result.json["run"]))


def test_without_bubblewrap_the_run_ends_with_the_fix_and_nothing_runs(remit: Remit, session: Path) -> None:
    result = remit("run", "triage", TASK, "--json", env=TRIPWIRE)
    assert result.code == 1
    assert result.json["error"]["code"] == "sandbox_unavailable"
    assert result.json["error"]["fix"]
    journal = open_journal(session / "traces" / "journal.db")
    (row,) = list(list_runs(journal))
    assert (row.run, row.outcome, row.code) == (result.json["run"], "failed", "sandbox_unavailable")
    assert {item.type for item in journal.events(row.run)} == {"run.started", "run.finished"}


def test_the_landlock_tier_does_the_same_job_where_it_is_accepted_and_is_labelled(remit: Remit, session: Path) -> None:
    settings = session / "remit.toml"
    settings.write_text(re.sub(r"(?m)^accept = .*", 'accept = ["full", "landlock"]', settings.read_text()))
    assert "landlock" in settings.read_text()
    result = remit("run", "triage", TASK, env=TRIPWIRE)
    assert result.code == 0, result.out + result.err
    assert "landlock only" in result.out
    assert (folder_of(session, run_id(result)) / "reports/INC-2041.md").exists()


SETTINGS = [
    {"OTEL_SDK_DISABLED": "true"},
    {
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "16",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "16",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "1",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
    },
]


def test_no_setting_of_opentelemetry_changes_the_trace_file(remit: Remit, session: Path) -> None:
    run = "00000000000000000000000000abcdef"

    def written(env: dict[str, str]) -> list[Any]:
        shutil.rmtree(session / "traces")
        shutil.rmtree(session / "work", ignore_errors=True)
        result = remit("run", "triage", TASK, "--run-id", run, env=env)
        assert result.code == 0, result.out + result.err
        return [timeless(json.loads(line)) for line in (session / "traces" / f"{run}.jsonl").read_text().splitlines()]

    plain = written({})
    for settings in SETTINGS:
        assert written(settings) == plain, settings


def timeless(value: Any) -> Any:
    """A document of the trace without times and without values that depend on them: hash chain, salts, measured use."""
    if isinstance(value, dict):
        name = value.get("key")
        if isinstance(name, str) and name.startswith("remit.spent."):
            return {"key": name}
        if name in (
            "remit.event.at",
            "remit.event.salt",
            "remit.event.hash",
            "remit.event.prev",
            "remit.event.payload_digest",
        ):
            return {"key": name}
        if name == "remit.event.seq":  # parallel calls are recorded in the order in which they end
            return {"key": name}
        if isinstance(name, str) and "stringValue" in value.get("value", {}):
            try:
                return {"key": name, "value": timeless(json.loads(value["value"]["stringValue"]))}
            except ValueError:
                return value
        return {
            key: timeless(item)
            for key, item in value.items()
            if not key.endswith("UnixNano") and key not in ("spent", "expires_at", "opened_at", "closed_at", "at")
        }
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return value


def test_an_interrupted_run_leaves_no_process_and_can_be_resumed(session: Path) -> None:
    """Ctrl-C in the middle of a call."""
    run = "00000000000000000000000000000c0c"
    # A shell that runs the tests in the background ignores the signal, and a new process inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "remit", "run", "triage", TASK, "--run-id", run],
        cwd=session,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = wait_for_start(session, run, process)
    until = time.monotonic() + 60
    while not any(item.type == "attempt.begun" for item in journal.events(run)) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, result = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"remit run --resume {run[:8]}" in result
    assert "Traceback" not in result
    assert not [line for line in command_lines() if str(session) in line]
    assert (session / "traces" / f"{run}.jsonl").exists()
    assert cli_server.command(session, "run", "--resume", run).code == 0
    assert cli_server.command(session, "replay", run).code == 0


def command_lines() -> list[str]:
    """The command lines of all processes on this machine."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


def wait_for_start(session: Path, run: str, process: subprocess.Popen[bytes]) -> Journal:
    """The journal, as soon as the run has started. Waits at most a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if (session / "traces" / "journal.db").exists():
            journal = open_journal(session / "traces" / "journal.db")
            if journal.events(run):
                return journal
            journal.close()
        time.sleep(0.05)
    raise AssertionError("the run did not begin")


def test_a_real_provider_does_the_same_job_over_http_and_the_run_replays(session: Path, remit: Remit) -> None:
    """An OpenAI-compatible server on loopback: streamed, names enforced, and one turn cut by length."""
    script = read_script(session / "agent/triage/script.yaml")
    replies = [
        Reply(text=turn.say, calls=[(call.name, call.arguments) for call in turn.calls]) for turn in script.turns[:-1]
    ]
    cut = Reply(text="", calls=[("tickets__close", '{"key": "INC-2041", "reason": "cut"}')], cut=30)
    dana = [line for line in (session / "policies/rules.csv").read_text().splitlines() if "approved(" not in line]
    dana.append("p, agent:triage, tickets.close, ticket:INC-*, True, allow")  # no approver takes part in this test
    (session / "policies/rules.csv").write_text("\n".join(dana) + "\n")
    with OpenAIServer([*replies[:2], cut, *replies[2:], Reply(text=script.turns[-1].say)]) as server:
        result = remit(
            "run",
            "triage",
            TASK,
            "--model",
            "openai:any",
            env={"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test-key-000000"},
        )
    assert result.code == 0, result.out + result.err
    assert server.refusals == []
    assert all(request["stream"] for request in server.requests)
    assert (
        "cut off before its end" in result.out[result.out.index("\n  2\n") : result.out.index("\n  3  ")]
    )  # a turn without words
    report = folder_of(session, run_id(result)) / "reports/INC-2041.md"
    assert report.read_text() == next(
        json.loads(call.arguments)["text"]
        for turn in script.turns
        for call in turn.calls
        if call.name == "files__write" and "INC-2041.md" in call.arguments
    )
    with contextlib.closing(sqlite3.connect(folder_of(session, run_id(result)) / "stores/tickets/tickets.db")) as store:
        assert store.execute("SELECT status FROM ticket WHERE key = 'INC-2041'").fetchall() == [("closed",)]
    assert remit("replay", run_id(result)).code == 0


def test_a_scope_file_narrows_the_run_and_is_shown_with_it(remit: Remit, tmp_path: Path) -> None:
    scope = tmp_path / "reading.toml"
    scope.write_text('[[allow]]\naction = "files.*"\nresource = "file:runbooks/**"\n')
    result = remit("run", "triage", TASK, "--scope", str(scope))
    assert "no rule allows tickets.get on 'store:tickets' for task:this" in result.out
    run = run_id(result)
    assert "scope: files.* on file:runbooks/**; anything else is denied" in remit("trace", "show", run).out
    assert remit("replay", run).code == 0


def test_a_scope_that_cannot_be_read_starts_nothing(remit: Remit, tmp_path: Path) -> None:
    scope = tmp_path / "wrong.toml"
    scope.write_text('[[allow]]\naction = "everything"\n')
    result = remit("run", "triage", TASK, "--scope", str(scope))
    assert (result.code, remit("trace", "list").code) == (2, 0)
    assert "wrong.toml:2" in result.err
    assert "gone.toml" in remit("run", "triage", TASK, "--scope", "gone.toml").err
