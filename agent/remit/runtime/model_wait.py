"""Waits until a run may ask its model again."""

from __future__ import annotations

import time
from collections.abc import Callable

from remit.broker import Broker
from remit.core.events import NANO
from remit.journal import Record


class ModelWait:
    """Waits in this process while the model's provider fails, for at most the agent's `model_wait` in one step of the run."""

    def __init__(self, record: Record, broker: Broker, hold_reason: Callable[[], str | None]) -> None:
        self._record = record
        self._broker = broker
        self._hold_reason = hold_reason
        self._step = -1
        self._until = 0

    @property
    def waits(self) -> bool:
        """True if the run waits for its model, and no operator holds it."""
        return self._record.state.model_wait is not None and self._hold_reason() is None

    async def wait_for_change(self) -> bool:
        """True once the model may be asked again, or a hold may have been set; False if that is later than this process waits."""
        failed = self._record.state.model_wait
        if failed is None or failed.again_at is None:
            return True
        now = time.time_ns()
        if failed.step != self._step:
            self._step, self._until = failed.step, now + int(self._broker.agent.budget.model_wait * NANO)
        if failed.again_at > max(self._until, now):
            return False
        while (left := (failed.again_at - time.time_ns()) / NANO) > 0 and self._hold_reason() is None:
            await self._broker.ports.changed(left)
        return True
