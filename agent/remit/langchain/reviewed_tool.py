"""Runs the graph's own tool for one attempt of a decided call, in the graph's thread or event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langgraph.errors import GraphInterrupt, ParentCommand

from remit.broker import Explained, Question, invoke_tool
from remit.core import Refusal
from remit.core.parsing import Arguments, CopyOnRead
from remit.langchain.commands import result_of
from remit.langchain.graph_call import AROUND, ToolAttempt, ToolReturned
from remit.langchain.injected import injected_names
from remit.langchain.pauses import question_of, with_answers

if TYPE_CHECKING:
    from langgraph.prebuilt.tool_node import ToolCallRequest

Handler: TypeAlias = "Callable[[ToolCallRequest], Any]"
AsyncHandler: TypeAlias = "Callable[[ToolCallRequest], Awaitable[Any]]"

MAX_DIFFERENCES: Final = 3  # named in a refusal
LATE_S: Final = 0.05  # a call in the graph's loop is cancelled this long after the broker's own time limit


class ReviewedTool:
    """A tool of the graph, for one attempt.

    The tool runs at most once, and gets the decided arguments. The arguments that arrive here are only compared with them, so
    that a change is refused. The result is what the tool itself returned, whatever the middleware around it returns.
    """

    def __init__(self, tool: BaseTool, attempt: ToolAttempt, call_id: str | None) -> None:
        self._tool = tool
        self._made = attempt
        self._decided = Arguments.of(attempt.arguments)
        self._call_id = call_id
        self._injected = injected_names(tool)
        self._ran = False
        self._refused: Refusal | None = None
        self._raised: Exception | None = None
        self._returned: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tool, name)

    def invoke(self, call: Any, config: Any = None, **options: Any) -> Any:
        with self._attempt(call) as decided:
            self._returned = invoke_tool(self._tool, decided, with_answers(config, self._made.answers), **options)
        return self._returned

    async def ainvoke(self, call: Any, config: Any = None, **options: Any) -> Any:
        with self._attempt(call) as decided:
            self._returned = await self._tool.ainvoke(decided, with_answers(config, self._made.answers), **options)
        return self._returned

    @contextmanager
    def _attempt(self, call: Any) -> Generator[Any]:
        decided = self._decided_call(call["args"])
        self._ran = True
        try:
            yield decided
        except Exception as failure:
            self._raised = failure
            raise

    def _decided_call(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The call that the tool gets: the decided arguments, and from `given` only what LangChain injects."""
        self._check(given)
        injected = {name: given[name] for name in self._injected if name in given}
        args = CopyOnRead(self._decided, injected)
        return {"type": "tool_call", "name": self._tool.name, "args": args, "id": self._call_id}

    def _check(self, given: Mapping[str, Any]) -> None:
        differences = self._decided.differences(given, ignored=self._injected)
        if self._ran or differences:
            change = "; ".join(differences[:MAX_DIFFERENCES]) or "it was made a second time"
            message = f"a middleware between the decision and the tool changed the call: {change}"
            self._refused = Refusal("invalid_output", message)
            raise self._refused

    def result(self, failure: Exception | None = None, answer: Any = None) -> ToolReturned:
        """What the tool returned. Raises what the tool raised, Question if it asks a person, or Refusal if it did not run.

        `failure` is the exception of the handler around the tool, and `answer` what it returned: of an exception of the tool, that may
        be words for the model. A command to the graph around this one is no failure.
        """
        if isinstance(self._raised, GraphInterrupt):
            raise Question(question_of(self._raised), self._made.via) from self._raised
        if isinstance(self._raised, ParentCommand):
            self._returned = self._raised
        elif self._raised is not None:
            if isinstance(answer, ToolMessage) and answer.status == "error":
                raise Explained(str(answer.text)) from self._raised
            raise self._raised
        if self._refused is not None and not self._ran:
            raise self._refused
        if not self._ran:
            message = (
                "a middleware between the decision and the tool changed the call, or answered in place of the tool"
            )
            raise Refusal("invalid_output", message) from failure
        return ToolReturned(value=result_of(self._returned, self._call_id), returned=self._returned)


def run_here(
    context: contextvars.Context, request: ToolCallRequest, handler: Handler, attempt: ToolAttempt
) -> ToolReturned:
    """Run the graph's tool in this thread. The broker stops waiting for it after its limit."""
    return context.copy().run(_run_handler, request, handler, attempt)


def _run_handler(request: ToolCallRequest, handler: Handler, attempt: ToolAttempt) -> ToolReturned:
    AROUND.set(attempt.around)
    tool, reviewed = _reviewed(request, attempt)
    try:
        answer = handler(reviewed)
    except Exception as failure:  # noqa: BLE001 - an error of the graph: only the result of the tool counts
        return tool.result(failure)
    return tool.result(answer=answer)


async def _arun_handler(request: ToolCallRequest, handler: AsyncHandler, attempt: ToolAttempt) -> ToolReturned:
    AROUND.set(attempt.around)  # in the context of this task only
    tool, reviewed = _reviewed(request, attempt)
    try:
        answer = await handler(reviewed)
    except Exception as failure:  # noqa: BLE001 - as above
        return tool.result(failure)
    return tool.result(answer=answer)


def _reviewed(request: ToolCallRequest, attempt: ToolAttempt) -> tuple[ReviewedTool, ToolCallRequest]:
    """The tool for one attempt, and the request for the graph's handler.

    INVARIANT: the handler gets the arguments, the tool gets a copy, so that the handler cannot change the tool's arguments.
    """
    assert request.tool is not None  # `_graph_tool` refuses a call without a tool
    tool = ReviewedTool(request.tool, attempt, request.tool_call["id"])
    call: Any = {**request.tool_call, "args": attempt.arguments}
    return tool, request.override(tool_call=call, tool=cast("BaseTool", tool))


def run_in_loop(
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    request: ToolCallRequest,
    handler: AsyncHandler,
    attempt: ToolAttempt,
) -> ToolReturned:
    """Run the graph's tool in the graph's own event loop, and cancel it there if it does not end in time."""
    work = _arun_handler(request, handler, attempt)
    future = context.copy().run(asyncio.run_coroutine_threadsafe, work, loop)
    try:
        return future.result(attempt.wall + LATE_S)
    finally:
        future.cancel()
