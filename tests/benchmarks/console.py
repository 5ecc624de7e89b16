"""What the console costs: `make bench-console`.

* The first page that a person sees, and the page of a run of 1,000 steps: bytes and wall time of a whole answer on this machine.
* From an event to the screens: a run is open on 300 pages. Another process records an event of it, and each page gets the new rendering. Once all
  pages are of one person, and once of 300 different people. The same for the list of runs, in a journal of 10,000 runs.
* Processor time of the service for one event on 300 pages: it does not depend on the load of the machine.

The times are wall times, so the bars are for a machine that is otherwise idle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from remit.core.events import NANO, AnyEvent, Recorded, RunFinished
from remit.journal import StoredRecord
from remit.workspace import WorkspaceSession, open_session
from remit.workspace.template import write_starter
from support import ROOT
from support import events as made
from support.console_process import ConsoleProcess, console_process

PAGES: Final = int(os.environ.get("REMIT_BENCH_PAGES", "300"))
STEPS: Final = int(os.environ.get("REMIT_BENCH_STEPS", "1000"))
RUNS: Final = int(os.environ.get("REMIT_BENCH_RUNS", "10000"))
WAITING: Final = 100  # requests for approval in the inbox
EVENTS: Final = int(os.environ.get("REMIT_BENCH_EVENTS", "20"))  # recorded while the pages are open
OPENED: Final = 5  # times that each page is opened; the least counts
LIVE_STEPS: Final = 10  # of the run that is open on all pages
FIRST_BYTES: Final = 60_000
FIRST_S: Final = 0.5
LONG_S: Final = 1.0
SCREEN_MS: Final = 300.0
LONG_RUN: Final = "ab" * 16
LIVE_RUN: Final = "cd" * 16
TEXT: Final = "The pool of payments has two connections, and each request takes one for four seconds. " * 6
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value and the most that it may be, None without a bar."""

    what: str
    value: float
    most: float | None = None

    @property
    def held(self) -> bool:
        return self.most is None or self.value <= self.most

    def __str__(self) -> str:
        bar = "" if self.most is None else f"  bar {self.most:g}: {'held' if self.held else 'MISSED'}"
        return f"{self.what:78} {self.value:10.3f}{bar}"


def one_step(step: int) -> list[AnyEvent]:
    """The events of a step whose call reads a file."""
    call = (made.decided(step, 0), made.intended(step, 0), made.ended(step, 0), made.succeeded(step, 0, value=TEXT))
    return [*made.turn(step, made.ask()), *call]


def record(session: WorkspaceSession, run: str, steps: int, *, finished: bool = False) -> StoredRecord:
    """A run of so many steps in the journal."""
    written = StoredRecord(session.journal, run)
    end = [RunFinished(outcome="completed", answer="done")] if finished else []
    for event in (made.started(), *(event for step in range(steps) for event in one_step(step)), *end):
        written.append(event)
    return written


def fill(session: WorkspaceSession, runs: int) -> None:
    """So many runs that have ended, and some that wait for an approval."""
    for number in range(WAITING):
        written = StoredRecord(session.journal, f"{number:032x}".replace("0", "f", 1))
        asking = (made.decided(0, 0, "ask"), made.requested(0, 0, expires_at=time.time_ns() + 3600 * NANO))
        for event in (made.started(), *made.turn(0, made.ask()), *asking):
            written.append(event)
    for number in range(runs):
        written = StoredRecord(session.journal, f"{number:032x}")
        written.append(made.started())
        written.append(RunFinished(outcome="completed", answer="done"))


def opened(service: ConsoleProcess, path: str) -> tuple[float, int]:
    """Wall time in seconds and bytes of one page, whose whole answer has arrived."""
    asked = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {service.cookies[0]}\r\nConnection: close\r\n\r\n"
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", service.port), 60) as connection:
        connection.sendall(asked.encode())
        received = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    took = time.perf_counter() - begun
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), received[:300]
    return took, len(body)


class Screen:
    """A page that follows the journal: when each of its messages has begun to arrive (Unix seconds)."""

    def __init__(self) -> None:
        self.arrived: list[float] = []
        self.ready = asyncio.Event()

    async def follow(self, port: int, path: str, cookie: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
        while line := await reader.readline():
            if line.startswith(b"event: page"):
                self.arrived.append(time.time())
                self.ready.set()
        writer.close()


async def delays(
    service: ConsoleProcess, path: str, cookies: Sequence[str], prepared: Callable[[], Callable[[], Recorded]]
) -> list[float]:
    """How many seconds after each event the pages got it. Each is recorded once all pages show what was `prepared` before."""
    screens = [Screen() for _ in cookies]
    following = [
        asyncio.create_task(screen.follow(service.port, path, cookie))
        for screen, cookie in zip(screens, cookies, strict=True)
    ]
    found: list[float] = []
    try:
        await everywhere(screens)
        for _ in range(EVENTS):
            recorded = await asyncio.to_thread(prepared)
            await quiet(screens)
            for screen in screens:
                screen.ready.clear()
                screen.arrived.clear()
            event = await asyncio.to_thread(recorded)
            await everywhere(screens)
            found += [screen.arrived[0] - event.at / NANO for screen in screens]
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    return sorted(found)


async def everywhere(screens: Sequence[Screen]) -> None:
    """Wait until every page has got something."""
    await asyncio.wait_for(asyncio.gather(*(screen.ready.wait() for screen in screens)), 60)


async def quiet(screens: Sequence[Screen]) -> None:
    """Wait until no page has got anything for a while."""
    before = -1
    while (now := sum(len(screen.arrived) for screen in screens)) != before:
        before = now
        await asyncio.sleep(0.5)


def in_run(written: StoredRecord, steps: Iterator[int]) -> Callable[[], Callable[[], Recorded]]:
    """The end of a call of that run is the event; its beginning is prepared."""

    def prepared() -> Callable[[], Recorded]:
        *before, last = one_step(next(steps))
        for event in before:
            written.append(event)
        return partial(written.append, last)

    return prepared


def new_run(session: WorkspaceSession, runs: Iterator[int]) -> Callable[[], Callable[[], Recorded]]:
    """The start of a run is the event."""

    def prepared() -> Callable[[], Recorded]:
        return partial(StoredRecord(session.journal, f"{next(runs):032x}").append, made.started())

    return prepared


def processor_s(pid: int) -> float:
    """Processor time that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def figures(folder: Path) -> list[Figure]:
    """Everything that is measured."""
    people = [f"p{number}" for number in range(PAGES)]
    write_starter(folder)
    rules, marker = folder / "policies" / "remit.csv", folder / "remit.toml"
    rules.write_text(rules.read_text() + "\n" + "".join(f"g, user:{name}, role:operator\n" for name in people))
    named = "".join(f'"user:{name}", ' for name in people)
    text = marker.read_text().replace("users = [", f"users = [{named}", 1)
    marker.write_text(text + '\n[serve]\naddress = "127.0.0.1:0"\nlisteners = 1000\nconnections = 2000\n')
    session = open_session(folder)
    with session.journal:
        fill(session, RUNS)
        record(session, LONG_RUN, STEPS, finished=True)
        written = record(session, LIVE_RUN, LIVE_STEPS)
        with console_process(folder, people) as service:
            found = [*pages(service), *live(service, session, written)]
    return found


def pages(service: ConsoleProcess) -> list[Figure]:
    found: list[Figure] = []
    for what, path in (("the inbox", "/approvals"), ("the list of runs", "/runs")):
        took, size = min(opened(service, path) for _ in range(OPENED))
        found.append(Figure(what=f"s for {what}", value=took, most=FIRST_S))
        found.append(Figure(what=f"bytes of {what}", value=size, most=FIRST_BYTES))
    took, size = min(opened(service, f"/runs/{LONG_RUN}") for _ in range(OPENED))
    found.append(Figure(what=f"s for a run of {STEPS} steps", value=took, most=LONG_S))
    return [*found, Figure(what=f"bytes of a run of {STEPS} steps", value=size)]


def live(service: ConsoleProcess, session: WorkspaceSession, written: StoredRecord) -> list[Figure]:
    found: list[Figure] = []
    of_run, of_list = in_run(written, count(LIVE_STEPS)), new_run(session, count(RUNS))
    for path, prepared, what in (
        (f"/live/runs/{LIVE_RUN}", of_run, "a run"),
        ("/live/runs", of_list, f"the list of {RUNS} runs"),
    ):
        for cookies, who in (((service.cookies[0],) * PAGES, "one person"), (service.cookies, f"{PAGES} people")):
            before = processor_s(service.process.pid)
            took = asyncio.run(delays(service, path, cookies, prepared))
            used = (processor_s(service.process.pid) - before) / EVENTS
            where = f"{what} on {PAGES} pages of {who}"
            p95 = took[int(len(took) * 0.95)] * 1e3
            found.append(Figure(what=f"ms from an event to {where} (p95)", value=p95, most=SCREEN_MS))
            found.append(Figure(what=f"s of processor time for an event of {where}", value=used))
    return found


def main() -> int:
    """Measure, print, write `.bench/console.json`; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / ".bench" / "console.json")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="remit-bench-") as base:
        found = figures(Path(base) / "workspace")
    print("\n".join(map(str, found)))
    print(f"{os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}")
    chosen.output.parent.mkdir(exist_ok=True)
    chosen.output.write_text(json.dumps([{**asdict(one), "held": one.held} for one in found], indent=2))
    return 0 if all(one.held for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
