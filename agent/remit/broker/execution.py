"""One allowed call, from its first attempt to its result.

admitted? ─► intend ─► run confined ─► check ─► clean ─► record ─► settled? ─► result
    ▲                                                        │
    └──────────────────────── retry? ◄───────────────────────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from remit.broker import budgets as budget
from remit.broker import effects as effect
from remit.broker import retries as retry
from remit.broker.attempts import AttemptOutcome, ToolExecutor, landed
from remit.broker.ports import ExecutionPorts
from remit.core import (
    Call,
    Code,
    Connection,
    Decision,
    Error,
    Failed,
    Json,
    Refusal,
    Result,
    RunEnded,
    Succeeded,
    in_thread_to_its_end,
    request_digest,
)
from remit.core.events import AttemptBegun, AttemptEnded, EffectSettled
from remit.guardrails import Sanitizer
from remit.journal import Record, effect_digest
from remit.workspace import Agent, Workspace, labels_of
from remit.workspace.manifest import Action

LONGEST_TEXT: Final = 2000  # characters of tool-written text in one field that the model reads

# The codes whose message the tool itself wrote, and an outsider through it.
WRITTEN_BY_TOOL: Final[frozenset[Code]] = frozenset(
    {"tool_failed", "tool_crashed", "sandbox_violation", "invalid_output"}
)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Carries out the calls of one run, each at most once where it cannot be undone.

    `allows_redirect` answers whether a call may go on to a URL that its decision did not name.
    """

    workspace: Workspace
    agent: Agent
    record: Record
    attempts: ToolExecutor
    ports: ExecutionPorts
    sanitizer: Sanitizer
    allows_redirect: Callable[[Call, str], bool]

    async def run(self, call: Call, decision: Decision, *, whole: bool, unheard: Callable[[], Failed | None]) -> Result:
        """Attempt the call until it has succeeded, has failed for good, or may not be tried again.

        `whole`: its arguments are those that the model wrote, no secret of them is lost; `unheard` is asked before each new
        attempt how the call ends whose secret died with another process. Asking again later repeats nothing.
        """
        _, action = self.workspace.action(call.action)
        number, ended = effect.earlier_attempts(self.record, call)
        while True:
            if ended is not None:
                settled = await self._settled(call, action, ended, whole)
                again = settled is not None and settled.landed == "not_landed" and ended.lost
                if ended.retry_in_s is None and not again:
                    return result_of(action, ended, settled, self._labels(call, action))
                await self.ports.sleep(call, ended.retry_in_s or 0.0)
            try:
                if (said := unheard()) is not None:
                    return said
                self.ports.admit(call)
                budget.check_wall(self.record.facts, self.agent.budget, self.ports.clock(call.step, call.index))
                number += 1
                ended = await self._attempt(call, decision, action, number)
            except Refusal as refusal:
                return refusal_result(self.sanitizer, refusal, ended)

    async def _settled(self, call: Call, action: Action, ended: AttemptEnded, whole: bool) -> EffectSettled | None:
        """What is known of an effect whose end nobody saw: as a person said, or as the tool's probe finds; None otherwise."""
        facts = self.ports.run_state(self.record, call, "").open.get((call.step, call.index))
        if ended.landed != "unknown" or ended.retry_in_s is not None or facts is None or not facts.effect:
            return None
        if facts.settled is not None and facts.settled.landed != "unknown":
            return facts.settled
        if not action.probe or not whole:
            return None
        number = effect.count_settlements(self.record, call.step, call.index, "probe") + 1
        found = await self.attempts.probe(call, number, idempotency_key=facts.key)
        tool, _, _ = call.action.partition(".")
        settled = EffectSettled(
            step=call.step,
            index=call.index,
            number=number,
            landed=found.landed,
            by=f"probe:{tool}.{action.probe}",
            reason=self.sanitizer.text(found.reason)[:LONGEST_TEXT],
            value=self.sanitizer.json(found.value),
        )
        self.record.append(settled, durable=True)
        return settled

    async def _attempt(self, call: Call, decision: Decision, action: Action, number: int) -> AttemptEnded:
        """Intend, run, check and clean one attempt. No record, no effect."""
        facts = self.ports.run_state(self.record, call, "")
        if number == 1:
            effect.check_repeated_effect(facts, call)
        profile, confinement = self.attempts.prepare(call, number)
        check_arguments_unchanged(call, self.sanitizer)
        key = effect.idempotency_key(call, facts) if self.attempts.keyed(call) else ""
        intended = AttemptBegun(
            step=call.step,
            index=call.index,
            attempt=number,
            request_digest=call.request_digest,
            decision_digest=decision.decision_digest,
            profile_digest=profile,
            confinement=confinement,
            idempotency_key=key,
            effect_digest=effect_digest(call),
        )
        self.record.append(intended, durable=call.effect != "read")
        attempted = await self._bounded(call, number, key)
        ended = await self._ended(call, action, number, attempted)
        self.record.append(ended, durable=call.effect != "read")
        tool, _ = self.workspace.action(call.action)
        self.ports.attempt_ended(call, number, attempted.code, tool.manifest.breaker)
        if attempted.code in ("sandbox_unavailable", "unrecorded"):
            raise RunEnded("sandbox_unavailable", attempted.message, fix="run `remit doctor`")
        return ended

    async def _bounded(self, call: Call, number: int, key: str) -> AttemptOutcome:
        """One attempt, ended from outside when the run's time is up or somebody holds it: its processes are killed."""
        until = budget.wall_end(self.record.facts, self.agent.budget)
        attempt = self.attempts.attempt(
            call, number, idempotency_key=key, decide=lambda url: self.allows_redirect(call, url)
        )
        work = asyncio.ensure_future(attempt)
        stop = asyncio.ensure_future(self.ports.wait_until_stopped(call, until))
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                await asyncio.wait({work})
            if not work.cancelled():
                return work.result()
            code, message = stop.result()
            return AttemptOutcome(code=code, message=message, landed=landed(call, code))
        finally:
            stop.cancel()
            if not work.done():  # whoever is cancelled here waits until nothing of the call is left
                work.cancel()
                await asyncio.wait({work})

    async def _ended(self, call: Call, action: Action, number: int, attempted: AttemptOutcome) -> AttemptEnded:
        """What came of it, as it is recorded: checked against the reviewer's rules, and cleaned."""
        if attempted.lost:
            return effect.lost_attempt(call, number)
        note = None
        if attempted.code is None:
            size = attempted.spent.output_bytes
            note = await in_thread_to_its_end(size, self.sanitizer.blocked, attempted.value, "result", call.action)
        if note is not None:
            message = f"the result may not be read here: {note}"
            attempted = replace(attempted, code="content_blocked", value=None, message=message)
        code = attempted.code
        if attempted.landed == "unknown" and call.effect == "once":
            code = "outcome_unknown"
        retried = code is not None and self._may_retry(call, action, number, code, attempted)
        size = attempted.spent.output_bytes + len(attempted.stderr) + len(attempted.message)
        return await in_thread_to_its_end(size, self._cleaned, call, action, attempted, (number, code, retried))

    def _cleaned(
        self, call: Call, action: Action, attempted: AttemptOutcome, outcome: tuple[int, Code | None, bool]
    ) -> AttemptEnded:
        number, code, retried = outcome
        return AttemptEnded(
            step=call.step,
            index=call.index,
            attempt=number,
            code=code,
            cause=attempted.code if attempted.code not in (code, None) else None,
            error=attempted.error,
            message=self.sanitizer.text(attempted.message, action=call.action)[:LONGEST_TEXT],
            labels=self._labels(call, action) if attempted.code in WRITTEN_BY_TOOL and not retried else (),
            value=self.sanitizer.json(attempted.value, action=call.action),
            landed=attempted.landed,
            changes=attempted.changes,
            refused=tuple(
                one.model_copy(update={"what": self.sanitizer.text(one.what), "allow": self.sanitizer.text(one.allow)})
                for one in attempted.refused
            ),
            connections=tuple(self._shown(one) for one in attempted.connections),
            stderr=self.sanitizer.text(attempted.stderr, action=call.action),
            spent=attempted.spent,
            limit=attempted.limit,
            retry_in_s=retry.retry_delay(call.run, call.step, call.index, number, attempted.retry_after_s)
            if retried
            else None,
            retry_after_s=attempted.retry_after_s,
        )

    def _labels(self, call: Call, action: Action) -> tuple[str, ...]:
        """The action's labels, and those of what the call touched."""
        return tuple(dict.fromkeys((*action.adds_labels, *labels_of(self.workspace.labels, call.touches))))

    def _shown(self, connection: Connection) -> Connection:
        path, why = self.sanitizer.text(connection.path), self.sanitizer.text(connection.why)
        return connection.model_copy(update={"path": path, "why": why})

    def _may_retry(self, call: Call, action: Action, number: int, code: Code, attempted: AttemptOutcome) -> bool:
        facts = self.ports.run_state(self.record, call, "")
        open_call = facts.open.get((call.step, call.index))
        return (
            retry.allows_retry(call.effect, action.retry, attempt=number, code=code, error=attempted.error)
            and (attempted.retry_after_s or 0.0) <= retry.LONGEST_WAIT_S
            and (open_call is None or retry.has_tries_left(facts, self.agent.budget, open_call.meant))
        )


def check_arguments_unchanged(call: Call, sanitizer: Sanitizer) -> None:
    """Raise `policy_denied` unless the arguments are those that were decided: nothing may rewrite them on the way (E7)."""

    def fits(arguments: Mapping[str, Json]) -> bool:
        return request_digest(call.subjects, call.action, arguments, call.manifest) == call.request_digest

    # Secrets in them are no part of the digest, and most calls have none.
    if not fits(call.arguments) and not fits(sanitizer.arguments(call.arguments)):
        raise Refusal(
            "policy_denied",
            "the arguments are not the ones that were decided",
            details={"reason": "not_decided"},
            next_step="ask again",
        )


def result_of(action: Action, ended: AttemptEnded, settled: EffectSettled | None, labels: tuple[str, ...]) -> Result:
    """The one result of a call that was attempted; `labels` are those that it puts on the run where it succeeded."""
    if ended.code is None:
        return Succeeded(value=ended.value, labels=labels)
    if settled is not None and settled.landed == "landed" and settled.value is not None:
        return Succeeded(value=settled.value, labels=labels)
    code, landed, message = ended.code, ended.landed, ended.message
    retryable = retry.model_may_retry(action.effect, action.retry, code=code, error=ended.error)
    if settled is not None and settled.landed == "landed":
        landed, message = "landed", f"it has happened, says {settled.by}; what it returned is lost"
    elif settled is not None and settled.landed == "not_landed":
        code, landed, retryable = ended.cause or code, "not_landed", True
    assert code != "sandbox_unavailable"  # those two end the run
    assert code != "unrecorded"
    details: dict[str, object] = {}
    if ended.error is not None:
        details["error"] = ended.error
    if ended.refused:
        details["refused"] = [item.model_dump(mode="json") for item in ended.refused]
    if ended.limit is not None:
        details["limit"] = ended.limit.model_dump(mode="json")
    if landed != "none":
        details["effect"] = landed
    error = Error(
        code=code,
        message=message,
        retryable=retryable,
        retry_after_s=ended.retry_after_s if retryable else None,
        attempts=ended.attempt or 0,
        details=details,
    )
    return Failed(error=error)


def refusal_result(sanitizer: Sanitizer, refusal: Refusal, ended: AttemptEnded | None = None) -> Failed:
    """The refusal as the model reads it; `ended` is the last attempt of a call that was already tried."""
    details = dict(refusal.details)
    if ended is not None and ended.landed != "none":
        details["effect"] = ended.landed
    error = Error(
        code=refusal.code,
        message=sanitizer.text(refusal.message)[:LONGEST_TEXT],
        retryable=refusal.retryable,
        retry_after_s=refusal.retry_after_s,
        attempts=0 if ended is None else ended.attempt or 0,
        details=sanitizer.json(details),
        next_step=refusal.next_step,
    )
    return Failed(error=error)
