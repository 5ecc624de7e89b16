"""The line that every tool call travels, stage by stage.

    ask ─► parse ─► resolve ─► spend ─► decide            (all calls of a step, in the model's order)
             then, per call, in parallel:
    approve ─► carry out (`execution.py`: each attempt) ─► record ─► the model is told

Nothing here trusts the model, the tool, or an earlier process: what was recorded is what is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from remit.broker import budgets as budget
from remit.broker import effects as effect
from remit.broker import retries as retry
from remit.broker.approvals import requests as approval
from remit.broker.attempts import ToolExecutor
from remit.broker.context import counted_grants
from remit.broker.decisions import Decider
from remit.broker.execution import Execution, refused
from remit.broker.ports import ExecutionPorts
from remit.core import (
    Call,
    Confinement,
    Decision,
    Failed,
    ProposedCall,
    Refusal,
    Result,
    Subjects,
    Succeeded,
    request_digest,
)
from remit.core.events import (
    ApprovalRejected,
    ApprovalRequested,
    ApprovalVoided,
    AttemptEnded,
    CallAnswered,
    CallDecided,
)
from remit.core.parsing import canonical_json, parse_arguments
from remit.guardrails import Sanitizer, listed, written
from remit.journal import Record, meant
from remit.workspace import Agent, Measure, Workspace
from remit.workspace.manifest import resolve


class ApprovalPending(Exception):
    """The call cannot go on until people have answered `requested`."""

    def __init__(self, requested: ApprovalRequested) -> None:
        self.requested = requested
        super().__init__(requested.summary)


@dataclass(frozen=True, kw_only=True)
class Broker:
    """The one door between model and tools, for one run.

    `confinement` is the sandbox's. `forgetful` says that secrets in recorded arguments are lost with the process that
    heard them, so such a call cannot be carried out by another; only a replay, which carries nothing out, may go on.
    """

    workspace: Workspace
    agent: Agent
    subjects: Subjects
    record: Record
    attempts: ToolExecutor
    ports: ExecutionPorts
    sanitizer: Sanitizer
    confinement: Confinement
    forgetful: bool = True
    _heard: dict[tuple[int, int], ProposedCall] = field(default_factory=dict[tuple[int, int], ProposedCall])
    _calls: dict[tuple[int, int], Call] = field(default_factory=dict[tuple[int, int], Call])

    @property
    def _carry(self) -> Execution:
        return Execution(
            workspace=self.workspace,
            agent=self.agent,
            record=self.record,
            attempts=self.attempts,
            ports=self.ports,
            sanitizer=self.sanitizer,
            redirected=self._decider.redirected,
        )

    @cached_property
    def _decider(self) -> Decider:
        return Decider(
            workspace=self.workspace,
            record=self.record,
            ports=self.ports,
            sanitizer=self.sanitizer,
            confinement=self.confinement,
        )

    def hear(self, step: int, proposed_calls: Sequence[ProposedCall]) -> tuple[ProposedCall, ...]:
        """The model's calls as they may be recorded; what they really said stays in this process only.

        Of those beyond what one turn may hold the first is kept, which says so; thousands cost no more than one.
        """
        proposed_calls = proposed_calls[: budget.CALLS_A_TURN + 1]
        shown = tuple(self.sanitizer.ask(ask) for ask in proposed_calls)
        self._heard.update({(step, index): ask for index, ask in enumerate(proposed_calls) if shown[index].redacted})
        return shown

    # ── decide: all calls of a step, in the model's order ────────────────────────────────────────────────────────────

    def decide(
        self, step: int, proposed_calls: Sequence[ProposedCall], *, cut: bool = False
    ) -> tuple[CallDecided, ...]:
        """Parse, resolve and decide every call of a step before any of them runs.

        `cut` says that the model was stopped in its turn, by a length limit or a filter: none of its calls runs, because
        a cut `{"amount": 10` can read as a whole one.
        """
        return tuple(self.deciding(step, proposed_calls, cut=cut))

    def deciding(
        self, step: int, proposed_calls: Sequence[ProposedCall], *, cut: bool = False
    ) -> Iterator[CallDecided]:
        """As `decide`, one call after the other, so that others may be heard in between."""
        before: list[Call] = []
        for index, ask in enumerate(proposed_calls):
            decided = self._decided(step, index, ask, cut, before)
            if decided.call is not None and decided.refused is None:
                before.append(decided.call)
            yield decided

    def latest(self, step: int, index: int) -> CallDecided | None:
        """The last decision recorded for that call."""
        found, number = None, 0
        while isinstance(event := self.record.get(f"call.decided/{step}/{index}/{number}"), CallDecided):
            found, number = event, number + 1
        return found

    def _decided(self, step: int, index: int, ask: ProposedCall, cut: bool, before: Sequence[Call]) -> CallDecided:
        if (earlier := self.latest(step, index)) is not None:
            return earlier
        if ask.redacted and (said := self.ports.unheard(step, index)) is not None:
            event = CallDecided(step=step, index=index, ask=ask, refused=said)
            self.record.append(event)
            return event
        shown: Call | None = None
        try:
            budget.check_place(index)
            if cut:
                raise Refusal(
                    "invalid_arguments",
                    "the turn was cut before its end, so none of its calls runs",
                    details={"problem": "truncated_turn"},
                    next_step="ask again in a shorter turn",
                )
            output = self._outstanding() + self._output_of(ask.action)
            budget.check_call(self.record.facts, self.agent.budget, self.ports.clock(step, index), output=output)
            retry.check(self.record.facts, self.agent.budget, f"ask:{ask.action}")
            call = self._resolve(step, index, self._heard.get((step, index), ask))
            self._calls[step, index] = call
            shown = call.model_copy(update={"arguments": self.sanitizer.arguments(call.arguments)})
            if (note := self.sanitizer.blocked(call.arguments, "arguments", call.action)) is not None:
                raise Refusal("content_blocked", f"the arguments may not go out: {note}", next_step="leave it out")
            effect.check_twin_in_step(before, call)
            retry.check(self.record.facts, self.agent.budget, meant(shown))
            decision = self._decider.decide(call)
            if decision.verdict != "deny":
                effect.check_repeated_effect(self.ports.facts(self.record, call, ""), call)
            if decision.verdict == "ask":
                approval.check_waiting_approvals(self.record.facts, self.agent.budget)
            if decision.verdict == "allow":
                self._spend(call)
            spoken = (
                self._decider.request_of(call, self._decider.policy(call), "").context.quoted_by_user
                if ask.redacted
                else None
            )
            event = CallDecided(step=step, index=index, ask=ask, call=shown, decision=decision, quoted_by_user=spoken)
        except Refusal as refusal:
            event = CallDecided(step=step, index=index, ask=ask, call=shown, refused=refused(self.sanitizer, refusal))
        self.record.append(event)
        return event

    def _spend(self, call: Call) -> None:
        """Reserve what the call may take of limits that all runs share."""
        tool, _ = self.workspace.action(call.action)
        limits = tool.manifest.limits
        most: dict[Measure, int] = {"calls": 1, "seconds": int(limits.wall * 1000), "bytes": limits.output}
        self.ports.spend(self.record, call.step, call, most)

    def _outstanding(self) -> int:
        """The most bytes that allowed calls without an answer may still return."""
        return sum(self._output_of(call.action) for call in self.record.facts.open.values() if call.allowed)

    def _output_of(self, action: str) -> int:
        tool = self.workspace.tools.get(action.partition(".")[0])
        return 0 if tool is None else tool.manifest.limits.output

    def _resolve(self, step: int, index: int, ask: ProposedCall) -> Call:
        """Turn what the model wrote into a canonical call, or refuse it."""
        name = ask.action
        if name not in self.agent.actions:
            raise Refusal(
                "unknown_action", f"{self.sanitizer.text(ask.name)[:64]!r} is not an action of {self.subjects.agent}"
            )
        tool, action = self.workspace.action(name)
        if not tool.pinned or tool.pin is None:
            raise Refusal(
                "policy_denied",
                f"the files of tool {tool.manifest.name!r} are not the ones that were reviewed",
                details={"reason": "not_pinned"},
            )
        parsed = self._parse(step, index, ask)
        arguments, touches = resolve(tool.manifest, action, tool.pin.schemas[action.name], parsed)
        if any(self.sanitizer.arguments(touch.resource) != touch.resource for touch in touches):
            raise Refusal("content_blocked", "the name of a resource holds what looks like a secret")
        return Call(
            run=self.record.run,
            step=step,
            index=index,
            subjects=self.subjects,
            action=name,
            arguments=arguments,
            touches=touches,
            effect=action.effect,
            manifest=tool.manifest.digest,
            request_digest=request_digest(
                self.subjects, name, self.sanitizer.arguments(arguments), tool.manifest.digest
            ),
        )

    def _parse(self, step: int, index: int, ask: ProposedCall) -> dict[str, object]:
        if ask.redacted and self.forgetful and (step, index) not in self._heard:
            raise Refusal(
                "cancelled",
                "the arguments held a secret that is not recorded, and the process that heard it ended",
                next_step="ask again",
                retryable=True,
            )
        if ask.arguments is not None:
            return parse_arguments(ask.arguments)
        if self.agent.accept_parsed_arguments and ask.parsed is not None:
            return parse_arguments(canonical_json(ask.parsed).decode())
        raise Refusal(
            "invalid_arguments",
            "the model library hides the raw text of the arguments",
            details={"problem": "no_raw_arguments"},
        )

    # ── perform: one call, once ──────────────────────────────────────────────────────────────────────────────────────

    async def perform(self, step: int, index: int) -> Result:
        """Carry one decided call to its one result; asking again gives the same result and repeats nothing.

        Raises:
            ApprovalPending: people must answer first.
            RunEnded: the run cannot go on.
        """
        answered = self.record.get(f"call.answered/{step}/{index}/-")
        if isinstance(answered, CallAnswered):
            return answered.result
        decided = self.latest(step, index)
        assert decided is not None  # the graph decides a step before it performs it
        if decided.refused is not None or decided.call is None:
            assert decided.refused is not None
            return self._answer(step, index, decided.refused)
        try:
            call = self._calls.get((step, index), decided.call)
            decision = self._approved(decided, call)
        except Refusal as refusal:
            return self._answer(step, index, refused(self.sanitizer, refusal))
        ask = decided.ask
        whole = not ask.redacted or not self.forgetful or (step, index) in self._heard
        result = await self._carry.out(call, decision, whole=whole, unheard=lambda: self._lost_secret(call, ask))
        self.ports.spent(self.record, step, call, self._used(step, index))
        return self._answer(step, index, result, call)

    async def give_up(self, step: int, index: int, refusal: Refusal) -> Result:
        """Answer a decided call that nobody will carry out with `refusal`; nothing of it runs.

        What people have said of it, and what came of an attempt that was cut off, is recorded first and goes before.
        """
        answered = self.record.get(f"call.answered/{step}/{index}/-")
        decided = self.latest(step, index)
        assert decided is not None
        if isinstance(answered, CallAnswered) or decided.call is None:
            return await self.perform(step, index)
        call = self._calls.get((step, index), decided.call)
        _, ended = effect.earlier_attempts(self.record, call)
        if ended is not None and ended.retry_in_s is None:
            return await self.perform(step, index)  # it has been attempted for the last time
        try:
            if ended is None:
                self._approved(decided, call)
        except ApprovalPending:
            pass
        except Refusal as said:
            refusal = said
        return self._answer(step, index, refused(self.sanitizer, refusal, ended))

    def _used(self, step: int, index: int) -> dict[Measure, int]:
        """What the call has really taken, over all of its attempts."""
        calls, wall, output = 0, 0.0, 0
        while isinstance(ended := self.record.get(f"attempt.ended/{step}/{index}/{calls + 1}"), AttemptEnded):
            calls, wall, output = calls + 1, wall + ended.spent.wall_s, output + ended.spent.output_bytes
        return {"calls": min(calls, 1), "seconds": int(wall * 1000), "bytes": output}

    def _approved(self, decided: CallDecided, call: Call) -> Decision:
        """The decision that allows the call now; raise why not otherwise."""
        assert decided.decision is not None
        decision = decided.decision
        if decision.verdict == "ask" and self.record.get(approval.approval_key(call, decision)) is None:
            # Nobody was asked yet, and the rest of the step was decided since: people are shown how it stands now.
            decided = self._again(decided, call, self._decider.decide(call))
            assert decided.decision is not None
            decision = decided.decision
        if decision.verdict == "ask":
            requested = self._requested(call, decision)
            self.record.refresh()
            if self.ports.waits(call):
                raise ApprovalPending(requested)
            rejected = self.record.get(f"approval.rejected/{call.step}/{call.index}/{decision.decision_digest}")
            if isinstance(rejected, ApprovalRejected):
                raise Refusal(
                    "approval_rejected", f"{rejected.approver} rejected the call", details={"reason": rejected.reason}
                )
            expired = approval.approval_expired(requested, self.ports.clock(call.step, call.index))
            decision = self._decider.decide(call)
            self._again(decided, call, decision)
            self._void(call, requested, decision)
            if decision.verdict == "ask":
                if expired and decision.decision_digest == requested.decision_digest:
                    raise Refusal("approval_expired", "nobody approved the call in time", next_step="ask again")
                raise ApprovalPending(self._requested(call, decision))
        if decision.verdict != "allow":
            denial = decision.for_model
            assert denial is not None  # `_decide` had the denial advised
            resources = [touch.resource for touch in call.touches]
            raise Refusal(
                "policy_denied",
                denial.message,
                details={"reason": denial.reason, "rules": list(denial.rules), "resources": resources},
                next_step=denial.next_step,
            )
        return decision

    def _again(self, decided: CallDecided, call: Call, decision: Decision) -> CallDecided:
        """Record that the call was decided again, where that came out otherwise than before."""
        before = decided.decision
        assert before is not None
        if (decision.verdict, decision.decision_digest) == (before.verdict, before.decision_digest):
            return decided
        if decision.verdict == "allow":
            self._spend(call)
        number = decided.round + 1
        again = decided.model_copy(update={"round": number, "decision": decision})
        self.record.append(again)
        return again

    def _void(self, call: Call, requested: ApprovalRequested, decision: Decision) -> None:
        """Record which approvals that were given count no more, and why."""
        facts = self.ports.facts(self.record, call, requested.decision_digest)
        asked = facts.open.get((call.step, call.index))
        moment = self._decider.moment(call, self._decider.policy(call), decision.decision_digest)
        still = counted_grants(facts, call, moment)
        for grant in () if asked is None else asked.grants:
            if grant in still:
                continue
            lapsed = grant.until is not None and moment.at >= grant.until
            changed = decision.decision_digest != requested.decision_digest
            why = (
                "the rules, or facts that were shown, have changed since" if changed else f"no longer has {grant.role}"
            )
            voided = ApprovalVoided(
                step=call.step,
                index=call.index,
                decision_digest=requested.decision_digest,
                approver=grant.approver,
                code="approval_expired" if lapsed else "approval_invalid",
                reason="it has lapsed" if lapsed else why,
            )
            if self.record.get(voided.key) is None:
                self.record.append(voided)

    def _requested(self, call: Call, decision: Decision) -> ApprovalRequested:
        requested = approval.request_approval(call, decision, self.ports.clock(call.step, call.index), self.sanitizer)
        earlier = self.record.get(requested.key)
        if isinstance(earlier, ApprovalRequested):
            return earlier
        self.record.append(requested, durable=True)
        return requested

    def _lost_secret(self, call: Call, ask: ProposedCall) -> Failed | None:
        """How a call ends whose secret died with another process; raises where that has yet to be said.

        INVARIANT: asked before a new attempt only, for nothing else needs the secret: what was attempted is settled.
        """
        if not ask.redacted:
            return None
        if (said := self.ports.unheard(call.step, call.index)) is None:
            self._parse(call.step, call.index, ask)
        return said

    def _answer(self, step: int, index: int, result: Result, call: Call | None = None) -> Result:
        """Record the one result, and what it says of the run: labels that are gone, and names that are known from now on."""
        labels_removed: tuple[str, ...] = ()
        names = frozenset[str]()
        if call is not None and isinstance(result, Succeeded):
            _, action = self.workspace.action(call.action)
            opened = self.ports.facts(self.record, call, "").open.get((step, index))
            # INVARIANT: what came in after the call was decided was not looked at by it, and keeps its labels.
            labels_removed = tuple(
                label for label in action.removes_labels if opened is not None and label not in opened.since
            )
            trusted = opened is not None and opened.trusted
            if action.effect != "read" or trusted:
                facts = self.record.facts
                names = listed(action.listings, result.value, facts.words, facts.directory)
                # What an act itself made is the run's own, whoever chose to make it; what it only repeats is not.
                names = names if trusted else names - written(self.sanitizer.arguments(call.arguments), names)
        answered = CallAnswered(
            step=step, index=index, result=result, labels_removed=labels_removed, directory_added=tuple(sorted(names))
        )
        self.record.append(answered, durable=False)
        return result
