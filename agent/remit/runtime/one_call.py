"""One call without a model: `remit call`, its dry run, the explanation of its decision, and advice to another program."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from remit import __version__
from remit.broker import Broker, LiveExecutor
from remit.core import (
    ENDED,
    Json,
    Message,
    ModelTurn,
    Principal,
    ProposedCall,
    Request,
    Subjects,
    Succeeded,
    ToolSpec,
    UsageError,
    tool_name,
)
from remit.core.events import NANO, AnyEvent, CallAnswered, CallDecided, Recorded, RunStarted
from remit.guardrails import UNTRUSTED
from remit.journal import MemoryLog, Record
from remit.policy import Evaluated, Policy, policy_for
from remit.runtime.assembly import agent_of, confinement_of, new_run_id, sanitizer_of, secret_names, secrets_in
from remit.runtime.live import EvaluationPorts
from remit.sandbox import Sandbox
from remit.workspace import Workspace, WorkspaceSession, labels_in, labels_of

KEPT_S: Final = 1.0
MOST_KEPT: Final = 256  # decisions of an agent that answer the same question again
LONGEST_KEPT: Final = 2048  # characters of the arguments of such a question
_MINUTE: Final = 60 * NANO  # the fact `time` has minutes


class OneCall:
    """A model that proposes one call and then ends: `remit call`."""

    scripted = True

    def __init__(self, action: str, arguments: str) -> None:
        self.name, self.action = f"call:{action}", action
        self._proposed = _proposed(action, arguments)

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        return ModelTurn(
            text="", proposed_calls=(self._proposed,) if step == 0 else (), finish="tool_calls" if step == 0 else ENDED
        )


@dataclass(frozen=True, kw_only=True)
class EarlierCall:
    """A call that a run has made. Its result is `value`, with the labels of its action, and adds `names` to the directory."""

    action: str
    arguments: str
    value: Json = None
    names: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Kept:
    """The broker of an agent, for the calls until a time, and what it has decided by the same rules in the same minute."""

    broker: Broker
    until: float
    policy: Policy | None = None
    minute: int = -1
    decided: dict[tuple[str, ...], CallDecided] = field(default_factory=dict[tuple[str, ...], CallDecided])

    def decisions(self, policy: Policy, minute: int) -> dict[tuple[str, ...], CallDecided]:
        """The decisions by these rules in that minute, by user, action and arguments."""
        if policy is not self.policy or minute != self.minute:
            self.policy, self.minute, self.decided = policy, minute, {}
        return self.decided


class DryRuns:
    """Decides calls of one workspace that nobody makes: nothing runs and nothing is recorded.

    What is the same for all calls of an agent is read again after `KEPT_S`: secrets, which are redacted, and the confinement. The rules
    are those in force.
    """

    def __init__(self, session: WorkspaceSession) -> None:
        self._session = session
        self._ports = EvaluationPorts(session)
        self._kept: dict[str, _Kept] = {}

    async def decide(
        self, name: str, action: str, arguments: str, *, subject: str, roles: tuple[str, ...] = ()
    ) -> CallDecided:
        """Decide one call; `roles` are those of the subject's token. Raises UsageError if there is no such agent.

        INVARIANT: a decision answers the same question again only while all that it was made from is the same: user, roles and call, the
        broker, the rules in force and the minute. What was read from the working folder may change at any time.
        """
        policy, minute = self._ports.policy(0, 0), time.time_ns() // _MINUTE
        known = self._kept_of(name, subject).decisions(policy, minute)
        if (earlier := known.get(asked := (subject, action, arguments, *roles))) is not None:
            return earlier
        (decided,) = await self._broker(name, subject, _Unread, roles).decide(0, [_proposed(action, arguments)])
        used = policy_for(policy, subject, roles, None) if roles else policy
        by_these = decided.decision is not None and decided.decision.policy_digest == used.digest
        in_time = by_these and time.time_ns() // _MINUTE == minute
        reads_folder = decided.call is None or decided.call.narrowing is not None
        if in_time and not reads_folder and len(known) < MOST_KEPT and len(arguments) <= LONGEST_KEPT:
            known[asked] = decided
        return decided

    async def explain(
        self, name: str, action: str, arguments: str, *, subject: str, roles: tuple[str, ...] = ()
    ) -> tuple[CallDecided, tuple[Evaluated, ...]]:
        """Decide one call, and evaluate every rule that matches it."""
        broker = self._broker(name, subject, roles=roles)
        (decided,) = await broker.decide(0, [_proposed(action, arguments)])
        return decided, () if decided.call is None else broker.evaluate(decided.call)

    async def decide_after(
        self,
        name: str,
        earlier: Sequence[EarlierCall],
        action: str,
        arguments: str,
        *,
        task: str,
        subject: str,
        by: Principal,
    ) -> tuple[CallDecided, Request | None]:
        """Decide one call of a run with that task that has made the `earlier` calls, and its request to the policy.

        The request is None if the call was refused before the rules decided. Raises UsageError if there is no such agent.
        """
        broker = self._broker(name, subject)
        broker.record.append(_started(self._session, broker, task, by))
        made = await broker.decide(0, [_proposed(call.action, call.arguments) for call in earlier])
        for index, (decided, call) in enumerate(zip(made, earlier, strict=True)):
            result = Succeeded(value=call.value, labels=result_labels(broker.workspace, decided, call.value))
            broker.record.append(CallAnswered(step=0, index=index, result=result, directory_added=call.names))
        (decided,) = await broker.decide(1, [_proposed(action, arguments)])
        refused = decided.call is None or decided.refusal is not None
        return decided, None if refused or decided.call is None else broker.request(decided.call)

    def _broker(self, name: str, subject: str, record: type[Record] = Record, roles: tuple[str, ...] = ()) -> Broker:
        """The broker of a new run of the agent. INVARIANT: two decisions share nothing that a call changes."""
        kept = self._kept_of(name, subject).broker
        return replace(
            kept,
            subjects=Subjects(agent=kept.subjects.agent, user=subject),
            record=record(_UnsealedLog(), kept.record.run),
            ports=self._ports,
            roles=roles,
            _unredacted={},
            _calls={},
        )

    def _kept_of(self, name: str, subject: str) -> _Kept:
        now, kept = time.monotonic(), self._kept.get(name)
        if kept is None or now >= kept.until:
            kept = self._kept[name] = _Kept(broker=_unrecorded(self._session, name, subject), until=now + KEPT_S)
        return kept


class _UnsealedLog(MemoryLog):
    """A log that nobody reads later: its events have no hashes."""

    def append(self, run: str, event: AnyEvent) -> Recorded:
        fields: dict[str, Any] = {"run": run, "seq": len(self.events(run)), "at": time.time_ns(), "salt": None}
        fields |= {"type": event.type, "key": event.key, "event": event, "prev": "", "hash": "", "payload_digest": ""}
        return self.keep(Recorded.model_construct(**fields))


class _Unread(Record):
    """The record of one decision, after which nothing reads the state of the run: events do not change it."""

    def _apply(self, recorded: Recorded) -> None:
        return


async def decide_call(
    session: WorkspaceSession, name: str, action: str, arguments: str, *, subject: str
) -> CallDecided:
    """Decide one call, for a dry run: nothing runs and nothing is recorded."""
    return await DryRuns(session).decide(name, action, arguments, subject=subject)


async def request_of_call(
    session: WorkspaceSession, name: str, action: str, arguments: str, *, subject: str
) -> tuple[CallDecided, Request | None]:
    """Decide one call like `decide_call`, and its request to the policy; None if it was refused before the rules decided."""
    broker = _unrecorded(session, name, subject)
    (decided,) = await broker.decide(0, [_proposed(action, arguments)])
    refused = decided.call is None or decided.refusal is not None
    return decided, None if refused or decided.call is None else broker.request(decided.call)


@dataclass(frozen=True, kw_only=True)
class OutsideCall:
    """A call in a conversation that another program drives. `value` is what its model read of it, once it was `answered`."""

    proposed: ProposedCall
    answered: bool = False
    value: Json = None


async def advise(
    session: WorkspaceSession,
    name: str,
    task: str,
    turns: Sequence[Sequence[OutsideCall]],
    *,
    subject: str,
    by: Principal,
) -> CallDecided:
    """Decide the last call of a conversation that another program drives; nothing runs and nothing is recorded.

    The facts follow from `task`, the user's own words, and from the calls before, turn by turn.

    INVARIANT: what the other program did is not known, so it counts for the most that it can have done. Each answered call counts as
    made, its labels are on the run and none is removed, it makes no name known, and a call that the workspace does not know has read
    untrusted text. Nothing confines its tools.

    Raises:
        Refusal: `held`: the agent or the tool is on hold.
        UsageError: there is no such agent, or the last turn has no call.
    """
    broker = replace(_unrecorded(session, name, subject), confinement="none")
    broker.record.append(_started(session, broker, task, by))
    events: tuple[CallDecided, ...] = ()
    for step, turn in enumerate(turns):
        events = await broker.decide(step, [call.proposed for call in turn])
        for index, (decided, call) in enumerate(zip(events, turn, strict=True)):
            if call.answered:
                result = Succeeded(value=call.value, labels=result_labels(broker.workspace, decided, call.value))
                broker.record.append(CallAnswered(step=step, index=index, result=result))
    if not events:
        raise UsageError("the last turn of the conversation has no call")
    last = events[-1]
    if last.call is not None and last.refusal is None:
        await broker.ports.admit(last.call)
    return last


def result_labels(workspace: Workspace, decided: CallDecided, value: Json) -> tuple[str, ...]:
    """The labels that the result of the call puts on the run. A call that cannot be read counts as untrusted text."""
    if decided.call is None:
        return (UNTRUSTED,)
    _, action = workspace.action(decided.call.action)
    found = (*action.adds_labels, *labels_of(workspace.labels, decided.call.touches), *labels_in(action, value))
    return tuple(dict.fromkeys(found))


def _started(session: WorkspaceSession, broker: Broker, task: str, by: Principal) -> RunStarted:
    return RunStarted(
        subjects=broker.subjects,
        by=by,
        task=task,
        prompt="",
        model="",
        scripted=False,
        actions=broker.agent.actions,
        bundle="",
        policy_digest=session.policy.digest,
        confinement=broker.confinement,
        env=session.workspace.settings.env,
        folder="",
        version=__version__,
    )


def _proposed(action: str, arguments: str) -> ProposedCall:
    return ProposedCall(name=tool_name(action), arguments=arguments)


def _unrecorded(session: WorkspaceSession, name: str, subject: str) -> Broker:
    """The broker of a new run of the agent whose events are kept in memory."""
    agent = agent_of(session, name)
    run = new_run_id()
    sandbox = Sandbox.shared(session.workspace.settings.accept)
    confinement, _ = confinement_of(session.workspace, agent, sandbox)
    return Broker(
        workspace=session.workspace,
        agent=agent,
        subjects=Subjects(agent=f"agent:{agent.name}", user=subject),
        record=Record(MemoryLog(), run),
        executor=LiveExecutor(session.workspace, sandbox, session.root),
        ports=EvaluationPorts(session),
        sanitizer=sanitizer_of(
            session.workspace, run, secrets_in(session, subject).present(secret_names(session, agent)).values()
        ),
        confinement=confinement,
    )
