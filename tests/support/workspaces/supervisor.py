"""The ledger workspace, whose clerk is a graph of its author: a supervisor with a state of its own and two sub-agents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from remit.sandbox import Sandbox
from remit.tools import pin_tools
from remit.workspace import load_workspace
from support.runs import turn

SHOP = '''
import operator
from typing import Annotated

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode


class State(MessagesState):
    asked: Annotated[list[str], operator.add]


def build(parts):
    accounts = create_agent(parts.model, parts.only("ledger.look"), system_prompt="You know the accounts.")
    payments = create_agent(parts.model, parts.only("ledger.pay", "ledger.wire"), system_prompt="You pay.")

    @tool
    async def ask_accounts(question: str) -> str:
        """Ask the agent that knows the accounts."""
        state = await accounts.ainvoke({"messages": [HumanMessage(question)]})
        return state["messages"][-1].text

    @tool
    def ask_payments(question: str) -> str:
        """Ask the agent that pays."""
        state = payments.invoke({"messages": [HumanMessage(question)]})
        return state["messages"][-1].text

    helpers = [ask_accounts, ask_payments]
    model = parts.model.bind_tools(helpers)

    async def supervise(state):
        return {"messages": [await model.ainvoke([SystemMessage(parts.prompt), *state["messages"]])]}

    def note(state):
        return {"asked": [call["name"] for call in state["messages"][-1].tool_calls]}

    def close(state):
        last = state["messages"][-1]
        return {"messages": [last.model_copy(update={"content": f"{last.text} (asked {', '.join(state['asked'])})"})]}

    graph = StateGraph(State)
    graph.add_node("supervise", supervise)
    graph.add_node("note", note)
    graph.add_node("helpers", ToolNode(helpers))
    graph.add_node("close", close)
    graph.add_edge(START, "supervise")
    graph.add_conditional_edges("supervise", lambda state: "note" if state["messages"][-1].tool_calls else "close")
    graph.add_edge("note", "helpers")
    graph.add_edge("helpers", "supervise")
    graph.add_edge("close", END)
    return graph.compile(checkpointer=parts.checkpointer)
'''
# The turns of all three models, in the order in which they are asked.
TURNS: list[dict[str, Any]] = [
    turn(ask_accounts={"question": "is ann a customer?"}),
    turn(ledger__look={"name": "ann"}),
    turn("ann is a customer"),
    turn(ask_payments={"question": "pay ann 5"}),
    turn(ledger__pay={"name": "ann", "amount": 5}),
    turn("ann has her 5"),
    turn("ann was paid 5"),
]
ANSWER = "ann was paid 5 (asked ask_accounts, ask_payments)"
CALLS = ("ask_accounts", "ask_payments")


def paying(amount: int) -> list[dict[str, Any]]:
    """The turns, with another amount for ann."""
    return [*TURNS[:4], turn(ledger__pay={"name": "ann", "amount": amount}), *TURNS[5:]]


def with_graph(folder: Path, source: str = SHOP, *, entry: str = "shop:build", calls: tuple[str, ...] = CALLS) -> Path:
    """Let a graph drive the clerk of a ledger workspace, and pin it."""
    file = folder / "agent" / "clerk" / "agent.toml"
    names = ", ".join(f'"{name}"' for name in calls)
    file.write_text(
        file.read_text().replace(
            'tools = ["ledger"]', f'tools = ["ledger"]\ngraph = "{entry}"\ngraph_calls = [{names}]'
        )
    )
    (folder / "shop.py").write_text(source)
    pin_graph(folder)
    return folder


def pin_graph(folder: Path) -> None:
    """Pin the graph of the clerk, as it is now."""
    asyncio.run(pin_tools(load_workspace(folder), ("agent:clerk",), Sandbox(accept=("full",))))
