"""The fields that every event has, and its key."""

from __future__ import annotations

from typing import Final

from pydantic import ConfigDict

from remit.core.calls import FrozenModel

NANO: Final = 1_000_000_000  # nanoseconds in a second; every recorded point in time is in Unix nanoseconds


class Event(FrozenModel):
    """One event of the record of a run. Events are written once and never changed.

    `step` is the turn of the model, `index` the call in it, both from 0, and `attempt` the attempt of the call, from 1, or the
    repeated request to the model, from 2. Each is None if the event does not belong to one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    step: int | None = None
    index: int | None = None
    attempt: int | None = None

    @property
    def key(self) -> str:
        """The key of the event, unique in its run: a second event with one key is refused."""
        parts = (self.step, self.index, self.attempt)
        return "/".join([getattr(self, "type"), *("-" if part is None else str(part) for part in parts)])  # noqa: B009 - declared by each subclass as its discriminator
