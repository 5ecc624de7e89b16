"""A part of `make kills-workers`: workers are killed with -9 while they drive runs, and PostgreSQL crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.browser import lacking
from support.postgres import programs

RUNS, KILLS = os.environ.get("REMIT_WORKER_RUNS", "8"), os.environ.get("REMIT_WORKER_KILLS", "3")


def test_killed_workers_lose_no_run_and_repeat_no_irreversible_effect() -> None:
    """Each run is compared with what its tool really did; `make kills-workers` plays 300 runs and 30 kills."""
    if programs() is None:
        lacking("PostgreSQL", "apt-get install postgresql")
    harness = Path(__file__).with_name("worker_kills.py")
    done = subprocess.run(
        [sys.executable, str(harness), "--runs", RUNS, "--kills", KILLS, "--json"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert found["runs"] == int(RUNS)
    assert found["kills"] > int(KILLS)
    wrong = ("twice", "lost", "broken", "lied", "unknown_elsewhere", "diverged", "circuit_open", "unfinished")
    assert {word: found[word] for word in wrong} == dict.fromkeys(wrong, 0), done.stderr
