"""What the record costs as it grows, on SQLite and on PostgreSQL: `make bench-journal`.

The histories are copies of a real run (`support/journal_history.py`), spread over 90 days; the smallest one is a single run.
Each command and each load runs in a process of its own, whose processor time and memory the kernel reports. The time of a command
is that of a process that has imported everything before.
PostgreSQL waits for the disk, as in production. `--events`, `--only` and the other options make it smaller.

Bars, at 1,000,000 events against a journal of one run: each command at most 30 ms of processor time and 20 MB more; a step of
one host-tool call at most 4.5 ms of processor time at every size; on PostgreSQL at most 4 round trips, and 12 ms with 2 ms added
to each; a start after 100,000 pruned runs at most 1.1 times, and a limit with 1,000,000 claims in its window at most 1.2 times, as
dear as without. 200 runs at once beside a busy loop, and eight processes on one store: none fails; a durable append on
PostgreSQL takes less than 50 ms at p99. No append waits longer than 250 ms while a third of the history is pruned.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from remit.core.calls import Subjects
from remit.core.events import NANO
from remit.journal import ChainLink
from remit.workspace.session import open_session
from support import ROOT
from support.journal_history import (
    History,
    history_workspace,
    record_template,
    write_claims,
    write_history,
    write_pruned,
)
from support.journal_load import command, measured
from support.postgres import Server, shared_server
from support.slow_postgres import slow_postgres

STORES: Final = ("sqlite", "postgres")
LIMITS: Final = '[[limit]]\nnote = "Looks a day"\nof = "calls"\nmost = 100000000\nper = "24h"\naction = "ledger.look"\n'
COMMANDS: Final[Mapping[str, Sequence[str]]] = {
    "trace list": ("trace", "list"),
    "trace show": ("trace", "show", "RUN"),
    "approve list": ("approve", "list"),
    "settle": ("settle",),
    "trace prune --dry-run": ("trace", "prune", "--dry-run", "--older-than", "80d"),
}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One row of the table: what was measured on which store, and the most that it may be."""

    name: str
    store: str
    value: float
    most: float
    unit: str

    @property
    def held(self) -> bool:
        return self.value <= self.most

    def __str__(self) -> str:
        verdict = "held  " if self.held else "MISSED"
        return f"{verdict} {self.store:<9} {self.name:<58} {self.value:9.2f} {self.unit} (bar <= {self.most:g})"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A workspace whose journal lies in one store. `location` is what `open_journal` gets."""

    store: str
    folder: Path
    location: str
    history: History | None = None

    @property
    def events(self) -> int:
        return 0 if self.history is None else self.history.events

    @property
    def run(self) -> str:
        """A finished run, the latest."""
        assert self.history is not None
        return self.history.finished[-1]


@dataclass(kw_only=True)
class Ground:
    """What all rows measure on: where workspaces are made, the PostgreSQL server, the options, and the histories that exist."""

    base: Path
    server: Server | None
    options: argparse.Namespace
    exits: ExitStack
    histories: dict[tuple[str, int], Place] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def place(self, store: str, name: str, *, limits: str = "") -> Place:
        """A new workspace with an empty journal in that store."""
        folder = self.base / store / name
        location, settings = str(folder / "traces" / "journal.db"), ""
        if store == "postgres":
            assert self.server is not None
            location = self.exits.enter_context(self.server.database())
            settings = f'journal = "{location}"\n'
        history_workspace(folder, settings=settings, limits=limits)
        open_session(folder).journal.close()  # makes the tables
        return Place(store=store, folder=folder, location=location)

    @cached_property
    def template(self) -> tuple[ChainLink, ...]:
        """The run that the histories are copies of."""
        return record_template(self.place("sqlite", "template").folder)

    def history(self, store: str, events: int) -> Place:
        """A workspace with a history of so many events; made once."""
        if (store, events) not in self.histories:
            place = self.place(store, f"history-{events}")
            started = time.perf_counter()
            written = write_history(place.location, self.template, events=events)
            took = time.perf_counter() - started
            print(f"{store}: {written.events:,} events of {written.runs:,} runs, written in {took:.1f} s", flush=True)
            self.histories[store, events] = replace(place, history=written)
        return self.histories[store, events]

    def sizes(self, store: str) -> list[Place]:
        """The histories of that store, the smallest first."""
        return [self.history(store, events) for events in self.options.events]


# -- commands and gauges --------------------------------------------------------------------------------------------------


def commands(ground: Ground, store: str) -> Iterator[Bar]:
    """What each command takes more on a long history than on one of a single run."""
    places = ground.sizes(store)
    every = {
        place.events: [[place.run if word == "RUN" else word for word in words] for words in COMMANDS.values()]
        for place in places
    }
    memory = {place.events: [_memory(place, words) for words in every[place.events]] for place in places}
    found: dict[str, dict[int, list[tuple[float, float]]]] = {
        name: {place.events: [] for place in places} for name in COMMANDS
    }
    for _ in range(ground.options.turns):  # sizes take turns, so that a busy machine is busy for all
        for place in places:
            cpu = measured("commands", place.folder, every[place.events], ground.options.rounds)
            for name, seconds, rss in zip(COMMANDS, cpu, memory[place.events], strict=True):
                found[name][place.events] += [(one, rss) for one in seconds]
    for name, one in found.items():
        yield from _growth(ground, store, f"remit {name}", one)


def _memory(place: Place, words: Sequence[str]) -> float:
    """The MB of a command that a user starts."""
    done = command(place.folder, *words)
    if done.code:
        raise RuntimeError(f"remit {' '.join(words)} ended with {done.code}: {done.out[-300:]}")
    return done.rss_mb


def gauges(ground: Ground, store: str) -> Iterator[Bar]:
    """What reading the gauges once takes more on a long history."""
    places = ground.sizes(store)
    found: dict[int, list[tuple[float, float]]] = {place.events: [] for place in places}
    for _ in range(ground.options.rounds):
        for place in places:
            cpu, rss = measured("gauges", place.folder)
            found[place.events].append((cpu, rss))
    yield from _growth(ground, store, "the gauges of metrics", found)


def _growth(ground: Ground, store: str, name: str, found: Mapping[int, list[tuple[float, float]]]) -> Iterator[Bar]:
    """The bars of one command: the median at each size, less the median at the smallest."""
    middle = {events: (median(cpu for cpu, _ in one), median(rss for _, rss in one)) for events, one in found.items()}
    ground.details[f"{store}: {name}"] = {events: list(one) for events, one in found.items()}
    (_, (cpu, rss)), *rest = middle.items()
    print(f"{store}: {name}: {cpu * 1e3:.1f} ms and {rss:.0f} MB on a journal of one run", flush=True)
    for events, (more, larger) in rest:
        yield Bar(name=f"{name}, {events:,} events", store=store, value=(more - cpu) * 1e3, most=30, unit="ms more")
        yield Bar(name=f"{name}, {events:,} events", store=store, value=larger - rss, most=20, unit="MB more")


# -- runs -----------------------------------------------------------------------------------------------------------------


def step(ground: Ground, store: str) -> Iterator[Bar]:
    """Processor time of a step of one host-tool call."""
    for place in ground.sizes(store):
        found = measured("steps", place.folder, ground.options.steps, ground.options.rounds)
        value = median(cpu for cpu, _ in found) * 1e3
        yield Bar(name=f"a step, {place.events:,} events", store=store, value=value, most=4.5, unit="ms CPU")


def round_trips(ground: Ground, store: str) -> Iterator[Bar]:
    """Round trips and time of a step, with 2 ms added to each round trip."""
    place = ground.history(store, ground.options.events[-1])
    toml = place.folder / "remit.toml"
    direct = toml.read_text()
    count = ground.options.steps
    with slow_postgres(place.location) as proxy:
        toml.write_text(direct.replace(place.location, proxy.url))
        measured("steps", place.folder, 1, 1)  # the first runs under these settings record that they are in force
        proxy.reset()
        measured("steps", place.folder, count, 1)  # two runs
        few = proxy.round_trips
        proxy.reset()
        measured("steps", place.folder, 2 * count, 1)
        trips = (proxy.round_trips - few) / (2 * count)
        proxy.add(2.0)
        found = measured("steps", place.folder, count, ground.options.rounds)
    toml.write_text(direct)
    wall = median(wall for _, wall in found) * 1e3
    yield Bar(name="round trips of a step", store=store, value=trips, most=4, unit="")
    yield Bar(name="a step with 2 ms added to each round trip", store=store, value=wall, most=12, unit="ms")


def pruned(ground: Ground, store: str) -> Iterator[Bar]:
    """A run of one call after many runs were pruned, against none."""
    none, many = ground.place(store, "pruned-0"), ground.place(store, "pruned")
    write_pruned(many.location, ground.options.pruned)
    value = _ratio(ground, f"{store}: pruned", none, many, "starts")
    name = f"a run of one call after {ground.options.pruned:,} pruned runs"
    yield Bar(name=name, store=store, value=value, most=1.1, unit="times")


def limits(ground: Ground, store: str) -> Iterator[Bar]:
    """A step that claims from a shared limit with many claims in its window, against none."""
    none, many = (ground.place(store, f"limits-{number}", limits=LIMITS) for number in (0, 1))
    opened = open_session(many.folder)
    subjects = Subjects(agent="agent:clerk", user="user:operator")
    limit = opened.workspace.limits[0]
    opened.journal.close()
    scope = limit.scope("", subjects, "ledger.look")
    write_claims(many.location, scope, int(limit.per * NANO), ground.options.claims)
    value = _ratio(ground, f"{store}: limits", none, many, "steps", ground.options.steps)
    name = f"a step with {ground.options.claims:,} claims in the window of its limit"
    yield Bar(name=name, store=store, value=value, most=1.2, unit="times")


def _ratio(ground: Ground, name: str, base: Place, other: Place, work: str, *arguments: Any) -> float:
    """How many times the processor time of `work` the second place takes, both in turns."""
    found: dict[Path, list[float]] = {base.folder: [], other.folder: []}
    for _ in range(ground.options.rounds):
        for folder, seconds in found.items():
            seconds += [one if isinstance(one, float) else one[0] for one in measured(work, folder, *arguments, 3)]
    ground.details[name] = list(found.values())
    return median(found[other.folder]) / median(found[base.folder])


# -- many at once ---------------------------------------------------------------------------------------------------------


def crowd(ground: Ground, store: str) -> Iterator[Bar]:
    """Many runs at once in one process beside a busy loop, several times."""
    place = ground.place(store, "crowd")
    failures: list[str] = []
    for _ in range(ground.options.crowds):
        failures += measured("crowd", place.folder, ground.options.runs, 5)
    ground.details[f"{store}: crowd"] = sorted(set(failures))
    name = f"runs that fail of {ground.options.runs} at once, {ground.options.crowds} times"
    yield Bar(name=name, store=store, value=len(failures), most=0, unit="")


def processes(ground: Ground, store: str) -> Iterator[Bar]:
    """Eight processes that append durable events to one store."""
    place = ground.place(store, "processes")
    count, begin = ground.options.processes, time.time() + ground.options.start_s
    with ThreadPoolExecutor(count) as pool:
        given = [
            ("append", place.folder, f"{number:032x}", begin, ground.options.appends) for number in range(1, count + 1)
        ]
        found = list(pool.map(lambda one: measured(*one), given))
    waited = sorted(seconds for one in found for seconds in one["waited"])
    failures = [failure for one in found for failure in one["failures"]]
    rate = len(waited) / (max(one["ended"] for one in found) - min(one["began"] for one in found))
    p50, p99 = (waited[int(part * (len(waited) - 1))] * 1e3 for part in (0.5, 0.99))
    shown = {"rate": rate, "p50_ms": p50, "p99_ms": p99, "max_ms": waited[-1] * 1e3, "failures": failures}
    ground.details[f"{store}: processes"] = shown
    print(
        f"{store}: {count} processes: {rate:.0f} appends a second, {p50:.1f} / {p99:.1f} / {waited[-1] * 1e3:.1f} ms",
        flush=True,
    )
    yield Bar(name=f"appends that fail in {count} processes", store=store, value=len(failures), most=0, unit="")
    if store == "postgres":
        yield Bar(name=f"p99 of a durable append, {count} processes", store=store, value=p99, most=50, unit="ms")


def pruning(ground: Ground, store: str) -> Iterator[Bar]:
    """The longest wait of an append while a third of the largest history is pruned. Later rows find it shorter."""
    place = ground.history(store, ground.options.events[-1])
    stop = place.folder / "stop"
    begin = time.time() + ground.options.start_s
    with ThreadPoolExecutor(1) as pool:
        given = ("append", place.folder, "f" * 32, begin, 10**9, str(stop), 0.005)
        appending = pool.submit(lambda: measured(*given))
        try:
            time.sleep(ground.options.start_s + 1)
            done = command(place.folder, "trace", "prune", "--yes", "--older-than", "60d", "--json")
        finally:
            stop.touch()
        found = appending.result()
    if done.code:
        raise RuntimeError(f"remit trace prune ended with {done.code}: {done.out[-300:]}")
    waited = sorted(found["waited"])
    removed = len(done.value["runs"])
    shown = {"runs": removed, "prune_s": done.wall_s, "appends": len(waited), "failures": found["failures"]}
    ground.details[f"{store}: pruning"] = shown
    print(f"{store}: {removed:,} runs pruned in {done.wall_s:.1f} s beside {len(waited):,} appends", flush=True)
    yield Bar(name="appends that fail beside a prune", store=store, value=len(found["failures"]), most=0, unit="")
    yield Bar(name="the longest append beside a prune", store=store, value=waited[-1] * 1e3, most=250, unit="ms")


Measure = Callable[[Ground, str], Iterator[Bar]]
# In this order: pruning shortens the largest history.
ROWS: Final[tuple[tuple[Measure, tuple[str, ...]], ...]] = (
    (commands, STORES),
    (gauges, STORES),
    (step, STORES),
    (round_trips, ("postgres",)),
    (pruned, STORES),
    (limits, STORES),
    (crowd, STORES),
    (processes, STORES),
    (pruning, STORES),
)


def options() -> argparse.Namespace:
    names = [measure.__name__ for measure, _ in ROWS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="the rows to measure")
    parser.add_argument("--events", type=int, nargs="+", default=[0, 100_000, 1_000_000], help="the smallest first")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("REMIT_BENCH_ROUNDS", "7")))
    parser.add_argument("--turns", type=int, default=2, help="processes for the commands of each size")
    parser.add_argument("--steps", type=int, default=60, help="steps of a run")
    parser.add_argument("--pruned", type=int, default=100_000, help="runs that were pruned before")
    parser.add_argument("--claims", type=int, default=1_000_000, help="claims in the window of a limit")
    parser.add_argument("--runs", type=int, default=200, help="runs at once in one process")
    parser.add_argument("--crowds", type=int, default=10, help="how often so many runs are played at once")
    parser.add_argument("--processes", type=int, default=8, help="processes that append to one store")
    parser.add_argument("--appends", type=int, default=500, help="appends of each of these processes")
    parser.add_argument("--start-s", type=float, default=10.0, help="seconds until the processes have started")
    parser.add_argument("--output", type=Path, default=ROOT / ".bench" / "journal.json")
    return parser.parse_args()


def main() -> int:
    """Measure, print, write `.bench/journal.json`; 1 where a bar is missed."""
    chosen = options()
    bars: list[Bar] = []
    with ExitStack() as exits:
        base = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="remit-bench-")))
        server = exits.enter_context(shared_server(base)) if "postgres" in chosen.stores else None
        ground = Ground(base=base, server=server, options=chosen, exits=exits)
        for measure, stores in ROWS:
            if measure.__name__ in chosen.only:
                for store in (one for one in stores if one in chosen.stores):
                    for bar in measure(ground, store):
                        bars.append(bar)
                        print(bar, flush=True)
    missed = [bar for bar in bars if not bar.held]
    print(
        f"\n{os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}; {len(bars) - len(missed)} of {len(bars)} bars held"
    )
    print("\n".join(map(str, missed)))
    chosen.output.parent.mkdir(exist_ok=True)
    body = {"bars": [{**asdict(bar), "held": bar.held} for bar in bars], "details": ground.details}
    chosen.output.write_text(json.dumps(body, indent=2))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
