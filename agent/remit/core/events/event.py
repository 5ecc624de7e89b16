"""What every event of a run has: its type, its place and its key."""

from __future__ import annotations

from typing import Final

from pydantic import ConfigDict

from remit.core.calls import FrozenModel

NANO: Final = 1_000_000_000  # nanoseconds of a second; every time that is recorded is in Unix nanoseconds


class Event(FrozenModel):
    """What every event has. `step` and `index` are None where the event is not of a step or a call."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    step: int | None = None
    index: int | None = None
    attempt: int | None = None

    @property
    def key(self) -> str:
        """Unique within a run."""
        parts = (self.step, self.index, self.attempt)
        return "/".join([getattr(self, "type"), *("-" if part is None else str(part) for part in parts)])  # noqa: B009 - declared by each subclass as its discriminator
