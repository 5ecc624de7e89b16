"""`Remit`: the client for ordinary code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from remit.client.async_remit import AsyncRemit
from remit.client.requests import Approved, Bound, WaitingApproval
from remit.client.results import CallResult, Explanation
from remit.client.streams import RunStream
from remit.core import Decision, Json, Model, Principal, Scope, UsageError
from remit.core.events import HoldSet, Recorded
from remit.journal import RolloutState, RunSummary
from remit.policy import Policy
from remit.replay import ReplayResult
from remit.runtime import RunResult
from remit.tracing import Trace
from remit.workers import PRIORITY
from remit.workspace import OwnAction, WorkspaceSession, open_session

if TYPE_CHECKING:  # evaluations are loaded when a rollout is opened
    from remit.evals import RolloutPlan

_Value = TypeVar("_Value")


class Remit:
    """A client of one workspace: it does in a program what the command `remit` does in a shell.

        from remit import Remit

        with Remit.open("my-agents") as client:
            result = client.call("files.read", {"path": "runbooks/payments-pool.md"}, agent="triage")
            print(result.value if result.ok else result.error)

    Agents and tools are those that the files described when the workspace was opened; changed rules are in force within a
    second. `principal` is who starts, approves and holds: by default the account of this process, as in a shell. In a
    coroutine, use `AsyncRemit`.
    """

    def __init__(self, session: WorkspaceSession, principal: Principal | None = None) -> None:
        self._client: Final = AsyncRemit(session, principal)

    @classmethod
    def open(cls, path: Path | str | None = None, *, principal: Principal | None = None) -> Self:
        """Open the workspace that the folder `path` lies in; None: that of the current folder.

        `principal` is who asks, as the program has authenticated them; None: the operating-system account of this process.

        Raises:
            WorkspaceError: every problem of every file.
            Refusal: `policy_denied`: the principal is not of the tenant of the workspace.
        """
        return cls(open_session(None if path is None else Path(path)), principal)

    def acting_as(self, principal: Principal) -> Self:
        """A client for another principal, on the same open workspace: for a service that many people use.

        Closing either of them closes the workspace for both.

        Raises:
            Refusal: `policy_denied`: the principal is not of the tenant of the workspace.
        """
        return type(self)(self.session, principal)

    @property
    def principal(self) -> Principal:
        """Who starts, approves and holds by this client."""
        return self._client.principal

    @property
    def session(self) -> WorkspaceSession:
        """The open workspace: its definitions, its policy as it was opened, and its journal."""
        return self._client.session

    @property
    def root(self) -> Path:
        """The folder of the workspace."""
        return self._client.root

    @property
    def policy(self) -> Policy:
        """The policy in force now."""
        return self._client.policy

    def may(self, action: OwnAction, resource: str) -> bool:
        """True if the rules let the principal do that with Remit itself: `client.may("remit.run", "agent:triage")`."""
        return self._client.may(action, resource)

    def run(
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
        """Run an agent on a task, to its end or to where it waits for approval.

        Args:
            agent: the name of a folder below `agent/`.
            task: what the agent is to do. Only these words count as the user's.
            model: another model than the agent's own: `openai:gpt-5`; `script:FILE`, a file in the folder of the agent; an object with
                the methods of `Model`; or the turns of a script, each made by `remit.testing.turn`.
            user: another user to act for, if the rules allow the principal `remit.impersonate`.
            scope: the most that this run may do, beside what the rules allow.
            run_id: the id of the run, 32 hex digits; None: a random one.
            wait: seconds to wait for approvals.

        Raises:
            UsageError: an agent, a secret or a working folder is missing, or the run id is in use. Nothing is recorded.
            WorkspaceError: the rules are not valid. Nothing is recorded.
            Refusal: `policy_denied`: the principal may not act for `user`. Nothing is recorded.
            RunEnded: the run cannot continue, for instance because there is no sandbox. The record says why.
        """
        return _wait_for(self._client.run(agent, task, model=model, user=user, scope=scope, run_id=run_id, wait=wait))

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
    ) -> RunStream:
        """Run an agent on a task, and iterate over the events of the run as they are recorded.

        The arguments and errors are those of `run`. The result is `RunStream.result`, after the last event.
        """
        return RunStream(
            self._client.stream(agent, task, model=model, user=user, scope=scope, run_id=run_id, wait=wait)
        )

    def enqueue(
        self,
        agent: str,
        task: str,
        *,
        model: str | None = None,
        user: str | None = None,
        scope: Scope | None = None,
        run_id: str | None = None,
        priority: int = PRIORITY,
    ) -> str:
        """Start a run that a worker (`remit worker`) drives, and return its id. Everything is checked now.

        `priority` is from 1 to 9; runs of 9 come first. The other arguments and errors are those of `run`.

        Raises:
            QueueFull: as many runs wait for workers as the settings allow. Nothing is recorded.
        """
        return _wait_for(
            self._client.enqueue(agent, task, model=model, user=user, scope=scope, run_id=run_id, priority=priority)
        )

    def resume(
        self,
        run: str,
        *,
        wait: float = 0.0,
        accept_changes: bool = False,
        on_event: Callable[[Recorded], None] | None = None,
    ) -> RunResult:
        """Resume a run where its last process stopped, with the agent and the tools that it had. Calls that have a result are not repeated.

        `run` is a run id, or a unique prefix of one. `wait` is how many seconds it waits for approvals. With `accept_changes` the
        run goes on with the agent and the tools on disk, and records what has changed. `on_event` gets every event after it is recorded.

        Raises:
            Refusal: `policy_denied`: code of its tools was revoked.
            UsageError: the run has finished, another process or an external graph drives it, or a part of its definition is missing.
            RunEnded: the run cannot continue, for instance because there is no sandbox.
        """
        return _wait_for(self._client.resume(run, wait=wait, accept_changes=accept_changes, on_event=on_event))

    def call(
        self,
        action: str,
        arguments: Mapping[str, Json] | str,
        *,
        agent: str,
        user: str | None = None,
        run_id: str | None = None,
        wait: float = 0.0,
        on_event: Callable[[Recorded], None] | None = None,
    ) -> CallResult:
        """Make one call as an agent. It is decided, confined and recorded like a call of the agent's model.

        `arguments` is JSON data, or JSON text as a model writes it. A refused call is a result, not an exception. `on_event` gets every event
        after it is recorded. `user`, `run_id` and `wait`, and the errors, are those of `run`.
        """
        made = self._client.call(action, arguments, agent=agent, user=user, run_id=run_id, wait=wait, on_event=on_event)
        return _wait_for(made)

    def decide(
        self, action: str, arguments: Mapping[str, Json] | str, *, agent: str, user: str | None = None
    ) -> Decision:
        """Decide one call of an agent. Nothing runs and nothing is recorded.

        Raises:
            Refusal: the call is refused before a rule is read: `unknown_action`, `invalid_arguments` and others.
            UsageError: there is no such agent.
        """
        return _wait_for(self._client.decide(action, arguments, agent=agent, user=user))

    def explain(
        self, action: str, arguments: Mapping[str, Json] | str, *, agent: str, user: str | None = None
    ) -> Explanation:
        """Decide one call like `decide`, and say what each matching rule contributed. The errors are those of `decide`."""
        return _wait_for(self._client.explain(action, arguments, agent=agent, user=user))

    def run_resource(self, run: str) -> str:
        """The name of a run in the rules, for `may`: `run:own/AGENT` or `run:other/AGENT`. Raises UsageError if there is none."""
        return self._client.run_resource(run)

    def find_run(self, run: str) -> RunSummary:
        """The state of one run: a run id, or a unique prefix of one.

        Raises:
            UsageError: there is no such run, or several runs match.
            Refusal: `policy_denied`: the rules do not let the principal read it.
        """
        return _wait_for(self._client.find_run(run))

    def runs(self, *, limit: int = 50) -> tuple[RunSummary, ...]:
        """The latest `limit` runs of the workspace, the latest first."""
        return _wait_for(self._client.runs(limit=limit))

    def trace(self, run: str) -> Trace:
        """The trace of a run: a run id, a unique prefix of one, or a trace file.

        Raises:
            UsageError: there is no such run or file, or several runs match.
            WorkspaceError: lines of the file are damaged.
        """
        return _wait_for(self._client.trace(run))

    def replay(self, run: str, *, policy: Policy | None = None) -> ReplayResult:
        """Replay a run, or a trace file, without effects, and compare it with its record.

        `policy` decides instead of the recorded one: what would these rules have decided?

        Raises:
            UsageError: there is no such run, or its record does not hold all that a replay needs.
            WorkspaceError: lines of the file are damaged.
        """
        return _wait_for(self._client.replay(run, policy=policy))

    def approvals(self) -> tuple[WaitingApproval, ...]:
        """Every open request for approval."""
        return _wait_for(self._client.approvals())

    def find_approval(self, name: str) -> WaitingApproval:
        """The request of that name, also one that is closed: RUN, or RUN/STEP.INDEX. Raises UsageError if not exactly one matches."""
        return _wait_for(self._client.find_approval(name))

    def approve(
        self,
        request: WaitingApproval | str,
        *,
        role: str | None = None,
        reason: str = "",
        minutes: int = 15,
        bound: Bound | None = None,
    ) -> Approved:
        """Approve one call as the principal of this client; `resume` then continues the run.

        `request` is one of `approvals`, or its name: RUN, or RUN/STEP.INDEX. `role` may be left out if the request needs one
        role. In an emergency, `role="role:break-glass"` needs a `reason`, and the approval counts for `minutes`.
        With `bound`, further calls of the run that are like it are approved too, for `minutes`.

        Raises:
            UsageError: no request matches, or several do, or the request needs several roles.
            Refusal: the approval does not count, for instance because this user does not have the role. It is recorded.
        """
        return _wait_for(self._client.approve(request, role=role, reason=reason, minutes=minutes, bound=bound))

    def reject(self, request: WaitingApproval | str, *, reason: str) -> None:
        """Reject one call as the principal of this client. The model reads `reason`.

        Raises:
            UsageError: no request matches, or several do.
            Refusal: the rejection does not count. It is recorded.
        """
        return _wait_for(self._client.reject(request, reason=reason))

    def holds(self) -> Mapping[str, HoldSet]:
        """The holds in force, by scope."""
        return _wait_for(self._client.holds())

    def hold(self, scope: str, *, reason: str) -> HoldSet:
        """Hold `run:RUN`, `agent:NAME`, `tool:NAME` or `all`: running calls end within a second, and no new call starts.

        The model and the trace show `reason`.

        Raises:
            UsageError: there is nothing of that name, or `reason` is empty.
        """
        return _wait_for(self._client.hold(scope, reason=reason))

    def lift(self, scope: str) -> None:
        """Lift a hold; `resume` then continues a run that paused.

        Raises:
            UsageError: the scope is not on hold.
        """
        return _wait_for(self._client.lift(scope))

    def rollouts(self, *, limit: int = 10) -> tuple[RolloutState, ...]:
        """The latest rollouts, open or not, the latest first."""
        return _wait_for(self._client.rollouts(limit=limit))

    def open_rollout(self, agent: str, candidate: Path | str, *, plan: RolloutPlan | None = None) -> RolloutState:
        """Open a rollout for an agent, of the workspace in the folder `candidate`. No run has it before its stage canary.

        `plan` says how it is tried; None: in every stage that its changes need, with 10 and then 50 % of the users.

        Raises:
            Refusal: `policy_denied`: the principal may not open rollouts of this agent.
            UsageError: the candidate changes nothing or too much, breaks a case, lacks the data for a bar; or a rollout is open.
            WorkspaceError: a file of the candidate is not valid.
        """
        return _wait_for(self._client.open_rollout(agent, candidate, plan=plan))

    def widen_rollout(self, rollout: str, *, least: int = 20) -> RolloutState:
        """Move an open rollout to its next stage; from the last one, finish it. A bar that is broken ends it first.

        `rollout` is its id, or the name of the agent. `least` is how many runs must have ended in this stage.

        Raises:
            Refusal: `policy_denied`: the principal may not widen rollouts of this agent.
            UsageError: there is no such rollout, it has ended, or too little is known to go on.
        """
        return _wait_for(self._client.widen_rollout(rollout, least=least))

    def roll_back(self, rollout: str, *, reason: str) -> RolloutState:
        """Take the candidate of an open rollout back: no new run has it, and its rules decide nothing. No right is needed for it.

        `rollout` is its id, or the name of the agent.

        Raises:
            UsageError: there is no such rollout, it has ended, or `reason` is empty.
        """
        return _wait_for(self._client.roll_back(rollout, reason=reason))

    def close(self) -> None:
        """Close the journal. Warm tools stay ready for other clients of this process, and end with it."""
        self.session.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _wait_for(work: Coroutine[Any, Any, _Value]) -> _Value:
    """Run to its end. Raises UsageError in a coroutine, where waiting would stop the event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise UsageError("an event loop runs in this thread: use `AsyncRemit`, whose methods are awaited")
