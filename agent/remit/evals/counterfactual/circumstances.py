"""What a run finds outside of itself: as recorded while it follows the record, and then nothing that the record cannot know.

A run follows the record until a turn, a decision or a result differs from the recorded one. From there on, no event of the
record has a place in the run: the clock goes on from that time, the last recorded rules or those of the candidate decide,
nobody holds it, and it takes nothing from shared limits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from remit.broker import Broker
from remit.core import Call, Claim, Code, Principal, Request
from remit.core.events import (
    NANO,
    AnyEvent,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    CallAnswered,
    CallDecided,
    ModelResponded,
    PolicyChanged,
    Recorded,
    RunResumed,
    RunStarted,
    Usage,
)
from remit.core.parsing import canonical_json
from remit.journal import Record, RunState
from remit.policy import Policy, SecondOpinion
from remit.replay import ComparingLog, RecordedPorts, WhatIf, recorded_approvals
from remit.runtime.models import ScriptedApproval
from remit.workspace import Bundle

_PersonsAnswer: TypeAlias = ApprovalGranted | ApprovalRejected


def _nothing(_: Recorded) -> None:
    return None


@dataclass
class PathLog(ComparingLog):
    """The log of a run that begins as the record does. `start` is the first step that is not copied from it.

    `on_event` gets each further event.
    """

    start: int = 0
    on_event: Callable[[Recorded], None] = _nothing

    def __post_init__(self) -> None:
        super().__post_init__()
        self.follows = True
        self._left_at = 0
        self._left = 0.0

    def leave(self) -> None:
        """Follow the record no longer: from here on nothing of it is found by its place."""
        if self.follows:
            self.follows = False
            self._left_at, self._left = self._events[-1].at, time.monotonic()
            self.by_key.clear()
            self._by_call.clear()

    def now(self) -> int:
        """The time in Unix nanoseconds after the run has left the record: its time then, and what has passed since."""
        return self._left_at + int((time.monotonic() - self._left) * NANO)

    def append(self, run: str, event: AnyEvent, *, durable: bool = False, claims: Sequence[Claim] = ()) -> Recorded:
        recorded = self.by_key.get(event.key)
        if self.follows and not _as_recorded(event, recorded):
            self.leave()
            recorded = None
        kept = self.follow(run, event, recorded)
        kept = kept if self.follows else self._at(kept)
        self.on_event(kept)
        return kept

    def _at(self, kept: Recorded) -> Recorded:
        now = kept.model_copy(update={"at": max(kept.at, self.now())})
        self._events[-1] = self._by_key[kept.key] = now
        return now

    def run_state(self, record: Record, call: Call) -> RunState:
        return super().run_state(record, call) if self.follows else record.state


def _as_recorded(event: AnyEvent, recorded: Recorded | None) -> bool:
    """True if the run goes on as recorded with this event: with the same calls, decisions and results."""
    before = None if recorded is None else recorded.event
    match event, before:
        case _, None:
            return False
        case ModelResponded(), ModelResponded():
            return [(item.name, item.arguments, item.parsed) for item in event.proposed_calls] == [
                (item.name, item.arguments, item.parsed) for item in before.proposed_calls
            ]
        case CallDecided(), CallDecided():
            return _decided(event) == _decided(before)
        case CallAnswered(), CallAnswered():
            return event.result == before.result
        case _:
            return True


def _decided(event: CallDecided) -> object:
    verdict = None if event.decision is None else event.decision.verdict
    call = None if event.call is None else event.call.model_dump(exclude={"run"})
    return call, verdict, event.refusal


class Circumstances(RecordedPorts):
    """Clock, rules and prices. `policy` decides from the first step that is played; None: the recorded rules.

    `own_model` is True if another model than the recorded one takes the turns.
    """

    def __init__(
        self, log: PathLog, bundles: Mapping[str, Bundle], definition: Bundle, policy: Policy | None, *, own_model: bool
    ) -> None:
        super().__init__(log, bundles, WhatIf())
        self._path = log
        self._workspace = definition.workspace
        self._own = policy
        self._own_model = own_model
        self._in_force = [
            (item.at, bundles[item.event.bundle].policy)
            for item in log.recorded
            if isinstance(item.event, RunStarted | RunResumed | PolicyChanged) and item.event.bundle
        ]
        self._second_opinion: tuple[Policy, SecondOpinion] | None = None

    def clock(self, step: int, index: int) -> int:
        return super().clock(step, index) if self._path.follows else self._path.now()

    def policy(self, step: int, index: int) -> Policy:
        if self._own is not None:
            return self._own
        if self._path.follows:
            return super().policy(step, index)
        now = self._path.now()
        return [policy for at, policy in self._in_force if at <= now][-1]

    def casbin_allows(self, call: Call, policy: Policy, request: Request) -> bool:
        if self._path.follows:
            return super().casbin_allows(call, policy, request)
        if self._second_opinion is None or self._second_opinion[0] is not policy:
            self._second_opinion = policy, SecondOpinion(policy)
        return self._second_opinion[1].allows(request)

    def cost(self, step: int, model: str, usage: Usage) -> Decimal | None:
        if self._path.follows and not self._own_model:
            return super().cost(step, model, usage)
        return self._workspace.prices.cost(model, usage)

    async def wait_until_stopped(self, call: Call, until: int) -> tuple[Code, str]:
        if self._path.follows:
            return await super().wait_until_stopped(call, until)
        await asyncio.sleep(max(0.0, (until - self._path.now()) / NANO))
        return "timeout", "the run's time was up"

    async def changed(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class People:
    """Repeats what people answered in the record. After the run has left it, an answer counts where the same question is asked.

    `scripted` are approvals that are given in place of people, where nobody has answered. With `rejects`, that person rejects all
    others; None leaves them open.
    """

    def __init__(
        self,
        log: PathLog,
        record: Record,
        broker: Broker,
        scripted: Sequence[ScriptedApproval],
        rejects: Principal | None,
    ) -> None:
        self._log = log
        self._record = record
        self._scripted = scripted
        self._rejects = rejects
        self._repeat = recorded_approvals(log, record, broker)
        self._answers: dict[object, list[_PersonsAnswer]] = {}
        asked: dict[str, object] = {}
        for item in log.recorded:
            event = item.event
            if isinstance(event, ApprovalRequested):
                asked[event.decision_digest] = _question(event)
            elif isinstance(event, ApprovalGranted | ApprovalRejected | ApprovalRevoked):
                answers = self._answers.setdefault(asked.get(event.decision_digest), [])
                answers[:] = [answer for answer in answers if answer.approver != event.approver]
                answers += [] if isinstance(event, ApprovalRevoked) else [event]

    async def answer(self) -> bool:
        """Record the answers of people to what waits; False if there is none."""
        if self._log.follows and await self._repeat():
            return True
        given = [
            self._give(answer.model_copy(update={"step": event.step, "index": event.index, "decision_digest": digest}))
            for event in [approval.requested for approval in self._record.state.approvals]
            for digest in (event.decision_digest,)
            for answer in self._recorded_answers(event) or self._scripted_answers(event) or self._rejections(event)
        ]
        return any(given)

    def _recorded_answers(self, event: ApprovalRequested) -> list[_PersonsAnswer]:
        return [] if self._log.follows else self._answers.get(_question(event), [])

    def _scripted_answers(self, event: ApprovalRequested) -> list[_PersonsAnswer]:
        started, place = self._record.state.started, (event.step, event.index)
        assert started is not None  # the first event
        action = self._record.state.open[place].action
        return [
            ApprovalGranted(
                step=event.step,
                index=event.index,
                decision_digest=event.decision_digest,
                by=scripted.principal(started.tenant),
                role=scripted.role,
                reason=scripted.note,
            )
            for scripted in self._scripted
            if scripted.action == action
        ]

    def _rejections(self, event: ApprovalRequested) -> list[_PersonsAnswer]:
        if self._rejects is None:
            return []
        why, digest = "nobody approves this call in the scenario", event.decision_digest
        assert event.step is not None
        assert event.index is not None
        return [
            ApprovalRejected(step=event.step, index=event.index, decision_digest=digest, by=self._rejects, reason=why)
        ]

    def _give(self, answer: _PersonsAnswer) -> bool:
        if self._record.get(answer.key) is not None:
            return False
        self._record.append(answer)
        return True


def _question(event: ApprovalRequested) -> object:
    """What people are asked: the exact call, the approvals that are missing, and the facts that they see."""
    return event.summary, event.missing, event.break_glass, canonical_json(event.facts)
