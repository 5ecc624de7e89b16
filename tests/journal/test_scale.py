"""The long histories of `make bench-journal` are valid journals, and its loads succeed at a small size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from remit.journal import RunQuery, check_projections, count_approvals, list_runs
from remit.workspace.session import open_session
from support import TESTS
from support.journal_history import history_workspace, record_template, write_claims, write_history, write_pruned

SMALL = ["--events", "0", "4500", "--rounds", "1", "--turns", "1", "--steps", "3", "--pruned", "20", "--claims", "200"]
FEW = ["--runs", "5", "--crowds", "1", "--processes", "2", "--appends", "10", "--start-s", "6"]


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_a_copied_history_verifies_and_agrees_with_its_projections(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    links = record_template(history_workspace(tmp_path / "template"))
    url = request.getfixturevalue("postgres") if store == "postgres" else ""
    folder = history_workspace(tmp_path / "history", settings=f'journal = "{url}"\n' if url else "")
    open_session(folder).journal.close()
    location = url or str(folder / "traces" / "journal.db")
    history = write_history(location, links, events=4500)
    write_pruned(location, 3)
    write_claims(location, "calls/*/*/*/60/*", 60 * 10**9, 200)
    journal = open_session(folder).journal
    assert history.runs == 4500 // len(links) == len(list(list_runs(journal)))
    assert (len(history.waiting), len(history.in_doubt)) == (1, 1)
    assert count_approvals(journal, "waiting") == 1
    assert [item.run for item in list_runs(journal, RunQuery(in_doubt=True))] == list(history.in_doubt)
    for run in (*history.finished[:3], *history.waiting, *history.in_doubt, "workspace"):
        assert journal.verify(run) == ()
    # The claims have no events: counters may be higher than the events say, because runs are pruned.
    assert [str(item) for item in check_projections(journal)] == []
    journal.close()


def bars(output: Path, arguments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the benchmark measured, by name; with 1 some bar was missed."""
    line = [sys.executable, str(TESTS / "benchmarks" / "journal.py"), *SMALL, *FEW, *arguments, "--output", str(output)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    return {bar["name"]: bar for bar in json.loads(output.read_text())["bars"]}


def test_the_loads_of_the_benchmark_succeed_on_postgresql(tmp_path: Path, postgres: str) -> None:
    """Times are not compared here, because other tests run beside it."""
    found = bars(tmp_path / "out", ["--stores", "postgres", "--only", "round_trips", "crowd", "processes", "pruning"])
    counted = {name: bar["value"] for name, bar in found.items() if bar["unit"] == ""}
    assert 1 <= counted.pop("round trips of a step") <= 4
    assert len(counted) == 3
    assert set(counted.values()) == {0}


def test_the_benchmark_measures_commands_and_starts_on_sqlite(tmp_path: Path) -> None:
    found = bars(tmp_path / "out", ["--stores", "sqlite", "--only", "commands", "gauges", "pruned", "limits"])
    assert len(found) == 8
    assert all(bar["value"] > 0 for name, bar in found.items() if bar["unit"] == "times")
    assert all(bar["held"] for bar in found.values() if bar["unit"] == "MB more")
