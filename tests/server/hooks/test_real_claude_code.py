"""The real Claude Code, offline against a scripted model, under the hooks of its settings. `make hooks` installs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from remit.cli.hook.checking import check_hooks
from remit.cli.hook.installing import command_of, with_hooks
from remit.cli.hook.playing import Played, play
from remit.cli.hook.stub_model import NativeCall
from remit.cli.local.requests_socket import requests_socket
from support.hooked import PEOPLE, with_pack

CLAUDE = os.environ.get("REMIT_CLAUDE", "")

pytestmark = pytest.mark.skipif(not CLAUDE, reason="REMIT_CLAUDE names no Claude Code: `make hooks` installs it")
VARIABLES = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
SECRET = "TOPSECRET-1"


@pytest.fixture
def project(session: Path) -> Path:
    rules = "p, agent:claude-code, claude_code.mcp, mcp:github.*, True, allow\n"
    folder = with_pack(session, people=f"{PEOPLE}{rules}")
    toml = folder / "remit.toml"
    toml.write_text(toml.read_text().replace("[sandbox]", '[serve]\naddress = "127.0.0.1:0"\n\n[sandbox]'))
    toml.write_text(toml.read_text().replace('"*" = "user:operator"', 'root = "user:operator"\n"*" = "user:operator"'))
    (folder / "secrets").mkdir()
    (folder / "secrets" / "key").write_text(SECRET)
    (folder / "notes.md").write_text("plain notes\n")
    return folder


@contextmanager
def serving(folder: Path) -> Generator[None]:
    """`remit serve`, as people start it."""
    process = subprocess.Popen([sys.executable, "-m", "remit", "serve"], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not _listens(folder):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(60)


def _listens(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.path.relpath(folder / ".remit" / "service" / "requests"))
        except OSError:
            return False
    return True


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
    runs: Any = json.loads(_remit(project, "trace", "list", "--json"))
    replayed = _remit(project, "replay", runs[0]["run"])
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
        approving = threading.Thread(target=_approve, args=(project,))
        approving.start()
        results = played(project, ("Bash", {"command": "uname -s"})).results
        approving.join(60)
    assert "Linux" in results[0]


def _approve(project: Path) -> None:
    """Approve the first request, as another person."""
    until = time.monotonic() + 45
    while time.monotonic() < until:
        waiting = json.loads(_remit(project, "approve", "list", "--json"))
        if waiting:
            item = waiting[0]
            code = (
                "from remit.client import Remit; from remit.core import Principal; from pathlib import Path; import sys\n"
                "by = Principal(subject='user:dana', authenticated='oidc', account='dana', issuer='https://login.example.com')\n"
                "Remit.open(Path.cwd(), principal=by).approve(sys.argv[1])"
            )
            name = f"{item['run']}/{item['step']}.{item['index']}"
            subprocess.run([sys.executable, "-c", code, name], cwd=project, check=True)
            return
        time.sleep(0.2)


def _remit(project: Path, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "remit", *words], cwd=project, capture_output=True, text=True, check=False
    )
    return ended.stdout


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(None, id="service down"),
        pytest.param(b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}", id="500"),
        pytest.param(b"HTTP/1.1 200 X\r\ncontent-length: 3\r\n\r\n\x00\x01\x02", id="garbage"),
    ],
)
def test_without_a_decision_no_call_runs(project: Path, reply: bytes | None) -> None:
    # The prompt is let pass, so that the model makes its call.
    hooks = {"PreToolUse": hooks_of(project)["PreToolUse"]}
    if reply is None:
        results = played(project, READ_SECRET, hooks=hooks).results
    else:
        with _answering(project, reply):
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


@contextmanager
def _answering(project: Path, reply: bytes) -> Generator[None]:
    (project / ".remit" / "service").mkdir(mode=0o700, parents=True, exist_ok=True)

    def answer_each(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 20)
                connection.sendall(reply)

    with requests_socket(project) as listener:
        threading.Thread(target=answer_each, args=(listener,), daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def test_the_doctor_says_blocked_and_names_what_let_a_call_through(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    settings = project / ".claude" / "settings.local.json"
    settings.parent.mkdir()
    settings.write_text(with_hooks("", "claude-code", project, settings))
    with serving(project):
        checks = check_hooks(program=CLAUDE, variables=VARIABLES)
        assert [check.detail for check in checks] == [""] * 4
        open_ = (
            settings.read_text()
            .replace(" || exit 2", " || true")
            .replace('"onFailure": "block"', '"onFailure": "allow"')
        )
        settings.write_text(re.sub(r"hook run claude-code --workspace", "hook run cursor --workspace", open_))
        failed = [check for check in check_hooks(program=CLAUDE, variables=VARIABLES) if not check.ok]
    assert any("the call ran" in check.detail for check in failed)


def test_the_command_of_a_hook_is_that_of_this_installation() -> None:
    made = command_of("claude-code", Path("/srv/my agents"), blocks=True)
    assert made.endswith("hook run claude-code --workspace '/srv/my agents' || exit 2")
    assert shutil.which(made.split()[0])
