"""Recorded runs replay anywhere in any order, and a killed process loses nothing. Full size by `make faithful`."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

from remit.core.events import AttemptBegun, AttemptEnded
from remit.tracing import read_trace
from remit.tracing.reports.reconciliation import compare_copy, reconcile
from remit.tracing.reports.timeline import build_timeline
from remit.tracing.reports.verification import verify
from remit.workspace.session import open_session
from support import bulk_runs
from support.cli_server import server
from support.events import spans
from support.runs import DONE, turn
from support.workspaces.ledger import effects

RUNS = int(os.environ.get("REMIT_RUNS", "6"))
PROCESSES = int(os.environ.get("REMIT_PROCESSES", "2"))
POINTS = int(os.environ.get("REMIT_POINTS", "3"))


def test_recorded_runs_are_reproduced_in_any_order_by_parallel_processes(tmp_path: Path) -> None:
    """Every process replays every run, each in another order."""
    seeds = range(10_000, 10_000 + RUNS)
    bulk_runs.in_parallel(
        bulk_runs.record_runs, [(str(tmp_path), seeds[number::PROCESSES]) for number in range(PROCESSES)]
    )
    bulk_runs.in_parallel(bulk_runs.replay_runs, [(str(tmp_path), order) for order in range(PROCESSES)])
    for order in range(PROCESSES):
        assert json.loads((tmp_path / f"{order}.failed").read_text()) == [RUNS, {}]


def test_a_run_killed_anywhere_leaves_a_file_equal_to_its_journal_that_names_what_was_in_flight(
    clerk: Callable[..., Path],
) -> None:
    """kill -9 after any event or a moment later; unfinished spans are marked, and no call runs unrecorded."""
    looked = {
        "say": "look",
        "calls": [{"ledger__look": {"name": "ann"}}, {"ledger__pay": {"name": "ann", "amount": 1}}],
    }
    folder = clerk([looked, turn(ledger__book={"name": "ben", "amount": 2}), looked, DONE])
    chance = random.Random(7)
    in_flight = 0
    for number in range(POINTS):
        name = f"{number + 1:032x}"
        kill_in_the_middle(folder, name, after=chance.randint(1, 42), later_s=chance.uniform(0.0, 0.006))
        opened = open_session(folder)
        chain = opened.journal.chain(name)
        path = opened.traces / f"{name}.jsonl"
        assert compare_copy(path, chain).state in ("complete", "behind"), name
        assert reconcile(opened.traces, opened.journal, chain).state == "complete"
        copy = read_trace(path)
        assert copy.chain.links == chain.links
        assert verify(copy, original=chain) == ()

        ended = {
            (event.step, event.index, event.attempt)
            for item in copy.records
            if isinstance(event := item.event, AttemptEnded)
        }
        begun = {
            (event.step, event.index, event.attempt)
            for item in copy.records
            if isinstance(event := item.event, AttemptBegun)
        }
        timeline = build_timeline(copy.records)
        running = {line.split(",")[0].removeprefix("step ") for line in timeline.in_flight if "was running" in line}
        assert running == {f"{step}.{index}" for step, index, _ in begun - ended}
        marked = [span["name"] for span in spans(path) if '"remit.unfinished"' in json.dumps(span)]
        assert marked.count("remit.attempt") == len(begun - ended)
        assert ("invoke_agent clerk" in marked) == (timeline.finished is None)
        in_flight += len(timeline.in_flight)
        opened.journal.close()
    assert in_flight or POINTS < 10
    with open_session(folder).journal as journal:
        recorded = sum(
            isinstance(item.event, AttemptBegun) and item.event.idempotency_key != ""
            for number in range(POINTS)
            for item in journal.events(f"{number + 1:032x}")
        )
    assert sum(effect["action"] == "book" for effect in effects(folder)) <= recorded  # no call ran unrecorded


def kill_in_the_middle(folder: Path, name: str, *, after: int, later_s: float) -> None:
    """Play the run in a process, and kill it `later_s` seconds after that number of events."""
    receiver, sender = server().Pipe(duplex=False)
    process = server().Process(target=bulk_runs.play_slowly, args=(str(folder), name, sender))
    process.start()
    sender.close()
    with contextlib.suppress(EOFError):  # the run ended before
        for _ in range(after):
            assert receiver.poll(120), "the run makes no progress"
            receiver.recv_bytes()
    process.join(later_s)
    process.kill()
    process.join(60)
    receiver.close()
