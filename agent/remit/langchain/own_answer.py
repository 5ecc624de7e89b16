"""What the graph's own tools answer to a call that is only observed: they run as they would without Remit."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import ToolMessage
from langgraph.types import Command

from remit.broker import content_of
from remit.core import Json, Refusal, UsageError
from remit.langchain.state import messages_of
from remit.workspace import Agent, Mode

if TYPE_CHECKING:
    from langgraph.prebuilt.tool_node import ToolCallRequest

    from remit.langchain.reviewed_tool import AsyncHandler, Handler


class OwnAnswer:
    """The answer of the graph's own handler to one request, which runs once: for the broker, or else for the graph.

    The handler gets the request as it is, and the graph gets what the handler returns or raises.
    """

    def __init__(self, request: ToolCallRequest) -> None:
        self._request = request
        self._context = contextvars.copy_context()
        self._answer: Future[Any] = Future()

    def run_here(self, handler: Handler, _wall: float, /, **_decided: Json) -> Json:
        """Run the handler in this thread, for an attempt. Returns the content that is recorded."""
        return self._run(lambda: self._context.run(handler, self._request))

    def run_in_loop(
        self, loop: asyncio.AbstractEventLoop, handler: AsyncHandler, _wall: float, /, **_decided: Json
    ) -> Json:
        """As `run_here`, in the graph's own event loop."""

        async def handle() -> Any:
            return await handler(self._request)

        return self._run(
            lambda: self._context.run(asyncio.run_coroutine_threadsafe, handle(), loop).result(),
        )

    def get(self, handler: Handler) -> Any:
        """The answer for the graph: that of the attempt or, if there is none, of the handler now."""
        return handler(self._request) if self._answer.cancel() else self._answer.result()

    async def aget(self, handler: AsyncHandler) -> Any:
        """As `get`, for a graph in an event loop."""
        if self._answer.cancel():
            return await handler(self._request)
        return await asyncio.wrap_future(self._answer)

    def _run(self, handle: Callable[[], Any]) -> Json:
        if not self._answer.set_running_or_notify_cancel():
            raise Refusal("cancelled", "the graph carries the call out by itself")
        try:
            answer = handle()
        except BaseException as failure:
            self._answer.set_exception(failure)
            raise
        self._answer.set_result(answer)
        return content_of(_message_in(answer, self._request.tool_call["id"]))


def _message_in(answer: object, call_id: str | None) -> object:
    """The message to the model in what a handler returned; the text of anything else."""
    if isinstance(answer, Command):
        updates = messages_of(cast("Any", answer).update or {})
        found = (item for item in updates if isinstance(item, ToolMessage) and item.tool_call_id == call_id)
        return next(found, "")
    return answer if isinstance(answer, ToolMessage) else str(answer)


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
