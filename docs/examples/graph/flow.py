"""The graph of an agent: its model looks at things until it has an answer, and the graph counts the turns."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (LangGraph leaves some of its own types open.)

from typing import Any

from langchain_core.messages import SystemMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from remit import GraphParts


class State(MessagesState):
    """The state of the graph: the messages, and what the author adds."""

    turns: int


def build(parts: GraphParts) -> Any:
    """Return the compiled graph. Remit calls this for each run."""
    model = parts.model.bind_tools(parts.tools)

    async def think(state: State) -> dict[str, Any]:
        turn = await model.ainvoke([SystemMessage(parts.prompt), *state["messages"]])
        return {"messages": [turn], "turns": state.get("turns", 0) + 1}

    graph = StateGraph(State)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(parts.tools))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "think")
    return graph.compile(checkpointer=parts.checkpointer)
