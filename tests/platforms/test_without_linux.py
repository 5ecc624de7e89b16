"""Without Linux: what confines nothing works, and what needs the Linux kernel says so.

Each command is a process of its own, in which `support/without_linux` has taken away what only Linux has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remit.workspace.template import write_starter
from support import ROOT, TESTS
from support.hooked import with_pack
from support.pages import Reader, begin, blocks_of
from support.runs import CommandResult
from support.service_process import remit_serve

ELSEWHERE = TESTS / "support" / "without_linux"
# Pages whose commands confine nothing: a reader without Linux can follow them.
FOLLOWED = (
    "langchain.md",
    *(
        f"how-to/{name}.md"
        for name in ("check-a-workspace", "import-policies", "let-teams-write-rules", "say-who-may-ask")
    ),
)
GOLDEN = ROOT / "traces" / "golden" / "format-1"


@pytest.fixture(autouse=True)
def without_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python processes that begin from now on are without Linux."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ELSEWHERE, ROOT / "agent", TESTS))))


def python(folder: Path, *words: str) -> CommandResult:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return CommandResult(code=done.returncode, out=done.stdout, err=done.stderr)


def remit(folder: Path, *words: str) -> CommandResult:
    return python(folder, "-m", "remit", *words)


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    write_starter(tmp_path / "w")
    return tmp_path / "w"


def test_what_only_linux_has_is_taken_away_in_each_process(tmp_path: Path) -> None:
    """Otherwise the other tests of this file would show nothing."""
    tried = """
import ctypes, os, subprocess, sys
assert sys.platform == "darwin", sys.platform
def gone(attempt, kind):
    try: attempt()
    except kind: return True
assert gone(lambda: os.memfd_create, AttributeError)
assert gone(lambda: os.eventfd, AttributeError)
assert gone(lambda: open("/proc/self/status"), FileNotFoundError)
assert gone(lambda: os.stat("/proc/self"), FileNotFoundError)
assert gone(lambda: os.listdir("/sys"), FileNotFoundError)
assert gone(lambda: ctypes.CDLL(None).syscall, AttributeError)
assert gone(lambda: ctypes.CDLL(None).unshare, AttributeError)
assert gone(lambda: subprocess.run(["bwrap", "--version"]), FileNotFoundError)
assert subprocess.run([sys.executable, "-c", "import sys; assert sys.platform == 'darwin'"]).returncode == 0
assert ctypes.CDLL(None).getpid() == os.getpid()  # libc itself is there
"""
    assert python(tmp_path, "-c", tried).code == 0


def test_every_module_of_the_broker_side_can_be_imported(tmp_path: Path) -> None:
    """`guest` runs inside of a sandbox only, where its folder is the path of modules."""
    tried = """
import importlib, pkgutil, remit
left_out = ("remit.sandbox.guest.", "remit.sandbox.selfcheck.breakout", "remit.inspect_ai", "remit.__main__", "remit.testing.plugin")
names = [found.name for found in pkgutil.walk_packages(remit.__path__, "remit.") if not found.name.startswith(left_out)]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    imported = python(tmp_path, "-c", tried)
    assert imported.code == 0, imported.err
    assert int(imported.out) > 400


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_that_confines_nothing_can_be_followed(page: str, tmp_path: Path) -> None:
    reader = _OwnProcesses(begin(ROOT / "docs" / page, tmp_path / "w"))
    followed = [block for block in blocks_of(ROOT / "docs" / page) if block.mark[0] not in ("tested by", "not run")]
    assert any(block.kind == "console" for block in followed)
    for block in followed:
        reader.follow(block)


class _OwnProcesses(Reader):
    """A reader whose commands are no forks of the process of the tests, which is on Linux."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda _folder, *words, **_: remit(self.folder, *words))

    def _done(self, command: str) -> CommandResult:
        return self._shell(command)


def test_a_workspace_is_checked_and_its_rules_are_tested(starter: Path) -> None:
    checked = remit(starter, "check", "--json")
    assert checked.code == 0, checked
    assert {found["level"] for found in json.loads(checked.out)["findings"]} <= {"note"}
    assert remit(starter, "policy", "test").code == 0


@pytest.mark.parametrize("trace", sorted(path.name for path in GOLDEN.glob("*.jsonl"))[:2])
def test_a_trace_of_linux_is_verified_read_and_reproduced(trace: str, starter: Path) -> None:
    for words in (("trace", "verify"), ("trace", "show"), ("replay",)):
        done = remit(starter, *words, str(GOLDEN / trace))
        assert done.code == 0, (words, done)


def test_a_run_with_confined_tools_ends_with_a_code_and_offers_the_container(starter: Path) -> None:
    ended = remit(starter, "run", "triage", "Checkout is failing")
    assert ended.code == 1
    assert "sandbox_unavailable: tools cannot be confined on this machine" in ended.err
    assert "this is 'darwin': run Remit in its container (docs/platforms.md)" in ended.err
    (row,) = json.loads(remit(starter, "trace", "list", "--json").out)
    assert (row["outcome"], row["code"]) == ("failed", "sandbox_unavailable")
    assert remit(starter, "replay", row["run"]).code == 0


def test_the_demonstration_says_that_its_run_did_not_complete(tmp_path: Path) -> None:
    played = remit(tmp_path, "demo", "played", "--json")
    assert (played.code, json.loads(played.out)["ok"]) == (1, False)


def test_doctor_says_what_to_use_and_a_tool_that_is_tried_does_not_run(starter: Path) -> None:
    looked = remit(starter, "doctor")
    assert (looked.code, looked.out.count("run Remit in its container")) == (1, 2)
    tried = remit(starter, "tool", "try", "files.list", "--json")
    assert tried.code != 0
    assert "sandbox_unavailable" in tried.out + tried.err


def test_the_hooks_of_a_coding_agent_ask_the_service_and_calls_are_decided(
    starter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as on_linux:  # the pin is made by a reviewer; deriving it confines the tool
        on_linux.delenv("PYTHONPATH")
        with_pack(starter)
    with (starter / "remit.toml").open("a") as settings:
        settings.write('\n[serve]\naddress = "127.0.0.1:0"\n')

    def hooked(name: str, path: str) -> str:
        given = {"hook_event_name": name, "session_id": "s1", "cwd": str(starter), "tool_name": "Read"}
        event = {**given, "tool_input": {"file_path": path}, "tool_use_id": path, "tool_response": "text"}
        words = ["-m", "remit", "hook", "run", "claude-code", "--workspace", str(starter), "--wait", "0"]
        done = subprocess.run(
            [sys.executable, *words], input=json.dumps(event), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with remit_serve(starter) as service:
        assert service.lives
        own = str(starter / "remit.toml")
        assert '"allow"' in hooked("PreToolUse", own)
        hooked("PostToolUse", own)
        refused = hooked("PreToolUse", "/etc/passwd")
        assert '"deny"' in refused
        assert "policy_denied" in refused
        # No socket takes commands there: the command does its own work.
        (row,) = json.loads(remit(starter, "trace", "list", "--json").out)
        assert (row["agent"], row["calls"], row["denied"]) == ("agent:claude-code", 2, 1)
