"""Runs per second of several workers on one PostgreSQL, and how soon a dead worker is replaced: `make bench-workers`.

1. One process that drives runs beside each other without a queue: what one loop can do; then two such processes at once: what
   the cores can do.
2. The same runs, from the queue, with 1 to 4 workers; of each, the processor seconds that a run takes of a worker and of PostgreSQL, what
   the cores allow with these, and what other processes took of them. Beside it the rate that `support/capacity.py` predicts from
   what one worker measured.
3. The queue alone: runs that are taken, which need nothing, and jobs of Procrastinate that do nothing, on the same server.
4. A worker is killed with -9 while it drives runs: how long until another one has resumed each of them.
5. A run of one sandboxed call, driven by a worker that has the sandbox of the tool ready.

Bars: 2 workers drive at least 0.9 times 2 times the runs of one loop, and 0.9 times those of two loops at once; a prediction differs by at most 20 %;
95 of 100 runs are resumed within 5 s; a run of one sandboxed call takes at most 60 ms (median). PostgreSQL needs about a seventh of the
time: where it has no core of its own, two workers cannot reach twice one loop, and "at most" says what they can.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from remit.client import Remit
from remit.core.events import NANO, Recorded, RunFinished, RunResumed
from remit.journal import Journal, count_queued, look_into_queue
from remit.runtime import RunRequest, open_model_of, start_run
from remit.workspace import open_session
from support import ROOT
from support.capacity import Costs, Fleet, Simulation
from support.fleet import until
from support.meter import CORES, Driven, Meter
from support.postgres import Server, journals_in, shared_server
from support.principals import OPERATOR
from support.workspaces.ledger import environment, ledger_workspace, use

SLOTS: Final = 8
CALLS: Final = [{"ledger__wire": {"name": "ann", "amount": 1}}, {"ledger__look": {"name": "ann"}}]
TURNS: Final = [{"say": "first", "calls": CALLS}, {"say": "second", "calls": CALLS}, {"say": "done"}]
LONG: Final[list[dict[str, Any]]] = [
    *[{"say": "next", "calls": CALLS}] * 10,
    {"say": "done"},
]  # it still goes on when its worker is killed
WAIT_S: Final = 300.0
LOOK_S: Final = 0.2  # to look more often would take time from the workers
COMPLETED: Final = '"completed"'
TAKEN: Final = "another process executes run"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure. `bar` is the most or the least that it may be, None without one."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    least: bool = False

    @property
    def held(self) -> bool:
        return self.bar is None or (self.value >= self.bar if self.least else self.value <= self.bar)

    def __str__(self) -> str:
        bar = (
            ""
            if self.bar is None
            else f"  {'≥' if self.least else '≤'} {self.bar:g}: {'held' if self.held else 'MISSED'}"
        )
        return f"{self.name:<66}{self.value:>10.2f} {self.unit}{bar}"


@dataclass(frozen=True, kw_only=True)
class Started:
    """A worker, and the file that it writes what it drove to."""

    process: subprocess.Popen[bytes]
    log: Path

    def count(self, text: str) -> int:
        """How many of its lines have this text."""
        return sum(text in line for line in self.log.read_text().splitlines())


@contextmanager
def workers(folder: Path, count: int, env: dict[str, str], *, slots: int = SLOTS) -> Iterator[list[Started]]:
    """So many workers. They end with the block."""
    line = [sys.executable, "-m", "remit", "worker", "--slots", str(slots), "--json"]
    with ExitStack() as stack:
        started: list[Started] = []
        try:
            for _ in range(count):
                log = stack.enter_context(tempfile.NamedTemporaryFile(dir=folder, prefix="worker-", delete=False))
                process = subprocess.Popen(line, cwd=folder, env={**os.environ, **env}, stdout=log, stderr=log)
                started.append(Started(process=process, log=Path(log.name)))
            yield started
        finally:
            for one in started:
                one.process.send_signal(signal.SIGTERM)
            for one in started:
                one.process.wait(60)


def warm_up(client: Remit, agent: str, started: Sequence[Started], runs: int) -> None:
    """Return when each worker has driven so many runs: what is loaded once is loaded."""
    while not all(one.count(COMPLETED) >= runs for one in started):
        client.enqueue(agent, "warm up")
        until(lambda: count_queued(client.session.journal) < SLOTS * len(started), WAIT_S)
    until(lambda: count_queued(client.session.journal) == 0, WAIT_S)


def loops(folder: Path, server: Server, runs: int, count: int) -> Driven:
    """So many processes that drive runs beside each other, without a queue."""
    line = [sys.executable, __file__, "--loop", str(folder), "--runs", str(runs // count)]
    started = [
        subprocess.Popen(line, env={**os.environ, **environment(folder)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    try:
        for one in started:
            assert one.stdout is not None
            assert one.stdout.readline() == b"ready\n"
        meter = Meter([one.pid for one in started], server, rounds=len(TURNS))
        for one in started:
            assert one.stdin is not None
            one.stdin.write(b"go\n")
            one.stdin.flush()
        ends = [end for one in started for end in json.loads(one.stdout.readline() if one.stdout else b"")]
        meter.stop()
        return meter.driven(ends)
    finally:
        for one in started:
            one.communicate(b"end\n")


def drive_loop(folder: Path, runs: int) -> None:
    """What a process of `loops` does: it prints when each of its runs ended."""
    use(folder)

    async def drive() -> list[float]:
        session = open_session(folder)
        gate = asyncio.Semaphore(SLOTS)

        async def one() -> float:
            async with gate:
                model = open_model_of(session, "clerk")
                request = RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model)
                await start_run(session, request)
                return time.time()

        for _ in range(4 * SLOTS):
            await one()  # what is loaded once is loaded
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        ends = await asyncio.gather(*(one() for _ in range(runs)))
        session.journal.close()
        return ends

    print(json.dumps(asyncio.run(drive())), flush=True)
    sys.stdin.readline()  # its processor time is read meanwhile


def from_queue(folder: Path, server: Server, runs: int, count: int) -> Driven:
    """So many workers, from the end of a hold on."""
    use(folder)
    with Remit.open(folder) as client, workers(folder, count, environment(folder)) as started:
        journal = client.session.journal
        warm_up(client, "clerk", started, SLOTS)
        client.hold("all", reason="until every run is in the queue")
        names = [client.enqueue("clerk", "pay") for _ in range(runs)]
        lost = sum(one.count(TAKEN) for one in started)
        meter = Meter([one.process.pid for one in started], server, rounds=len(TURNS))
        client.lift("all")
        while count_queued(journal):
            time.sleep(LOOK_S)
        meter.stop()
        ends = [until_ended(journal, name) / NANO for name in names]
        return meter.driven(ends, sum(one.count(TAKEN) for one in started) - lost)


def until_ended(journal: Journal, run: str) -> int:
    """When the run ended, in Unix nanoseconds."""
    until = time.monotonic() + WAIT_S
    while (found := journal.get(run, "run.finished/-/-/-")) is None:
        assert time.monotonic() < until, f"run {run} has not ended"
        time.sleep(0.05)
    return found.at


def recovery(folder: Path, kills: int) -> list[float]:
    """Seconds from a kill -9 until another worker resumed each run that the dead one drove."""
    found: list[float] = []
    env = {**environment(folder), "LEDGER_SLOW": "0.4"}
    with Remit.open(folder) as client:
        journal = client.session.journal
        for _ in range(kills):
            with workers(folder, 1, env) as (dying,), workers(folder, 1, env) as (other,):
                warm_up(client, "clerk", [dying, other], 1)
                other.process.send_signal(signal.SIGSTOP)  # it has nothing to do, and takes nothing
                client.hold("all", reason="until every run is in the queue")
                names = [client.enqueue("clerk", "pay") for _ in range(SLOTS)]
                client.lift("all")
                until(partial(any_driven, journal, names), WAIT_S)
                other.process.send_signal(signal.SIGCONT)
                time.sleep(1.0)
                driven, killed = [name for name in names if journal.is_driven(name)], time.time_ns()
                dying.process.kill()
                for name in names:
                    until_ended(journal, name)
            found += [at for name in driven for at in resumed_after(journal.events(name), killed)]
    return found


def any_driven(journal: Journal, runs: Sequence[str]) -> bool:
    return any(journal.is_driven(run) for run in runs)


def resumed_after(events: Sequence[Recorded], killed: int) -> list[float]:
    """In how many seconds after the kill the run was resumed; empty if it had ended."""
    times = [item.at for item in events if isinstance(item.event, RunResumed) and item.at > killed]
    return [(min(times) - killed) / NANO] if times else []


def sandboxed(folder: Path, runs: int) -> list[float]:
    """Milliseconds of runs of one sandboxed call, from when a worker has taken them to their end."""
    found: list[float] = []
    with Remit.open(folder) as client, workers(folder, 1, {}) as started:
        warm_up(client, "triage", started, 3)
        for _ in range(runs):
            name = client.enqueue("triage", "read")
            until_ended(client.session.journal, name)
            events = client.session.journal.events(name)
            times = {type(item.event): item.at for item in events}
            found.append((times[RunFinished] - times[RunResumed]) / 1e6)
    return found


def write_one_call(folder: Path) -> None:
    """The starter workspace, whose agent makes one call of its sandboxed tool."""
    subprocess.run([sys.executable, "-m", "remit", "init", str(folder)], check=True, capture_output=True)
    call: list[dict[str, Any]] = [{"files__read": {"path": "runbooks/payments-pool.md", "lines": 1}}]
    turns = {"turns": [{"say": "read", "calls": call}, {"say": "done"}]}
    (folder / "agent/triage/script.yaml").write_text(json.dumps(turns))


def taken_alone(folder: Path, runs: int) -> float:
    """Runs per second that one process finds in the queue, takes and gives back, without driving them."""
    use(folder)
    with Remit.open(folder) as client:
        for _ in range(runs):
            client.enqueue("clerk", "pay")
        journal = client.session.journal
        begun, done = time.perf_counter(), 0
        while time.perf_counter() - begun < 3.0:
            for run in look_into_queue(journal).runs[:SLOTS]:
                with journal.brief_lease(run):
                    done += 1
        return done / (time.perf_counter() - begun)


def procrastinate_jobs(url: str, jobs: int) -> float | None:
    """Jobs per second of Procrastinate, which do nothing; None if it is not installed."""
    try:
        import procrastinate  # type: ignore[import-not-found,unused-ignore]
    except ModuleNotFoundError:
        return None
    app: Any = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))

    @app.task(name="nothing")  # type: ignore[untyped-decorator,unused-ignore]
    async def nothing() -> None:
        pass

    async def work() -> float:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            for _ in range(jobs):
                await nothing.defer_async()
            begun = time.perf_counter()
            await app.run_worker_async(wait=False, concurrency=SLOTS, install_signal_handlers=False)
            return jobs / (time.perf_counter() - begun)

    return asyncio.run(work())


def predicted(count: int, driven: Driven, costs: Costs) -> Iterator[Measure]:
    """What the simulation says of so many workers, from what one worker measured, and how far from the truth that is."""
    left = 1 - driven.others
    slower = replace(costs, worker=costs.worker / left, database=costs.database / left)
    fleet = Fleet(workers=count, cores=CORES, slots=SLOTS)
    rate = Simulation(slower, fleet, runs=2000).play().rate
    yield Measure(name=f"{count} workers, predicted", value=rate, unit="runs/s")
    yield Measure(name="    differs by", value=abs(100 * (rate / driven.rate - 1)), unit="%", bar=20.0)


def _ledger(folder: Path, turns: Sequence[dict[str, Any]] = TURNS) -> Path:
    use(folder)
    return ledger_workspace(folder, list(turns))


def rates(clerk: Path, server: Server, runs: int) -> Iterator[Measure]:
    """Loops without a queue, then 1 to 4 workers, each with what its runs took."""
    alone, both = (loops(clerk, server, runs, count) for count in (1, 2))
    yield from _shown("one loop, no queue", alone)
    yield from _shown("two loops at once, no queue", both)
    costs = None
    for count in (1, 2, 3, 4):
        driven = from_queue(clerk, server, runs, count)
        yield from _shown(f"{count} workers", driven, bar=0.9 * 2 * alone.rate if count == 2 else None)
        if count == 2:
            share = driven.rate / both.rate
            yield Measure(name="2 workers, of two loops at once", value=100 * share, unit="%", bar=90.0, least=True)
        if costs is None:
            costs = driven.costs
            continue
        yield from predicted(count, driven, costs)


def _shown(name: str, driven: Driven, bar: float | None = None) -> Iterator[Measure]:
    costs = driven.costs
    yield Measure(name=name, value=driven.rate, unit="runs/s", bar=bar, least=True)
    yield Measure(name="    processor time of a run, of its process", value=1000 * costs.worker, unit="ms")
    yield Measure(name="    processor time of a run, of PostgreSQL", value=1000 * costs.database, unit="ms")
    yield Measure(name=f"    at most, on {CORES} cores", value=CORES / (costs.worker + costs.database), unit="runs/s")
    yield Measure(name="    of the cores: other processes", value=100 * driven.others, unit="%")
    yield Measure(name="    of the cores: idle", value=100 * driven.idle, unit="%")
    yield Measure(name="    tries of a run that another worker has, for each run", value=driven.lost, unit="")


def measures(base: Path, server: Server, runs: int, kills: int) -> Iterator[Measure]:
    with ExitStack() as stack:
        stack.enter_context(journals_in(server))
        clerk = _ledger(base / "clerk")
        yield from rates(clerk, server, runs)
        if not kills:
            return
        yield Measure(name="taken from the queue, not driven", value=taken_alone(clerk, 200), unit="runs/s")
        with server.database() as url:
            rate = procrastinate_jobs(url, 1000)
        if rate is not None:
            yield Measure(name="jobs of Procrastinate that do nothing", value=rate, unit="jobs/s")
        times = recovery(_ledger(base / "slow", LONG), kills)
        yield Measure(name=f"recovery of {len(times)} runs, p95", value=quantiles(times, n=20)[-1], unit="s", bar=5.0)
        write_one_call(base / "starter")
        took = sandboxed(base / "starter", 30)
        yield Measure(
            name="run of one sandboxed call on a warm worker, median", value=median(took), unit="ms", bar=60.0
        )


def main() -> int:
    """Measure, print, write `.bench/workers.json`; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs of each measure")
    parser.add_argument("--kills", type=int, default=5, help="workers that are killed, of 8 runs each")
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)  # what `loops` starts
    parser.add_argument("--rates", action="store_true", help="only the runs per second")
    parser.add_argument("--output", type=Path, default=ROOT / ".bench" / "workers.json")
    chosen = parser.parse_args()
    if chosen.loop:
        drive_loop(chosen.loop, chosen.runs)
        return 0
    found: list[Measure] = []
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as name, shared_server(Path(name)) as server:
        for measure in measures(Path(name), server, chosen.runs, 0 if chosen.rates else chosen.kills):
            print(measure, flush=True)
            found.append(measure)
    print(f"{os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}")
    chosen.output.parent.mkdir(exist_ok=True)
    chosen.output.write_text(json.dumps([{**asdict(one), "held": one.held} for one in found], indent=2))
    return 0 if all(one.held for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
