"""`AsyncRemit`: the client for asynchronous code."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import remit.evals
import remit.workers
from remit.broker import lift_hold, set_hold
from remit.client.replays import open_trace_of, replay_trace, reviewed_graphs
from remit.client.requests import (
    Approved,
    Bound,
    Consent,
    WaitingApproval,
    approve,
    find_request,
    reject,
    waiting_approvals_of,
)
from remit.client.results import CallResult, Explanation, call_result
from remit.client.streams import AsyncRunStream
from remit.core import Call, Decision, Failed, Json, Model, Principal, Refusal, Scope, UsageError, one_of, spelled
from remit.core.events import CallDecided, HoldSet, Recorded, RunStarted
from remit.journal import RolloutState, RunSummary, find_run, list_rollouts, list_runs, resolve_run
from remit.policy import Policy, token_roles
from remit.replay import ReplayResult
from remit.rollout import check_bars, named_rollout, roll_back
from remit.runtime import (
    Continuation,
    DryRuns,
    LivePorts,
    OneCall,
    RunRequest,
    RunResult,
    acting_subject,
    open_fallbacks_of,
    open_model_of,
    resume_run,
    start_run,
)
from remit.runtime.models import ScriptedModel
from remit.tracing import Trace, is_trace_file
from remit.workspace import (
    OwnAction,
    WorkspaceSession,
    authorize_hold,
    authorize_run,
    check_enabled,
    check_tenant,
    may,
    open_session,
    principal_of_process,
    readable,
    resource_of,
)

if TYPE_CHECKING:  # evaluations are loaded when a rollout is opened
    from remit.evals import RolloutPlan


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What the clients of one open workspace share: the rules in force are looked for once for all of them."""

    ports: LivePorts
    dry_runs: DryRuns


OnEvent: TypeAlias = Callable[[Recorded], None] | None
_json_text: Final = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` makes an encoder for each text


class AsyncRemit:
    """`Remit` for asynchronous code: the same methods, each of which is awaited. `Remit` describes them.

    async with AsyncRemit.open("my-agents") as client:
        result = await client.run("triage", "Checkout is failing: find out why")
    """

    def __init__(
        self, session: WorkspaceSession, principal: Principal | None = None, *, shared: _Shared | None = None
    ) -> None:
        settings = session.workspace.settings
        self.session: Final = session
        principal = principal_of_process(settings) if principal is None else principal
        self.principal: Final = principal
        check_tenant(settings, principal)
        check_enabled(session.journal, principal)
        self._shared: Final = shared or _Shared(ports=LivePorts(session), dry_runs=DryRuns(session))

    @classmethod
    def open(cls, path: Path | str | None = None, *, principal: Principal | None = None) -> Self:
        """See `Remit.open`."""
        return cls(open_session(None if path is None else Path(path)), principal)

    def acting_as(self, principal: Principal) -> Self:
        """See `Remit.acting_as`."""
        return type(self)(self.session, principal, shared=self._shared)

    @property
    def root(self) -> Path:
        """The folder of the workspace."""
        return self.session.root

    @property
    def policy(self) -> Policy:
        """The policy in force now."""
        return self._shared.ports.policy(0, 0)

    @property
    def _session_now(self) -> WorkspaceSession:
        """The workspace as it was opened, with the rules in force now."""
        return self._shared.ports.session

    def may(self, action: OwnAction, resource: str) -> bool:
        """See `Remit.may`."""
        return may(self.policy, self.principal, action, resource)

    async def run(
        self,
        agent: str,
        task: str,
        *,
        model: Model | Sequence[Mapping[str, object]] | str | None = None,
        user: str | None = None,
        scope: Scope | None = None,
        run_id: str | None = None,
        wait: float = 0.0,
    ) -> RunResult:
        """See `Remit.run`."""
        request = self._request(agent, task, model=model, user=user, scope=scope, run_id=run_id)
        return await start_run(self._session_now, request, wait=wait)

    def stream(
        self,
        agent: str,
        task: str,
        *,
        model: Model | Sequence[Mapping[str, object]] | str | None = None,
        user: str | None = None,
        scope: Scope | None = None,
        run_id: str | None = None,
        wait: float = 0.0,
    ) -> AsyncRunStream:
        """See `Remit.stream`."""
        request = self._request(agent, task, model=model, user=user, scope=scope, run_id=run_id)

        async def drive(on_event: Callable[[Recorded], None]) -> RunResult:
            return await start_run(self._session_now, request, wait=wait, on_event=on_event)

        return AsyncRunStream(drive)

    async def enqueue(
        self,
        agent: str,
        task: str,
        *,
        model: str | None = None,
        user: str | None = None,
        scope: Scope | None = None,
        run_id: str | None = None,
        priority: int = remit.workers.PRIORITY,
    ) -> str:
        """See `Remit.enqueue`."""
        request = self._request(agent, task, model=model, user=user, scope=scope, run_id=run_id)
        queued = await remit.workers.enqueue_run(self._session_now, replace(request, priority=priority))
        return queued.run

    async def resume(
        self, run: str, *, wait: float = 0.0, accept_changes: bool = False, on_event: OnEvent = None
    ) -> RunResult:
        """See `Remit.resume`."""
        goes_on, name = Continuation(accept_changes=accept_changes), self._run(run)
        return await resume_run(
            self._session_now, name, by=self.principal, wait=wait, on_event=on_event, goes_on=goes_on
        )

    async def call(
        self,
        action: str,
        arguments: Mapping[str, Json] | str,
        *,
        agent: str,
        user: str | None = None,
        run_id: str | None = None,
        wait: float = 0.0,
        on_event: OnEvent = None,
    ) -> CallResult:
        """See `Remit.call`."""
        model = OneCall(action, _arguments(arguments))
        request = self._request(agent, f"remit call {action}", model=model, user=user, run_id=run_id)
        return call_result(await start_run(self._session_now, request, wait=wait, on_event=on_event))

    async def decide(
        self, action: str, arguments: Mapping[str, Json] | str, *, agent: str, user: str | None = None
    ) -> Decision:
        """See `Remit.decide`."""
        subject = acting_subject(self._session_now, self.principal, user)
        _, decision = _decided(
            await self._shared.dry_runs.decide(
                agent, action, _arguments(arguments), subject=subject, roles=token_roles(self.principal, subject)
            )
        )
        return decision

    async def explain(
        self, action: str, arguments: Mapping[str, Json] | str, *, agent: str, user: str | None = None
    ) -> Explanation:
        """See `Remit.explain`."""
        subject = acting_subject(self._session_now, self.principal, user)
        decided, rules = await self._shared.dry_runs.explain(
            agent, action, _arguments(arguments), subject=subject, roles=token_roles(self.principal, subject)
        )
        call, decision = _decided(decided)
        return Explanation(call=call, decision=decision, rules=rules)

    def run_resource(self, run: str) -> str:
        """See `Remit.run_resource`."""
        first = self.session.journal.get(self._run(run), "run.started/-/-/-")
        started = None if first is None else first.event
        return resource_of(started if isinstance(started, RunStarted) else None, self.principal)

    async def find_run(self, run: str) -> RunSummary:
        """See `Remit.find_run`."""
        found = find_run(self.session.journal, self._run(run))
        assert found is not None  # its id was found in the same list
        authorize_run(
            self.policy, self.session.journal, found.run, self.principal, "remit.read", f"read run {found.run[:8]}"
        )
        return found

    async def runs(self, *, limit: int = 50) -> tuple[RunSummary, ...]:
        """See `Remit.runs`."""
        rows = readable(self.policy, list_runs(self.session.journal, page=limit), self.principal)
        return tuple(islice(rows, limit))

    async def trace(self, run: str) -> Trace:
        """See `Remit.trace`."""
        return open_trace_of(self.session, run, by=self.principal)

    async def replay(self, run: str, *, policy: Policy | None = None) -> ReplayResult:
        """See `Remit.replay`."""
        trace = open_trace_of(self.session, run, by=self.principal)
        chain = self.session.journal.chain(trace.run) if is_trace_file(run) else None
        graphs, original = reviewed_graphs(self.session, trace.run), chain if chain and chain.links else None
        return await replay_trace(trace, original=original, policy=policy, graphs=graphs)

    async def approvals(self) -> tuple[WaitingApproval, ...]:
        """See `Remit.approvals`."""
        return waiting_approvals_of(self.session)

    async def find_approval(self, name: str) -> WaitingApproval:
        """See `Remit.find_approval`."""
        return find_request(self.session, name)

    async def approve(
        self,
        request: WaitingApproval | str,
        *,
        role: str | None = None,
        reason: str = "",
        minutes: int = 15,
        bound: Bound | None = None,
    ) -> Approved:
        """See `Remit.approve`."""
        waiting = find_request(self.session, request) if isinstance(request, str) else request
        consent = Consent(by=self.principal, role=role, reason=reason, minutes=minutes, bound=bound)
        return approve(self.session, self.policy, waiting, consent)

    async def reject(self, request: WaitingApproval | str, *, reason: str) -> None:
        """See `Remit.reject`."""
        waiting = find_request(self.session, request) if isinstance(request, str) else request
        reject(self.session, self.policy, waiting, by=self.principal, reason=reason)

    async def holds(self) -> Mapping[str, HoldSet]:
        """See `Remit.holds`."""
        return self.session.journal.holds()

    async def hold(self, scope: str, *, reason: str) -> HoldSet:
        """See `Remit.hold`."""
        if not reason:
            raise UsageError(f"a hold needs a reason: say why you hold {scope}")
        found = self._scope(scope)
        authorize_hold(self.policy, self.session.journal, found, self.principal, f"hold {scope}")
        return set_hold(self.session.journal, found, why=reason, by=self.principal)

    async def lift(self, scope: str) -> None:
        """See `Remit.lift`."""
        kind, _, name = scope.partition(":")
        found = f"run:{self._run(name)}" if kind == "run" else scope
        authorize_hold(self.policy, self.session.journal, found, self.principal, f"lift the hold on {scope}")
        lift_hold(self.session.journal, found, by=self.principal)

    async def rollouts(self, *, limit: int = 10) -> tuple[RolloutState, ...]:
        """See `Remit.rollouts`."""
        return tuple(list_rollouts(self.session.journal, limit=limit))

    async def open_rollout(self, agent: str, candidate: Path | str, *, plan: RolloutPlan | None = None) -> RolloutState:
        """See `Remit.open_rollout`."""
        plan = plan or remit.evals.RolloutPlan()
        return remit.evals.open_for(self.session, agent, Path(candidate), plan, by=self.principal)

    async def widen_rollout(self, rollout: str, *, least: int = 20) -> RolloutState:
        """See `Remit.widen_rollout`."""
        found = check_bars(self.session.journal, named_rollout(self.session.journal, rollout).id)
        return remit.evals.widen(self.session, found, by=self.principal, least=least)

    async def roll_back(self, rollout: str, *, reason: str) -> RolloutState:
        """See `Remit.roll_back`."""
        if not reason:
            raise UsageError(f"taking a candidate back needs a reason: say why you roll back {rollout}")
        found = named_rollout(self.session.journal, rollout)
        if found.ended is not None:
            raise UsageError(
                f"rollout {found.id} is {found.status.replace('_', ' ')} already: nothing of it is in force"
            )
        return roll_back(self.session.journal, found.id, reason=reason, by=self.principal)

    async def close(self) -> None:
        """See `Remit.close`."""
        self.session.journal.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _request(
        self,
        agent: str,
        task: str,
        *,
        model: Model | Sequence[Mapping[str, object]] | str | None = None,
        user: str | None = None,
        scope: Scope | None = None,
        run_id: str | None = None,
    ) -> RunRequest:
        opened = open_model_of(self.session, agent, model) if model is None or isinstance(model, str) else _model(model)
        return RunRequest(
            agent=agent,
            task=task,
            subject=acting_subject(self._session_now, self.principal, user),
            by=self.principal,
            model=opened,
            fallbacks=open_fallbacks_of(self.session, agent) if model is None else (),
            run=run_id,
            scope=scope,
        )

    def _run(self, name: str) -> str:
        return resolve_run(self.session.journal, name)

    def _scope(self, scope: str) -> str:
        """The scope of a hold. Raises UsageError for a name that does not exist: it would hold nothing, silently."""
        kind, _, name = scope.partition(":")
        if kind == "run":
            return f"run:{self._run(name)}"
        known = {"agent": self.session.workspace.agents, "tool": self.session.workspace.tools}.get(kind)
        if known is not None and name not in known:
            raise UsageError(f"there is no {kind} {spelled(name)} here: {one_of(name, known)}")
        if known is None and scope != "all":
            raise UsageError(f"{scope!r} cannot be held: write run:RUN, agent:NAME, tool:NAME or all")
        return scope


def _model(model: Model | Sequence[Mapping[str, object]]) -> Model:
    """The model of these turns, or the model itself. Raises UsageError for an object that is no model."""
    if isinstance(model, Sequence):
        return ScriptedModel(model)
    given: object = model
    missing = [name for name in ("name", "scripted", "think") if not hasattr(given, name)]
    if missing or not inspect.iscoroutinefunction(model.think):
        what = f"it has no {' and no '.join(missing)}" if missing else "its `think` is no coroutine function"
        raise UsageError(f"{type(given).__name__} is no model, because {what}: see `remit.Model`")
    return model


def _decided(event: CallDecided) -> tuple[Call, Decision]:
    """The call and its decision. Raises the refusal of a call that was refused before a rule was read."""
    if event.call is not None and event.decision is not None:
        return event.call, event.decision
    assert isinstance(event.refusal, Failed)  # a call without a decision has a refusal
    error = event.refusal.error
    raise Refusal(
        error.code,
        error.message,
        details=error.details,
        next_step=error.next_step,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
    )


def _arguments(arguments: Mapping[str, Json] | str) -> str:
    """Arguments as the JSON text that a model would write; a text is passed on unchanged."""
    if isinstance(arguments, str):
        return arguments
    try:
        return _json_text(arguments)
    except (TypeError, ValueError, RecursionError) as failure:
        raise UsageError(f"the arguments are not JSON data: {failure}") from failure
