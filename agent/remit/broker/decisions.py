"""Asks the policy about a call, and binds the decision to the request, the policy and the facts that approvers see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from remit.broker.approvals.summary import shown_facts
from remit.broker.attempts import ToolExecutor
from remit.broker.context import Moment, as_decided, given_labels, leaves_system, policy_context
from remit.broker.ports import ExecutionPorts, ShadowRules
from remit.broker.refusals import knows_too_much
from remit.core import (
    Call,
    Confinement,
    Decision,
    Narrowing,
    Permitted,
    Refusal,
    RemitError,
    Request,
    ResourceAccess,
    Scope,
    Verdict,
    decision_digest,
)
from remit.core.events import ShadowDecided
from remit.core.parsing import digest
from remit.guardrails import Sanitizer
from remit.journal import Record, RunState
from remit.policy import SUBJECT, Policy, disputed, policy_for, token_roles
from remit.workspace import Workspace
from remit.workspace.manifest import Action

_NO_DECISION: Final = "none"  # equals no digest, so no grant counts


@dataclass(frozen=True, kw_only=True)
class Decider:
    """Decides the calls of one run. `confinement` is that of the sandbox. `seen` changes the state that a decision reads.

    `roles` are those of the token of `user`, for a call of no run; the record of a run has its own.
    """

    workspace: Workspace
    record: Record
    ports: ExecutionPorts
    sanitizer: Sanitizer
    confinement: Confinement
    seen: Callable[[RunState, Call], RunState] = lambda state, _: state
    user: str = ""
    roles: tuple[str, ...] = ()

    def decide(self, call: Call, *, shadow: bool = False) -> Decision:
        """The decision of the policy. INVARIANT: an engine that fails allows nothing (threat E9).

        With `shadow`, the rules of a rollout's candidate are tried too, and a different verdict is recorded.

        Raises:
            Refusal: `policy_denied` if the policy could not be evaluated.
        """
        try:
            return self._bound(call, shadow=shadow)
        except RemitError:
            raise
        except Exception as failure:  # fail closed on any error of the engine
            raise Refusal(
                "policy_denied",
                f"the policy for {call.action} could not be evaluated, so the call is denied",
                details={"reason": "error", "error": type(failure).__name__},
                next_step="continue without this call, and tell the user to run `remit policy explain`",
            ) from failure

    def _bound(self, call: Call, *, shadow: bool) -> Decision:
        """Decide, and bind the decision to the request, the policy and, if approval is needed, the facts shown to approvers.

        A grant for another digest does not count (threats D1, D2). The call is therefore decided without grants first: that
        yields the facts, and with them the digest that grants must have.
        """
        policy = self.policy(call)
        bound = decision_digest(call.request_digest, policy.digest)
        request = self.request_of(call, policy, bound, ignore_grants=True)
        decision = policy.decide(request)
        if shadow and (tried := self.ports.shadow_rules(call.step, call.index)) is not None:
            self._shadow(call, request, decision.verdict, tried)
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
        """True if stock Casbin allows the request too, or if `[policy] casbin` does not ask it.

        INVARIANT: Casbin gets the same request and the same rules as our engine.
        """
        setting = self.workspace.settings.casbin
        if setting == "load" or (setting == "effects" and call.effect == "read"):
            return True
        return self.ports.casbin_allows(call, policy, request) is True

    def _shadow(self, call: Call, request: Request, verdict: Verdict, tried: ShadowRules) -> None:
        """Try other rules on the same request. INVARIANT: whatever they do, nothing but this event follows from it."""
        candidate, error = None, ""
        try:
            policy = self.of_run(tried.policy)
            known = policy.entities.of(request)
            candidate = "allow" if policy.judge(known).allowed else policy.decide(known).verdict
        except Exception as failure:  # noqa: BLE001 - whatever fails is the candidate's, and the run goes on
            error = type(failure).__name__
        event = ShadowDecided(
            step=call.step,
            index=call.index,
            rollout=tried.rollout,
            action=call.action,
            verdict=verdict,
            candidate=candidate,
            error=error,
        )
        if candidate != verdict and self.record.get(event.key) is None:
            self.record.append(event)

    def enforces(self, action: str, step: int, index: int) -> bool:
        """False for an action of a host tool, or of no tool at all, that the run only observes at that time."""
        started = self.record.state.started
        if started is None or started.observe is None:
            return True
        tool = self.workspace.every_tool.get(action.partition(".")[0])
        hosted = tool is None or tool.manifest.hosted
        return not (hosted and started.observe.covers(action, self.ports.clock(step, index)))

    def check_sandbox(self, call: Call) -> frozenset[str]:
        """The labels of what the live sandbox of the call was given before.

        Raises:
            Refusal: `policy_denied`: since the call was decided, the sandbox was given what forbids it.

        INVARIANT: called in the turn of the call, right before its attempt is recorded: what the sandbox is given later is
        given with another attempt.
        """
        state = self.ports.run_state(self.record, call, "")
        given = given_labels(state, call)
        if not given <= as_decided(state, call).labels:
            decision = replace(self, seen=as_decided).decide(call)
            if decision.verdict != "allow":
                raise knows_too_much(call, decision)
        return given

    def permits(self, call: Call) -> Callable[[str], bool]:
        """A function that returns True for a resource that the call may read without an approval.

        Raises:
            Refusal: `policy_denied` if the policy could not be evaluated.
        """
        policy, request = self._unapproved(call)

        def permits(resource: str) -> bool:
            return policy.judge(policy.entities.of(request.model_copy(update={"resources": (resource,)}))).allowed

        return permits

    def permitted(self, call: Call, kind: str) -> Permitted:
        """What the rules permit of the resources of that kind to the call, without an approval."""
        policy, request = self._unapproved(call)
        return policy.permitted(request, kind)

    def _unapproved(self, call: Call) -> tuple[Policy, Request]:
        policy = self.policy(call)
        return policy, self.request_of(call, policy, _NO_DECISION, ignore_grants=True)

    @property
    def _scope(self) -> Scope | None:
        started = self.record.state.started
        return None if started is None else started.scope

    def policy(self, call: Call) -> Policy:
        """The policy in force for the call, with the roles of the run's token, and narrowed by its scope."""
        return self.of_run(self.ports.policy(call.step, call.index))

    def of_run(self, policy: Policy) -> Policy:
        """These rules for the calls of the run: see `policy_for`."""
        started = self.record.state.started
        if started is None:
            return policy_for(policy, self.user, self.roles, None) if self.roles else policy
        roles = token_roles(started.by, started.subjects.user)
        return (
            policy
            if not roles and started.scope is None
            else policy_for(policy, started.subjects.user, roles, started.scope)
        )

    def request_of(self, call: Call, policy: Policy, bound: str, *, ignore_grants: bool = False) -> Request:
        """The policy request for the call; with `ignore_grants`, as if there were no approvals."""
        _, action = self.workspace.action(call.action)
        facts = policy_context(
            self.seen(self.ports.run_state(self.record, call, bound), call),
            call,
            self.moment(call, policy, _NO_DECISION if ignore_grants else bound),
            means=action.means,
            shown=self.sanitizer.arguments(call.arguments) if leaves_system(call) else None,
            quoted=self.ports.quoted_by_user(call.step, call.index),
        )
        resources = tuple(touch.resource for touch in call.touches)
        subjects = call.subjects.all if self._scope is None else (*call.subjects.all, SUBJECT)
        return Request(subjects=subjects, action=call.action, resources=resources, context=facts)

    def moment(self, call: Call, policy: Policy, bound: str) -> Moment:
        """When and where the call is decided; only approvals of the decision `bound` count."""
        tool, _ = self.workspace.action(call.action)
        return Moment(
            env=self.workspace.settings.env,
            confinement="none" if tool.manifest.hosted else self.confinement,
            at=self.ports.clock(call.step, call.index),
            roles_of=policy.roles_of,
            entities=policy.entities,
            decision_digest=bound,
        )

    def allows_redirect(self, call: Call, url: str) -> bool:
        """True if the call may follow a redirect to that URL. It is decided as a separate call, without approvals."""
        request = digest({"request": call.request_digest, "redirected": url})
        touches = (ResourceAccess(access="use", resource=url),)
        try:
            decision = self.decide(call.model_copy(update={"touches": touches, "request_digest": request}))
        except Refusal:
            return False
        return decision.verdict == "allow"


# ── narrowing: a call that reads whatever of a set is permitted ──────────────────────────────────────────────────────────
# The rules decide each store by itself, before the tool runs. So what a tool computes over all that it has, such as a
# statistic, follows from permitted stores alone. Inside of a store the tool applies the rules: it gets their patterns.


class PermittedResources(Protocol):
    """What the rules permit to a call without an approval. `Decider` asks the policy."""

    def permits(self, call: Call) -> Callable[[str], bool]: ...
    def permitted(self, call: Call, kind: str) -> Permitted: ...


class Everything:
    """Permits everything: for a tool that its author tries, where no policy decides."""

    def permits(self, call: Call) -> Callable[[str], bool]:
        return lambda _: True

    def permitted(self, call: Call, kind: str) -> Permitted:
        return Permitted(allow=(("**",),))


def narrow(call: Call, action: Action, executor: ToolExecutor, rules: PermittedResources) -> Call:
    """The call with those stores of its groups that the rules permit, and a record of what was left out.

    A store that would need an approval is left out, too: approvals are for calls that name it.
    """
    groups = [template.group for template in action.templates if template.form == "each"]
    kinds = [template.kind for template in action.templates if template.form == "within"]
    if not groups and not kinds:
        return call
    permits = rules.permits(call)
    found = [f"store:{group}/{name}" for group in groups for name in executor.stores(call, group)]
    kept = [store for store in found if permits(store)]
    touches = tuple(ResourceAccess(access="read", resource=store, fixed=True) for store in kept)
    narrowing = Narrowing(
        left_out=tuple(store for store in found if store not in kept),
        permitted={kind: rules.permitted(call, kind) for kind in kinds},
    )
    return call.model_copy(update={"touches": (*touches, *call.touches), "narrowing": narrowing})


def check_narrowed(call: Call, action: Action) -> None:
    """Raise Refusal `policy_denied` if nothing of a group is left.

    INVARIANT: the refusal is the same whether there is no store or only forbidden ones.
    """
    for template in action.templates:
        own = f"store:{template.group}/"
        if template.form == "each" and not any(touch.resource.startswith(own) for touch in call.touches):
            raise Refusal(
                "policy_denied",
                f"no rule permits {call.action} to read any store below '{own}', or there is none",
                details={"reason": "no_rule_allows"},
                next_step="continue without this tool, and tell the user",
            )
