"""The loop of a run as a LangGraph graph: think → decide → act × n → think.

The graph's state holds numbers only. Each node reads everything else from the record of the run, and a node that runs a second
time finds the results of the first time. So a process that resumes a run needs no checkpoint: LangGraph's checkpoints are
in memory and end with the run.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Final, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, Send, interrupt

from remit.runtime.graph import AgentGraph, GraphState, Paused, WaitForChange

NODES_PER_STEP: Final = 3  # think, decide, act: LangGraph counts each against its recursion limit
OBSERVED_STEPS: Final = 1_000_000  # the most steps of a run that no budget ends


async def drive_loop(agent_graph: AgentGraph, wait_for_change: WaitForChange) -> bool:
    """Continue the run to its end. False if it waits and `wait_for_change` gave up.

    The graph always starts at its first node. That is safe, because every node first looks in the record for what it did
    before.
    """
    graph, thread = _compiled(), secrets.token_hex(16)  # not the run: it and its replay may be driven at once
    started = agent_graph.record.state.started
    observed = started is not None and started.observe is not None  # no budget has ended it
    steps = OBSERVED_STEPS if observed else agent_graph.broker.agent.budget.steps
    config: RunnableConfig = {
        "configurable": {"thread_id": thread},
        "recursion_limit": NODES_PER_STEP * (steps + 2),
    }
    given: GraphState | Command[Any] = {"step": -1}
    try:
        while True:
            await graph.ainvoke(given, config, context=agent_graph, durability="exit")
            if agent_graph.record.state.finished:
                return True
            pending = (await graph.aget_state(config)).interrupts
            if not pending or not await wait_for_change():
                return False
            given = Command(resume={waiting.id: True for waiting in pending})
    finally:
        graph.checkpointer.delete_thread(thread)


@cache
def _compiled() -> Any:
    """The graph of all runs, whose nodes get their run as the context: to compile it takes longer than a turn.

    Its checkpoints serve interrupts only.
    """
    graph: Any = StateGraph(GraphState)  # its overloads are only partly typed
    graph.add_node("think", _of_run(AgentGraph.think))
    graph.add_node("decide", _of_run(AgentGraph.decide))
    graph.add_node("act", _of_run(AgentGraph.act))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", _after_think, ["decide", END])
    graph.add_conditional_edges("decide", _after_decide, ["act", "think"])
    graph.add_edge("act", "think")
    return graph.compile(checkpointer=InMemorySaver())


def _of_run(method: Callable[[AgentGraph, GraphState], Awaitable[GraphState]]) -> Callable[..., Awaitable[GraphState]]:
    """A node that calls the method of its run. Where the run waits, only this branch of the graph does."""

    async def node(state: GraphState, runtime: Runtime[AgentGraph]) -> GraphState:
        while True:
            try:
                return await method(runtime.context, state)
            except Paused as paused:
                interrupt(paused.why)

    return node


async def _after_think(_: GraphState, runtime: Runtime[AgentGraph]) -> Literal["decide", "__end__"]:
    return "__end__" if runtime.context.record.state.finished else "decide"


async def _after_decide(state: GraphState, runtime: Runtime[AgentGraph]) -> list[Send] | Literal["think"]:
    step = state.get("step", 0)
    return [Send("act", {"step": step, "index": index}) for index in runtime.context.performed(step)] or "think"
