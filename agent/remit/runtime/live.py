"""The live execution ports of a run: clock, rules, holds, circuit breakers and shared limits of this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, Literal

from remit.broker import (
    ShadowRules,
    check_circuit,
    check_counted,
    check_revoked,
    count_attempt,
    hold_reason,
    requesters,
)
from remit.core import Call, Claim, Code, Exhausted, Failed, Refusal, Request, RunEnded, UsageError, WorkspaceError
from remit.core.events import (
    CODE,
    NANO,
    AnswerGiven,
    BoundedApproval,
    BudgetSpent,
    PolicyChanged,
    QuestionAnswered,
    Usage,
)
from remit.journal import SHARED, Record, RunState, StoredRecord, conversation_of
from remit.policy import Policy, PolicyWatcher, SecondOpinion, is_rules
from remit.rollout import CandidateRules
from remit.runtime.assembly import Recording
from remit.workspace import (
    Measure,
    SharedLimit,
    WorkspaceSession,
    files_of,
    limit_claims,
    limit_refusal,
    with_rules_in_force,
)
from remit.workspace.manifest import Breaker

_REPUBLISH: Final = "bring the files of this workspace up to date, or publish other rules: remit policy publish"
OF_RUN: Final = "run:"  # the beginning of the scope of a hold on one run


class LivePorts:
    """The execution ports of a run that happens now, on this machine.

    Without a `recording`, changes of the rules are used and not recorded (dry run). `candidate` are the rules of a rollout.
    """

    def __init__(
        self, session: WorkspaceSession, recording: Recording | None = None, candidate: CandidateRules | None = None
    ) -> None:
        self._candidate = candidate
        self._session_now: WorkspaceSession | None = None
        self._held_in: dict[str, str] = {}  # the conversation of a held run, by the scope of the hold
        self._journal = session.journal
        self._recording = recording  # a change of the rules is recorded before the first decision under the new rules
        self._recorded_policy = session.policy
        self.stops: Final[dict[tuple[int, int], asyncio.Event]] = {}  # filled by a program that may stop its calls
        self.answer_to: Callable[[int, int, int], QuestionAnswered | None] | None = None  # set by an external graph
        self._second_opinion: tuple[Policy, SecondOpinion] | None = None
        self._published = session.journal.published()
        self._use(session)

    def _use(self, session: WorkspaceSession) -> None:
        """From now on, the rules in force are those of this session, and of later edits of its folder."""
        self._session = session
        files = {path: data for path, data in session.workspace.files.items() if is_rules(path)}
        self._watched = PolicyWatcher(session.policies, session.policy, files, report=self._record_problem)

    def _rules(self) -> PolicyWatcher:
        """The rules in force: those that were published last, or those of the files.

        INVARIANT: what was published and cannot be loaded here ends the run; nothing is decided by the rules before.
        """
        if (published := self._journal.published()) != self._published:
            try:
                self._use(with_rules_in_force(self._session))
            except (WorkspaceError, UsageError) as failure:
                raise RunEnded(
                    "unrecorded", f"the published rules are not in force here: {failure}", fix=_REPUBLISH
                ) from failure
            self._published = published
        return self._watched

    def clock(self, step: int, index: int) -> int:
        return time.time_ns()

    def policy(self, step: int, index: int) -> Policy:
        watched = self._rules()
        now, rules = watched.current(), watched.files
        if (candidate := self._candidate) is not None and candidate.decides and candidate.count(self._journal, now):
            now, rules = candidate.policy, candidate.files
        if now is not self._recorded_policy:
            self._recorded_policy = now
            if self._recording is not None:
                files = files_of(self._session.workspace)
                kept = {path: data for path, data in files.items() if not is_rules(path)}
                self._record_change(
                    self._recording.record, bundle=self._recording.objects.put_bundle({**kept, **rules})
                )
        return now

    @property
    def session(self) -> WorkspaceSession:
        """The open workspace with the rules in force now, with which a new run starts."""
        watched = self._rules()
        now, rules, opened = watched.current(), watched.files, self._session
        if now is opened.policy:
            return opened
        if self._session_now is None or self._session_now.policy is not now:
            kept = {path: data for path, data in opened.workspace.files.items() if not is_rules(path)}
            workspace = replace(opened.workspace, files={**kept, **rules})
            self._session_now = replace(opened, workspace=workspace, policy=now)
        return self._session_now

    def shadow_rules(self, step: int, index: int) -> ShadowRules | None:
        candidate = self._candidate
        if candidate is None or candidate.decides or not candidate.count(self._journal, self._rules().current()):
            return None
        return ShadowRules(rollout=candidate.rollout, policy=candidate.policy)

    def casbin_allows(self, call: Call, policy: Policy, request: Request) -> bool:
        if self._second_opinion is None or self._second_opinion[0] is not policy:
            self._second_opinion = policy, SecondOpinion(policy)
        return self._second_opinion[1].allows(request)

    def _record_problem(self, error: WorkspaceError) -> None:
        if self._recording is not None:
            self._record_change(self._recording.record, problem=str(error))

    def _record_change(self, record: Record, *, bundle: str = "", problem: str = "") -> None:
        count = record.count("policy.changed") + 1
        digest = self._recorded_policy.digest
        record.append(PolicyChanged(count=count, bundle=bundle, policy_digest=digest, problem=problem), durable=True)

    def quoted_by_user(self, step: int, index: int) -> bool | None:
        return None

    def run_state(self, record: Record, call: Call, decision_digest: str) -> RunState:
        return record.state

    def held(self, *scopes: str) -> str | None:
        """Why one of these scopes is held now, or None. A hold on one run of a conversation holds all of it.

        A run is held, too, while the person who started it or for whom it acts is disabled.
        """
        holds = self._journal.holds()
        state = None if self._recording is None else self._recording.record.state
        place = None if state is None else state.conversation
        people = () if state is None or state.started is None else requesters(state.started)
        runs = (scope for scope in holds if place and scope.startswith(OF_RUN))
        of_place = (scope for scope in runs if place and self._is_in(scope, place.id))
        return hold_reason(holds, *scopes, *people, *of_place)

    def _is_in(self, scope: str, conversation: str) -> bool:
        """True if that hold is on a run of the conversation."""
        if scope not in self._held_in:
            self._held_in[scope] = conversation_of(self._journal, scope.removeprefix(OF_RUN))
        return self._held_in[scope] == conversation

    async def admit(self, call: Call) -> None:
        self._check_holds(call)
        await check_circuit(self._journal, call, time.time_ns())

    def _check_holds(self, call: Call) -> None:
        tool, _ = self._session.workspace.action(call.action)
        check_revoked(self._journal.holds(), tool.manifest.name, tool.code)
        if (graph := self._session.workspace.agents[call.subjects.agent.removeprefix("agent:")].graph) is not None:
            check_revoked(self._journal.holds(), call.subjects.agent, graph.code)
        if (reason := self.held(*_scopes(call), *self._approvers(call))) is not None:
            raise Refusal("held", reason, retryable=True)

    def _approvers(self, call: Call) -> Sequence[str]:
        """Who has approved the call: what a person approved who is disabled now, does not begin."""
        opened = None if self._recording is None else self._recording.record.state.open.get((call.step, call.index))
        approval = None if opened is None else opened.approval
        return () if approval is None else [grant.approver for grant in approval.grants]

    async def attempt_ended(self, call: Call, attempt: int, code: Code | None, breaker: Breaker) -> None:
        await count_attempt(self._journal, call, attempt, code, breaker)

    def cost(self, step: int, model: str, usage: Usage) -> Decimal | None:
        return self._session.workspace.prices.cost(model, usage)

    async def reserve(self, record: Record, step: int, call: Call | None, amounts: Mapping[Measure, int]) -> None:
        event = self._claimed(record, step, call, "reserved", amounts)
        if event is None or record.get(event[0].key) is not None:
            return
        spent, claimed = event
        if call is None:
            check_counted(record.state, [limit.of for limit, _ in claimed.values()])
        try:
            await record.append_claimed(spent, [replace(claim, at=spent.at) for _, claim in claimed.values()])
        except Exhausted as exhausted:
            raise limit_refusal(claimed[exhausted.claim.scope][0], exhausted, time.time_ns()) from exhausted

    async def record_usage(self, record: Record, step: int, call: Call | None, amounts: Mapping[Measure, int]) -> None:
        event = self._claimed(record, step, call, "used", amounts)
        if event is None or record.get(event[0].key) is not None:
            return
        spent, _ = event
        reserved = record.get(spent.key.removesuffix("used") + "reserved")
        if isinstance(reserved, BudgetSpent) and reserved.amounts != spent.amounts:
            await record.append_claimed(spent, _corrections(reserved, spent))

    def _claimed(
        self,
        record: Record,
        step: int,
        call: Call | None,
        phase: Literal["reserved", "used"],
        amounts: Mapping[Measure, int],
    ) -> tuple[BudgetSpent, dict[str, tuple[SharedLimit, Claim]]] | None:
        started = record.state.started
        if started is None or not (every := self._session.workspace.limits):
            return None
        action, index = ("", None) if call is None else (call.action, call.index)
        claimed = limit_claims(every, amounts, run=record.run, subjects=started.subjects, action=action)
        if not claimed:
            return None
        spent = BudgetSpent(
            step=step,
            index=index,
            phase=phase,
            at=time.time_ns(),
            amounts={scope: claim.amount for scope, (_, claim) in claimed.items()},
            windows={scope: claim.window_ns for scope, (_, claim) in claimed.items()},
        )
        return spent, claimed

    async def wait_until_stopped(self, call: Call, until: int) -> tuple[Code, str]:
        tool, _ = self._session.workspace.action(call.action)
        stop = self.stops.get((call.step, call.index))
        while (left := (until - time.time_ns()) / NANO) > 0:
            version = self._journal.version((SHARED,))
            if (reason := self.held(*_scopes(call), f"{CODE}{tool.code}")) is not None:
                return "cancelled", f"stopped while it ran: {reason}"
            if stop is not None and stop.is_set():
                return "cancelled", "stopped while it ran: its client has cancelled it"
            await _either(self._journal.changes.wait((SHARED,), version, left), stop)
        return "timeout", "the run's time was up"

    async def changed(self, seconds: float) -> None:
        await self._journal.changes.wait((SHARED,), self._journal.version((SHARED,)), seconds)

    def awaits_answers(self, call: Call) -> bool:
        return False

    def is_revoked(self, call: Call, bounded: BoundedApproval) -> bool:
        given = StoredRecord(self._journal, bounded.run).state.bounded
        if bounded.granted.approver in self._journal.holds():
            return True
        return all(item.granted != bounded.granted for item in given)

    def lost_secret_result(self, step: int, index: int) -> Failed | None:
        return None

    def answer(self, call: Call, number: int) -> QuestionAnswered | None:
        if self.answer_to is not None:
            return self.answer_to(call.step, call.index, number)
        record = None if self._recording is None else self._recording.record
        given = None if record is None else record.get(f"answer.given/{call.step}/{call.index}/{number}")
        if not isinstance(given, AnswerGiven):
            return None
        return QuestionAnswered(step=call.step, index=call.index, number=number, by=given.by, answer=given.answer)

    async def sleep(self, call: Call, seconds: float) -> None:
        await self.wait_until_stopped(call, time.time_ns() + int(seconds * NANO))


class EvaluationPorts(LivePorts):
    """The execution ports of a run of an evaluation, which live runs do not notice.

    It takes nothing from shared limits, and neither reads nor counts for the circuit breakers. A hold stops it like every run.
    """

    async def admit(self, call: Call) -> None:
        self._check_holds(call)

    async def attempt_ended(self, call: Call, attempt: int, code: Code | None, breaker: Breaker) -> None:
        return None

    async def reserve(self, record: Record, step: int, call: Call | None, amounts: Mapping[Measure, int]) -> None:
        return None

    async def record_usage(self, record: Record, step: int, call: Call | None, amounts: Mapping[Measure, int]) -> None:
        return None


def _corrections(reserved: BudgetSpent, used: BudgetSpent) -> list[Claim]:
    """What was used less what was reserved, of each limit, at the time of the reservation."""
    return [
        Claim(
            scope=scope, amount=amount - reserved.amounts.get(scope, 0), window_ns=used.windows[scope], at=reserved.at
        )
        for scope, amount in used.amounts.items()
        if scope in reserved.amounts
    ]


async def _either(waiting: Coroutine[Any, Any, object], stop: asyncio.Event | None) -> None:
    """Return once one of the two has happened."""
    if stop is None:
        await waiting
        return
    both = {asyncio.ensure_future(waiting), asyncio.ensure_future(stop.wait())}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()


def _scopes(call: Call) -> tuple[str, str, str]:
    return f"{OF_RUN}{call.run}", call.subjects.agent, f"tool:{call.action.partition('.')[0]}"
