"""What the run of an external graph needs beside it: the graph's own tools, its model, and how its turns are recognized."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from remit.broker import CALLS_PER_TURN
from remit.core import ENDED, Message, ModelTurn, ProposedCall, Refusal, Result, ToolSpec, UsageError, is_refused
from remit.core.events import AnyEvent, CallDecided
from remit.core.parsing import canonical_json, digest
from remit.guardrails import Sanitizer
from remit.langchain.graph_call import GraphTool
from remit.workspace import WorkspaceSession
from remit.workspace.manifest import ActionSchema


def hosted_actions(session: WorkspaceSession, agent: str) -> dict[str, str]:
    """The agent's actions that are functions in the graph's process, by the name of the function."""
    hosted: dict[str, str] = {}
    for name in session.workspace.agents[agent].actions:
        tool, action = session.workspace.action(name)
        if tool.manifest.source == "host":
            if action.name in hosted:
                raise UsageError(
                    f"agent {agent!r} has {hosted[action.name]} and {name}, and a graph calls both {action.name!r}: "
                    "rename one of the two functions and its action"
                )
            hosted[action.name] = name
    return hosted


class ExternalModel:
    """The model of an external graph. The graph asks it; `turn` is its latest turn, set before Remit's graph reads it."""

    scripted = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.turn = ModelTurn(text="", finish=ENDED)

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        return self.turn


def is_enforced(decided: AnyEvent | None, result: Result) -> bool:
    """False if the graph's own tool answers the call: it is only observed, and no hold has stopped it."""
    return not isinstance(decided, CallDecided) or decided.enforced or is_refused(result, enforced=False)


def check_reviewed(graph_tool: GraphTool, pinned: ActionSchema, action: str) -> None:
    if graph_tool.schema != canonical_json(pinned.model_dump(mode="json", include={"description", "input"})).decode():
        raise not_reviewed(f"the graph's tool for {action} differs from the reviewed one")


def not_reviewed(message: str) -> Refusal:
    return Refusal("policy_denied", message, details={"reason": "not_pinned"})


def no_person_to_answer() -> Refusal:
    return Refusal(
        "cancelled",
        "the tool asks a person, and nobody can answer here",
        details={"problem": "question"},
        next_step="make this call alone in a turn; in a graph without a checkpointer, continue without it",
    )


def turn_key(turn: ModelTurn, sanitizer: Sanitizer) -> str:
    """A digest of the calls of a turn, by which it is recognized. They are sanitized first, as the record has them."""
    return recorded_key([sanitizer.proposed_call(call) for call in turn.proposed_calls[: CALLS_PER_TURN + 1]])


def recorded_key(proposed_calls: Sequence[ProposedCall]) -> str:
    """The same digest of a turn in the record."""
    calls = [[call.name, call.arguments, call.parsed, call.id] for call in proposed_calls]
    try:
        return digest(calls)
    except Refusal:  # no canonical JSON: such a call is refused later, and here only needs the same key each time
        return hashlib.sha256(json.dumps(calls, sort_keys=True).encode()).hexdigest()
