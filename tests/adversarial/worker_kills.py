"""Kill workers with -9 at random times while they drive runs. No run is lost, and no irreversible effect happens twice.

    python tests/adversarial/worker_kills.py --runs 300 --kills 30 [--workers 3] [--seed N] [--json]

The journal is in PostgreSQL, which crashes and recovers twice meanwhile. The runs are those of `crash.py`: sandboxed calls whose
effects are counted in a file that only the tool writes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

import psycopg

from adversarial.crash import BAD, PATIENCE_S, Run, below, ended, forked, judged, write_ledger
from remit.client import Remit
from remit.core import RunEnded
from remit.core.events import NANO, RunFinished, RunResumed
from remit.journal import Journal
from remit.workspace import open_session
from support.postgres import Server, journals_in, shared_server

GAP_S = 1.2  # between two kills
START_S = 3.0  # until the first one: the workers start
CRASHES = 2  # of PostgreSQL
CONNECTED = "SELECT pid FROM pg_stat_activity WHERE application_name = 'remit'"


class Workers:
    """Some processes of `remit worker`, each of which is started again when it is killed."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._log = (folder / "workers.log").open("w")
        self._processes = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "remit", "worker", "--slots", "4", "--json"]
        return subprocess.Popen(line, cwd=self._folder, stdout=self._log, stderr=self._log, start_new_session=True)

    def restart_dead(self) -> None:
        """Start those again that have ended, as a service manager does: a worker ends if the journal cannot be opened."""
        self._processes = [self._start() if worker.poll() is not None else worker for worker in self._processes]

    def kill_one(self, chance: random.Random, *, with_sandboxes: bool) -> tuple[int, int, str]:
        """Kill one worker; returns the times before and after (Unix nanoseconds), and what was killed."""
        at = chance.randrange(len(self._processes))
        worker = self._processes[at]
        victims = [*(below(worker.pid) if with_sandboxes else []), worker.pid]
        before = time.time_ns()
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        worker.wait()
        self._processes[at] = self._start()
        return before, time.time_ns(), "both" if with_sandboxes else "broker"

    def end(self) -> None:
        for worker in self._processes:
            worker.send_signal(signal.SIGTERM)
        for worker in self._processes:
            worker.wait(PATIENCE_S)
        self._log.close()


def crash_database(server: Server) -> None:
    """Kill one process of PostgreSQL with -9: all of its connections end, and it recovers from its log."""
    while True:
        with suppress(psycopg.OperationalError), server.admin() as admin:  # it may still recover from the last time
            if found := admin.execute(CONNECTED).fetchall():
                os.kill(found[0][0], signal.SIGKILL)
                return
        time.sleep(0.05)


def unfinished(journal: Journal, runs: list[str]) -> list[str]:
    return [run for run in runs if journal.get(run, "run.finished/-/-/-") is None]


def harness(folder: Path, server: Server, given: argparse.Namespace) -> Counter[str]:
    assert ended(forked(lambda: (write_ledger(folder), 0)[1]), PATIENCE_S) == 0
    (folder / "witness").mkdir()
    chance, runs = random.Random(given.seed), [f"{number + 1:032x}" for number in range(given.runs)]
    with Remit.open(folder) as client:
        for run in runs:
            client.enqueue("teller", "pay", run_id=run)
    workers, kills = Workers(folder, given.workers), list[tuple[int, int, str]]()
    begun = time.monotonic()
    try:
        crashes_at = [given.kills * (number + 1) // (CRASHES + 1) for number in range(CRASHES)]
        for number in range(given.kills):
            time.sleep(START_S if number == 0 else chance.uniform(0.5, 1.5) * GAP_S)
            kills.append(workers.kill_one(chance, with_sandboxes=chance.random() < 0.5))
            if number in crashes_at:
                before = time.time_ns()
                crash_database(server)
                kills.append((before, time.time_ns() + 5 * NANO, "database"))
        left = wait_for_all(folder, runs, workers)
    finally:
        workers.end()
    found: Counter[str] = Counter(kills=len(kills), seconds=int(time.monotonic() - begun), unfinished=len(left))
    for number, run in enumerate(runs):
        one = Run(folder=folder, name=run, chance=chance, kills=kills)
        one.witness.touch()
        counts = judged(one, replayed=number % 10 == 0)
        del counts["kills"]
        found += counts
    return found + resumed(folder, runs, kills)


def wait_for_all(folder: Path, runs: list[str], workers: Workers) -> list[str]:
    """Return the runs that have not ended although nothing ended for a long time."""
    left, changed = runs, time.monotonic()
    while left and time.monotonic() - changed < PATIENCE_S:
        workers.restart_dead()
        with suppress(RunEnded):  # the database recovers
            session = open_session(folder)
            now = unfinished(session.journal, left)
            session.journal.close()
            changed = time.monotonic() if len(now) < len(left) else changed
            left = now
        time.sleep(1.0)
    return left


def resumed(folder: Path, runs: list[str], kills: list[tuple[int, int, str]]) -> Counter[str]:
    """How often runs were taken over, and how many ended otherwise than completed."""
    found: Counter[str] = Counter()
    session = open_session(folder)
    for run in runs:
        events = session.journal.events(run)
        found["taken"] += sum(isinstance(item.event, RunResumed) for item in events)
        found["not_completed"] += any(
            isinstance(item.event, RunFinished) and item.event.outcome != "completed" for item in events
        )
    session.journal.close()
    return found


WRONG = (*BAD, "unfinished")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=20261130)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="remit-worker-kills-") as name,
        shared_server(Path(name)) as server,
        journals_in(server),
    ):
        found = harness(Path(name) / "work", server, given)
    if given.json:
        print(json.dumps({word: found[word] for word in sorted({*found, *WRONG})}))
    else:
        for word in sorted({*found, *WRONG}):
            print(f"{word:<18}{found[word]:>8}")
    sys.exit(any(found[word] for word in WRONG))


if __name__ == "__main__":
    main()
