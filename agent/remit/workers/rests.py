"""When a run that could not go on may be tried again."""

from __future__ import annotations

import time
from typing import Final

FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0


class Rests:
    """The runs of one workspace that this worker leaves alone for a while, each time twice as long."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._seconds: dict[str, float] = {}

    def add(self, run: str) -> float:
        """Let the run rest; returns for how many seconds."""
        seconds = min(LONGEST_S, 2 * self._seconds.get(run, FIRST_S / 2))
        self._seconds[run] = seconds
        self._until[run] = time.monotonic() + seconds
        return seconds

    def forget(self, run: str) -> None:
        """The run went on."""
        self._until.pop(run, None)
        self._seconds.pop(run, None)

    def end_all(self) -> None:
        """Something has changed that may let all of them go on, as the end of a hold."""
        self._until.clear()

    def has(self, run: str) -> bool:
        return self._until.get(run, 0.0) > time.monotonic()

    @property
    def next_in(self) -> float | None:
        """In how many seconds the first of them may be tried again; None without one."""
        now = time.monotonic()
        return min((until - now for until in self._until.values() if until > now), default=None)
