"""One call without a model: `remit call`, its dry run, and the explanation of its decision."""

from __future__ import annotations

from collections.abc import Sequence

from remit.broker import Broker, LiveExecutor
from remit.core import ENDED, Message, ModelTurn, ProposedCall, Subjects, ToolSpec
from remit.core.events import CallDecided
from remit.guardrails import Secrets
from remit.journal import MemoryLog, Record
from remit.policy import Evaluated
from remit.runtime.assembly import agent_of, confinement_of, new_run_id, sanitizer_of, secret_names
from remit.runtime.live import LivePorts
from remit.sandbox import Sandbox
from remit.workspace import WorkspaceSession


class OneCall:
    """A model that proposes one call and then ends: `remit call`."""

    scripted = True

    def __init__(self, action: str, arguments: str) -> None:
        self.name = f"call:{action}"
        self._proposed = _proposed(action, arguments)

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        return ModelTurn(
            text="", proposed_calls=(self._proposed,) if step == 0 else (), finish="tool_calls" if step == 0 else ENDED
        )


async def decide_call(
    session: WorkspaceSession, name: str, action: str, arguments: str, *, subject: str
) -> CallDecided:
    """Decide one call, for a dry run: nothing runs and nothing is recorded."""
    (decided,) = await _unrecorded(session, name, subject).decide(0, [_proposed(action, arguments)])
    return decided


async def explain_call(
    session: WorkspaceSession, name: str, action: str, arguments: str, *, subject: str
) -> tuple[CallDecided, tuple[Evaluated, ...]]:
    """Decide one call like `decide_call`, and evaluate every rule that matches it."""
    broker = _unrecorded(session, name, subject)
    (decided,) = await broker.decide(0, [_proposed(action, arguments)])
    return decided, () if decided.call is None else broker.evaluate(decided.call)


def _proposed(action: str, arguments: str) -> ProposedCall:
    return ProposedCall(name=action.replace(".", "__", 1), arguments=arguments)


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
        ports=LivePorts(session),
        sanitizer=sanitizer_of(
            session.workspace, run, Secrets(session.root).present(secret_names(session, agent)).values()
        ),
        confinement=confinement,
    )
