"""A full disk, a read-only folder, a dead collector: a clear end or no effect, and no call runs unrecorded."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.core.events import AttemptBegun
from remit.tracing import open_trace
from remit.tracing.reports.reconciliation import reconcile
from remit.tracing.reports.verification import verify
from remit.workspace.session import open_session
from support import cli_server as warm
from support.mounts import run_mounted
from support.runs import DONE, CommandResult, turn
from support.workspaces.ledger import effects, environment

PAYING = [
    turn(ledger__book={"name": f"n{step}", "amount": step}, ledger__look={"name": "ann", "text": "x" * 4000})
    for step in range(12)
]
RUN = "00000000000000000000000000000bad"


def remit(folder: Path, *args: str, largest_file: int | None = None, **env: str) -> CommandResult:
    return warm.command(folder, *args, env={**environment(folder), **env}, largest_file=largest_file)


def read_only(folder: Path, *args: str) -> CommandResult:
    """Runs a command with traces/ mounted read-only."""
    traces = str(folder / "traces")
    return run_mounted(folder, ["--ro-bind", traces, traces], [sys.executable, "-m", "remit", *args])


def intended(folder: Path) -> int:
    """The number of recorded attempts with an effect."""
    events = [item.event for item in open_session(folder).journal.events(RUN)]
    return sum(isinstance(event, AttemptBegun) and event.idempotency_key != "" for event in events)


@pytest.mark.parametrize("limit", [60_000, 150_000])
def test_a_full_disk_ends_the_run_and_free_space_lets_it_resume(clerk: Callable[..., Path], limit: int) -> None:
    folder = clerk([*PAYING[:6], DONE])
    done = remit(folder, "run", "clerk", "pay", "--run-id", RUN, largest_file=limit)
    assert done.code == 1
    assert "unrecorded: " in done.err
    assert "fix: free disk space" in done.err
    assert "Traceback" not in done.err
    opened = open_session(folder)
    done = [effect for effect in effects(folder) if effect["action"] == "book"]
    assert len(done) <= intended(folder)
    if not opened.journal.events(RUN):
        return
    assert reconcile(opened.traces, opened.journal, opened.journal.chain(RUN)).state == "complete"
    again = remit(folder, "run", "--resume", RUN)
    assert again.code == 0, again.err
    keys = [effect["key"] for effect in effects(folder) if effect["action"] == "book"]
    assert len(set(keys)) == 3  # the policy's own limit
    assert verify(open_trace(opened.traces, opened.journal, RUN)) == ()


def test_nothing_runs_if_the_trace_folder_cannot_be_written(clerk: Callable[..., Path], tmp_path: Path) -> None:
    """A read-only mount also stops root. A run recorded before can still be listed and shown."""
    folder = clerk([PAYING[0], DONE])
    assert remit(folder, "run", "clerk", "pay", "--run-id", RUN).code == 0
    before = effects(folder)
    done = read_only(folder, "run", "clerk", "pay again")
    assert done.code in (1, 2), done.err
    assert "unrecorded: " in done.err
    assert "its folder is read-only" in done.err
    assert "fix: " in done.err
    assert "Traceback" not in done.err
    assert effects(folder) == before
    shown = read_only(folder, "trace", "show", RUN)
    assert shown.code == 0, shown.err
    assert shown.out.startswith("completed")


def test_a_dead_collector_only_adds_a_line_at_the_end(clerk: Callable[..., Path]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        folder = clerk([PAYING[0], DONE])
        done = remit(
            folder,
            "run",
            "clerk",
            "pay",
            "--run-id",
            RUN,
            OTEL_EXPORTER_OTLP_ENDPOINT=address,
            OTEL_METRICS_EXPORTER="none",
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
        )
    assert done.code == 0, done.err
    assert "spans did not arrive at the collector; the trace file contains all spans" in done.out
    opened = open_session(folder)
    assert reconcile(opened.traces, opened.journal, opened.journal.chain(RUN)).state == "complete"
