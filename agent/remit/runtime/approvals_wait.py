"""Waits for approvals. In a demonstration, a scripted model may give them; in an evaluation, its scenario answers every request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from remit.broker import Broker
from remit.broker.approvals import Approval, approval_expired, grant_approval, waiting_approvals
from remit.core import Model, Principal, Refusal
from remit.core.events import NANO, ApprovalRejected, ApprovalRequested
from remit.journal import LiveRecord
from remit.runtime.live import LivePorts
from remit.runtime.models.scripted import ScriptedApproval, ScriptedModel

RULES_S: Final = 1.0  # how often a waiting run looks whether the rules have changed


class ApprovalWaiter:
    """Waits until approvers answer the requests of a run, or until a script answers for them in a demonstration.

    `wait` is in seconds, counted from now. `approvals` are those of the scenario of an evaluation: there every other request is
    rejected at once, because no person is asked.
    """

    def __init__(
        self,
        ports: LivePorts,
        record: LiveRecord,
        broker: Broker,
        model: Model,
        wait: float,
        approvals: Sequence[ScriptedApproval] = (),
    ) -> None:
        self._ports = ports
        self._record = record
        self._broker = broker
        self._script = (*approvals, *(model.approvals if isinstance(model, ScriptedModel) else ()))
        self._until = time.monotonic() + wait

    def waiting(self) -> list[ApprovalRequested]:
        """The open requests of the run."""
        return waiting_approvals(self._record)

    async def wait_for_change(self) -> bool:
        """True as soon as something may have changed for a waiting call; False when the time to wait is over."""
        granted = [
            self._grant_from_script(requested) for requested in self.waiting()
        ]  # a list: grant all, not only one
        if any(granted):
            return True
        before = self._record.state
        while (left := self._until - time.monotonic()) > 0:
            await self._record.wait_for_change(min(left, RULES_S, self._until_expiry()))
            await self._record.catch_up()
            expired = any(approval_expired(requested, time.time_ns()) for requested in self.waiting())
            if self._record.state != before or expired or self._rules_changed():
                return True
        return False

    def _until_expiry(self) -> float:
        """Seconds until the first open request expires."""
        ends = [requested.expires_at for requested in self.waiting()]
        return max(0.0, (min(ends) - time.time_ns()) / NANO) if ends else RULES_S

    def _rules_changed(self) -> bool:
        """True if the rules that decided a waiting call are no longer in force: the call is then decided again."""
        now = self._broker.policy_digest
        decided = (self._broker.latest_decision(item.step or 0, item.index or 0) for item in self.waiting())
        return any(
            call.decision.policy_digest != now for call in decided if call is not None and call.decision is not None
        )

    def _grant_from_script(self, requested: ApprovalRequested) -> bool:
        assert requested.step is not None
        assert requested.index is not None
        decided = self._broker.latest_decision(requested.step, requested.index)
        assert decided is not None
        assert decided.call is not None
        started = self._record.state.started
        assert started is not None  # a run with requests has begun
        granted = False
        for scripted in self._script:
            if scripted.action != decided.call.action:
                continue
            try:
                grant_approval(
                    self._record,
                    requested,
                    Approval(by=scripted.principal(started.tenant), role=scripted.role),
                    roles_of=self._ports.policy(requested.step, requested.index).roles_of,
                    now=time.time_ns(),
                )
                granted = True
            except Refusal:
                continue  # the script names a person who may not approve this call
        if not granted and started.evaluation:
            self._reject(requested, started.by)
        return granted or bool(started.evaluation)

    def _reject(self, requested: ApprovalRequested, by: Principal) -> None:
        """Record that nobody approves the call: a run of an evaluation does not wait for people."""
        assert requested.step is not None
        assert requested.index is not None
        rejected = ApprovalRejected(
            step=requested.step,
            index=requested.index,
            decision_digest=requested.decision_digest,
            by=by,
            reason="nobody approves this call in the scenario",
        )
        self._record.append(rejected, durable=True)
