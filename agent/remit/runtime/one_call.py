"""One call without a run of its own making: `remit call`, and what the rules say of a call that nobody makes."""

from __future__ import annotations

from collections.abc import Sequence

from remit.broker import Broker, LiveAttempts
from remit.core import Ask, Message, Subjects, ToolSpec, Turn
from remit.core.events import CallDecided
from remit.guardrails import Secrets
from remit.journal import MemoryLog, Record
from remit.runtime.assembly import agent_of, confinement_of, guard_of, new_run_id, secret_names
from remit.runtime.live import LiveWorld
from remit.sandbox import Sandbox
from remit.workspace import House


class OneCall:
    """A model that asks for one call and then has nothing more to say: `remit call`."""

    scripted = True

    def __init__(self, action: str, arguments: str) -> None:
        self.name = f"call:{action}"
        self._ask = Ask(name=action.replace(".", "__", 1), arguments=arguments)

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> Turn:
        return Turn(text="", asks=(self._ask,) if step == 0 else (), finish="tool_calls" if step == 0 else "stop")


def decide_call(house: House, name: str, action: str, arguments: str, *, subject: str) -> CallDecided:
    """Decide one call and do nothing else: nothing runs, nothing is recorded."""
    agent = agent_of(house, name)
    run = new_run_id()
    record = Record(MemoryLog(), run)
    sandbox = Sandbox.shared(house.workspace.settings.accept)
    confinement, _ = confinement_of(house.workspace, agent, sandbox)
    broker = Broker(
        workspace=house.workspace,
        agent=agent,
        subjects=Subjects(agent=f"agent:{agent.name}", user=subject),
        record=record,
        attempts=LiveAttempts(house.workspace, sandbox, house.root),
        world=LiveWorld(house),
        guard=guard_of(house, run, Secrets(house.root).present(secret_names(house, agent)).values()),
        confinement=confinement,
    )
    (decided,) = broker.decide(0, [Ask(name=action.replace(".", "__", 1), arguments=arguments)])
    return decided
