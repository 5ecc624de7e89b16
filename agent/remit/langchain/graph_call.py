"""What an external graph asks for: one call, and its own tool for that call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from remit.broker import HostTool
from remit.core import Json, ModelTurn, Principal, Result

Function: TypeAlias = Callable[..., Json]


@dataclass(frozen=True, kw_only=True)
class GraphCall:
    """One call that an external graph asks for.

    `key` identifies the run within a `RunRegistry`, `thread` is the thread id of LangGraph. `principal` is who asks in this
    invocation; None: that of the `RunRegistry`. `can_pause` is True if the graph
    has a checkpointer, so that it can be interrupted to wait for approval. A `queued` call starts when no other call runs.
    """

    key: str
    thread: str | None
    principal: Principal | None
    task: str
    turn: ModelTurn
    index: int
    name: str  # as the model wrote it
    id: str
    can_pause: bool
    queued: bool = False


@dataclass(frozen=True, kw_only=True)
class GraphTool:
    """The graph's own tool for a call: its schema as canonical JSON, and the function that runs it in the graph.

    `unchanged` runs it as it would run without Remit, for a call that is only observed.
    """

    schema: str
    function: Function
    unchanged: Function
    tool: HostTool | None = None


@dataclass(frozen=True, kw_only=True)
class NotEnforced:
    """The result that is recorded of a call that is only observed: the graph gets the answer of its own tool."""

    result: Result
