"""What the run of an external graph needs beside it: the graph's own tools, its model, and how its turns are recognized."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage

from remit.broker import CALLS_PER_TURN, HostTool, action_of, describe_tool, kept_for_tool, objects_of
from remit.core import (
    Failed,
    ModelTurn,
    ProposedCall,
    Refusal,
    Result,
    UsageError,
    is_refused,
    tool_name,
)
from remit.core.events import CallDecided
from remit.core.parsing import canonical_json, digest
from remit.guardrails import Sanitizer
from remit.journal import Record
from remit.langchain.commands import restored
from remit.langchain.graph_call import GraphCall, GraphTool, Performed
from remit.langchain.state import messages_of, tool_message
from remit.workspace import Agent, Mode, WorkspaceSession
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


def check_given(session: WorkspaceSession, agent: str, hosted: Mapping[str, str], tools: Sequence[Any]) -> None:
    """Raise UsageError with all problems of the tools that a graph gives to its model, each with what to do."""
    named = {tool_name(name) for name in session.workspace.agents[agent].actions}
    given = [tool for tool in tools if getattr(tool, "name", None) not in named]
    problems = [f"{line}" for tool in given if (line := _problem_of(session, hosted, tool))]
    if problems:
        raise UsageError(
            f"tools of agent {agent!r}: " + "\n  ".join(["", *problems] if len(problems) > 1 else problems)
        )


def _problem_of(session: WorkspaceSession, hosted: Mapping[str, str], tool: Any) -> str:
    """Why no call of this tool would run; "" for a reviewed one."""
    if not hasattr(tool, "tool_call_schema"):
        return f"{getattr(tool, '__name__', tool)!r} is no tool of LangChain: put @tool before it"
    if (action := hosted.get(action_of(tool.name))) is None:
        name = action_of(tool.name)
        return f"no action of the agent is called {name!r}: write [actions.{name}] in the tool.toml of its tool, and name it in agent.toml"
    owner, found = session.workspace.action(action)
    pin = f"run `remit tool pin {owner.manifest.name}`"
    if not owner.pinned or owner.pin is None:
        return f"{action} is not reviewed: {pin}"
    described = describe_tool(tool)
    if "problem" in described:
        return f"{action}: {described['problem']}"
    same = schema_of(tool) == owner.pin.schemas[found.name].shown
    return "" if same else f"{action} differs from the reviewed tool: review it, then {pin}"


@kept_for_tool
def schema_of(tool: HostTool) -> str:
    """What is reviewed of a tool of a graph, as `ActionSchema.shown` has it of the pin."""
    described = describe_tool(tool)
    return canonical_json({name: described.get(name) for name in ("description", "input")}).decode()


class ReadTurns:
    """The answer of a LangChain model node: the turns of the model, until it makes no call that LangChain cannot read.

    It is one answer: a node that looks at each turn would cost a checkpoint of each turn.
    """

    def __init__(self, request: Any, response: Any) -> None:
        self.state, self.runtime = request.state, request.runtime
        self.next_request: Any = request
        self._before: list[Any] = []  # the turns before the last one, with the refusals of their calls
        self.add(response)

    def add(self, response: Any) -> None:
        """The model has answered `next_request`."""
        self._last: Any = response

    @property
    def unreadable(self) -> AIMessage | None:
        """The last turn, if LangChain cannot read a call of it."""
        message = next((item for item in reversed(self._last.result) if isinstance(item, AIMessage)), None)
        if message is None or not message.invalid_tool_calls:
            return None
        message.id = message.id or str(uuid4())  # as the state of the graph would: the turn is recognized by it
        return message

    @property
    def messages(self) -> Sequence[Any]:
        """The messages of the conversation, with the last turn."""
        return [*messages_of(self.state), *self._before, *self._last.result]

    def refuse(self, outcomes: Sequence[tuple[GraphCall, Performed]]) -> bool:
        """Answer calls of the last turn. True if the model is asked again: it has made no other call, and the run goes on.

        Calls that are only observed stay without an answer.
        """
        answered = [(call, done) for call, done in outcomes if done.enforced]
        if not answered:
            return False
        turn = [*self._last.result, *(tool_message(call, done) for call, done in answered)]
        self._before += turn
        self._last = replace(self._last, result=[])
        self.next_request = self.next_request.override(messages=[*self.next_request.messages, *turn])
        results = [done.result for _, done in answered]
        ended = any(isinstance(result, Failed) and result.error.next_step == "stop" for result in results)
        return not ended and len(answered[0][0].turn.proposed_calls) == len(answered)

    @property
    def response(self) -> Any:
        """All turns and refusals, as one response of the model."""
        return replace(self._last, result=[*self._before, *self._last.result]) if self._before else self._last


def performed_call(record: Record, place: tuple[int, int], result: Result, returned: Any = None) -> Performed:
    """A call with its recorded result. If it is only observed and no hold has stopped it, the graph's own tool answers it."""
    decided = record.get(f"call.decided/{place[0]}/{place[1]}/0")
    observed = isinstance(decided, CallDecided) and not decided.enforced and not is_refused(result, enforced=False)
    objects = objects_of(record.get, *place)
    returned = restored(objects) if returned is None else returned
    return Performed(result=result, returned=returned, objects=objects, enforced=not observed)


def check_reviewed(graph_tool: GraphTool, pinned: ActionSchema, action: str) -> None:
    if not graph_tool.schema:
        raise not_reviewed(f"the graph has no tool for {action}")
    if graph_tool.schema != pinned.shown:
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


def check_mode(agent: Agent, mode: Mode | None) -> None:
    """Raise UsageError if the program expects another mode than the workspace has: a program cannot end the enforcement."""
    if mode in (None, agent.mode):
        return
    file = f"agent/{agent.name}/agent.toml"
    fix = (
        'write mode = "observe" and observe_until = "YYYY-MM-DD" there, and have it reviewed'
        if mode == "observe"
        else "remove its `mode`, or the argument"
    )
    raise UsageError(
        f"the program expects mode {mode!r} of agent {agent.name!r}, and {file} says {agent.mode!r}: {fix}"
    )
