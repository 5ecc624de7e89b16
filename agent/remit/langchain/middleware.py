"""Puts the tool calls of a LangChain or LangGraph agent under the control of Remit's broker:

    create_agent(model, tools, middleware=[RemitMiddleware("desk")])                                LangChain
    ToolNode(tools, wrap_tool_call=remit.wrap_tool_call, awrap_tool_call=remit.awrap_tool_call)     LangGraph alone
    create_agent(model, RemitMiddleware("triage", task="…").actions)                                Remit's own tools

The graph and its model are not Remit's, but the same broker as in Remit's own runs decides, budgets, records and carries out
each call, and returns its one result to the graph. In the workspace, a tool of the graph is a tool with `source = "host"`: its
manifest names the list that contains it, its pin holds its schema, and nothing confines it.

A LangGraph thread is a conversation of one agent and person: each message of the person begins a run, with its own budget and
clock; labels, known names, effects and bounded approvals stay with the conversation. A graph of your own has `remit.before_agent` as its
first node for that; without it, the calls of a thread are one run until `finish`. Without a checkpointer, a run is one invocation of a
LangChain agent, or else the lifetime of the `RemitMiddleware` object. The turns of a run come one after the other, so agents that work in parallel
in one thread must be separate agents in the workspace too. The record contains the task, every turn that called tools, and its
results, so such a run can be replayed. It does not contain the prompt that the graph sent to its model.
"""

from __future__ import annotations

import asyncio
import secrets
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, Self

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.config import get_config
from langgraph.types import interrupt

from remit.broker import action_of
from remit.core import Json, ModelTurn, ProposedCall, ReceiptItem, called_action, tool_name
from remit.core.events import ApprovalRequested
from remit.langchain.background_loop import BackgroundLoop
from remit.langchain.external_run import ToolOf
from remit.langchain.graph_call import GraphCall, Invocation, Paused, Performed
from remit.langchain.graph_tools import ToolRequest
from remit.langchain.registry import RunRegistry
from remit.langchain.reviewed_tool import AsyncHandler, Handler
from remit.langchain.state import (
    PrincipalOf,
    answer_of,
    answers_before,
    can_pause,
    first_request,
    has_one_call,
    last_request,
    messages_of,
    nested,
    node_task,
    principal_of,
    proposed_call_of,
    read_state,
    same_call,
    thread_of,
    tool_message,
    turn_of,
    unreadable_call_of,
    writer_of,
)
from remit.langchain.turns import ReadTurns
from remit.runtime import OfferedAction, RunResult
from remit.workspace import Mode

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


class MiddlewareState(AgentState):
    """Remit's part of a LangChain agent's state: the id of an invocation that has no thread, and the receipt of the run."""

    remit_invocation: NotRequired[Annotated[str, PrivateStateAttr]]
    remit_receipt: NotRequired[list[dict[str, Json]]]


class RemitMiddleware(AgentMiddleware):
    """The broker for the tool calls of an external graph.

    As a middleware it also adds the agent's tools that are not the graph's own. Put it last in the list of middleware, because
    everything after it stands between the decision and the tool. A call that needs an approval interrupts the graph as LangChain's
    human-in-the-loop middleware does; a tool may interrupt it too, and return a `Command`.

    Args:
        agent: the name of an agent of the workspace.
        task: the user's request, which the run trusts. Default: the human message that began the run.
        user: the user that the agent acts for. None: who asks.
        principal: a function that says who asks, from the LangGraph runtime of the invocation. It must read only what the program has
            authenticated, never what a client sends. None: the user whom LangGraph Server has authenticated, or else the account
            of this process.
        workspace: a folder in the workspace. None: the current folder.
        wait: how many seconds a call waits for approval. Then its branch is interrupted or, without a checkpointer, the call
            is refused.
        mode: the mode that the program expects. With "observe", `agent.toml` must say so too: calls of the graph's own tools are
            decided and recorded, and each is answered as without Remit. None: as `agent.toml` says.

    Raises:
        UsageError: there is no such agent, it has an [answer], which an external graph cannot check, or it has another mode.
        WorkspaceError: a file of the workspace is not valid.
    """

    state_schema = MiddlewareState

    def __init__(
        self,
        agent: str,
        *,
        task: str = "",
        user: str | None = None,
        principal: PrincipalOf | None = None,
        workspace: Path | str | None = None,
        wait: float = 0.0,
        mode: Mode | None = None,
    ) -> None:
        super().__init__()
        self._task = task
        self._principal_of = principal
        self._loop = BackgroundLoop()
        folder = None if workspace is None else Path(workspace)
        self._runs = self._loop.call(RunRegistry.open(agent, user, folder, wait, mode))
        self._key = secrets.token_hex(8)  # of the run, if the graph has neither thread nor invocation
        self._end = weakref.finalize(self, _close, self._loop, self._runs)
        hosted = set(self._runs.hosted.values())
        self.tools = [tool for tool in self.actions if called_action(tool.name) not in hosted]

    def for_tools(self, tools: Sequence[Any]) -> Self:
        """This middleware, for a graph with these tools. Raises UsageError with all problems of the tools, if no call of one would run."""
        self._runs.check_tools(tools)
        return self

    @property
    def actions(self) -> list[BaseTool]:
        """Every action of the agent as a LangChain tool, also sandboxed ones. They work in any graph, without the middleware.

        Each call of such a tool is a turn of its own. The calls run one after the other.
        """
        return [OfferedAction.of(spec, self) for spec in self._runs.specs]

    # ── called by the graph ─────────────────────────────────────────────────────────────────────────────────────────────

    def wrap_tool_call(self, request: ToolCallRequest, handler: Handler) -> Any:
        """Decide one call, run it at most once, and return its result: as JSON content, and as the artifact.

        A call that is only observed returns what the tool itself does.
        """
        call, asked = self._graph_call(request), ToolRequest(request, handler, self._runs.hosted)
        done = self._perform(call, asked.tool, asked.interrupt)
        return answer_of(call, done) if asked.is_answered(done) else asked.get()

    async def awrap_tool_call(self, request: ToolCallRequest, handler: AsyncHandler) -> Any:
        """Like `wrap_tool_call`, for a graph in an event loop. The tool runs in that loop."""
        call = self._graph_call(request)
        asked = ToolRequest(request, handler, self._runs.hosted, asyncio.get_running_loop())
        done = await self._aperform(call, asked.tool, asked.interrupt)
        return answer_of(call, done) if asked.is_answered(done) else await asked.aget()

    def call(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> ToolMessage:
        """Carry out a call of one of `actions`, outside any middleware."""
        call = self._single_call(name, arguments, call_id, config)
        return tool_message(call, self._perform(call, _no_tool))

    async def acall(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> ToolMessage:
        """Like `call`, for a graph in an event loop."""
        call = self._single_call(name, arguments, call_id, config)
        return tool_message(call, await self._aperform(call, _no_tool))

    def _perform(self, call: GraphCall, tool_of: ToolOf, ask: Callable[[Any], Any] = interrupt) -> Performed:
        number = 0
        while isinstance(outcome := self._loop.call(self._runs.perform(call, tool_of, number)), Paused):
            if not outcome.may_pause(call):
                return self._loop.call(self._runs.refuse(call, outcome))
            value = ask(outcome.value)
            self._loop.call(self._runs.answer(call, outcome, value, number))
            number += 1
        return outcome

    async def _aperform(self, call: GraphCall, tool_of: ToolOf, ask: Callable[[Any], Any] = interrupt) -> Performed:
        number = 0
        while isinstance(outcome := await self._loop.acall(self._runs.perform(call, tool_of, number)), Paused):
            if not outcome.may_pause(call):
                return await self._loop.acall(self._runs.refuse(call, outcome))
            value = ask(outcome.value)
            await self._loop.acall(self._runs.answer(call, outcome, value, number))
            number += 1
        return outcome

    def before_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Begin the run of the person's message. Without a thread, the run of the invocation begins with its first call."""
        if thread_of(runtime) and (asked := self._asked(messages_of(state), state, runtime, get_config())).message:
            self._loop.call(self._runs.begin(asked))
        return None if thread_of(runtime) else {"remit_invocation": secrets.token_hex(8)}

    async def abefore_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        if thread_of(runtime) and (asked := self._asked(messages_of(state), state, runtime, get_config())).message:
            await self._loop.acall(self._runs.begin(asked))
        return None if thread_of(runtime) else {"remit_invocation": secrets.token_hex(8)}

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Refuse calls that LangChain cannot read, and let the model read why.

        LangChain drops a call whose arguments are no JSON object: without this, the agent ends with an empty answer.
        """
        turns = ReadTurns(request, handler(request))
        while calls := self._unreadable(turns):
            if not turns.refuse([(call, self._perform(call, _no_tool)) for call in calls]):
                break
            turns.add(handler(turns.next_request))
        return turns.response

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        turns = ReadTurns(request, await handler(request))
        while calls := self._unreadable(turns):
            if not turns.refuse([(call, await self._aperform(call, _no_tool)) for call in calls]):
                break
            turns.add(await handler(turns.next_request))
        return turns.response

    def after_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        """End the run of the invocation, and put its receipt into the state."""
        return self._loop.call(self._runs.answered(state, thread_of(runtime)))

    async def aafter_agent(self, state: Any, runtime: Any) -> dict[str, Any]:
        return await self._loop.acall(self._runs.answered(state, thread_of(runtime)))

    def _graph_call(self, request: Any) -> GraphCall:
        runtime = request.runtime
        messages = messages_of(request.state)
        call: Mapping[str, Any] = request.tool_call
        turn, index, position = self._turn(messages, call)
        return GraphCall(
            **vars(self._asked(messages[:position], request.state, runtime, runtime.config)),
            node_task=node_task(runtime.config),
            follows=lambda: self._turn_before(messages[:position]),
            write=writer_of(),
            alone=has_one_call(runtime.config) or len(turn.proposed_calls) == 1,
            turn=turn,
            index=index,
            name=call["name"],
            id=call["id"] or "",
            can_pause=can_pause(runtime.config),
        )

    def _asked(self, messages: Sequence[Any], state: Any, runtime: Any, config: RunnableConfig) -> Invocation:
        """Who asks what: in a thread the last message of the person, and else the first one."""
        thread, (text, message, position) = thread_of(runtime), last_request(messages)
        before = messages[:position]
        return Invocation(
            key=f"thread:{thread}" if thread else read_state(state, "remit_invocation") or nested(self._key) or "",
            thread=thread,
            principal=principal_of(config, self._principal_of, self._runs.tenant),
            task=self._task or (text if thread else first_request(messages)),
            message=message if thread else "",
            answer=answers_before(before),
            has_results=any(isinstance(item, ToolMessage) for item in before),
        )

    def _unreadable(self, turns: ReadTurns) -> Sequence[GraphCall]:
        """The calls of the last turn that LangChain cannot read."""
        if (message := turns.unreadable) is None:
            return ()
        messages, config = turns.messages, get_config()
        turn = self._turn_at(messages, max(at for at, item in enumerate(messages) if item is message))
        asked = vars(self._asked(messages, turns.state, turns.runtime, config))
        return [
            GraphCall(
                **asked,
                node_task=node_task(config),
                turn=turn,
                index=index,
                name=call["name"] or "",
                id=call["id"] or "",
                can_pause=can_pause(config),
            )
            for index, call in enumerate(message.invalid_tool_calls, start=len(message.tool_calls))
        ]

    def _single_call(self, name: str, arguments: Any, call_id: str | None, config: RunnableConfig) -> GraphCall:
        """A call that is a turn of its own. It gets the same id again only if LangGraph repeats the same task."""
        settings = config.get("configurable", {})
        task = settings.get("checkpoint_ns") if call_id else None
        thread = nested(settings.get("thread_id") if can_pause(config) else None)
        unique_id = f"{task or secrets.token_hex(8)}/{call_id}"
        proposed = (
            ProposedCall(name=name, arguments=arguments, id=unique_id)
            if isinstance(arguments, str)
            else proposed_call_of(name, arguments, unique_id)
        )
        return GraphCall(
            key=f"thread:{thread}" if thread else nested(self._key) or "",
            thread=thread,
            node_task=node_task(config),
            principal=principal_of(config, self._principal_of, self._runs.tenant),
            task=self._task,
            turn=ModelTurn(text="", proposed_calls=(proposed,), finish="tool_calls"),
            index=0,
            name=name,
            id=call_id or "",
            can_pause=can_pause(config),
            queued=True,
            write=writer_of(),
        )

    def _turn(self, messages: Sequence[Any], call: Mapping[str, Any]) -> tuple[ModelTurn, int, int]:
        """The turn of the model that contains the call, the index of the call in it, and that of the message.

        A call that no turn contains, because a middleware rewrote it, is a turn of its own after the last one.
        """
        last = ""
        for position in reversed(range(len(messages))):
            message = messages[position]
            if isinstance(message, AIMessage):
                message_id = message.id or f"@{position}"
                same = [same_call(item, call) for item in message.tool_calls]
                if any(same):
                    return self._turn_at(messages, position), same.index(True), position
                last = last or message_id
        rewritten = self._proposed(call, f"{last}/rewritten")
        return ModelTurn(text="", proposed_calls=(rewritten,), finish="tool_calls"), 0, len(messages)

    def _turn_at(self, messages: Sequence[Any], position: int) -> ModelTurn:
        """The turn of that message. The calls that LangChain cannot read are its last ones."""
        message = messages[position]
        message_id = message.id or f"@{position}"
        read = [self._proposed(item, message_id) for item in message.tool_calls]
        unread = [unreadable_call_of(item, self._name(item), message_id) for item in message.invalid_tool_calls]
        return turn_of(message, (*read, *unread), answers_before(messages[:position]))

    def _turn_before(self, messages: Sequence[Any]) -> ModelTurn | None:
        """The last turn with calls of these messages; None if a human message comes after it."""
        for position in reversed(range(len(messages))):
            if isinstance(messages[position], HumanMessage):
                return None
            if isinstance(messages[position], AIMessage) and messages[position].tool_calls:
                return self._turn_at(messages, position)
        return None

    def _proposed(self, call: Mapping[str, Any], message_id: str) -> ProposedCall:
        return proposed_call_of(self._name(call), call["args"], f"{message_id}/{call['id']}")

    def _name(self, call: Mapping[str, Any]) -> str:
        """The name of the action as the broker reads it, also of a call to a tool of the graph."""
        name = call["name"] or ""
        return tool_name(self._runs.hosted.get(action_of(name), name))

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
        """End the thread's open run, so that no more calls run in it. A run that waits for approval stays open.

        Returns its result, or that of the thread's last run if none is open; None if this object has had none.
        """
        return self._loop.call(self._runs.finish(self._key if thread is None else f"thread:{thread}", answer))

    def close(self) -> None:
        """Close all runs. Those without a thread end; the open run of a thread can be resumed by another process."""
        self._end()

    def __enter__(self) -> RemitMiddleware:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _no_tool(action: str) -> None:
    """No tool of the graph: the call is one of Remit's own actions."""


def _close(loop: BackgroundLoop, runs: RunRegistry) -> None:
    loop.close(runs.close())
