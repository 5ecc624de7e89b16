"""The pytest plugin, in pytests of their own, and the private copy of a workspace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.core import UsageError
from remit.testing import capture_run, copy_workspace, turn

Clerk = Callable[..., Path]

TESTS = """
from remit.testing import FakeExecutor, assert_denied, capture_run, turn

TURNS = [turn(ledger__look={"name": "ann"}), turn("done")]
FAKE = FakeExecutor({"ledger.look": {"name": "ann", "text": ""}})

def test_one(remit_workspace):
    (remit_workspace / "policies" / "rules.csv").write_text("")
    run = capture_run(remit_workspace, "clerk", "x", model=TURNS, executor=FAKE)
    assert_denied(run, "ledger.look", "account:ann")

def test_two(remit_workspace):
    run = capture_run(remit_workspace, "clerk", "x", model=TURNS, executor=FAKE)
    assert run.call(0).error is None
    assert_denied(run, "ledger.look")
"""
LOADED = """
import json, sys
import pytest
before = set(sys.modules)
import remit.testing.plugin
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def pytest_in(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in that folder; the plugin is found by its entry point."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_each_test_has_a_workspace_of_its_own_and_a_failure_is_short_and_readable(clerk: Clerk) -> None:
    folder = clerk([])
    rules = (folder / "policies" / "rules.csv").read_text()
    (folder / "tests").mkdir()
    (folder / "tests" / "test_clerk.py").write_text(TESTS)
    done = pytest_in(folder, "tests")
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    failure = done.stdout[done.stdout.index("= FAILURES =") :]
    assert "E       AssertionError: call 0.0, ledger.look, was not refused: it succeeded" in failure
    assert "'The clerk looks at every account'" in failure
    assert "remit/testing/assertions.py" not in failure  # the frames of the helper are hidden
    assert (folder / "policies" / "rules.csv").read_text() == rules
    assert not (folder / "traces").exists()


def test_outside_of_a_workspace_the_fixture_says_what_is_missing_and_other_tests_run(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text("def test_a(): pass\ndef test_b(remit_workspace): pass\n")
    done = pytest_in(tmp_path, "-p", "remit.testing.plugin", ".", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "create a workspace with `remit init`" in done.stdout


def test_the_plugin_loads_no_more_than_itself() -> None:
    """Every pytest of an environment that has Remit pays for it, also in projects without a workspace."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    own = ["lazy_loader", "remit", "remit._face", "remit.testing", "remit.testing.plugin"]
    assert json.loads(done.stdout) == own


# The copy


def test_a_copy_has_what_a_run_needs_and_nothing_of_earlier_runs(session: Path, tmp_path: Path) -> None:
    for name in ("traces/0.jsonl", "work/triage/0/left", "node_modules/big", "tools/files/__pycache__/main.pyc"):
        (session / name).parent.mkdir(parents=True, exist_ok=True)
        (session / name).write_text("x")
    copy = copy_workspace(session / "agent" / "triage", tmp_path / "copy")
    assert copy == tmp_path / "copy"
    assert {path.name for path in copy.iterdir()} == {"remit.toml", "agent", "tools", "policies"}
    names = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    here = {path.relative_to(session).as_posix() for path in session.rglob("*") if path.is_file()}
    assert names == {
        name
        for name in here
        if name.startswith(("remit.toml", "agent/", "tools/", "policies/")) and "__pycache__" not in name
    }


def test_a_working_folder_without_a_seed_is_content_and_one_with_a_seed_is_made_new(
    clerk: Clerk, tmp_path: Path
) -> None:
    folder = clerk([])
    (folder / "work" / "clerk").mkdir(parents=True)
    (folder / "work" / "clerk" / "content.txt").write_text("x")
    assert (copy_workspace(folder, tmp_path / "one") / "work/clerk/content.txt").read_text() == "x"
    (folder / "seeds").mkdir()
    (folder / "seeds" / "content.txt").write_text("from the seed")
    agent = folder / "agent" / "clerk" / "agent.toml"
    agent.write_text(agent.read_text().replace('folder = "work/clerk"', 'folder = "work/clerk"\nseed = "seeds"'))
    copy = copy_workspace(folder, tmp_path / "two")
    assert not (copy / "work").exists()
    capture_run(copy, "clerk", "x", model=[turn("done")])
    assert (copy / "work/clerk/content.txt").read_text() == "from the seed"


def test_this_repository_is_a_workspace_that_can_be_copied(remit_workspace: Path) -> None:
    assert not (remit_workspace / "agent" / "remit").exists()
    assert not (remit_workspace / "tests").exists()
    assert (remit_workspace / "agent" / "triage" / "incident" / "logs").is_dir()


def test_a_folder_outside_of_a_workspace_cannot_be_copied(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"create a workspace with `remit init`"):
        copy_workspace(tmp_path, tmp_path / "copy")
    assert os.listdir(tmp_path) == []
