"""Any LangChain or LangGraph agent under Remit, by one line:

    create_agent(model, tools, middleware=[Remit("desk")])                                          LangChain
    ToolNode(tools, wrap_tool_call=remit.wrap_tool_call, awrap_tool_call=remit.awrap_tool_call)     LangGraph alone
    create_agent(model, Remit("triage", task="…").actions)                                          Remit's own tools

The graph and its model are not Remit's; everything that happens is: each call is decided, budgeted, recorded and carried
out by the same broker as in Remit's own runs, and the graph is told its one result. A tool of the graph is a tool with
`source = "host"` here: its manifest names the list that it lies in, its pin holds its schema, and nothing confines it.

One run is one LangGraph thread of one agent and user. Without a checkpointer it is one invocation of an agent of LangChain,
or else the life of the `Remit` object. Its turns come one after the other: agents that work at the same time in one thread are
agents of their own here too. The record holds the task, every turn that called tools, and all that followed, so
such a run is replayed like any other; the prompt that the graph really sent to its model is the graph's own and not in it.
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
from remit.core import Json, ModelTurn, ProposedCall, Refusal, Result
from remit.core.events import ApprovalRequested
from remit.core.parsing import Arguments, CopyOnRead, canonical_json
from remit.langchain.background_loop import Loop
from remit.langchain.bridge import Asked, Door, Function, Own
from remit.langchain.injected import injected_names
from remit.langchain.state import (
    last_words,
    messages_of,
    proposed_call_of,
    question_of,
    read_state,
    same_call,
    thread_of,
    tool_message,
    turn_of,
    words_before,
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
    except ImportError:  # LangGraph alone: what follows is no middleware then, and wraps the calls of a ToolNode
        AgentMiddleware, AgentState, PrivateStateAttr = object, dict, None

Handler: TypeAlias = "Callable[[ToolCallRequest], Any]"
AsyncHandler: TypeAlias = "Callable[[ToolCallRequest], Awaitable[Any]]"

CHECKPOINTER: Final = "__pregel_checkpointer"  # where LangGraph keeps it in a node's configuration
MOST_DIFFERENCES: Final = 3  # that a refusal names
LATE_S: Final = 0.05  # after the broker has given up waiting, what a graph's loop still does for a call is cancelled


class MiddlewareState(AgentState):
    """What an agent of LangChain keeps for us: the run of an invocation that has no thread."""

    remit_invocation: NotRequired[Annotated[str, PrivateStateAttr]]


class RemitMiddleware(AgentMiddleware):
    """The broker for the tool calls of a graph that is not Remit's. `agent` is an agent of the workspace.

    `task` is the words that the run may trust, by default the first human message of the state. `user` is for whom the agent
    acts (None: whoever runs this process), `workspace` a folder in it (None: the current one). `wait` is how many seconds a
    call waits for people before its branch is interrupted or, without a checkpointer, before it is refused.

    As a middleware it also brings the agent's tools that are not the graph's own, and it belongs last in the list: whatever
    comes after it stands between a decision and the tool. A tool that itself interrupts the graph has crashed, here: let a rule
    ask for an approval instead.

    Raises:
        UsageError: there is no such agent, or it has an [answer], which a foreign graph is not held to.
        WorkspaceError: a file of the workspace is wrong.
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
        self._loop = Loop()
        self._door = self._loop.call(Door.open(agent, user, None if workspace is None else Path(workspace), wait))
        self._key = secrets.token_hex(8)  # the run of this object, where a graph has neither thread nor invocation
        self._end = weakref.finalize(self, _close, self._loop, self._door)
        hosted = set(self._door.hosted.values())
        self.tools = [tool for tool in self.actions if cast("_Action", tool).action not in hosted]

    @property
    def actions(self) -> list[BaseTool]:
        """Every action of the agent as a tool of LangChain, sandboxed ones too: for any graph, without the middleware.

        A call of one is a turn of its own; they are carried out one after the other.
        """
        return [
            _Action(name=spec.name, description=spec.description, args_schema=spec.input, remit=self)
            for spec in self._door.specs
        ]

    # ── the graph's side ─────────────────────────────────────────────────────────────────────────────────────────────

    def wrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> ToolMessage:
        """Decide one call, carry it out at most once, and give its result: JSON as content, the same as artifact."""
        asked = self._asked(request)
        function = partial(_in_thread, contextvars.copy_context(), request, handler)
        return tool_message(asked, self._carried_out(asked, _own(request, function)))

    async def awrap_tool_call(self, request: ToolCallRequest, handler: AsyncHandler) -> ToolMessage:
        """The same in a graph that runs in an event loop: its tool runs in that loop."""
        asked = self._asked(request)
        function = partial(_in_loop, asyncio.get_running_loop(), contextvars.copy_context(), request, handler)
        return tool_message(asked, await self._acarried_out(asked, _own(request, function)))

    def call(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> ToolMessage:
        """A call of one of `actions`, which no middleware has seen."""
        asked = self._alone(name, arguments, call_id, config)
        return tool_message(asked, self._carried_out(asked, None))

    async def acall(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> ToolMessage:
        """The same in an event loop."""
        asked = self._alone(name, arguments, call_id, config)
        return tool_message(asked, await self._acarried_out(asked, None))

    def _carried_out(self, asked: Asked, own: Own | None) -> Result:
        while isinstance(came := self._loop.call(self._door.perform(asked, own)), ApprovalRequested):
            if not asked.pauses:
                return self._loop.call(self._door.refuse(asked, came))
            interrupt(question_of(came))  # only waits: what people say is in the journal
        return came

    async def _acarried_out(self, asked: Asked, own: Own | None) -> Result:
        while isinstance(came := await self._loop.acall(self._door.perform(asked, own)), ApprovalRequested):
            if not asked.pauses:
                return await self._loop.acall(self._door.refuse(asked, came))
            interrupt(question_of(came))
        return came

    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """An invocation without a thread is a run of its own."""
        return None if thread_of(runtime) else {"remit_invocation": secrets.token_hex(8)}

    def after_agent(self, state: Any, runtime: Any) -> None:
        """An invocation without a thread is over; a thread may go on."""
        if not thread_of(runtime) and (key := read_state(state, "remit_invocation")):
            self._loop.call(self._door.finish(key, last_words(messages_of(state))))

    async def aafter_agent(self, state: Any, runtime: Any) -> None:
        if not thread_of(runtime) and (key := read_state(state, "remit_invocation")):
            await self._loop.acall(self._door.finish(key, last_words(messages_of(state))))

    def _asked(self, request: Any) -> Asked:
        runtime = request.runtime
        messages = messages_of(request.state)
        thread = thread_of(runtime)
        call: Mapping[str, Any] = request.tool_call
        turn, index = self._turn(messages, call, {tool.name for tool in runtime.tools})
        said = next((str(message.text) for message in messages if isinstance(message, HumanMessage)), "")
        return Asked(
            key=f"thread:{thread}" if thread else read_state(request.state, "remit_invocation") or self._key,
            thread=thread,
            task=self._task or said,
            turn=turn,
            index=index,
            name=call["name"],
            id=call["id"] or "",
            pauses=_pauses(runtime.config),
        )

    def _alone(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> Asked:
        """A call that is a turn of its own: known again where LangGraph runs the same task again, and nowhere else."""
        set_up = config.get("configurable", {})
        task = set_up.get("checkpoint_ns") if call_id else None
        thread = set_up.get("thread_id") if _pauses(config) else None
        said = f"{task or secrets.token_hex(8)}/{call_id}"
        ask = (
            ProposedCall(name=name, arguments=arguments, id=said)
            if isinstance(arguments, str)
            else proposed_call_of(name, arguments, said)
        )
        return Asked(
            key=f"thread:{thread}" if thread else self._key,
            thread=thread,
            task=self._task,
            turn=ModelTurn(text="", proposed_calls=(ask,), finish="tool_calls"),
            index=0,
            name=name,
            id=call_id or "",
            pauses=_pauses(config),
            queued=True,
        )

    def _turn(self, messages: Sequence[Any], call: Mapping[str, Any], tools: set[str]) -> tuple[ModelTurn, int]:
        """The model's turn that the call stands in, and which of its calls it is; a call that stands in none, because
        something rewrote it, is a turn of its own after the last one."""
        last = ""
        for position in reversed(range(len(messages))):
            message = messages[position]
            if isinstance(message, AIMessage):
                said = message.id or f"@{position}"
                same = [same_call(one, call) for one in message.tool_calls]
                if any(same):
                    proposed_calls = tuple(self._ask(one, said, tools) for one in message.tool_calls)
                    return turn_of(message, proposed_calls, words_before(messages[:position])), same.index(True)
                last = last or said
        return ModelTurn(text="", proposed_calls=(self._ask(call, f"{last}/rewritten", tools),), finish="tool_calls"), 0

    def _ask(self, call: Mapping[str, Any], said: str, tools: set[str]) -> ProposedCall:
        action = self._door.hosted.get(action_of(call["name"])) if call["name"] in tools else None
        name = call["name"] if action is None else action.replace(".", "__", 1)
        return proposed_call_of(name, call["args"], f"{said}/{call['id']}")

    # ── the life of a run ────────────────────────────────────────────────────────────────────────────────────────────

    def run_of(self, thread: str | None = None) -> str | None:
        """The id of the thread's run, or of this object's own; None where nothing was asked yet."""
        return self._loop.call(self._door.run_of(self._key if thread is None else f"thread:{thread}"))

    def waiting(self, thread: str | None = None) -> list[ApprovalRequested]:
        """The approvals that the thread's run waits for."""
        return self._loop.call(self._door.waiting(self._key if thread is None else f"thread:{thread}"))

    def settle(self, thread: str | None = None, *, seconds: float) -> bool:
        """Wait until people have said something of what the thread's run waits for; False where nobody did in that time."""
        return self._loop.call(self._door.settle(self._key if thread is None else f"thread:{thread}", seconds))

    def finish(self, thread: str | None = None, *, answer: str = "") -> RunResult | None:
        """End the thread's run: nothing more is carried out in it. One that waits for people stays open.

        None where there is no such run here.
        """
        return self._loop.call(self._door.finish(self._key if thread is None else f"thread:{thread}", answer))

    def close(self) -> None:
        """Let go of every run: those without a thread are over, a thread's can be taken up by another process."""
        self._end()

    def __enter__(self) -> RemitMiddleware:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(loop: Loop, door: Door) -> None:
    loop.close(door.close())


class _Action(BaseTool):
    """One action of an agent of Remit, as a tool of LangChain."""

    remit: Any = Field(exclude=True, repr=False)  # never in a tracer's copy of the tool

    @property
    def action(self) -> str:
        return self.name.replace("__", ".", 1)

    def _to_args_and_kwargs(
        self, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        """Nothing is parsed, coerced or dropped before the broker has seen it."""
        return (), {"arguments": tool_input, "call_id": tool_call_id}

    def _run(self, arguments: Any, call_id: str | None, config: RunnableConfig) -> Any:
        message = self.remit.call(self.name, arguments, call_id, config)
        return message if call_id else message.content

    async def _arun(self, arguments: Any, call_id: str | None, config: RunnableConfig) -> Any:
        message = await self.remit.acall(self.name, arguments, call_id, config)
        return message if call_id else message.content


# ── between the two ──────────────────────────────────────────────────────────────────────────────────────────────────


class _Reviewed:
    """A tool of the graph for one attempt. It runs once, and it is given the decided arguments, not those that arrive here:
    these are only compared, so that a change is refused. What came of it is its own word, whatever else answers."""

    def __init__(self, tool: BaseTool, decided: Arguments, call_id: str | None) -> None:
        self._tool = tool
        self._decided = decided
        self._call_id = call_id
        self._injected = injected_names(tool)
        self._ran = False
        self._refused: Refusal | None = None
        self._raised: Exception | None = None
        self._came: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tool, name)

    def invoke(self, call: Any, config: Any = None, **options: Any) -> Any:
        with self._watched(call) as decided:
            self._came = self._tool.invoke(decided, config, **options)
        return self._came

    async def ainvoke(self, call: Any, config: Any = None, **options: Any) -> Any:
        with self._watched(call) as decided:
            self._came = await self._tool.ainvoke(decided, config, **options)
        return self._came

    @contextmanager
    def _watched(self, call: Any) -> Generator[Any]:
        decided = self._taken(call["args"])
        self._ran = True
        try:
            yield decided
        except Exception as failure:
            self._raised = failure
            raise

    def _taken(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The call that the tool gets: the decided arguments, and of `given` only what LangChain puts in."""
        self._check(given)
        injected = {name: given[name] for name in self._injected if name in given}
        args = CopyOnRead(self._decided, injected)
        return {"type": "tool_call", "name": self._tool.name, "args": args, "id": self._call_id}

    def _check(self, given: Mapping[str, Any]) -> None:
        differences = self._decided.differences(given, ignored=self._injected)
        if self._ran or differences:
            why = "; ".join(differences[:MOST_DIFFERENCES]) or "it was made again"
            self._refused = Refusal("invalid_output", f"something between decision and tool changed the call: {why}")
            raise self._refused

    def result(self, failure: Exception | None = None) -> Json:
        """What the tool gave, or raises what it raised; `failure` is how everything around it ended.

        Raises Refusal where it did not run.
        """
        if self._raised is not None:
            raise self._raised
        if self._refused is not None and not self._ran:
            raise self._refused
        if not self._ran:
            said = "something between decision and tool changed the call, or answered in the tool's place"
            raise Refusal("invalid_output", said) from failure
        return content_of(self._came)


def _in_thread(
    context: contextvars.Context, request: ToolCallRequest, handler: Handler, wall: float, **arguments: Json
) -> Json:
    """Let the graph run its tool, here and now; whoever waits for it gives up after `wall` seconds."""
    return context.copy().run(_through, request, handler, arguments)


def _through(request: ToolCallRequest, handler: Handler, arguments: dict[str, Json]) -> Json:
    tool, asked = _reviewed(request, arguments)
    try:
        handler(asked)
    except Exception as failure:  # noqa: BLE001 - the graph's own: what counts is what the tool said
        return tool.result(failure)
    return tool.result()


async def _athrough(request: ToolCallRequest, handler: AsyncHandler, arguments: dict[str, Json]) -> Json:
    tool, asked = _reviewed(request, arguments)
    try:
        await handler(asked)
    except Exception as failure:  # noqa: BLE001 - as above
        return tool.result(failure)
    return tool.result()


def _reviewed(request: ToolCallRequest, arguments: dict[str, Json]) -> tuple[_Reviewed, ToolCallRequest]:
    """INVARIANT: `arguments`, which the graph is handed, is neither what it is compared with nor what the tool gets."""
    assert request.tool is not None  # a call without a tool never gets here: `_own`
    tool = _Reviewed(request.tool, Arguments.of(arguments), request.tool_call["id"])
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
    """Let the graph run its tool in the graph's own loop; what has not ended in time is cancelled there."""
    work = _athrough(request, handler, arguments)
    future = context.copy().run(asyncio.run_coroutine_threadsafe, work, loop)
    try:
        return future.result(wall + LATE_S)
    finally:
        future.cancel()


def _own(request: ToolCallRequest, function: Function) -> Own | None:
    """What the graph itself would run for the call; None for an action of Remit, which lies in no graph."""
    if request.tool is None:
        return Own(schema="", function=function)
    if isinstance(request.tool, _Action):
        return None
    described = describe_tool(request.tool)
    seen = {"description": described["description"], "input": described["input"]}
    return Own(schema=canonical_json(seen).decode(), function=function)


def _pauses(config: RunnableConfig) -> bool:
    """Whether the graph can be interrupted and taken up again."""
    return config.get("configurable", {}).get(CHECKPOINTER) is not None
