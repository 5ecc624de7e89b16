"""A full disk, a folder that cannot be written, a collector that is dead: a clear end or no matter, and no call runs unrecorded."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remit.core.events import AttemptBegun
from remit.sandbox import find_bwrap
from remit.tracing import open_trace
from remit.tracing.reports.reconciliation import reconcile
from remit.tracing.reports.verification import verify
from remit.workspace.session import open_session
from support import cli_server as warm
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
    """The same where traces/ is mounted read-only."""
    bwrap = find_bwrap()
    assert bwrap is not None
    traces = str(folder / "traces")
    mounted = [str(bwrap), "--dev-bind", "/", "/", "--ro-bind", traces, traces, "--", sys.executable, "-m", "remit"]
    done = subprocess.run(
        [*mounted, *args],
        cwd=folder,
        env={**os.environ, **environment(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return CommandResult(code=done.returncode, out=done.stdout, err=done.stderr)


def intended(folder: Path) -> int:
    """Effects that are recorded as intended."""
    events = [item.event for item in open_session(folder).journal.events(RUN)]
    return sum(isinstance(event, AttemptBegun) and event.idempotency_key != "" for event in events)


@pytest.mark.parametrize("limit", [60_000, 150_000])
def test_a_disk_that_fills_up_ends_the_run_and_room_lets_it_go_on(clerk: Callable[..., Path], limit: int) -> None:
    folder = clerk([*PAYING[:6], DONE])
    said = remit(folder, "run", "clerk", "pay", "--run-id", RUN, largest_file=limit)
    assert said.code == 1
    assert "unrecorded: " in said.err
    assert "fix: make room" in said.err
    assert "Traceback" not in said.err
    opened = open_session(folder)
    done = [effect for effect in effects(folder) if effect["action"] == "book"]
    assert len(done) <= intended(folder)
    if not opened.journal.events(RUN):
        return
    assert reconcile(opened.traces, opened.journal.chain(RUN)).state == "whole"
    again = remit(folder, "run", "--resume", RUN)
    assert again.code == 0, again.err
    keys = [effect["key"] for effect in effects(folder) if effect["action"] == "book"]
    assert len(set(keys)) == 3  # the policy's own limit
    assert verify(open_trace(opened.traces, opened.journal, RUN)) == ()


def test_a_folder_that_cannot_be_written_lets_nothing_run(clerk: Callable[..., Path], tmp_path: Path) -> None:
    """Read-only for root too, as a mount is; what was recorded before can still be read from its file."""
    folder = clerk([PAYING[0], DONE])
    assert remit(folder, "run", "clerk", "pay", "--run-id", RUN).code == 0
    before = effects(folder)
    said = read_only(folder, "run", "clerk", "pay again")
    assert said.code in (1, 2), said.err
    assert "Read-only file system" in said.err or "unrecorded" in said.err
    assert "fix: " in said.err
    assert "Traceback" not in said.err
    assert effects(folder) == before
    shown = read_only(folder, "trace", "show", f"traces/{RUN}.jsonl")
    assert shown.code == 0, shown.err
    assert shown.out.startswith("completed")


def test_a_dead_collector_changes_nothing_but_a_line_at_the_end(clerk: Callable[..., Path]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        folder = clerk([PAYING[0], DONE])
        said = remit(
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
    assert said.code == 0, said.err
    assert "spans did not arrive at the collector; the trace file has them all" in said.out
    opened = open_session(folder)
    assert reconcile(opened.traces, opened.journal.chain(RUN)).state == "whole"
