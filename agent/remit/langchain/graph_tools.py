"""How the graph's own tools run."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from langchain_core.tools import BaseTool
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.types import interrupt

from remit.broker import Question, action_of
from remit.core import Json, Refusal
from remit.langchain.commands import result_of
from remit.langchain.graph_call import AROUND, Function, GraphTool, Performed, ToolAttempt, ToolReturned
from remit.langchain.pauses import question_of, with_answers
from remit.langchain.reviewed_tool import AsyncHandler, Handler, run_here, run_in_loop
from remit.langchain.turns import schema_of
from remit.runtime import OfferedAction

if TYPE_CHECKING:
    from langgraph.prebuilt.tool_node import ToolCallRequest


class ToolRequest:
    """One request of a graph for a tool, with the graph's own handler. `hosted` are the actions of the graph's own tools.

    For a call that is only observed the handler runs once, for the broker or else for the graph. It gets the request as it is, and the
    graph gets what the handler returns or raises.
    """

    def __init__(
        self,
        request: ToolCallRequest,
        handler: Handler | AsyncHandler,
        hosted: Mapping[str, str],
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._request = request
        self._handler: Any = handler
        self._hosted = hosted
        self._loop = loop
        self._context = contextvars.copy_context()
        self._answer: Future[Any] = Future()

    def tool(self, action: str) -> GraphTool | None:
        """The graph's tool for the call or, with `action`, for a call that a person makes in its place.

        None for an action of Remit. An unknown tool gets a schema that no pin has.
        """
        request: Any = self._request
        if not action:
            return self._tool_of(request, self._unchanged)
        named = (tool for tool in request.runtime.tools if self._hosted.get(action_of(tool.name)) == action)
        if (tool := next(named, None)) is None:  # an action of Remit, or a tool that this graph does not have
            function = self._function(request)
            return GraphTool(schema="", function=function) if action in self._hosted.values() else None
        return self._tool_of(request.override(tool=tool, tool_call={**request.tool_call, "name": tool.name}), None)

    def _tool_of(self, request: ToolCallRequest, unchanged: Function | None) -> GraphTool | None:
        function, tool = self._function(request), request.tool
        if tool is None:
            return GraphTool(schema="", function=function, unchanged=unchanged)
        if isinstance(tool, OfferedAction):
            return None
        return GraphTool(schema=schema_of(tool), function=function, unchanged=unchanged, tool=tool)

    def _function(self, request: ToolCallRequest) -> Function:
        if self._loop is None:
            return partial(run_here, self._context, request, self._handler)
        return partial(run_in_loop, self._loop, self._context, request, self._handler)

    # -- a call that is only observed --

    def is_answered(self, done: Performed) -> bool:
        """True if the graph gets the recorded result: the call is enforced, or Remit's own executor carries out the call."""
        return done.enforced or isinstance(self._request.tool, OfferedAction)

    def get(self) -> Any:
        """The answer for the graph: that of the attempt or, if there is none, of the handler now."""
        return self._handler(self._request) if self._answer.cancel() else self._answer.result()

    async def aget(self) -> Any:
        """As `get`, for a graph in an event loop."""
        if self._answer.cancel():
            return await self._handler(self._request)
        return await asyncio.wrap_future(self._answer)

    def interrupt(self, value: Json) -> Any:
        """Interrupt the graph, as the tool has if this attempt asked. Returns the value that resumes the graph."""
        if self._answer.done() and isinstance(self._answer.exception(), GraphInterrupt):
            self._answer.result()
        return interrupt(value)

    def _unchanged(self, attempt: ToolAttempt) -> ToolReturned:
        """Run the handler for an attempt, in the graph's own thread or event loop. Returns what is recorded of it.

        Raises:
            Question: the tool asks a person.
        """
        if not self._answer.set_running_or_notify_cancel():
            raise Refusal("cancelled", "the graph executes the call itself")
        request = self._request
        if attempt.answers:
            request = request.override(tool=cast("BaseTool", _AnsweredTool(request.tool, attempt.answers)))
        try:
            answer = self._context.copy().run(self._handle, attempt, request)
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

    def _handle(self, attempt: ToolAttempt, request: ToolCallRequest) -> Any:
        async def handle() -> Any:
            return await self._handler(request)

        AROUND.set(attempt.around)  # in a copy of the context, which a task of the loop gets too
        if self._loop is None:
            return self._handler(request)
        return asyncio.run_coroutine_threadsafe(handle(), self._loop).result()


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
