"""Waits for approvals; a scripted model may give them in demonstrations."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from remit.broker import Broker
from remit.broker.approvals import Approval, approval_expired, grant_approval, waiting_approvals
from remit.core import Model, Refusal
from remit.core.events import ApprovalRequested
from remit.journal import Record
from remit.runtime.live import LivePorts
from remit.runtime.models.scripted import ScriptModel

POLL_S: Final = 0.25  # how often a waiting run looks for what people said


class ApprovalWaiter:
    """Waits until people answer the requests of a run, or until a script answers for them in a demonstration."""

    def __init__(self, ports: LivePorts, record: Record, broker: Broker, model: Model, wait: float) -> None:
        self._ports = ports
        self._record = record
        self._broker = broker
        self._script = model.approvals if isinstance(model, ScriptModel) else ()
        self._until = time.monotonic() + wait

    def waiting(self) -> list[ApprovalRequested]:
        """The requests that nobody has settled."""
        return waiting_approvals(self._record)

    async def settle(self) -> bool:
        """True once something may have changed for a waiting call; False when it is time to give up for now."""
        given = [self._from_script(requested) for requested in self.waiting()]  # all of them, not only the first
        if any(given):
            return True
        before = self._record.state
        while time.monotonic() < self._until:
            await asyncio.sleep(POLL_S)
            self._record.refresh()
            expired = any(approval_expired(requested, time.time_ns()) for requested in self.waiting())
            if self._record.state != before or expired or self._under_other_rules():
                return True
        return False

    def _under_other_rules(self) -> bool:
        """Whether some waiting call was decided by rules that are not in force any more: it is decided again."""
        now = self._ports.policy(-1, -1).digest
        decided = (self._broker.latest_decision(item.step or 0, item.index or 0) for item in self.waiting())
        return any(one.decision.policy_digest != now for one in decided if one is not None and one.decision is not None)

    def _from_script(self, requested: ApprovalRequested) -> bool:
        assert requested.step is not None
        assert requested.index is not None
        decided = self._broker.latest_decision(requested.step, requested.index)
        assert decided is not None
        assert decided.call is not None
        granted = False
        for scripted in self._script:
            if scripted.action != decided.call.action:
                continue
            try:
                grant_approval(
                    self._record,
                    requested,
                    Approval(approver=scripted.approver, role=scripted.role, account="script", scripted=True),
                    roles_of=self._ports.policy(requested.step, requested.index).roles_of,
                    now=time.time_ns(),
                )
                granted = True
            except Refusal:
                continue  # a script has no more right than the person it names
        return granted
