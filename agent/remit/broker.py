"""The line that every tool call travels, stage by stage.

    ask ─► parse ─► resolve ─► spend ─► decide            (all calls of a step, in the model's order)
             then, per call, in parallel:
    approve ─► held? ─► intend ─► run confined ─► check ─► clean ─► record ─► the model is told
                         ▲                                   │
                         └───────────── retry? ◄─────────────┘

Nothing here trusts the model, the tool, or an earlier process: what was recorded is what is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from remit import approval, budget, retry
from remit.attempt import Attempted, Attempts
from remit.binding import decision_digest, request_digest
from remit.call import Ask, Call, Confinement, Decision, Error, Failed, Request, Result, Subjects, Succeeded, Touch
from remit.canon import canonical_json, digest, parse_arguments
from remit.errors import Refusal, RunEnded
from remit.event import (
    ApprovalRejected,
    ApprovalRequested,
    AttemptEnded,
    AttemptIntended,
    CallAnswered,
    CallDecided,
    Connection,
)
from remit.facts import Facts, context
from remit.guard import Guard
from remit.manifest import Action
from remit.policy import Policy
from remit.record import Record
from remit.resolve import resolve
from remit.workspace import Agent, Workspace

LONGEST_TEXT: Final = 2000  # characters of tool-written text in one field that the model reads


class ApprovalPending(Exception):
    """The call cannot go on until people have answered `requested`."""

    def __init__(self, requested: ApprovalRequested) -> None:
        self.requested = requested
        super().__init__(requested.summary)


class World(Protocol):
    """What a call reads from outside its run's record, so that a replay can answer it from the recording."""

    def clock(self, step: int, index: int) -> int:
        """Unix nanoseconds, for what happens next in that call."""
        ...

    def policy(self, step: int, index: int) -> Policy:
        """The rules in force now."""
        ...

    def facts(self, record: Record, call: Call, decision_digest: str) -> Facts:
        """What that decision about the call may stand on."""
        ...

    def held(self, call: Call) -> str | None:
        """Why an operator holds this call, or None."""
        ...

    def waits(self, call: Call) -> bool:
        """Whether people have yet to be heard here; live, only the journal knows."""
        ...

    def unheard(self, step: int, index: int) -> Failed | None:
        """How a call ended whose secret only another process heard; None where that is not recorded."""
        ...

    async def sleep(self, seconds: float) -> None: ...


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
    attempts: Attempts
    world: World
    guard: Guard
    confinement: Confinement
    forgetful: bool = True
    _heard: dict[tuple[int, int], Ask] = field(default_factory=dict[tuple[int, int], Ask])
    _calls: dict[tuple[int, int], Call] = field(default_factory=dict[tuple[int, int], Call])

    def hear(self, step: int, asks: Sequence[Ask]) -> tuple[Ask, ...]:
        """The model's calls as they may be recorded; what they really said stays in this process only."""
        shown = tuple(self.guard.ask(ask) for ask in asks)
        self._heard.update({(step, index): ask for index, ask in enumerate(asks) if shown[index].redacted})
        return shown

    # ── decide: all calls of a step, in the model's order ────────────────────────────────────────────────────────────

    def decide(self, step: int, asks: Sequence[Ask], *, cut: bool = False) -> tuple[CallDecided, ...]:
        """Parse, resolve and decide every call of a step before any of them runs.

        `cut` says that the model was stopped in its turn, by a length limit or a filter: none of its calls runs, because
        a cut `{"amount": 10` can read as a whole one.
        """
        return tuple(self._decided(step, index, ask, cut) for index, ask in enumerate(asks))

    def latest(self, step: int, index: int) -> CallDecided | None:
        """The last decision recorded for that call."""
        found, number = None, 0
        while isinstance(event := self.record.get(f"call.decided/{step}/{index}/{number}"), CallDecided):
            found, number = event, number + 1
        return found

    def _decided(self, step: int, index: int, ask: Ask, cut: bool) -> CallDecided:
        if (earlier := self.latest(step, index)) is not None:
            return earlier
        if ask.redacted and (said := self.world.unheard(step, index)) is not None:
            event = CallDecided(step=step, index=index, ask=ask, refused=said)
            self.record.append(event)
            return event
        try:
            if cut:
                raise Refusal(
                    "invalid_arguments",
                    "the turn was cut before its end, so none of its calls runs",
                    details={"problem": "truncated_turn"},
                    remedy="ask again in a shorter turn",
                )
            budget.check_call(self.record.facts, self.agent.budget, self.world.clock(step, index))
            call = self._resolve(step, index, self._heard.get((step, index), ask))
            self._calls[step, index] = call
            shown = call.model_copy(update={"arguments": self.guard.arguments(call.arguments)})
            event = CallDecided(step=step, index=index, ask=ask, call=shown, decision=self._decide(call))
        except Refusal as refusal:
            event = CallDecided(step=step, index=index, ask=ask, refused=self._refused(refusal))
        self.record.append(event)
        return event

    def _resolve(self, step: int, index: int, ask: Ask) -> Call:
        """Turn what the model wrote into a canonical call, or refuse it."""
        name = ask.action
        if name not in self.agent.actions:
            raise Refusal(
                "unknown_action", f"{self.guard.text(ask.name)[:64]!r} is not an action of {self.subjects.agent}"
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
        if any(self.guard.arguments(touch.resource) != touch.resource for touch in touches):
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
            request_digest=request_digest(self.subjects, name, self.guard.arguments(arguments), tool.manifest.digest),
        )

    def _parse(self, step: int, index: int, ask: Ask) -> dict[str, object]:
        if ask.redacted and self.forgetful and (step, index) not in self._heard:
            raise Refusal(
                "cancelled",
                "the arguments held a secret that is not recorded, and the process that heard it ended",
                remedy="ask again",
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

    def _decide(self, call: Call) -> Decision:
        """Ask policy, and bind its answer to this request and these rules."""
        tool, _ = self.workspace.action(call.action)
        policy = self.world.policy(call.step, call.index)
        bound = decision_digest(call.request_digest, policy.digest)
        facts = context(
            self.world.facts(self.record, call, bound),
            call=call,
            env=self.workspace.settings.env,
            confinement="none" if tool.manifest.source == "host" else self.confinement,
            at=self.world.clock(call.step, call.index),
            roles_of=policy.roles_of,
            decision_digest=bound,
        )
        resources = tuple(touch.resource for touch in call.touches)
        request = Request(subjects=call.subjects.all, action=call.action, resources=resources, context=facts)
        decision = policy.advise(request, policy.decide(request))
        return decision.model_copy(update={"decision_digest": bound, "facts": self.guard.arguments(decision.facts)})

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
            return await self._carry_out(call, decision, decided.ask)
        except Refusal as refusal:
            return self._answer(step, index, self._refused(refusal))

    def _approved(self, decided: CallDecided, call: Call) -> Decision:
        """The decision that allows the call now; raise why not otherwise."""
        decision = decided.decision
        assert decision is not None
        if decision.verdict == "ask":
            requested = self._requested(call, decision)
            self.record.refresh()
            if self.world.waits(call):
                raise ApprovalPending(requested)
            rejected = self.record.get(f"approval.rejected/{call.step}/{call.index}/{decision.decision_digest}")
            if isinstance(rejected, ApprovalRejected):
                raise Refusal(
                    "approval_rejected", f"{rejected.approver} rejected the call", details={"reason": rejected.reason}
                )
            expired = self.world.clock(call.step, call.index) >= requested.expires_at
            decision = self._decide(call)
            if decision.verdict == "ask" and decision.decision_digest == requested.decision_digest:
                if expired:
                    raise Refusal("approval_expired", "nobody approved the call in time", remedy="ask again")
                raise ApprovalPending(requested)
            again = CallDecided(
                step=call.step,
                index=call.index,
                ask=decided.ask,
                round=decided.round + 1,
                call=decided.call,
                decision=decision,
            )
            self.record.append(again)
            if decision.verdict == "ask":  # the rules have changed: what people said no longer fits
                raise ApprovalPending(self._requested(call, decision))
        if decision.verdict == "deny":
            told = decision.told
            assert told is not None  # `_decide` had the denial advised
            resources = [touch.resource for touch in call.touches]
            raise Refusal(
                "policy_denied",
                told.message,
                details={"reason": told.reason, "rules": list(told.rules), "resources": resources},
                remedy=told.remedy,
            )
        return decision

    def _requested(self, call: Call, decision: Decision) -> ApprovalRequested:
        requested = approval.request(call, decision, self.world.clock(call.step, call.index), self.guard)
        earlier = self.record.get(requested.key)
        if isinstance(earlier, ApprovalRequested):
            return earlier
        self.record.append(requested, durable=True)
        return requested

    async def _carry_out(self, call: Call, decision: Decision, ask: Ask) -> Result:
        """Attempt the call until it has succeeded, has failed for good, or may not be tried again."""
        _, action = self.workspace.action(call.action)
        number, ended = self._earlier(call)
        while ended is None or ended.retry_in_s is not None:
            if ended is not None and ended.retry_in_s:
                await self.world.sleep(ended.retry_in_s)
            if (
                ask.redacted
            ):  # INVARIANT: only a new attempt needs the secret; what was attempted before is settled above
                if (said := self.world.unheard(call.step, call.index)) is not None:
                    return self._answer(call.step, call.index, said)
                self._parse(call.step, call.index, ask)
            if (reason := self.world.held(call)) is not None:
                raise Refusal("held", reason, retryable=True)
            budget.check_wall(self.record.facts, self.agent.budget, self.world.clock(call.step, call.index))
            number += 1
            ended = await self._attempt(call, decision, action, number)
        return self._answer(call.step, call.index, self._result(action, ended))

    def _earlier(self, call: Call) -> tuple[int, AttemptEnded | None]:
        """How many attempts were made, here or by a process that died, and how the last one ended."""
        number = 0
        while self.record.get(f"attempt.intended/{call.step}/{call.index}/{number + 1}") is not None:
            number += 1
        if number == 0:
            return 0, None
        ended = self.record.get(f"attempt.ended/{call.step}/{call.index}/{number}")
        if isinstance(ended, AttemptEnded):
            return number, ended
        lost = self._lost(call, number)
        self.record.append(lost, durable=True)
        return number, lost

    def _lost(self, call: Call, number: int) -> AttemptEnded:
        """INVARIANT: an intent without an end means a process died in between; only repeatable effects are tried again."""
        return AttemptEnded(
            step=call.step,
            index=call.index,
            attempt=number,
            code="outcome_unknown" if call.effect == "once" else "cancelled",
            message="the process that ran this attempt ended before it could tell what came of it",
            landed="none" if call.effect == "read" else "unknown",
            lost=True,
            retry_in_s=None if call.effect == "once" else 0.0,
        )

    async def _attempt(self, call: Call, decision: Decision, action: Action, number: int) -> AttemptEnded:
        """Intend, run, check and clean one attempt. No record, no effect."""
        profile, confinement = self.attempts.prepare(call, number)
        key = digest({"run": call.run, "step": call.step, "index": call.index}) if call.effect == "keyed" else ""
        intended = AttemptIntended(
            step=call.step,
            index=call.index,
            attempt=number,
            request_digest=call.request_digest,
            decision_digest=decision.decision_digest,
            profile_digest=profile,
            confinement=confinement,
            idempotency_key=key,
        )
        self.record.append(intended, durable=call.effect != "read")
        attempted = await self.attempts.attempt(
            call, number, idempotency_key=key, decide=lambda url: self._redirected(call, url)
        )
        ended = self._ended(call, action, number, attempted)
        self.record.append(ended, durable=call.effect != "read")
        if attempted.code in ("sandbox_unavailable", "unrecorded"):
            raise RunEnded("sandbox_unavailable", attempted.message, fix="run `remit doctor`")
        return ended

    def _redirected(self, call: Call, url: str) -> bool:
        """Whether the call may go on to a URL that it was redirected to: decided as a call of its own, without its approvals."""
        request = digest({"request": call.request_digest, "redirected": url})
        touches = (Touch(access="use", resource=url),)
        return self._decide(call.model_copy(update={"touches": touches, "request_digest": request})).verdict == "allow"

    def _ended(self, call: Call, action: Action, number: int, attempted: Attempted) -> AttemptEnded:
        if attempted.lost:
            return self._lost(call, number)
        code = attempted.code
        if attempted.landed == "unknown" and call.effect == "once":
            code = "outcome_unknown"
        retried = code is not None and retry.again(
            call.effect, action.retry, attempt=number, code=code, error=attempted.error
        )
        return AttemptEnded(
            step=call.step,
            index=call.index,
            attempt=number,
            code=code,
            error=attempted.error,
            message=self.guard.text(attempted.message)[:LONGEST_TEXT],
            value=self.guard.json(attempted.value),
            landed=attempted.landed,
            changes=attempted.changes,
            refused=attempted.refused,
            connections=tuple(self._shown(one) for one in attempted.connections),
            stderr=self.guard.text(attempted.stderr),
            spent=attempted.spent,
            limit=attempted.limit,
            retry_in_s=retry.delay(call.run, call.step, call.index, number) if retried else None,
        )

    def _shown(self, connection: Connection) -> Connection:
        path, why = self.guard.text(connection.path), self.guard.text(connection.why)
        return connection.model_copy(update={"path": path, "why": why})

    # ── answer: one result, recorded before it is told ───────────────────────────────────────────────────────────────

    def _result(self, action: Action, ended: AttemptEnded) -> Result:
        if ended.code is None:
            return Succeeded(value=ended.value, labels=action.returns)
        assert ended.code != "sandbox_unavailable"  # those two end the run
        assert ended.code != "unrecorded"
        details: dict[str, object] = {}
        if ended.error is not None:
            details["error"] = ended.error
        if ended.refused:
            details["refused"] = [item.model_dump(mode="json") for item in ended.refused]
        if ended.limit is not None:
            details["limit"] = ended.limit.model_dump(mode="json")
        if ended.landed != "none":
            details["effect"] = ended.landed
        error = Error(
            code=ended.code,
            message=ended.message,
            retryable=retry.retryable(action.effect, action.retry, code=ended.code, error=ended.error),
            attempts=ended.attempt or 0,
            details=details,
        )
        return Failed(error=error)

    def _refused(self, refusal: Refusal) -> Failed:
        error = Error(
            code=refusal.code,
            message=self.guard.text(refusal.message)[:LONGEST_TEXT],
            retryable=refusal.retryable,
            details=self.guard.json(dict(refusal.details)),
            remedy=refusal.remedy,
        )
        return Failed(error=error)

    def _answer(self, step: int, index: int, result: Result) -> Result:
        self.record.append(CallAnswered(step=step, index=index, result=result), durable=False)
        return result
