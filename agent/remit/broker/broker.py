"""The stages of every tool call.

    proposed call ─► parse ─► resolve ─► decide ─► reserve     (all calls of a step, in the model's order)
             then, per call, in parallel:
    approve ─► execute (`execution.py`: each attempt) ─► record ─► result to the model

Nothing here trusts the model, the tool, or an earlier process: only recorded events count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from remit.broker import budgets, effects, refusals, retries
from remit.broker.approvals import bounded, requests
from remit.broker.attempts import ToolExecutor
from remit.broker.decisions import Decider, check_narrowed, narrow
from remit.broker.execution import Execution, refusal_result
from remit.broker.ports import ExecutionPorts
from remit.core import (
    UNDECODED,
    Call,
    Confinement,
    Decision,
    Failed,
    Json,
    ProposedCall,
    Refusal,
    Repair,
    Request,
    Result,
    Subjects,
    Succeeded,
    request_digest,
)
from remit.core.events import (
    ApprovalRejected,
    ApprovalRequested,
    CallAnswered,
    CallDecided,
)
from remit.core.parsing import canonical_json
from remit.guardrails import Sanitizer, directory_entries, repeated_names
from remit.journal import Record, retry_key
from remit.policy import Evaluated
from remit.workspace import Agent, Measure, Workspace
from remit.workspace.manifest import read_arguments, repaired_name, resolve

_Read: TypeAlias = tuple[dict[str, Json], tuple[Repair, ...]]  # arguments, and how they were repaired


class ApprovalPending(Exception):
    """The call waits until people answer the approval request `requested`."""

    def __init__(self, requested: ApprovalRequested) -> None:
        self.requested = requested
        super().__init__(requested.summary)


@dataclass(frozen=True, kw_only=True)
class Broker:
    """The only entry point between model and tools, for one run.

    `confinement` is that of the sandbox. Secrets in arguments are not recorded, so only the process that received them can run
    such a call. `needs_secrets` is False in a replay, which runs nothing and can therefore continue without them. `roles` are those of
    the user's token, for a call of no run.
    """

    workspace: Workspace
    agent: Agent
    subjects: Subjects
    record: Record
    executor: ToolExecutor
    ports: ExecutionPorts
    sanitizer: Sanitizer
    confinement: Confinement
    needs_secrets: bool = True
    roles: tuple[str, ...] = ()
    _unredacted: dict[tuple[int, int], ProposedCall] = field(default_factory=dict[tuple[int, int], ProposedCall])
    _calls: dict[tuple[int, int], Call] = field(default_factory=dict[tuple[int, int], Call])

    @property
    def _execution(self) -> Execution:
        return Execution(
            workspace=self.workspace,
            agent=self.agent,
            record=self.record,
            executor=self.executor,
            ports=self.ports,
            sanitizer=self.sanitizer,
            allows_redirect=self._decider.allows_redirect,
            check_sandbox=self._decider.check_sandbox,
        )

    @cached_property
    def _decider(self) -> Decider:
        return Decider(
            workspace=self.workspace,
            record=self.record,
            ports=self.ports,
            sanitizer=self.sanitizer,
            confinement=self.confinement,
            user=self.subjects.user,
            roles=self.roles,
        )

    @property
    def policy_digest(self) -> str:
        """The digest of the rules that are in force for the calls of this run."""
        return self._decider.of_run(self.ports.policy(-1, -1)).digest

    def receive(self, step: int, proposed_calls: Sequence[ProposedCall]) -> tuple[ProposedCall, ...]:
        """The proposed calls as they may be recorded, with secrets redacted. The originals stay in the memory of this process.

        Of the calls beyond `CALLS_PER_TURN` only the first is kept, so thousands of calls cost no more than one.
        """
        proposed_calls = proposed_calls[: budgets.CALLS_PER_TURN + 1]
        shown = tuple(self.sanitizer.proposed_call(proposed) for proposed in proposed_calls)
        self._unredacted.update(
            {(step, index): proposed for index, proposed in enumerate(proposed_calls) if shown[index].redacted}
        )
        return shown

    # ── decide: all calls of a step, in the model's order ────────────────────────────────────────────────────────────

    async def decide(
        self, step: int, proposed_calls: Sequence[ProposedCall], *, cut: bool = False
    ) -> tuple[CallDecided, ...]:
        """Parse, resolve and decide every call of a step before any of them runs.

        `cut` is True if a length limit or a filter stopped the model in its turn. Then none of its calls runs, because the
        arguments may be cut and still be valid: `10` may be the beginning of `1000`.
        """
        before: list[Call] = []
        every: list[CallDecided] = []
        for index, proposed in enumerate(proposed_calls):
            if index:
                await asyncio.sleep(0)  # a turn with many calls does not block the event loop
            every.append(decided := await self._decide_call(step, index, proposed, cut, before))
            if decided.call is not None and decided.refusal is None:
                before.append(decided.call)
        return tuple(every)

    def latest_decision(self, step: int, index: int) -> CallDecided | None:
        """The last recorded decision of that call; None before the first one."""
        latest, number = None, 0
        while isinstance(event := self.record.get(f"call.decided/{step}/{index}/{number}"), CallDecided):
            latest, number = event, number + 1
        return latest

    async def _decide_call(
        self, step: int, index: int, proposed: ProposedCall, cut: bool, before: Sequence[Call]
    ) -> CallDecided:
        if (earlier := self.latest_decision(step, index)) is not None:
            return earlier
        if proposed.redacted and (failed := self.ports.lost_secret_result(step, index)) is not None:
            event = CallDecided(step=step, index=index, proposed=proposed, refusal=failed)
            self.record.append(event)
            return event
        shown: Call | None = None
        found: dict[str, Any]
        action, repairs = repaired_name(proposed.name, self.agent.actions, repair=self.agent.repair_calls)
        enforced = self._decider.enforces(action, step, index)
        try:
            budgets.check_position(index)
            if cut:
                raise refusals.cut_turn()
            if enforced:
                self._check_budgets(step, index, action, proposed)
            parsed, repaired = self._parse(step, index, action, self._unredacted.get((step, index), proposed))
            repairs += repaired
            call, recorded = self._resolve(step, index, action, parsed)
            call = narrow(call, self.workspace.action(action)[1], self.executor, self._decider)
            self._calls[step, index] = call
            shown = call if recorded == call.arguments else call.model_copy(update={"arguments": recorded})
            check_narrowed(call, self.workspace.action(action)[1])
            if (note := self.sanitizer.blocked(call.arguments, "arguments", call.action)) is not None:
                raise refusals.blocked_arguments(call.action, note)
            if enforced:
                effects.check_duplicate_in_step(before, call)
                retries.check_tries(self.record.state, self.agent.budget, retry_key(shown))
            decision = self._decider.decide(call, shadow=True)
            if enforced:
                await self._check_decided(call, decision)
            quoted = self._quoted_by_user(call) if proposed.redacted else None
            found = {"decision": decision, "quoted_by_user": quoted}
        except Refusal as refusal:
            found = {"refusal": refusal_result(self.sanitizer, refusal)}
        found |= {"repairs": repairs, "enforced": enforced}
        event = CallDecided(step=step, index=index, proposed=proposed, call=shown, **found)
        self.record.append(event)
        return event

    def _check_budgets(self, step: int, index: int, action: str, proposed: ProposedCall) -> None:
        state, budget = self.record.state, self.agent.budget
        output = self._outstanding_output() + self._output_of(action)
        budgets.check_call(state, budget, self.ports.clock(step, index), output=output)
        retries.check_tries(state, budget, f"ask:{proposed.action}")

    async def _check_decided(self, call: Call, decision: Decision) -> None:
        """Raise Refusal for a call that must not run whatever the rules say, and reserve what an allowed one can use."""
        if decision.verdict != "deny":
            effects.check_repeated_effect(self.ports.run_state(self.record, call, ""), call)
        if decision.verdict == "ask":
            requests.check_waiting_approvals(self.record.state, self.agent.budget)
        if decision.verdict == "allow":
            await self._reserve(call)

    def request(self, call: Call) -> Request:
        """The request of a decided call to the policy, as if there were no approvals."""
        return self._decider.request_of(call, self._decider.policy(call), "", ignore_grants=True)

    def evaluate(self, call: Call) -> tuple[Evaluated, ...]:
        """What each rule that matches a decided call contributed, as if there were no approvals."""
        return self._decider.policy(call).evaluate(self.request(call))

    def _quoted_by_user(self, call: Call) -> bool:
        """The fact of that name. It is recorded for redacted arguments, from which a replay cannot compute it."""
        return self._decider.request_of(call, self._decider.policy(call), "").context.quoted_by_user

    async def _reserve(self, call: Call) -> None:
        """Reserve the largest amounts that the call can use of the limits that all runs share."""
        tool, _ = self.workspace.action(call.action)
        limits = tool.manifest.limits
        most: dict[Measure, int] = {"calls": 1, "seconds": int(limits.wall * 1000), "bytes": limits.output}
        await self.ports.reserve(self.record, call.step, call, most)

    def _outstanding_output(self) -> int:
        """The largest number of bytes that allowed calls without a result can still return."""
        return sum(self._output_of(call.action) for call in self.record.state.open.values() if call.allowed)

    def _output_of(self, action: str) -> int:
        tool = self.workspace.every_tool.get(action.partition(".")[0])
        return 0 if tool is None else tool.manifest.limits.output

    def _parse(self, step: int, index: int, name: str, proposed: ProposedCall) -> _Read:
        """The arguments of a call of the action `name`, and how they were repaired."""
        if name in self.agent.undecided:
            self.workspace.action(name)  # refuses it, and names the line
        if name not in self.agent.actions:
            raise refusals.unknown_action(self.sanitizer.text(proposed.name), self.subjects.agent, self.agent.actions)
        tool, action = self.workspace.action(name)
        if not tool.pinned or tool.pin is None:
            raise refusals.not_reviewed(tool.manifest.name)
        text = self._text_of(step, index, proposed)
        return read_arguments(text, tool.pin.schemas[action.name].input, repair=self.agent.repair_calls)

    def _text_of(self, step: int, index: int, proposed: ProposedCall) -> str:
        """The arguments as JSON text."""
        if proposed.redacted and self.needs_secrets and (step, index) not in self._unredacted:
            raise refusals.lost_secret()
        if proposed.arguments is not None:
            return proposed.arguments
        if self.agent.accept_parsed_arguments and proposed.parsed is not None:
            return canonical_json(proposed.parsed).decode()
        raise refusals.no_argument_text()

    def _resolve(self, step: int, index: int, name: str, parsed: dict[str, Json]) -> tuple[Call, Json]:
        """Resolve parsed arguments to a canonical call, or refuse them; also returns the arguments as they may be recorded."""
        tool, action = self.workspace.action(name)
        assert tool.pin is not None  # checked before the arguments are parsed
        arguments, touches = resolve(tool.manifest, action, tool.pin.schemas[action.name], parsed)
        if any(self.sanitizer.arguments(touch.resource) != touch.resource for touch in touches):
            raise refusals.secret_in_resource(name)
        recorded = self.sanitizer.arguments(arguments)
        call = Call(
            run=self.record.run,
            step=step,
            index=index,
            subjects=self.subjects,
            action=name,
            arguments=arguments,
            touches=touches,
            effect=action.effect,
            manifest=tool.manifest.digest,
            request_digest=request_digest(self.subjects, name, recorded, tool.manifest.digest),
        )
        return call, recorded

    # ── perform: one call, once ──────────────────────────────────────────────────────────────────────────────────────

    async def perform(self, step: int, index: int) -> Result:
        """Execute one decided call and return its result. A second call returns the same result and repeats nothing.

        Raises:
            ApprovalPending: people must answer first.
            RunEnded: the run cannot continue.
        """
        answered = self.record.get(f"call.answered/{step}/{index}/-")
        if isinstance(answered, CallAnswered):
            return answered.result
        decided = self.latest_decision(step, index)
        assert decided is not None  # the graph decides every call of a step before it performs one
        if decided.refusal is not None or decided.call is None:
            assert decided.refusal is not None
            return self._record_result(step, index, decided.refusal)
        try:
            call = self._calls.get((step, index), decided.call)
            refusals.check_definition(call, self.workspace.action(call.action)[0].manifest.digest)
            decision = await self._allowing_decision(decided, call) if decided.enforced else decided.decision
            assert decision is not None  # a call without a refusal has one
        except ApprovalPending:
            await self.record.commit()  # people can answer from now on
            raise
        except Refusal as refusal:
            return self._record_result(step, index, refusal_result(self.sanitizer, refusal))
        proposed = decided.proposed
        complete = not proposed.redacted or not self.needs_secrets or (step, index) in self._unredacted
        execution = replace(self._execution, enforced=decided.enforced)
        result = await execution.run(
            call, decision, arguments_complete=complete, lost_secret=lambda: self._lost_secret(call, proposed)
        )
        await self.ports.record_usage(self.record, step, call, budgets.used_amounts(self.record, step, index))
        return self._record_result(step, index, result, call)

    async def give_up(self, step: int, index: int, refusal: Refusal) -> Result:
        """Answer a decided call that will not be executed with `refusal`; nothing of it runs.

        Recorded approval answers, and the outcome of an interrupted attempt, take precedence over `refusal`.
        """
        answered = self.record.get(f"call.answered/{step}/{index}/-")
        decided = self.latest_decision(step, index)
        assert decided is not None
        if isinstance(answered, CallAnswered) or decided.call is None:
            return await self.perform(step, index)
        call = self._calls.get((step, index), decided.call)
        _, ended = effects.earlier_attempts(self.record, call)
        if ended is not None and ended.retry_in_s is None:
            return await self.perform(step, index)  # no further attempt follows, so the call has a result of its own
        try:
            if ended is None and decided.enforced:
                await self._allowing_decision(decided, call)
        except ApprovalPending:
            pass
        except Refusal as recorded:
            refusal = recorded
        return self._record_result(step, index, refusal_result(self.sanitizer, refusal, ended))

    async def _allowing_decision(self, decided: CallDecided, call: Call) -> Decision:
        """The decision that allows the call now.

        Raises:
            ApprovalPending: people must answer first.
            Refusal: the call is denied, rejected, or was not approved in time.
        """
        assert decided.decision is not None
        decision = decided.decision
        asked = requests.is_asked(self.record, call, decision)
        if decision.verdict == "ask" and not asked:
            # No request exists yet, and later calls of the step were decided since: approvers see the current decision.
            decided = await self._record_if_changed(decided, call, self._decider.decide(call))
            assert decided.decision is not None
            decision = decided.decision
        if decision.verdict == "ask":
            requested = self._requested(call, decision)
            if asked or self.record.state.bounded:
                await self.record.catch_up()
            if not asked:  # nobody can have answered a new request, but an earlier approval may cover it
                bounded.approve_in_scope(self.record, call, requested, self.ports)
            if self.ports.awaits_answers(call):
                raise ApprovalPending(requested)
            rejected = self.record.get(f"approval.rejected/{call.step}/{call.index}/{decision.decision_digest}")
            if isinstance(rejected, ApprovalRejected):
                raise refusals.rejected_by(rejected, call.action)
            expired = requests.approval_expired(requested, self.ports.clock(call.step, call.index))
            decision = self._decider.decide(call)
            await self._record_if_changed(decided, call, decision)
            moment = self._decider.moment(call, self._decider.policy(call), decision.decision_digest)
            state = self.ports.run_state(self.record, call, requested.decision_digest)
            requests.void_approvals(self.record, call, state, requested, moment)
            if decision.verdict == "ask":
                if expired and decision.decision_digest == requested.decision_digest:
                    raise refusals.not_approved_in_time(call.action)
                raise ApprovalPending(self._requested(call, decision))
        if decision.verdict != "allow":
            raise refusals.denied_by_policy(call, decision)
        return decision

    async def _record_if_changed(self, decided: CallDecided, call: Call, decision: Decision) -> CallDecided:
        """Record a new decision of the call if it differs from the recorded one."""
        before = decided.decision
        assert before is not None
        if (decision.verdict, decision.decision_digest) == (before.verdict, before.decision_digest):
            return decided
        if decision.verdict == "allow":
            await self._reserve(call)
        number = decided.round + 1
        again = decided.model_copy(update={"round": number, "decision": decision})
        self.record.append(again)
        return again

    def _requested(self, call: Call, decision: Decision) -> ApprovalRequested:
        now = self.ports.clock(call.step, call.index)
        return requests.request_approval(self.record, call, decision, now, self.sanitizer)

    def _lost_secret(self, call: Call, proposed: ProposedCall) -> Failed | None:
        """The recorded result of a call whose secret was lost with its process; None if the secret is available.

        INVARIANT: called only before a new attempt, because only an attempt needs the secret.

        Raises:
            Refusal: `cancelled` if the secret is lost and no result is recorded yet.
        """
        if not proposed.redacted:
            return None
        if (failed := self.ports.lost_secret_result(call.step, call.index)) is None:
            self._text_of(call.step, call.index, proposed)
        return failed

    def _record_result(self, step: int, index: int, result: Result, call: Call | None = None) -> Result:
        """Record the result of the call, with the labels that it puts on the run and removes, and the names for the directory."""
        labels: tuple[str, ...] = ()
        labels_removed: tuple[str, ...] = ()
        names = frozenset[str]()
        if call is not None and isinstance(result, Failed) and result.error.details.get("reason") in UNDECODED:
            labels = self._execution.labels(call, self.workspace.action(call.action)[1])
        if call is not None and isinstance(result, Succeeded):
            _, action = self.workspace.action(call.action)
            open_call = self.ports.run_state(self.record, call, "").open.get((step, index))
            # INVARIANT: a label that was added after the decision stays, because the call has not seen that content.
            labels_removed = tuple(
                label
                for label in action.removes_labels
                if open_call is not None and label not in open_call.labels_since
            )
            trusted = open_call is not None and open_call.trusted
            if action.effect != "read" or trusted:
                state = self.record.state
                names = directory_entries(action.listings, result.value, state.words, state.directory)
                # A name that an effect created belongs to the run. A name that only repeats an argument may be untrusted.
                names = names if trusted else names - repeated_names(self.sanitizer.arguments(call.arguments), names)
        answered = CallAnswered(
            step=step,
            index=index,
            result=result,
            labels=labels,
            labels_removed=labels_removed,
            directory_added=tuple(sorted(names)),
        )
        self.record.append(answered, durable=False)
        return result
