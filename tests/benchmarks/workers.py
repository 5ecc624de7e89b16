"""Runs per second of several workers on one PostgreSQL, and how soon a dead worker is replaced: `make bench-workers`.

1. One process that drives runs beside each other without a queue: what one loop can do.
2. The same runs, from the queue, with 1 to 4 workers. The machine has to have a core for each of them for the rates to grow. Beside it
   the rate that `support/capacity.py` predicts from the processor seconds that a run takes of one worker and of PostgreSQL.
3. The queue alone: runs that are taken, which need nothing, and jobs of Procrastinate that do nothing, on the same server.
4. A worker is killed with -9 while it drives runs: how long until another one has resumed each of them.
5. A run of one sandboxed call, driven by a worker that has the sandbox of the tool ready.

Bars: 2 workers drive at least 0.9 times 2 times the runs of one loop; 95 of 100 runs are resumed within 5 s; a run of one
sandboxed call takes at most 60 ms (median).
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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from remit.client import Remit
from remit.core.events import NANO, Recorded, RunFinished, RunResumed
from remit.journal import Journal
from remit.runtime import RunRequest, open_model_of, start_run
from remit.workspace import open_session
from support import ROOT
from support.capacity import Costs, Fleet, Simulation
from support.postgres import Server, journals_in, shared_server
from support.principals import OPERATOR
from support.workspaces.ledger import environment, ledger_workspace, use

SLOTS: Final = 8
CALLS: Final = [{"ledger__wire": {"name": "ann", "amount": 1}}, {"ledger__look": {"name": "ann"}}]
TURNS: Final = [{"say": "first", "calls": CALLS}, {"say": "second", "calls": CALLS}, {"say": "done"}]
WAIT_S: Final = 300.0


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


@contextmanager
def workers(folder: Path, count: int, env: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many workers, which have opened the workspace and wait."""
    line = [sys.executable, "-m", "remit", "worker", "--slots", str(SLOTS), "--json"]
    with (folder / "workers.log").open("a") as log:
        started = [
            subprocess.Popen(line, cwd=folder, env={**os.environ, **env}, stdout=log, stderr=log) for _ in range(count)
        ]
        try:
            yield started
        finally:
            for one in started:
                one.send_signal(signal.SIGTERM)
            for one in started:
                one.wait(60)


def one_loop(folder: Path, runs: int) -> float:
    """Runs per second of this process without a queue."""
    use(folder)

    async def drive() -> float:
        session = open_session(folder)
        gate = asyncio.Semaphore(SLOTS)

        async def one() -> None:
            async with gate:
                model = open_model_of(session, "clerk")
                await start_run(
                    session, RunRequest(agent="clerk", task="pay", subject="user:operator", by=OPERATOR, model=model)
                )

        await one()  # what is loaded once is loaded
        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(runs)))
        took = time.perf_counter() - begun
        session.journal.close()
        return runs / took

    return asyncio.run(drive())


@dataclass(frozen=True, kw_only=True)
class Driven:
    """Runs per second of some workers, what one run took, and the share of the cores that other work left to them."""

    rate: float
    costs: Costs
    share: float


def processor_s(process: int) -> float:
    """The processor seconds of a process, and of the children that it has waited for."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def busy_s() -> float:
    """The seconds in which the cores of this machine did something, since it was started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")  # without idle, and waiting for disks


def server_s(server: Server) -> float:
    """Those of all processes of PostgreSQL."""
    found = [server.pid]
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if status.read_text().rpartition(") ")[2].split()[1] == str(server.pid):
                found.append(int(status.parent.name))
    with suppress(OSError):
        return sum(processor_s(process) for process in found)
    return server_s(server)  # one has ended meanwhile


def from_queue(folder: Path, server: Server, runs: int, count: int) -> Driven:
    """So many workers, from the end of a hold to the end of the last run."""
    use(folder)
    with Remit.open(folder) as client, workers(folder, count, environment(folder)) as started:
        time.sleep(3.0 + count)
        journal = client.session.journal
        for name in [client.enqueue("clerk", "pay") for _ in range(4 * SLOTS * count)]:
            until_ended(journal, name)  # what each worker loads once is loaded
        client.hold("all", reason="until every run is in the queue")
        names = [client.enqueue("clerk", "pay") for _ in range(runs)]
        before = [sum(processor_s(one.pid) for one in started), server_s(server), busy_s()]
        begun = time.time_ns()
        client.lift("all")
        ends = [until_ended(journal, names[-1]), *(until_ended(journal, name) for name in names)]
        own, database = sum(processor_s(one.pid) for one in started) - before[0], server_s(server) - before[1]
        others = busy_s() - before[2] - own - database
    took = (max(ends) - begun) / NANO
    cores = (os.cpu_count() or 1) * took
    return Driven(
        rate=runs / took,
        share=max(0.01, 1 - others / cores),
        costs=Costs(worker=own / runs, database=database / runs, rounds=len(TURNS)),
    )


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
        for _ in range(kills):
            names = [client.enqueue("clerk", "pay") for _ in range(SLOTS)]
            with workers(folder, 1, env) as (dying,):
                until_begun(client.session.journal, names)
                with workers(folder, 1, env):
                    time.sleep(4.0)
                    driven = [name for name in names if client.session.journal.is_driven(name)]
                    killed = time.time_ns()
                    dying.kill()
                    for name in names:
                        until_ended(client.session.journal, name)
            found += [at for name in driven for at in resumed_after(client.session.journal.events(name), killed)]
    return found


def until_begun(journal: Journal, runs: Sequence[str]) -> None:
    until = time.monotonic() + WAIT_S
    while not any(journal.is_driven(run) for run in runs):
        assert time.monotonic() < until, "no worker takes a run"
        time.sleep(0.02)


def resumed_after(events: Sequence[Recorded], killed: int) -> list[float]:
    """In how many seconds after the kill the run was resumed; empty if it had ended."""
    times = [item.at for item in events if isinstance(item.event, RunResumed) and item.at > killed]
    return [(min(times) - killed) / NANO] if times else []


def sandboxed(folder: Path, runs: int) -> list[float]:
    """Milliseconds of runs of one sandboxed call, from when a worker has taken them to their end."""
    found: list[float] = []
    with Remit.open(folder) as client, workers(folder, 1, {}):
        for number in range(runs + 3):
            name = client.enqueue("triage", "read")
            until_ended(client.session.journal, name)
            events = client.session.journal.events(name)
            times = {type(item.event): item.at for item in events}
            if number >= 3:
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
    from remit.journal import look_into_queue

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


def _ledger(folder: Path) -> Path:
    use(folder)
    return ledger_workspace(folder, TURNS)


def measures(base: Path, server: Server, runs: int, kills: int) -> Iterator[Measure]:
    with ExitStack() as stack:
        stack.enter_context(journals_in(server))
        clerk = _ledger(base / "clerk")
        loop = one_loop(clerk, runs)
        yield Measure(name="one loop, no queue", value=loop, unit="runs/s")
        costs = None
        for count in (1, 2, 3, 4):
            driven = from_queue(clerk, server, runs, count)
            bar = 0.9 * 2 * loop if count == 2 else None
            yield Measure(name=f"{count} workers", value=driven.rate, unit="runs/s", bar=bar, least=True)
            if costs is not None:
                fleet = Fleet(workers=count, cores=os.cpu_count() or 1, slots=SLOTS)
                slower = replace(costs, worker=costs.worker / driven.share, database=costs.database / driven.share)
                rate = Simulation(slower, fleet, runs=2000).play().rate
                name = f"{count} workers, predicted for the {driven.share:.0%} of the cores that were left"
                yield Measure(name=name, value=rate, unit="runs/s")
                continue
            costs = driven.costs
            yield Measure(name="processor time of a run, worker", value=1000 * costs.worker, unit="ms")
            yield Measure(name="processor time of a run, PostgreSQL", value=1000 * costs.database, unit="ms")
        yield Measure(name="taken from the queue, not driven", value=taken_alone(clerk, 200), unit="runs/s")
        with server.database() as url:
            rate = procrastinate_jobs(url, 1000)
        if rate is not None:
            yield Measure(name="jobs of Procrastinate that do nothing", value=rate, unit="jobs/s")
        times = recovery(_ledger(base / "slow"), kills)
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
    parser.add_argument("--output", type=Path, default=ROOT / ".bench" / "workers.json")
    chosen = parser.parse_args()
    found: list[Measure] = []
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as name, shared_server(Path(name)) as server:
        for measure in measures(Path(name), server, chosen.runs, chosen.kills):
            print(measure, flush=True)
            found.append(measure)
    print(f"{os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}")
    chosen.output.parent.mkdir(exist_ok=True)
    chosen.output.write_text(json.dumps([{**asdict(one), "held": one.held} for one in found], indent=2))
    return 0 if all(one.held for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
