"""What the graph's own tools answer to a call that is only observed: they run as they would without Remit."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast

from langchain_core.tools import BaseTool
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.types import interrupt

from remit.broker import Question
from remit.core import Json, Refusal, UsageError
from remit.langchain.commands import result_of
from remit.langchain.graph_call import ToolAttempt, ToolReturned
from remit.langchain.pauses import question_of, with_answers
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

    def run_here(self, handler: Handler, attempt: ToolAttempt) -> ToolReturned:
        """Run the handler in this thread, for an attempt. Returns what is recorded of it.

        Raises:
            Question: the tool asks a person.
        """
        return self._run(attempt, lambda request: self._context.run(handler, request))

    def run_in_loop(self, loop: asyncio.AbstractEventLoop, handler: AsyncHandler, attempt: ToolAttempt) -> ToolReturned:
        """As `run_here`, in the graph's own event loop."""

        async def handle(request: ToolCallRequest) -> Any:
            return await handler(request)

        def handled(request: ToolCallRequest) -> Any:
            return self._context.run(asyncio.run_coroutine_threadsafe, handle(request), loop).result()

        return self._run(attempt, handled)

    def get(self, handler: Handler) -> Any:
        """The answer for the graph: that of the attempt or, if there is none, of the handler now."""
        return handler(self._request) if self._answer.cancel() else self._answer.result()

    async def aget(self, handler: AsyncHandler) -> Any:
        """As `get`, for a graph in an event loop."""
        if self._answer.cancel():
            return await handler(self._request)
        return await asyncio.wrap_future(self._answer)

    def interrupt(self, value: Json) -> Any:
        """Interrupt the graph, as the tool has if this attempt asked. Returns the value that resumes the graph."""
        if self._answer.done() and isinstance(self._answer.exception(), GraphInterrupt):
            self._answer.result()
        return interrupt(value)

    def _run(self, attempt: ToolAttempt, handle: Callable[[ToolCallRequest], Any]) -> ToolReturned:
        if not self._answer.set_running_or_notify_cancel():
            raise Refusal("cancelled", "the graph carries the call out by itself")
        request = self._request
        if attempt.answers:
            request = request.override(tool=cast("BaseTool", _AnsweredTool(request.tool, attempt.answers)))
        try:
            answer = handle(request)
        except BaseException as failure:
            self._answer.set_exception(failure)
            if isinstance(failure, GraphInterrupt):
                raise Question(question_of(failure), attempt.via) from failure
            if not isinstance(failure, ParentCommand):
                raise
            answer = failure
        else:
            self._answer.set_result(answer)
        return ToolReturned(value=result_of(answer, self._request.tool_call["id"]), returned=answer)


class _AnsweredTool:
    """The tool of the graph as it is; its interrupts return the answers of people."""

    def __init__(self, tool: BaseTool | None, answers: Sequence[Any]) -> None:
        self._tool, self._answers = cast("BaseTool", tool), answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tool, name)

    def invoke(self, call: Any, config: Any = None, **options: Any) -> Any:
        return self._tool.invoke(call, with_answers(config, self._answers), **options)

    async def ainvoke(self, call: Any, config: Any = None, **options: Any) -> Any:
        return await self._tool.ainvoke(call, with_answers(config, self._answers), **options)


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
