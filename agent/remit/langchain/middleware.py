"""Puts the tool calls of a LangChain or LangGraph agent under the control of Remit's broker:

    create_agent(model, tools, middleware=[RemitMiddleware("desk")])                                LangChain
    ToolNode(tools, wrap_tool_call=remit.wrap_tool_call, awrap_tool_call=remit.awrap_tool_call)     LangGraph alone
    create_agent(model, RemitMiddleware("triage", task="…").actions)                                Remit's own tools

The graph and its model are not Remit's, but the same broker as in Remit's own runs decides, budgets, records and carries out
each call, and returns its one result to the graph. In the workspace, a tool of the graph is a tool with `source = "host"`: its
manifest names the list that contains it, its pin holds its schema, and nothing confines it.

One run is one LangGraph thread of one agent and user. Without a checkpointer, a run is one invocation of a LangChain agent, or
else the lifetime of the `RemitMiddleware` object. The turns of a run come one after the other, so agents that work in parallel
in one thread must be separate agents in the workspace too. The record contains the task, every turn that called tools, and its
results, so such a run can be replayed. It does not contain the prompt that the graph sent to its model.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import weakref
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NotRequired, TypeAlias, cast

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.types import interrupt
from pydantic import Field

from remit.broker import action_of, content_of, describe_tool
from remit.core import Json, ModelTurn, ProposedCall, ReceiptItem, Refusal, Result
from remit.core.events import ApprovalRequested
from remit.core.parsing import Arguments, CopyOnRead, canonical_json
from remit.langchain.background_loop import BackgroundLoop
from remit.langchain.bridge import RunRegistry
from remit.langchain.graph_call import Function, GraphCall, GraphTool
from remit.langchain.injected import injected_names
from remit.langchain.state import (
    answers_before,
    can_pause,
    interrupt_value,
    messages_of,
    principal_of,
    proposed_call_of,
    read_state,
    same_call,
    thread_of,
    tool_message,
    turn_of,
)
from remit.runtime import RunResult

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware, AgentState
    from langchain.agents.middleware.types import PrivateStateAttr
    from langgraph.prebuilt.tool_node import ToolCallRequest
else:
    try:
        from langchain.agents.middleware import AgentMiddleware, AgentState
        from langchain.agents.middleware.types import PrivateStateAttr
    except ImportError:  # LangGraph alone: the class is then no middleware, and wraps the calls of a ToolNode
        AgentMiddleware, AgentState, PrivateStateAttr = object, dict, None

Handler: TypeAlias = "Callable[[ToolCallRequest], Any]"
AsyncHandler: TypeAlias = "Callable[[ToolCallRequest], Awaitable[Any]]"

MAX_DIFFERENCES: Final = 3  # named in a refusal
LATE_S: Final = 0.05  # a call in the graph's loop is cancelled this long after the broker's own time limit


class MiddlewareState(AgentState):
    """Remit's part of a LangChain agent's state: the id of an invocation that has no thread, and the receipt of the run."""

    remit_invocation: NotRequired[Annotated[str, PrivateStateAttr]]
    remit_receipt: NotRequired[list[dict[str, Json]]]


class RemitMiddleware(AgentMiddleware):
    """The broker for the tool calls of an external graph.

    As a middleware it also adds the agent's tools that are not the graph's own. Put it last in the list of middleware, because
    everything after it stands between the decision and the tool. A tool that interrupts the graph counts as crashed: use a
    rule that asks for an approval instead.

    Args:
        agent: the name of an agent of the workspace.
        task: the user's request, which the run trusts. Default: the first human message of the state.
        user: the user that the agent acts for. None: who asks, which is the account of this process or, for one invocation,
            the `Principal` in `config["configurable"]["remit_principal"]`.
        workspace: a folder in the workspace. None: the current folder.
        wait: how many seconds a call waits for approval. Then its branch is interrupted or, without a checkpointer, the call
            is refused.

    Raises:
        UsageError: there is no such agent, or it has an [answer], which an external graph cannot check.
        WorkspaceError: a file of the workspace is not valid.
    """

    state_schema = MiddlewareState

    def __init__(
        self,
        agent: str,
        *,
        task: str = "",
        user: str | None = None,
        workspace: Path | str | None = None,
        wait: float = 0.0,
    ) -> None:
        super().__init__()
        self._task = task
        self._loop = BackgroundLoop()
        folder = None if workspace is None else Path(workspace)
        self._runs = self._loop.call(RunRegistry.open(agent, user, folder, wait))
        self._key = secrets.token_hex(8)  # of the run, if the graph has neither thread nor invocation
        self._end = weakref.finalize(self, _close, self._loop, self._runs)
        hosted = set(self._runs.hosted.values())
        self.tools = [tool for tool in self.actions if cast("_Action", tool).action not in hosted]

    @property
    def actions(self) -> list[BaseTool]:
        """Every action of the agent as a LangChain tool, also sandboxed ones. They work in any graph, without the middleware.

        Each call of such a tool is a turn of its own. The calls run one after the other.
        """
        return [
            _Action(name=spec.name, description=spec.description, args_schema=spec.input, remit=self)
            for spec in self._runs.specs
        ]

    # ── called by the graph ─────────────────────────────────────────────────────────────────────────────────────────────

    def wrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> ToolMessage:
        """Decide one call, run it at most once, and return its result: as JSON content, and as the artifact."""
        call = self._graph_call(request)
        function = partial(_run_here, contextvars.copy_context(), request, handler)
        return tool_message(call, self._perform(call, _graph_tool(request, function)))

    async def awrap_tool_call(self, request: ToolCallRequest, handler: AsyncHandler) -> ToolMessage:
        """Like `wrap_tool_call`, for a graph in an event loop. The tool runs in that loop."""
        call = self._graph_call(request)
        function = partial(_in_loop, asyncio.get_running_loop(), contextvars.copy_context(), request, handler)
        return tool_message(call, await self._aperform(call, _graph_tool(request, function)))

    def call(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> ToolMessage:
        """Carry out a call of one of `actions`, outside any middleware."""
        call = self._single_call(name, arguments, call_id, config)
        return tool_message(call, self._perform(call, None))

    async def acall(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> ToolMessage:
        """Like `call`, for a graph in an event loop."""
        call = self._single_call(name, arguments, call_id, config)
        return tool_message(call, await self._aperform(call, None))

    def _perform(self, call: GraphCall, tool: GraphTool | None) -> Result:
        while isinstance(outcome := self._loop.call(self._runs.perform(call, tool)), ApprovalRequested):
            if not call.can_pause:
                return self._loop.call(self._runs.refuse(call, outcome))
            interrupt(interrupt_value(outcome))  # only waits: the approvals are in the journal
        return outcome

    async def _aperform(self, call: GraphCall, tool: GraphTool | None) -> Result:
        while isinstance(outcome := await self._loop.acall(self._runs.perform(call, tool)), ApprovalRequested):
            if not call.can_pause:
                return await self._loop.acall(self._runs.refuse(call, outcome))
            interrupt(interrupt_value(outcome))
        return outcome

    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Start a run for an invocation without a thread."""
        return None if thread_of(runtime) else {"remit_invocation": secrets.token_hex(8)}

    def after_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """End the run of an invocation without a thread, and put its receipt into the state. The run of a thread stays open."""
        return self._loop.call(self._runs.answered(state, thread_of(runtime)))

    async def aafter_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        return await self._loop.acall(self._runs.answered(state, thread_of(runtime)))

    def _graph_call(self, request: Any) -> GraphCall:
        runtime = request.runtime
        messages = messages_of(request.state)
        thread = thread_of(runtime)
        call: Mapping[str, Any] = request.tool_call
        turn, index = self._turn(messages, call, {tool.name for tool in runtime.tools})
        first_message = next((str(message.text) for message in messages if isinstance(message, HumanMessage)), "")
        return GraphCall(
            key=f"thread:{thread}" if thread else read_state(request.state, "remit_invocation") or self._key,
            thread=thread,
            principal=principal_of(runtime.config),
            task=self._task or first_message,
            turn=turn,
            index=index,
            name=call["name"],
            id=call["id"] or "",
            can_pause=can_pause(runtime.config),
        )

    def _single_call(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> GraphCall:
        """A call that is a turn of its own. It gets the same id again only if LangGraph repeats the same task."""
        settings = config.get("configurable", {})
        task = settings.get("checkpoint_ns") if call_id else None
        thread = settings.get("thread_id") if can_pause(config) else None
        unique_id = f"{task or secrets.token_hex(8)}/{call_id}"
        proposed = (
            ProposedCall(name=name, arguments=arguments, id=unique_id)
            if isinstance(arguments, str)
            else proposed_call_of(name, arguments, unique_id)
        )
        return GraphCall(
            key=f"thread:{thread}" if thread else self._key,
            thread=thread,
            principal=principal_of(config),
            task=self._task,
            turn=ModelTurn(text="", proposed_calls=(proposed,), finish="tool_calls"),
            index=0,
            name=name,
            id=call_id or "",
            can_pause=can_pause(config),
            queued=True,
        )

    def _turn(self, messages: Sequence[Any], call: Mapping[str, Any], tools: set[str]) -> tuple[ModelTurn, int]:
        """The turn of the model that contains the call, and the index of the call in it.

        A call that no turn contains, because a middleware rewrote it, is a turn of its own after the last one.
        """
        last = ""
        for position in reversed(range(len(messages))):
            message = messages[position]
            if isinstance(message, AIMessage):
                message_id = message.id or f"@{position}"
                same = [same_call(item, call) for item in message.tool_calls]
                if any(same):
                    proposed_calls = tuple(self._proposed(item, message_id, tools) for item in message.tool_calls)
                    return turn_of(message, proposed_calls, answers_before(messages[:position])), same.index(True)
                last = last or message_id
        rewritten = self._proposed(call, f"{last}/rewritten", tools)
        return ModelTurn(text="", proposed_calls=(rewritten,), finish="tool_calls"), 0

    def _proposed(self, call: Mapping[str, Any], message_id: str, tools: set[str]) -> ProposedCall:
        action = self._runs.hosted.get(action_of(call["name"])) if call["name"] in tools else None
        name = call["name"] if action is None else action.replace(".", "__", 1)
        return proposed_call_of(name, call["args"], f"{message_id}/{call['id']}")

    # ── called by the program ────────────────────────────────────────────────────────────────────────────────────────────

    def run_of(self, thread: str | None = None) -> str | None:
        """The id of the run of the thread; without `thread`, of this object's run. None before the first call."""
        return self._loop.call(self._runs.run_of(self._key if thread is None else f"thread:{thread}"))

    def receipt(self, thread: str | None = None) -> tuple[ReceiptItem, ...]:
        """What the broker saw of each call of the thread's run so far, whatever the model says of it."""
        return self._loop.call(self._runs.receipt(self._key if thread is None else f"thread:{thread}"))

    def waiting(self, thread: str | None = None) -> list[ApprovalRequested]:
        """The open requests for approval of the thread's run."""
        return self._loop.call(self._runs.waiting(self._key if thread is None else f"thread:{thread}"))

    def wait_for_approvals(self, thread: str | None = None, *, seconds: float) -> bool:
        """Wait until an approver has answered a request of the thread's run. False if nobody did within `seconds`."""
        key = self._key if thread is None else f"thread:{thread}"
        return self._loop.call(self._runs.wait_for_approvals(key, seconds))

    def finish(self, thread: str | None = None, *, answer: str = "") -> RunResult | None:
        """End the thread's run, so that no more calls run in it. A run that waits for approval stays open.

        Returns None if this object has no such run.
        """
        return self._loop.call(self._runs.finish(self._key if thread is None else f"thread:{thread}", answer))

    def close(self) -> None:
        """Close all runs. Those without a thread end; the run of a thread can be resumed by another process."""
        self._end()

    def __enter__(self) -> RemitMiddleware:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(loop: BackgroundLoop, runs: RunRegistry) -> None:
    loop.close(runs.close())


class _Action(BaseTool):
    """One action of a Remit agent, as a LangChain tool."""

    remit: Any = Field(exclude=True, repr=False)  # excluded, so that a tracer does not serialize it

    @property
    def action(self) -> str:
        return self.name.replace("__", ".", 1)

    def _to_args_and_kwargs(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Pass the input on unchanged: LangChain would parse, coerce or drop arguments before the decision."""
        return (), {"arguments": tool_input, "call_id": tool_call_id}

    def _run(self, arguments: Any, call_id: str | None, config: RunnableConfig) -> Any:
        message = self.remit.call(self.name, arguments, call_id, config)
        return message if call_id else message.content

    async def _arun(self, arguments: Any, call_id: str | None, config: RunnableConfig) -> Any:
        message = await self.remit.acall(self.name, arguments, call_id, config)
        return message if call_id else message.content


class _ReviewedTool:
    """A tool of the graph, for one attempt.

    The tool runs at most once, and gets the decided arguments. The arguments that arrive here are only compared with them, so
    that a change is refused. The result is what the tool itself returned, whatever the middleware around it returns.
    """

    def __init__(self, tool: BaseTool, decided: Arguments, call_id: str | None) -> None:
        self._tool = tool
        self._decided = decided
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
            self._returned = self._tool.invoke(decided, config, **options)
        return self._returned

    async def ainvoke(self, call: Any, config: Any = None, **options: Any) -> Any:
        with self._attempt(call) as decided:
            self._returned = await self._tool.ainvoke(decided, config, **options)
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

    def result(self, failure: Exception | None = None) -> Json:
        """What the tool returned. Raises what the tool raised, or Refusal if it did not run.

        `failure` is the exception of the handler around the tool.
        """
        if self._raised is not None:
            raise self._raised
        if self._refused is not None and not self._ran:
            raise self._refused
        if not self._ran:
            message = (
                "a middleware between the decision and the tool changed the call, or answered in place of the tool"
            )
            raise Refusal("invalid_output", message) from failure
        return content_of(self._returned)


def _run_here(
    context: contextvars.Context, request: ToolCallRequest, handler: Handler, wall: float, **arguments: Json
) -> Json:
    """Run the graph's tool in this thread. The broker stops waiting for it after `wall` seconds."""
    return context.copy().run(_run_handler, request, handler, arguments)


def _run_handler(request: ToolCallRequest, handler: Handler, arguments: dict[str, Json]) -> Json:
    tool, reviewed = _reviewed(request, arguments)
    try:
        handler(reviewed)
    except Exception as failure:  # noqa: BLE001 - an error of the graph: only the result of the tool counts
        return tool.result(failure)
    return tool.result()


async def _arun_handler(request: ToolCallRequest, handler: AsyncHandler, arguments: dict[str, Json]) -> Json:
    tool, reviewed = _reviewed(request, arguments)
    try:
        await handler(reviewed)
    except Exception as failure:  # noqa: BLE001 - as above
        return tool.result(failure)
    return tool.result()


def _reviewed(request: ToolCallRequest, arguments: dict[str, Json]) -> tuple[_ReviewedTool, ToolCallRequest]:
    """The tool for one attempt, and the request for the graph's handler.

    INVARIANT: the handler gets `arguments`, the tool gets a copy, so that the handler cannot change the tool's arguments.
    """
    assert request.tool is not None  # `_graph_tool` refuses a call without a tool
    tool = _ReviewedTool(request.tool, Arguments.of(arguments), request.tool_call["id"])
    call: Any = {**request.tool_call, "args": arguments}
    return tool, request.override(tool_call=call, tool=cast("BaseTool", tool))


def _in_loop(
    loop: asyncio.AbstractEventLoop,
    context: contextvars.Context,
    request: ToolCallRequest,
    handler: AsyncHandler,
    wall: float,
    **arguments: Json,
) -> Json:
    """Run the graph's tool in the graph's own event loop, and cancel it there if it does not end in time."""
    work = _arun_handler(request, handler, arguments)
    future = context.copy().run(asyncio.run_coroutine_threadsafe, work, loop)
    try:
        return future.result(wall + LATE_S)
    finally:
        future.cancel()


def _graph_tool(request: ToolCallRequest, function: Function) -> GraphTool | None:
    """The graph's own tool for the call; None for an action of Remit. An unknown tool gets a schema that no pin has."""
    if request.tool is None:
        return GraphTool(schema="", function=function)
    if isinstance(request.tool, _Action):
        return None
    described = describe_tool(request.tool)
    schema = {"description": described["description"], "input": described["input"]}
    return GraphTool(schema=canonical_json(schema).decode(), function=function, tool=request.tool)
