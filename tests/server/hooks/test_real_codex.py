"""The real Codex, offline against a scripted model, under the hooks of its settings. `make hooks` installs it."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from remit.cli.hook.checking import check_hooks
from remit.cli.hook.installing import with_hooks
from remit.cli.hook.model_apis import NativeCall
from remit.cli.hook.playing import Played, play_codex
from support.coding_agents import (
    NO_DECISION,
    SECRET,
    VARIABLES,
    answering,
    approve_first,
    remit,
    served_project,
    serving,
)

CODEX = os.environ.get("REMIT_CODEX", "")

pytestmark = pytest.mark.skipif(not CODEX, reason="REMIT_CODEX names no Codex: `make hooks` installs it")
READ_SECRET = "cat secrets/key"
OWN_SERVER = "p, agent:codex, codex.mcp, mcp:remit.*, True, allow\n"


@pytest.fixture
def project(session: Path) -> Path:
    return served_project(session, "codex", OWN_SERVER)


def hooks_of(folder: Path) -> dict[str, Any]:
    hooks: dict[str, Any] = json.loads(with_hooks("", "codex", folder, folder / "hooks.json"))["hooks"]
    return hooks


def played(
    folder: Path,
    *calls: str | NativeCall,
    hooks: Mapping[str, Any] | None = None,
    servers: Mapping[str, Any] | None = None,
) -> Played:
    """What the model reads of these calls: a text is a command that it starts."""
    made = [NativeCall(tool="exec_command", given={"cmd": call}) if isinstance(call, str) else call for call in calls]
    used = hooks_of(folder) if hooks is None else hooks
    return play_codex(CODEX, used, folder, made, variables=VARIABLES, servers=servers)


def test_without_hooks_the_secret_is_read(project: Path) -> None:
    """The twin of all tests below: what they block would otherwise run."""
    assert SECRET in played(project, READ_SECRET, hooks={}).results[0]


def test_a_denied_call_is_blocked_and_an_allowed_one_runs(project: Path) -> None:
    with serving(project):
        results = played(project, READ_SECRET, "cat notes.md").results
    assert SECRET not in results[0]
    assert "Programs get no credentials as arguments" in results[0]
    assert "plain notes" in results[1]
    runs: Any = json.loads(remit(project, "trace", "list", "--json"))
    assert remit(project, "replay", runs[0]["run"]).startswith("reproduced: ")


def test_after_a_tool_of_a_server_was_read_nothing_is_pushed(project: Path) -> None:
    words = ["-m", "remit", "serve", "mcp", "triage", "--workspace", str(project)]
    servers = {"remit": {"command": sys.executable, "args": words, "env": VARIABLES}}
    read = NativeCall(tool="mcp__remit__files_read", given={"path": "runbooks/payments-pool.md", "lines": 1})
    with serving(project):
        results = played(project, "git status", read, "git push origin main", servers=servers).results
    assert "blocked" not in results[0], results
    assert '"ok":true' in results[1].replace("\\", ""), results
    assert "After text from outside, nothing leaves by git" in results[2]


def test_an_approved_call_runs(project: Path) -> None:
    with serving(project):
        approving = threading.Thread(target=approve_first, args=(project,))
        approving.start()
        results = played(project, "uname -s").results
        approving.join(60)
    assert "Linux" in results[0]


@pytest.mark.parametrize("reply", NO_DECISION)
def test_without_a_decision_no_call_runs(project: Path, reply: bytes | None) -> None:
    # The prompt is let pass, so that the model makes its call.
    hooks = {"PreToolUse": hooks_of(project)["PreToolUse"]}
    if reply is None:
        results = played(project, READ_SECRET, hooks=hooks).results
    else:
        with answering(project, reply):
            results = played(project, READ_SECRET, hooks=hooks).results
    assert SECRET not in results[0]
    assert "Remit did not decide, so the call does not run" in results[0]


@pytest.mark.parametrize("command", ["/nowhere/remit", "sh -c 'kill -9 $$'", "false"])
def test_a_hook_that_does_not_start_or_says_nothing_blocks(project: Path, command: str) -> None:
    """Codex lets a call pass after the exit code 2 without a text, so what `remit hook install` writes always says one."""
    written = hooks_of(project)["PreToolUse"][0]["hooks"][0]["command"]

    def result(after: str) -> str:
        hook = {"type": "command", "command": f"{command}{after}", "timeout": 10}
        return played(project, READ_SECRET, hooks={"PreToolUse": [{"hooks": [hook]}]}).results[0]

    assert SECRET not in result(written[written.index(" || ") :])
    if command == "false":
        assert SECRET in result(" || exit 2")


def test_the_doctor_says_blocked_and_names_what_let_a_call_through(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    settings = project / ".codex" / "hooks.json"
    settings.parent.mkdir()
    settings.write_text(with_hooks("", "codex", project, settings))
    programs = {"codex": CODEX}
    with serving(project):
        assert [check.detail for check in check_hooks(programs=programs, variables=VARIABLES)] == [""] * 4
        passing = json.loads(settings.read_text())
        passing["hooks"]["PreToolUse"][0]["hooks"][0]["command"] = "true"
        settings.write_text(json.dumps(passing))
        failed = [check for check in check_hooks(programs=programs, variables=VARIABLES) if not check.ok]
    assert any("the call ran" in check.detail for check in failed), failed
