"""What an external graph asks for: one call, and its own tool for that call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from remit.broker import HostTool
from remit.core import Json, ModelTurn, Principal

Function: TypeAlias = Callable[..., Json]


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One invocation of an external graph: who asks what, and in which thread.

    `key` identifies the run within a `RunRegistry`, `thread` is the thread id of LangGraph. `principal` is who asks; None: that of the
    `RunRegistry`. `task` is what the person wrote, `message` the digest of that message, "" without one, and `answer` the model's
    answer before it. `has_results` is True if the thread already has results of tools before that message.
    """

    key: str
    thread: str | None
    principal: Principal | None
    task: str
    message: str = ""
    answer: str = ""
    has_results: bool = False


@dataclass(frozen=True, kw_only=True)
class GraphCall(Invocation):
    """One call that an external graph asks for.

    `can_pause` is True if the graph has a checkpointer, so that it can be interrupted to wait for approval. A `queued` call starts
    when no other call runs.
    """

    turn: ModelTurn
    index: int
    name: str  # as the model wrote it
    id: str
    can_pause: bool
    queued: bool = False


@dataclass(frozen=True, kw_only=True)
class GraphTool:
    """The graph's own tool for a call: its schema as canonical JSON, and the function that runs it in the graph."""

    schema: str
    function: Function
    tool: HostTool | None = None
