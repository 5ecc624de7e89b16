"""What an external graph asks for: one call, its own tool for that call, and what the graph gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from remit.broker import HostTool, HostValue
from remit.core import ContentObject, Json, ModelTurn, Principal, Result
from remit.core.events import ApprovalRequested, QuestionAsked
from remit.journal import RunState


@dataclass(frozen=True, kw_only=True)
class CallAround:
    """The call whose tool runs now, for agents inside of that tool. `place` identifies it, `state` is that of its run."""

    place: str
    state: RunState


# In the context of a tool that runs. What runs inside of it is an agent of its own, for the same user.
AROUND: Final[ContextVar[CallAround | None]] = ContextVar("remit_around", default=None)


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One invocation of an external graph: who asks what, and in which thread.

    `key` identifies the run within a `RunRegistry`, `thread` is the thread id of LangGraph. `principal` is who asks; None: that of the
    `RunRegistry`. `task` is what the person wrote, `message` the digest of that message, "" without one, and `answer` the model's
    answer before it. `has_results` is True if the thread already has results of tools before that message. `around` is the call in whose
    tool this happens; None outside of any.
    """

    key: str
    thread: str | None
    principal: Principal | None
    task: str
    message: str = ""
    answer: str = ""
    has_results: bool = False
    around: CallAround | None = field(default_factory=AROUND.get)


@dataclass(frozen=True, kw_only=True)
class GraphCall(Invocation):
    """One call that an external graph asks for.

    `node_task` names the task of LangGraph that carries the call out. `follows` returns the turn before, if no human message came after it;
    None otherwise. `can_pause` is True if the graph has a checkpointer, so that it can be interrupted to wait for a person. `alone` is True
    if the task carries out only this call, so that the person who resumes the task answers it. A `queued` call starts when no other call
    runs. `write` writes into the custom stream of the graph.
    """

    node_task: str
    turn: ModelTurn
    index: int
    name: str  # as the model wrote it
    id: str
    can_pause: bool
    follows: Callable[[], ModelTurn | None] = lambda: None
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
    around: CallAround


@dataclass(frozen=True, kw_only=True)
class ToolReturned:
    """`value` is the result of the call, `returned` what the tool returned."""

    value: HostValue
    returned: Any


Function: TypeAlias = Callable[[ToolAttempt], ToolReturned]


@dataclass(frozen=True, kw_only=True)
class GraphTool:
    """The graph's own tool for a call: its schema as canonical JSON, and the function that runs it in the graph.

    `unchanged` runs it as it would run without Remit, for a call that is only observed; None: such a call is carried out as any other.
    """

    schema: str
    function: Function
    unchanged: Function | None = None
    tool: HostTool | None = None


@dataclass(frozen=True, kw_only=True)
class Performed:
    """A call with its result. `returned` is what the graph's own tool returned; None if that is not known.

    `objects` are the images and files that the result names. With `enforced` False the result is only recorded: the graph gets the answer
    of its own tool.
    `made` describes the call that a person made in its place, whose result this is; empty: none.
    """

    result: Result
    returned: Any = None
    objects: tuple[ContentObject, ...] = ()
    enforced: bool = True
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
