"""Asks policy about a call, and binds its answer to what was asked: the request, the rules, and the facts shown to people."""

from __future__ import annotations

from dataclasses import dataclass, field

from remit.broker.approvals.summary import shown_facts
from remit.broker.context import Moment, leaves_system, policy_context
from remit.broker.ports import ExecutionPorts
from remit.core import Call, Confinement, Decision, Refusal, RemitError, Request, ResourceAccess, Scope, decision_digest
from remit.core.parsing import digest
from remit.guardrails import Sanitizer
from remit.journal import Record
from remit.policy import SUBJECT, Policy, disputed, narrowed
from remit.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Decider:
    """Decides the calls of one run. `confinement` is the sandbox's."""

    workspace: Workspace
    record: Record
    ports: ExecutionPorts
    sanitizer: Sanitizer
    confinement: Confinement
    _narrowed: dict[Policy, Policy] = field(default_factory=dict[Policy, Policy])

    def decide(self, call: Call) -> Decision:
        """What policy says. INVARIANT: an engine that fails, or that says nothing, has allowed nothing (E9).

        Raises:
            Refusal: `policy_denied` where there is no decision.
        """
        try:
            return self._bound(call)
        except RemitError:
            raise
        except Exception as failure:  # whatever went wrong in it, the call must not run
            raise Refusal(
                "policy_denied",
                "the rules could not be asked, and nothing is allowed without them",
                details={"reason": "error", "error": type(failure).__name__},
                next_step="have an operator look: `remit policy explain` shows what the rules say",
            ) from failure

    def _bound(self, call: Call) -> Decision:
        """Ask policy, and bind its answer to this request, these rules and, where people are asked, the facts they are shown.

        A grant for another digest does not count (D1, D2): so the decision is made without any first.
        """
        policy = self.policy(call)
        bound = decision_digest(call.request_digest, policy.digest)
        request = self.request_of(call, policy, bound, nobody=True)
        decision = policy.decide(request)
        if decision.verdict == "ask":
            shown = shown_facts(self.sanitizer.arguments(decision.facts))
            bound = decision_digest(call.request_digest, policy.digest, shown)
            request = self.request_of(call, policy, bound)
            decision = policy.decide(request) if request.context.approvals else decision
        decision = policy.advise(request, decision)
        if decision.verdict == "allow" and not self._confirmed(call, policy, request):
            decision = disputed(request, decision)
        facts = self.sanitizer.arguments(decision.facts)
        return decision.model_copy(update={"decision_digest": bound, "facts": facts})

    def _confirmed(self, call: Call, policy: Policy, request: Request) -> bool:
        """Whether stock Casbin allows the request too, where `[policy] casbin` has it asked.

        INVARIANT: it is the very request that was decided, under the same rules.
        """
        asked = self.workspace.settings.casbin
        if asked == "load" or (asked == "effects" and call.effect == "read"):
            return True
        return self.ports.casbin_allows(call, policy, request) is True

    @property
    def _scope(self) -> Scope | None:
        started = self.record.facts.started
        return None if started is None else started.scope

    def policy(self, call: Call) -> Policy:
        """The rules in force for the call, with those of the run's own scope."""
        policy, scope = self.ports.policy(call.step, call.index), self._scope
        if scope is None:
            return policy
        if policy not in self._narrowed:
            self._narrowed.clear()
            self._narrowed[policy] = narrowed(policy, scope)
        return self._narrowed[policy]

    def request_of(self, call: Call, policy: Policy, bound: str, *, nobody: bool = False) -> Request:
        """What policy is asked; `nobody` as if nobody had approved anything."""
        _, action = self.workspace.action(call.action)
        facts = policy_context(
            self.ports.run_state(self.record, call, bound),
            call,
            self.moment(call, policy, "nobody" if nobody else bound),
            means=action.means,
            shown=self.sanitizer.arguments(call.arguments) if leaves_system(call) else None,
            spoken=self.ports.quoted_by_user(call.step, call.index),
        )
        resources = tuple(touch.resource for touch in call.touches)
        subjects = call.subjects.all if self._scope is None else (*call.subjects.all, SUBJECT)
        return Request(subjects=subjects, action=call.action, resources=resources, context=facts)

    def moment(self, call: Call, policy: Policy, bound: str) -> Moment:
        """When and where the call is decided, and by which roles; `bound` is the decision that an approval must be for."""
        tool, _ = self.workspace.action(call.action)
        return Moment(
            env=self.workspace.settings.env,
            confinement="none" if tool.manifest.source == "host" else self.confinement,
            at=self.ports.clock(call.step, call.index),
            roles_of=policy.roles_of,
            decision_digest=bound,
        )

    def allows_redirect(self, call: Call, url: str) -> bool:
        """Whether the call may go on to a URL that it was redirected to: decided as a call of its own, without its approvals."""
        request = digest({"request": call.request_digest, "redirected": url})
        touches = (ResourceAccess(access="use", resource=url),)
        try:
            decision = self.decide(call.model_copy(update={"touches": touches, "request_digest": request}))
        except Refusal:
            return False
        return decision.verdict == "allow"
