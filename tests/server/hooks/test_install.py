"""`remit hook install` and `remit hook status`: what is written, and what is said of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.cli.hook.installing import EVENTS, command_of, with_hooks
from remit.cli.local.hooking import CLIENTS
from remit.core import UsageError

OWN_HOOK = {"hooks": [{"type": "command", "command": "notify-send done"}]}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".remit" not in path.parts[-3:]
    }


@pytest.mark.parametrize("client", ["claude-code", "codex"])
def test_an_installation_writes_what_it_showed_and_changes_nothing_else(
    remit: Callable[..., Any], session: Path, client: str
) -> None:
    before, tool = files_of(session), client.replace("-", "_")
    shown = remit("hook", "install", client, "--approver", "user:dana")
    assert files_of(session) == before
    assert "nothing is written yet" in shown.out
    remit("hook", "install", client, "--approver", "user:dana", "--write")
    changed = {name for name, data in files_of(session).items() if before.get(name) != data}
    settings = {"claude-code": ".claude/settings.local.json", "codex": ".codex/hooks.json"}[client]
    pack = {f"tools/{tool}/tool.toml", f"agent/{client}/agent.toml", f"agent/{client}/prompt.md"}
    assert changed == {*pack, f"policies/{client}.csv", "policies/tools.lock", settings}
    checked = remit("check")
    assert checked.code == 0, checked.out + checked.err
    again = remit("hook", "install", client, "--approver", "user:dana")
    assert again.out.count("unchanged: ") == 5
    card = remit("tool", "show", tool)
    assert f"NOT CONFINED BY REMIT: {client} executes the calls" in card.out


def test_hooks_of_others_and_other_settings_stay(session: Path) -> None:
    before = {"model": "opus", "hooks": {"PreToolUse": [OWN_HOOK], "Notification": [OWN_HOOK]}}
    file = session / "settings.json"
    after = json.loads(with_hooks(json.dumps(before), "claude-code", session, file))
    assert after["model"] == "opus"
    assert after["hooks"]["Notification"] == [OWN_HOOK]
    assert after["hooks"]["PreToolUse"][0] == OWN_HOOK
    assert set(after["hooks"]) == {*EVENTS["claude-code"], "Notification"}
    text = json.dumps(after, indent=2) + "\n"
    assert with_hooks(text, "claude-code", session, file) == text, "a second time changes nothing"


@pytest.mark.parametrize("text", ["{", "[]", '{"hooks": []}'])
def test_settings_that_cannot_be_read_are_not_written_over(session: Path, text: str) -> None:
    with pytest.raises(UsageError, match="correct it first"):
        with_hooks(text, "claude-code", session, session / "settings.json")


def test_the_status_says_why_hooks_would_not_hold(remit: Callable[..., Any], session: Path) -> None:
    assert remit("hook", "status").code == 0
    alone = remit("hook", "install", "claude-code", "--write")
    assert (alone.code, "--approver user:dana" in alone.err) == (2, True)
    remit("hook", "install", "claude-code", "--approver", "user:dana", "--write")
    down = remit("hook", "status")
    assert down.code == 1
    assert "no service answers, so every call is blocked" in down.out
    settings = session / ".claude" / "settings.local.json"
    settings.write_text(settings.read_text().replace(" || exit 2", ""))
    assert "PreToolUse in" in remit("hook", "status").out


@pytest.mark.parametrize("client", CLIENTS)
def test_a_hook_whose_command_fails_without_a_word_blocks_with_one(client: str) -> None:
    """Codex lets a call pass after the exit code 2 if nothing was written to stderr."""
    written = command_of(client, Path("/srv/agents"), blocks=True)
    ended = subprocess.run(["sh", "-c", f"false{written[written.index(' || ') :]}"], capture_output=True, check=False)
    assert ended.returncode == 2
    assert client != "codex" or b"Remit did not decide" in ended.stderr
