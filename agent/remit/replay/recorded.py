"""Answers everything outside a run from its record: model, tools, clock, rules, people and holds.

The graph and the broker are the live ones, and append to a `ReplayLog`. So a run is replayed without any effect: strictly (`divergence`), or in part (`partial`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from remit.broker import AttemptOutcome, Broker, DecodedCall, ProbeOutcome, Question, Ready, mismatch_of
from remit.core import (
    UNDECODED,
    Call,
    Code,
    Confinement,
    Error,
    Failed,
    Refusal,
    Request,
)
from remit.core.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRevoked,
    AttemptBegun,
    AttemptEnded,
    BoundedApproval,
    BudgetSpent,
    CallAnswered,
    CallDecided,
    EffectSettled,
    ModelResponded,
    PolicyChanged,
    QuestionAnswered,
    QuestionAsked,
    RunFinished,
    RunResumed,
    RunStarted,
    Usage,
)
from remit.guardrails import AlreadySanitized
from remit.journal import Record, RunState
from remit.policy import Policy
from remit.replay.recorded_models import RecordedModels
from remit.replay.replay_log import RecordEnds, ReplayLog
from remit.runtime import AgentGraph, CustomGraph
from remit.workspace import Bundle, Measure, Workspace, tool_specs
from remit.workspace.manifest import Breaker, check_output

# Codes of calls whose arguments held a secret. No record holds the secret, so the recorded result is used.
SECRET_LOST: Final = frozenset({"cancelled", "content_blocked", "invalid_arguments"})
# Codes that ended a call just before its next attempt.
STOPPED_BEFORE_ATTEMPT: Final = frozenset({"held", "circuit_open", "cancelled"})
# Codes that ended a call while it waited for approval.
GIVEN_UP_WAITING: Final = frozenset({"approval_required", "cancelled"})
# What follows a wait without an answer of an approver: the request expired, the rules changed, or a question of a tool was answered.
_MOVES_ON: Final = frozenset({"call.decided", "call.answered", "question.answered"})
# Reasons for which no attempt was made.
NOT_PREPARED: Final = frozenset({"not_pinned", "no_secret", "no_authority"})


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """What a replay uses in place of the record: another policy, the tools of another workspace. None: the recorded ones."""

    policy: Policy | None = None
    tools: Workspace | None = None


class RecordedExecutor:
    """Returns the recorded outcomes of the tools; nothing runs.

    `tools` is another version of the tools: a recorded value must still fit its schema.
    """

    def __init__(self, log: ReplayLog, tools: Workspace | None = None) -> None:
        self._log = log
        self._tools = tools

    def prepare(self, call: Call, number: int) -> tuple[str, Confinement]:
        intended = self._log.event(f"attempt.begun/{call.step}/{call.index}/{number}")
        if isinstance(intended, AttemptBegun):
            return intended.profile_digest, intended.confinement
        error = self._log.error_next(call)
        if error is not None and error.code == "policy_denied" and error.details.get("reason") in NOT_PREPARED:
            raise _refusal_of(error)
        return "", "none"  # not in the record: appending the attempt then reports it

    async def read_digest(self, call: Call, number: int) -> str:
        intended = self._log.event(f"attempt.begun/{call.step}/{call.index}/{number}")
        return intended.read_digest if isinstance(intended, AttemptBegun) else ""

    def keyed(self, call: Call) -> bool:
        intended = self._log.event(f"attempt.begun/{call.step}/{call.index}/1")
        return isinstance(intended, AttemptBegun) and intended.idempotency_key != ""

    def stores(self, call: Call, group: str) -> tuple[str, ...]:
        """The stores that the recorded call got, and those that it did not get."""
        decided = self._log.event(f"call.decided/{call.step}/{call.index}/0")
        if not isinstance(decided, CallDecided) or decided.call is None or decided.call.narrowing is None:
            return ()
        found = {*decided.call.narrowing.left_out, *(touch.resource for touch in decided.call.touches)}
        own = f"store:{group}/"
        return tuple(sorted(name.removeprefix(own) for name in found if name.startswith(own)))

    async def probe(self, call: Call, number: int, *, idempotency_key: str) -> ProbeOutcome:
        settled = self._log.event(f"effect.settled/{call.step}/{call.index}/probe/{number}")
        if not isinstance(settled, EffectSettled):
            raise RecordEnds
        return ProbeOutcome(landed=settled.landed, value=settled.value, reason=settled.reason)

    @asynccontextmanager
    async def decode(
        self, call: Call, number: int, *, named: Collection[str], idempotency_key: str
    ) -> AsyncGenerator[DecodedCall]:
        """The recorded refusal, if the arguments were refused."""
        error = self._log.error_next(call)
        if error is not None and error.code == "invalid_arguments" and error.details.get("reason") in UNDECODED:
            raise _refusal_of(error)
        yield Ready(run=lambda _: self._attempt(call, number))

    async def _attempt(self, call: Call, number: int) -> AttemptOutcome:
        following = self._log.next_of(call.step, call.index)
        if following is not None and isinstance(following.event, QuestionAsked):
            raise Question(following.event.question, following.event.via, following.event.connections)
        ended = self._log.event(f"attempt.ended/{call.step}/{call.index}/{number}")
        if not isinstance(ended, AttemptEnded):
            raise RecordEnds
        code, value, message, mismatch = ended.cause or ended.code, ended.value, ended.message, ended.mismatch
        if code is None and self._tools is not None:
            try:
                tool, action = self._tools.action(call.action)
                assert tool.pin is not None  # else the call was refused before
                check_output(tool.pin.schemas[action.name], value)
            except Refusal as refusal:
                code, value, message, mismatch = refusal.code, None, refusal.message, mismatch_of(refusal)
        return AttemptOutcome(
            code=code,
            value=value,
            error=ended.error,
            message=message,
            next_step=ended.next_step if code == ended.code else None,
            retry_after_s=ended.retry_after_s,
            landed=ended.landed,
            changes=ended.changes,
            objects=ended.objects,
            refused=ended.denied_accesses,
            connections=ended.connections,
            stderr=ended.stderr,
            spent=ended.spent,
            limit=ended.limit,
            frames=ended.frames,
            mismatch=mismatch,
            lost=ended.lost,
            read_digest=ended.read_digest,
        )


class RecordedPorts:
    """Returns the recorded clock, rules and holds, except what the what-if replaces."""

    def __init__(self, log: ReplayLog, bundles: Mapping[str, Bundle], what_if: WhatIf) -> None:
        self._log = log
        self._policy = what_if.policy
        self._what_if = what_if != WhatIf()
        self._policies = [
            (item.seq, bundles[item.event.bundle].policy)
            for item in log.recorded
            if isinstance(item.event, RunStarted | RunResumed | PolicyChanged) and item.event.bundle
        ]

    def clock(self, step: int, index: int) -> int:
        following = self._log.next_of(step, None if index < 0 else index)
        return following.at if following is not None else self._log.recorded[-1].at

    def policy(self, step: int, index: int) -> Policy:
        if self._policy is not None:
            return self._policy
        # The recorded decision names its policy by digest, so a policy change at about the same time cannot mislead.
        items = (self._log.next_decided(step, index), self._log.latest_decided(step, index))
        for item in items:
            if item is not None and isinstance(item.event, CallDecided) and item.event.decision is not None:
                digest = item.event.decision.policy_digest
                before = [policy for seq, policy in self._policies if seq < item.seq and policy.digest == digest]
                return before[-1] if before else self._policies[0][1]
        return self._policies[0][1]

    def shadow_rules(self, step: int, index: int) -> None:
        """No rules are tried in a replay: what the run found is in its record."""

    def casbin_allows(self, call: Call, policy: Policy, request: Request) -> bool:
        """Casbin's recorded answer: only a refusal is recorded, with the decision. Under other rules it is unknown: True."""
        item = self._log.next_decided(call.step, call.index)
        decided = item.event if item is not None and self._policy is None else None
        decision = decided.decision if isinstance(decided, CallDecided) else None
        return decision is None or decision.reason != "engines_disagree"

    def quoted_by_user(self, step: int, index: int) -> bool | None:
        decided = self._log.event(f"call.decided/{step}/{index}/0")
        return decided.quoted_by_user if isinstance(decided, CallDecided) else None

    def run_state(self, record: Record, call: Call, decision_digest: str) -> RunState:
        """The run state for this decision; in a what-if, recorded approvals also count for the new decision."""
        state = self._log.run_state(record, call)
        place = (call.step, call.index)
        approval = state.open[place].approval if place in state.open else None
        if not self._what_if or approval is None:
            return state
        about = replace(state.open[place], approval=approval.about(decision_digest))
        return replace(state, open={**state.open, place: about})

    async def admit(self, call: Call) -> None:
        error = self._log.error_next(call)
        revoked = error is not None and error.details.get("reason") == "revoked"
        if error is not None and (revoked or error.code in STOPPED_BEFORE_ATTEMPT):
            raise _refusal_of(error)

    async def attempt_ended(self, call: Call, attempt: int, code: Code | None, breaker: Breaker) -> None:
        return None

    def cost(self, step: int, model: str, usage: Usage) -> Decimal | None:
        """The recorded cost: the prices may have changed when the run was resumed."""
        responded = self._log.event(f"model.responded/{step}/-/-")
        return responded.cost if isinstance(responded, ModelResponded) else None

    async def reserve(self, record: Record, step: int, call: Call | None, amounts: Mapping[Measure, int]) -> None:
        reserved = self._log.event(f"budget.spent/{step}/{'-' if call is None else call.index}/reserved")
        if isinstance(reserved, BudgetSpent):
            if record.get(reserved.key) is None:
                record.append(reserved)
            return
        following = self._log.next_of(step, call.index) if call is not None else None
        event = following.event if following is not None else self._log.event("run.finished/-/-/-")
        result = event.refusal if isinstance(event, CallDecided) else None
        result = event.result if isinstance(event, CallAnswered) else result
        if isinstance(result, Failed) and result.error.details.get("shared"):
            raise _refusal_of(result.error)
        turn = call is None and self._log.event(f"model.requested/{step}/-/-") is None
        if turn and isinstance(event, RunFinished) and event.code == "budget_exhausted":
            raise Refusal(event.code, event.message)

    async def record_usage(self, record: Record, step: int, call: Call | None, amounts: Mapping[Measure, int]) -> None:
        used = self._log.event(f"budget.spent/{step}/{'-' if call is None else call.index}/used")
        if isinstance(used, BudgetSpent) and record.get(used.key) is None:
            record.append(used)

    async def wait_until_stopped(self, call: Call, until: int) -> tuple[Code, str]:
        await asyncio.Event().wait()  # never returns: a call that was stopped has a recorded end
        raise AssertionError

    async def changed(self, seconds: float) -> None:
        await asyncio.Event().wait()  # never returns: nothing sets a hold during a replay

    def awaits_answers(self, call: Call) -> bool:
        error = self._log.error_next(call)
        if error is not None and error.code in GIVEN_UP_WAITING:
            raise _refusal_of(error)
        following = self._log.next_of(call.step, call.index)
        return following is not None and isinstance(
            following.event, ApprovalGranted | ApprovalRejected | ApprovalRevoked
        )

    def is_revoked(self, call: Call, bounded: BoundedApproval) -> bool:
        following = self._log.next_of(call.step, call.index)
        event = None if following is None else following.event
        return not isinstance(event, ApprovalGranted) or event.under != bounded.granted.key

    def lost_secret_result(self, step: int, index: int) -> Failed | None:
        following = self._log.next_of(step, index)
        event = following.event if following is not None else None
        result = event.refusal if isinstance(event, CallDecided) else None
        result = event.result if isinstance(event, CallAnswered) else result
        return result if isinstance(result, Failed) and result.error.code in SECRET_LOST else None

    def answer(self, call: Call, number: int) -> QuestionAnswered | None:
        answered = self._log.event(f"question.answered/{call.step}/{call.index}/{number}")
        return answered if isinstance(answered, QuestionAnswered) else None

    async def sleep(self, call: Call, seconds: float) -> None:
        return None


def _refusal_of(error: Error) -> Refusal:
    """The refusal that this recorded error came from."""
    details = {key: value for key, value in error.details.items() if key != "effect"}
    return Refusal(
        error.code,
        error.message,
        details=details,
        next_step=error.next_step,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
    )


def recorded_agent(
    log: ReplayLog, record: Record, started: RunStarted, bundles: Mapping[str, Bundle], what_if: WhatIf
) -> AgentGraph:
    """The agent of a recorded run, built from its bundle and from nothing of this machine; `what_if` replaces parts."""
    workspace = bundles[started.bundle].workspace
    agent = workspace.agents[started.subjects.agent.partition(":")[2]]
    if what_if.tools is not None:
        workspace = replace(workspace, tools=what_if.tools.tools)
        existing = {
            f"{name}.{action}" for name, tool in workspace.every_tool.items() for action in tool.manifest.actions
        }
        agent = agent.model_copy(update={"actions": tuple(name for name in agent.actions if name in existing)})
    broker = Broker(
        workspace=workspace,
        agent=agent,
        subjects=started.subjects,
        record=record,
        executor=RecordedExecutor(log, what_if.tools),
        ports=RecordedPorts(log, bundles, what_if),
        sanitizer=AlreadySanitized(workspace.content),
        confinement=started.confinement,
        needs_secrets=False,
    )
    return AgentGraph(
        broker=broker,
        models=RecordedModels(log, started),
        record=record,
        tools=tool_specs(workspace, agent),
        hold_reason=lambda: None,
        custom=_custom_graph(log, started, bundles[started.bundle].workspace),
    )


def _custom_graph(log: ReplayLog, started: RunStarted, workspace: Workspace) -> CustomGraph | None:
    """The recorded graph of the agent's author, which repeats every recorded step; None if Remit's own loop drove the run."""
    factory = workspace.agents[started.agent].graph if started.graph else None
    if factory is None:
        return None
    events = [item.event for item in log.recorded if item.event is not None]
    repeated = 1 + max((event.step for event in events if event.step is not None), default=-1)
    return CustomGraph(factory=factory, source=workspace.files[factory.file], recorded=events, repeated=repeated)


def recorded_approvals(log: ReplayLog, record: Record, broker: Broker) -> Callable[[], Awaitable[bool]]:
    """A function that repeats recorded answers of people when the run waits; it returns True if the run can continue."""

    moved: set[int] = set()

    async def settle() -> bool:
        progress = [_repeat_answer(log, record, broker, item.event) for item in log.recorded]
        if any(progress):
            return True
        for (step, index), call in record.state.open.items():
            following = log.next_of(step, index)
            if call.waiting and following is not None and following.type in _MOVES_ON:
                # Each such event counts as progress once; otherwise a run that still waits would never stop trying.
                if following.seq in moved:
                    continue
                moved.add(following.seq)
                progress.append(True)
        return any(progress)

    return settle


def _repeat_answer(log: ReplayLog, record: Record, broker: Broker, event: AnyEvent | None) -> bool:
    """Record a person's answer again if a request waits for it; True if it was recorded."""
    if not isinstance(event, ApprovalGranted | ApprovalRejected | ApprovalRevoked):
        return False
    assert event.step is not None
    assert event.index is not None
    decided = broker.latest_decision(event.step, event.index)
    if decided is None or decided.decision is None or decided.decision.verdict != "ask":
        return False
    now = event.model_copy(update={"decision_digest": decided.decision.decision_digest})
    if not (log.loose or event == now) or record.get(now.key) is not None:
        return False
    record.append(now)
    return True
