"""Secrets that other systems keep: a command prints the value, or a file contains it, and both may give another one later."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from remit.core import UsageError, WorkspaceError
from remit.core.events import AttemptEnded, CallAnswered
from remit.core.parsing import load_toml, read_table
from remit.guardrails import RunSecrets, Secrets, SecretSource, printed_secret, secret_sources
from remit.guardrails.printed_secret import printed_by
from remit.guardrails.redaction import Redactor
from remit.guardrails.secret_sources import Fetched
from remit.runtime import runner as run_module
from remit.workspace import session as session_module
from remit.workspace.file_schema import SettingsTable
from remit.workspace.loader import load_workspace
from support import ROOT
from support.principals import OPERATOR
from support.runs import Remit, turn
from support.workspaces.web import add

VALUE = "CANARY-5b1c77aa20"
MANIFEST = """name = "vaulted"
version = "1.0.0"
owner = "a@example.com"
summary = "Uses a secret"
source = "python"
[always]
secrets = [{ name = "token", exposed = true, env = "TOKEN" }]
[actions.show]
summary = "Show the secret"
effect = "read"
"""
CODE = """import os, sys

def show() -> list[str]:
    \"\"\"Return the secret, whole and in halves.\"\"\"
    print(os.environ["TOKEN"], file=sys.stderr)
    return [os.environ["TOKEN"], os.environ["TOKEN"][:9], os.environ["TOKEN"][9:]]
"""
RULES = "p, agent:web, vaulted.*, **, True, allow\np, user:operator, vaulted.*, **, True, allow\n"


def script(path: Path, text: str) -> str:
    """A program that the account may run."""
    path.write_text(f"#!{sys.executable} -S\nimport os, sys, time, pathlib\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def counting(folder: Path) -> str:
    """A program that prints another value each time, and something on standard error that nobody may read."""
    count = folder / "count"
    return script(
        folder / "vault",
        f"count = pathlib.Path({str(count)!r})\ncount.write_text(count.read_text() + 'x' if count.exists() else 'x')\n"
        f"print({VALUE!r} + str(len(count.read_text())))\nprint('STDERR-OF-THE-COMMAND', file=sys.stderr)",
    )


def play(session: Path) -> tuple[str, list[dict[str, Any]], list[Any]]:
    opened = session_module.open_session(session)
    model = run_module.open_model_of(opened, "web")
    start = run_module.RunRequest(agent="web", task="look", subject="user:operator", by=OPERATOR, model=model)
    ended = asyncio.run(run_module.start_run(opened, start))
    records = opened.journal.events(ended.run)
    answered = [one.event.result.model_dump(mode="json") for one in records if isinstance(one.event, CallAnswered)]
    return ended.run, answered, list(records)


def vaulted(session: Path, table: str, calls: int = 2) -> None:
    """The starter with an agent that shows its secret, and a table for it in remit.toml."""
    path = session / "remit.toml"
    path.write_text(path.read_text() + f"\n[secrets.token]\n{table}\n")
    add(session, "vaulted", {"tool.toml": MANIFEST, "main.py": CODE}, RULES, [turn(vaulted__show={})] * calls)


def everything(session: Path) -> str:
    """All that is below the workspace, as text."""
    return "".join(path.read_bytes().decode("latin-1") for path in session.rglob("*") if path.is_file())


def test_a_value_of_a_command_is_used_for_its_time_to_live_and_then_printed_again(tmp_path: Path) -> None:
    now = [0.0]
    fetched = Fetched(lambda: now[0])
    source = SecretSource(command=(counting(tmp_path),), ttl=60)
    secrets = Secrets(tmp_path, {"token": source}, fetched)
    assert secrets.present(["token"]) == {}, "no command runs only because a person looks"
    assert [secrets.get("token").value for _ in range(3)] == [VALUE + "1"] * 3
    now[0] = 59.9
    assert (secrets.get("token").value, secrets.get("token").source) == (VALUE + "1", "command")
    now[0] = 60
    assert secrets.get("token").value == VALUE + "2"
    assert secrets.present(["token"]) == {"token": VALUE + "2"}


def test_a_value_whose_time_has_passed_is_never_used_again(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "vault"
    secrets = Secrets(tmp_path, {"token": SecretSource(command=(script(path, f"print({VALUE!r})"),), ttl=60)}, Fetched(lambda: now[0]))  # fmt: skip
    assert secrets.get("token").value == VALUE
    script(path, "sys.exit(3)")
    assert secrets.get("token").value == VALUE
    now[0] = 61
    with pytest.raises(UsageError, match="ended with status 3"):
        secrets.get("token")
    now[0] = 62
    with pytest.raises(UsageError):
        secrets.get("token")


def test_a_failure_is_kept_for_some_seconds_and_the_command_runs_again_after_them(tmp_path: Path) -> None:
    now = [0.0]
    path = tmp_path / "vault"
    command = script(path, "sys.exit(3)")
    secrets = Secrets(tmp_path, {"token": SecretSource(command=(command,))}, Fetched(lambda: now[0]))
    with pytest.raises(UsageError) as first:
        secrets.get("token")
    script(path, f"print({VALUE!r})")
    now[0] = secret_sources.FAILURE_SECONDS - 0.1
    with pytest.raises(UsageError) as second:
        secrets.get("token")
    assert str(second.value) == str(first.value), "the same refusal, and the command did not run"
    now[0] = secret_sources.FAILURE_SECONDS
    assert secrets.get("token").value == VALUE


def test_a_secret_whose_command_still_runs_delays_no_other_one(tmp_path: Path) -> None:
    """The slow command ends only after the other one has given its value."""
    go = tmp_path / "go"
    wait = f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)"
    slow = script(tmp_path / "slow", f"pathlib.Path('began').touch()\n{wait}\nprint({VALUE!r})")
    fast = script(tmp_path / "fast", f"print({VALUE + '2'!r})")
    sources = {"slow": SecretSource(command=(slow,)), "fast": SecretSource(command=(fast,))}
    secrets = Secrets(tmp_path, sources, Fetched())
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(secrets.get, "slow")
        while not (tmp_path / "began").exists() and not waiting.done():
            time.sleep(0.01)
        assert (secrets.get("fast").value, waiting.done()) == (VALUE + "2", False)
        go.touch()
        assert waiting.result().value == VALUE


def test_a_slow_command_takes_no_thread_that_the_rest_of_the_service_uses(tmp_path: Path) -> None:
    """With every shared thread of the event loop taken, a call still gets its secret."""
    source = SecretSource(command=(counting(tmp_path),), ttl=0.0)
    secrets = RunSecrets.opened(Secrets(tmp_path, {"token": source}, Fetched()), ["token"])

    async def got() -> dict[str, str]:
        loop, free = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        taken = loop.run_in_executor(None, free.wait)
        try:
            reading = asyncio.ensure_future(secrets.current(["token"]))
            done, _ = await asyncio.wait({reading}, timeout=30)
            assert done, "it waits for a thread that another task holds"
            return reading.result()
        finally:
            free.set()
            await taken

    assert asyncio.run(got()) == {"token": VALUE + "2"}


FAILURES = {
    "it is not installed": (None, "is not installed"),
    "it fails": (f"print({VALUE!r}); sys.exit(1)", "ended with status 1"),
    "it prints nothing": ("", "printed nothing"),
    "it prints too much": ("print('x' * 100_000)", "printed more than 16384 bytes"),
    "it prints without an end": ("while True: print('x' * 1000)", "printed more than"),
    "it does not end": ("time.sleep(60)", "did not end within"),
    "it ends its output and does not end": ("os.close(1); time.sleep(60)", "did not end within"),
    "a process of it keeps its output open": ("if not os.fork(): time.sleep(60)\nprint('x' * 20)", "did not end within"),
    "it is killed": ("os.kill(os.getpid(), 9)", "ended with status -9"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "why"), list(FAILURES.values()), ids=list(FAILURES))
def test_a_command_that_fails_gives_no_value_and_none_of_its_text_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, why: str
) -> None:
    monkeypatch.setattr(printed_secret, "SECONDS", 1.0)
    command = "nothing-here" if text is None else script(tmp_path / "vault", text)
    began = time.monotonic()
    with pytest.raises(UsageError, match=why) as failed:
        printed_by([command], str(tmp_path))
    assert VALUE not in str(failed.value)
    assert time.monotonic() - began < 30


def test_a_command_gets_no_other_secret_and_no_input_and_its_processes_end_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIT_SECRET_OTHER", VALUE)
    monkeypatch.setenv("VAULT_ADDR", "https://vault.example.com")
    text = (
        "if not os.fork():\n    os.close(1); pathlib.Path('child').write_text(str(os.getpid())); time.sleep(60)\n"
        "while not pathlib.Path('child').exists(): time.sleep(0.01)\n"
        "print([sys.stdin.read(), [name for name in os.environ if 'SECRET' in name], os.environ['VAULT_ADDR'], os.getcwd()])"
    )
    shown = printed_by([script(tmp_path / "vault", text)], str(tmp_path))
    assert shown == str(["", [], "https://vault.example.com", str(tmp_path)])
    child = int((tmp_path / "child").read_text())
    for _ in range(500):
        if not Path(f"/proc/{child}").exists() or "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
            break
        time.sleep(0.01)
    else:
        pytest.fail("a process of the command is still there")


def test_each_value_of_a_command_is_in_no_record_and_each_call_gets_the_present_one(
    session: Path, tmp_path: Path, remit: Remit
) -> None:
    """With a time to live that has passed at the next call, the calls of one run get three values."""
    vaulted(session, f'command = ["{counting(tmp_path)}"]\nttl = "1ms"', calls=3)
    run, results, records = play(session)
    shown = [result["value"][0] for result in results]
    assert len(set(shown)) == 3, shown
    assert all(text.startswith("[redacted:") for text in shown)
    ended = [one for one in (record.event for record in records) if isinstance(one, AttemptEnded)]
    assert all("[redacted:" in one.stderr for one in ended)
    kept = everything(session)
    assert (VALUE in kept, "STDERR-OF-THE-COMMAND" in kept) == (False, False)
    assert remit("replay", run).code == 0


def test_a_call_whose_secret_cannot_be_fetched_is_refused_with_a_code_and_the_run_goes_on(
    session: Path, tmp_path: Path, remit: Remit, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vault"
    vaulted(session, f'command = ["{script(path, f"print({VALUE!r}); sys.exit(4)")}"]\nttl = "1ms"')
    run, results, _ = play(session)
    error = results[0]["error"]
    assert (error["code"], error["details"]["reason"], error["attempts"]) == ("policy_denied", "no_secret", 0)
    assert "ended with status 4" in error["message"]
    assert VALUE not in everything(session)
    assert remit("replay", run).code == 0
    script(path, f"print({VALUE!r})")
    monkeypatch.setattr(secret_sources, "FAILURE_SECONDS", 0.0)
    assert [result["ok"] for result in play(session)[1]] == [True, True]


def test_a_file_is_read_again_for_each_call_also_behind_a_link_that_is_moved(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: a link to a folder of the present version."""
    for number in (1, 2):
        (tmp_path / f"v{number}").mkdir()
        made = tmp_path / f"v{number}/token"
        made.write_text(f"{VALUE}{number}\n")
        made.chmod(0o600)
    (tmp_path / "now").symlink_to("v1")
    redactor = Redactor("0" * 32)
    secrets = RunSecrets.opened(Secrets(tmp_path, {"token": SecretSource(file="now/token")}), ["token"])
    redactor.learn(secrets.values)
    secrets.watch(redactor.learn)
    assert asyncio.run(secrets.current(["token"])) == {"token": VALUE + "1"}
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "now")
    assert asyncio.run(secrets.current(["token"])) == {"token": VALUE + "2"}
    assert VALUE not in redactor.text(f"{VALUE}1 and {VALUE}2"), "both are known"
    os.chmod(tmp_path / "v2/token", 0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        asyncio.run(secrets.current(["token"]))
    (tmp_path / "v2/token").unlink()
    with pytest.raises(UsageError, match="does not exist"):
        asyncio.run(secrets.current(["token"]))


def test_the_sanitizer_knows_a_new_value_before_a_call_gets_it(tmp_path: Path) -> None:
    order: list[str] = []
    source = SecretSource(command=(counting(tmp_path),), ttl=0.0)
    secrets = RunSecrets.opened(Secrets(tmp_path, {"token": source}, Fetched()), ["token"])
    secrets.watch(lambda values: order.extend(values))
    given = asyncio.run(secrets.current(["token"]))["token"]
    assert order == [given]
    assert len(secrets.values) == 2


def test_the_environment_comes_before_a_command_and_a_table_that_nothing_uses_is_found(
    session: Path, tmp_path: Path, remit: Remit, monkeypatch: pytest.MonkeyPatch
) -> None:
    vaulted(session, f'command = ["{counting(tmp_path)}"]')
    monkeypatch.setenv("REMIT_SECRET_TOKEN", "from-the-environment")
    sources = load_workspace(session).settings.secrets
    assert Secrets(session, sources).get("token").value == "from-the-environment"
    assert not (tmp_path / "count").exists()
    monkeypatch.delenv("REMIT_SECRET_TOKEN")
    listed = remit("secret", "list", "--json")
    assert (listed.json[0]["source"], (tmp_path / "count").exists()) == ("command", False)
    assert (remit("secret", "list", "--read").code, (tmp_path / "count").exists()) == (0, True)
    refused = remit("secret", "set", "token")
    assert "comes from [secrets.token] in remit.toml" in refused.err
    path = session / "remit.toml"
    path.write_text(path.read_text().replace("[secrets.token]", "[secrets.tokne]"))
    assert "no file declares the secret 'tokne'\n    fix: did you mean token?" in remit("check").err


@pytest.mark.parametrize(
    "table",
    ["", 'command = []', 'command = ["a"]\nfile = "b"', 'command = ["a", ""]', 'command = "vault get"', 'command = ["a"]\nttl = 5', 'comand = ["a"]'],
)  # fmt: skip
def test_a_table_that_says_no_single_source_is_a_problem_of_its_file(session: Path, table: str) -> None:
    path = session / "remit.toml"
    path.write_text(f"{path.read_text()}\n[secrets.token]\n{table}\n")
    with pytest.raises(WorkspaceError) as wrong:
        load_workspace(session)
    assert {problem.file for problem in wrong.value.problems} == {"remit.toml"}
    assert json.dumps([problem.fix for problem in wrong.value.problems])


@pytest.mark.parametrize("page", ["keep-secrets-in-vault.md", "keep-secrets-in-a-cloud.md"])
def test_each_table_of_the_pages_about_vaults_is_valid(page: str) -> None:
    tables = re.findall(r"^```toml\n(\[secrets\..*?)^```$", (ROOT / "docs/how-to" / page).read_text(), re.DOTALL | re.M)
    assert len(tables) > 2
    for text in tables:
        document = load_toml(text, file="remit.toml")
        table, problems = read_table(SettingsTable, document, file="remit.toml", text=text)
        assert (table is not None and len(table.secrets), problems) == (1, [])
