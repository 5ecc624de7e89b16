"""What an external graph asks for: one call, its own tool for that call, and what the graph gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from remit.broker import HostTool
from remit.core import Json, ModelTurn, Principal, Result
from remit.core.events import ApprovalRequested, QuestionAsked


@dataclass(frozen=True, kw_only=True)
class GraphCall:
    """One call that an external graph asks for.

    `key` identifies the run within a `RunRegistry`, `thread` is the thread id of LangGraph, and `node_task` names its task for
    the call; `task` is the user's request. `principal` is who asks in this invocation; None: that of the `RunRegistry`. `follows` is the turn before, if no human message
    came after it; None otherwise. `resumes` says that the invocation may go on with an interrupted one. `can_pause` is True if the graph has a checkpointer, so that it can be interrupted to wait for a
    person. `alone` is True if the task carries out only this call, so that the person who resumes the task answers it. A `queued` call starts
    when no other call runs. `write` writes into the custom stream of the graph.
    """

    key: str
    thread: str | None
    node_task: str
    principal: Principal | None
    task: str
    turn: ModelTurn
    index: int
    name: str  # as the model wrote it
    id: str
    can_pause: bool
    follows: ModelTurn | None = None
    resumes: bool = False
    alone: bool = True
    queued: bool = False
    write: Callable[[Any], None] | None = None


@dataclass(frozen=True, kw_only=True)
class ToolAttempt:
    """One attempt of a tool of the graph: `wall` is its limit in seconds, `answers` are those to the questions that it asked.

    `via` identifies the interrupt by which it asks the next one.
    """

    arguments: dict[str, Json]
    wall: float
    answers: Sequence[Any]
    via: str


@dataclass(frozen=True, kw_only=True)
class ToolReturned:
    """`value` is the result of the call, `returned` what the tool returned."""

    value: Json
    returned: Any


Function: TypeAlias = Callable[[ToolAttempt], ToolReturned]


@dataclass(frozen=True, kw_only=True)
class GraphTool:
    """The graph's own tool for a call: its schema as canonical JSON, and the function that runs it in the graph."""

    schema: str
    function: Function
    tool: HostTool | None = None


@dataclass(frozen=True, kw_only=True)
class Performed:
    """A call with its result. `returned` is what the graph's own tool returned in this process, None otherwise.

    `made` describes the call that a person made in its place, whose result this is; empty: none.
    """

    result: Result
    returned: Any = None
    made: dict[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, kw_only=True)
class Paused:
    """A call that waits for a person. `value` is that of the interrupt; the rest says what the person is asked."""

    value: Json
    requested: ApprovalRequested | None = None
    asked: QuestionAsked | None = None

    def may_pause(self, call: GraphCall) -> bool:
        """True if the graph can be interrupted for this, and the person who resumes it answers this call."""
        return call.can_pause and (call.alone or self.asked is None)
