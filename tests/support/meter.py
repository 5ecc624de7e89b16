"""What processes that drive runs, PostgreSQL and the rest of the machine spend, and how many runs end in a second."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.capacity import Costs
from support.postgres import Server

CORES: Final = os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Driven:
    """Runs per second of some processes, what one run took of them and of PostgreSQL, and what the cores did else.

    `others` is the share of the cores that other processes took, `idle` the one that nobody took. `lost` is how often a worker tried a
    run that another one had taken, for each run.
    """

    rate: float
    costs: Costs
    others: float
    idle: float
    lost: float = 0.0


class Meter:
    """What processes, PostgreSQL and the machine spend from its making to `stop`."""

    def __init__(self, processes: Sequence[int], server: Server, *, rounds: int) -> None:
        self._processes, self._server, self._rounds = processes, server, rounds
        self._before = self._spent()
        self._after = self._before

    def stop(self) -> None:
        """To be called right after the last run has ended."""
        self._after = self._spent()

    def _spent(self) -> tuple[float, float, float, float]:
        return sum(processor_s(one) for one in self._processes), server_s(self._server), busy_s(), time.time()

    def driven(self, ends: Sequence[float], lost: int = 0) -> Driven:
        """`ends` are those of all runs, in Unix seconds, and `lost` how often a worker tried a run that another one had."""
        own, database, busy, took = (now - then for now, then in zip(self._after, self._before, strict=True))
        cores = CORES * took
        return Driven(
            rate=rate_of(ends),
            costs=Costs(worker=own / len(ends), database=database / len(ends), rounds=self._rounds),
            others=max(0.0, busy - own - database) / cores,
            idle=max(0.0, cores - busy) / cores,
            lost=lost / len(ends),
        )


def rate_of(ends: Sequence[float]) -> float:
    """Runs per second while all slots are in use: without the first and the last tenth."""
    cut = len(ends) // 10
    middle = sorted(ends)[cut : len(ends) - cut]
    return (len(middle) - 1) / (middle[-1] - middle[0])


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
