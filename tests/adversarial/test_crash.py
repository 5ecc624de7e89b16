"""A part of `make kills`: kill -9 at random points of real runs, checked against the store of the tool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.browser import lacking
from support.postgres import programs

RUNS = os.environ.get("REMIT_KILLS", "4")


@pytest.mark.parametrize("options", [[], ["--postgres"]], ids=["sqlite", "postgresql"])
def test_a_run_killed_at_any_point_resumes_and_repeats_no_irreversible_effect(options: list[str]) -> None:
    """Broker, sandbox or both are killed, and one or two processes resume the run; `make kills` plays all 300 runs."""
    harness = Path(__file__).with_name("crash.py")
    if options and programs() is None:
        lacking("PostgreSQL", "apt-get install postgresql")
    done = subprocess.run(
        [sys.executable, str(harness), "--runs", RUNS, "--json", *options],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] >= int(RUNS)
    wrong = ("twice", "lost", "broken", "lied", "unknown_elsewhere", "diverged", "circuit_open")
    assert {word: found[word] for word in wrong} == dict.fromkeys(wrong, 0), done.stderr
