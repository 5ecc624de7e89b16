"""Waits until a run may ask its model again."""

from __future__ import annotations

import time
from collections.abc import Callable

from remit.broker import Broker
from remit.core.events import NANO
from remit.journal import Record


class ModelWait:
    """Waits in this process while the model's provider fails, for at most the agent's `model_wait` in all."""

    def __init__(self, record: Record, broker: Broker, hold_reason: Callable[[], str | None]) -> None:
        self._record = record
        self._broker = broker
        self._hold_reason = hold_reason
        self._left = int(broker.agent.budget.model_wait * NANO)

    @property
    def waits(self) -> bool:
        """True if the run waits for its model, and no operator holds it."""
        return self._record.state.model_wait is not None and self._hold_reason() is None

    async def wait_for_change(self) -> bool:
        """True once the model may be asked again, or a hold may have been set; False if that is later than this process waits."""
        failed = self._record.state.model_wait
        if failed is None or failed.again_at is None:
            return True
        began = time.time_ns()
        if failed.again_at - began > max(self._left, 0):
            return False
        while (left := (failed.again_at - time.time_ns()) / NANO) > 0 and self._hold_reason() is None:
            await self._broker.ports.changed(left)
        self._left -= time.time_ns() - began
        return True
