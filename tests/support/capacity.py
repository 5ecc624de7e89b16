"""A small queueing simulation of workers, their cores and PostgreSQL: how many runs per second, and how long a run waits.

A run is so many rounds; in each, its worker computes, then PostgreSQL does, then the run waits for its model. A worker is one
process of Python: it computes one run at a time. Workers and PostgreSQL share the cores of a machine, or have their own.
Service times vary by a fifth, and arrivals are random (Poisson), because a model of constant times knows no queue.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SPREAD: Final = 0.2  # a service time is its mean times 1 ± this


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Of one run: processor seconds of its worker and of PostgreSQL, seconds that it waits for its model, and its rounds."""

    worker: float
    database: float
    model: float = 0.0
    rounds: int = 5


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """`cores` are shared by the workers, and by PostgreSQL too unless it has `database_cores` of its own. `slots` are those of a worker."""

    workers: int
    cores: int
    slots: int = 8
    database_cores: int = 0


@dataclass(frozen=True, kw_only=True)
class Played:
    """Runs per second from the first arrival to the last end; of each run the seconds that it waited for a slot, and that it took in all."""

    rate: float
    waits: tuple[float, ...]
    times: tuple[float, ...]

    def wait(self, share: float) -> float:
        """The wait for a slot that this share of the runs stays below."""
        return _below(self.waits, share)

    def time(self, share: float) -> float:
        """The time from arrival to end that this share of the runs stays below."""
        return _below(self.times, share)


def _below(values: tuple[float, ...], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@dataclass
class _Run:
    arrived: float
    worker: int = -1
    step: int = 0  # three of each round: worker, database, model


class Simulation:
    """Plays runs on a fleet. `rate` is how many arrive in a second; 0: all of them at once."""

    def __init__(self, costs: Costs, fleet: Fleet, *, runs: int, rate: float = 0.0, seed: int = 1) -> None:
        self._costs, self._fleet = costs, fleet
        self._chance = random.Random(seed)
        self._now = 0.0
        self._later: list[
            tuple[float, int, _Run, str]
        ] = []  # when, a number that decides between equal times, what ends
        self._count = 0
        self._waiting: deque[_Run] = deque()  # for a slot
        self._ready: deque[_Run] = deque()  # for a core
        self._free = {"own": fleet.cores, "database": fleet.database_cores}
        self._slots = [fleet.slots] * fleet.workers
        self._busy = [False] * fleet.workers
        self._waits: list[float] = []
        self._times: list[float] = []
        for at in self._arrivals(runs, rate):
            self._at(at, _Run(arrived=at), "arrival")

    def play(self) -> Played:
        while self._later:
            self._now, _, run, what = heapq.heappop(self._later)
            if what == "arrival":
                self._waiting.append(run)
            else:
                self._ended(run, what)
            self._take()
            self._compute()
        return Played(rate=len(self._waits) / self._now, waits=tuple(self._waits), times=tuple(self._times))

    def _arrivals(self, runs: int, rate: float) -> Iterator[float]:
        at = 0.0
        for _ in range(runs):
            at += self._chance.expovariate(rate) if rate else 0.0
            yield at

    def _at(self, time: float, run: _Run, what: str) -> None:
        self._count += 1
        heapq.heappush(self._later, (time, self._count, run, what))

    def _take(self) -> None:
        """Give a slot of the worker with the fewest runs to the oldest run."""
        while self._waiting and (worker := max(range(self._fleet.workers), key=self._slots.__getitem__)) >= 0:
            if not self._slots[worker]:
                return
            run = self._waiting.popleft()
            run.worker = worker
            self._slots[worker] -= 1
            self._waits.append(self._now - run.arrived)
            self._ready.append(run)

    def _compute(self) -> None:
        """Give the cores to those that are ready, in order. A worker that computes for one run lets the others of it wait."""
        left: deque[_Run] = deque()
        while self._ready:
            run = self._ready.popleft()
            own = run.step % 3 == 0
            cores = "own" if own or not self._fleet.database_cores else "database"
            if not self._free[cores] or (own and self._busy[run.worker]):
                left.append(run)
                continue
            self._free[cores] -= 1
            if own:
                self._busy[run.worker] = True
            cost = self._costs.worker if own else self._costs.database
            self._at(self._now + self._about(cost), run, cores)
        self._ready = left

    def _about(self, cost: float) -> float:
        return cost / self._costs.rounds * self._chance.uniform(1 - SPREAD, 1 + SPREAD)

    def _ended(self, run: _Run, what: str) -> None:
        if what != "model":
            self._free[what] += 1
        if run.step % 3 == 0:
            self._busy[run.worker] = False
        run.step += 1
        if run.step % 3 == 2 and self._costs.model:
            self._at(self._now + self._about(self._costs.model), run, "model")
            return
        if run.step % 3 == 2:
            run.step += 1
        if run.step == 3 * self._costs.rounds:
            self._slots[run.worker] += 1
            self._times.append(self._now - run.arrived)
        else:
            self._ready.append(run)
