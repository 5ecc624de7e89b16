"""The real Claude Code, offline against a scripted model, under the hooks of its settings. `make hooks` installs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from remit.cli.hook.checking import check_hooks
from remit.cli.hook.installing import command_of, with_hooks
from remit.cli.hook.model_apis import NativeCall
from remit.cli.hook.playing import Played, play
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

CLAUDE = os.environ.get("REMIT_CLAUDE", "")

pytestmark = pytest.mark.skipif(not CLAUDE, reason="REMIT_CLAUDE names no Claude Code: `make hooks` installs it")


@pytest.fixture
def project(session: Path) -> Path:
    rules = "p, agent:claude-code, claude_code.mcp, mcp:github.*, True, allow\n"
    return served_project(session, "claude-code", rules)


def hooks_of(folder: Path) -> Mapping[str, Any]:
    hooks: dict[str, Any] = json.loads(with_hooks("", "claude-code", folder, folder / "settings.json"))["hooks"]
    return hooks


def played(
    folder: Path,
    *calls: tuple[str, dict[str, Any]],
    hooks: Mapping[str, Any] | None = None,
    servers: Mapping[str, Any] | None = None,
) -> Played:
    made = [NativeCall(tool=tool, given=given) for tool, given in calls]
    used = hooks_of(folder) if hooks is None else hooks
    return play(CLAUDE, used, folder, made, variables=VARIABLES, servers=servers)


READ_SECRET = ("Bash", {"command": "cat secrets/key"})


def test_without_hooks_the_secret_is_read(project: Path) -> None:
    """The twin of all tests below: what they block would otherwise run."""
    assert SECRET in played(project, READ_SECRET, hooks={}).results[0]


def test_a_denied_call_is_blocked_and_an_allowed_one_runs(project: Path) -> None:
    with serving(project):
        results = played(project, READ_SECRET, ("Read", {"file_path": str(project / "notes.md")})).results
    assert SECRET not in results[0]
    assert "Programs get no credentials as arguments" in results[0]
    assert "plain notes" in results[1]
    runs: Any = json.loads(remit(project, "trace", "list", "--json"))
    replayed = remit(project, "replay", runs[0]["run"])
    assert replayed.startswith("reproduced: ")


def test_after_a_page_was_read_nothing_is_pushed(project: Path) -> None:
    push = ("Bash", {"command": "git push origin main"})
    with serving(project):
        results = played(project, ("WebFetch", {"url": "https://example.com/", "prompt": "p"}), push).results
    assert "After text from outside, nothing leaves by git" in results[1]


def test_after_a_page_was_read_nothing_is_pushed_by_a_native_tool_or_by_one_of_an_mcp_server(project: Path) -> None:
    """The other server is Remit's own, whose tools the rules for hooks allow as long as nothing from outside was read."""
    rules = project / "policies" / "claude-code.csv"
    rules.write_text(rules.read_text() + "p, agent:claude-code, claude_code.mcp, mcp:remit.*, True, allow\n")
    words = ["-m", "remit", "serve", "mcp", "triage", "--workspace", str(project)]
    servers = {"remit": {"command": sys.executable, "args": words, "env": VARIABLES}}
    at_once = json.loads(json.dumps(hooks_of(project)).replace("run claude-code", "run claude-code --wait 0"))
    read = ("mcp__remit__files_read", {"path": "runbooks/payments-pool.md", "lines": 1})
    push = ("Bash", {"command": "git push origin main"})
    with serving(project):
        page = ("WebFetch", {"url": "https://example.com/", "prompt": "p"})
        by_page = played(project, page, push, read, hooks=at_once, servers=servers).results
        by_tool = played(project, read, push, read, hooks=at_once, servers=servers).results
    assert "After text from outside, nothing leaves by git" in by_page[1]
    assert "approval_required" in by_page[2]
    assert '"ok":true' in by_tool[0], by_tool
    assert "After text from outside, nothing leaves by git" in by_tool[1]
    assert "approval_required" in by_tool[2]


def test_an_approved_call_runs(project: Path) -> None:
    with serving(project):
        approving = threading.Thread(target=approve_first, args=(project,))
        approving.start()
        results = played(project, ("Bash", {"command": "uname -s"})).results
        approving.join(60)
    assert "Linux" in results[0]


@pytest.mark.parametrize(
    "reply",
    NO_DECISION,
)
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


@pytest.mark.parametrize(
    "command", ["/nowhere/remit hook run claude-code || exit 2", "/nowhere/remit hook run claude-code", "kill -9 $$"]
)
def test_a_hook_that_does_not_start_blocks(project: Path, command: str) -> None:
    hook = {"type": "command", "command": command, "timeout": 10, "onFailure": "block"}
    results = played(project, READ_SECRET, hooks={"PreToolUse": [{"matcher": "*", "hooks": [hook]}]}).results
    assert SECRET not in results[0]


def test_the_doctor_says_blocked_and_names_what_let_a_call_through(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    settings = project / ".claude" / "settings.local.json"
    settings.parent.mkdir()
    settings.write_text(with_hooks("", "claude-code", project, settings))
    with serving(project):
        checks = check_hooks(programs={"claude-code": CLAUDE}, variables=VARIABLES)
        assert [check.detail for check in checks] == [""] * 4
        open_ = (
            settings.read_text()
            .replace(" || exit 2", " || true")
            .replace('"onFailure": "block"', '"onFailure": "allow"')
        )
        settings.write_text(re.sub(r"hook run claude-code --workspace", "hook run cursor --workspace", open_))
        failed = [check for check in check_hooks(programs={"claude-code": CLAUDE}, variables=VARIABLES) if not check.ok]
    assert any("the call ran" in check.detail for check in failed)


def test_the_command_of_a_hook_is_that_of_this_installation() -> None:
    made = command_of("claude-code", Path("/srv/my agents"), blocks=True)
    assert made.endswith("hook run claude-code --workspace '/srv/my agents' || exit 2")
    assert shutil.which(made.split()[0])
