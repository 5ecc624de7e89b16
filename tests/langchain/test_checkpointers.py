"""A thread that a checkpointer of LangGraph keeps, in a file or in PostgreSQL: its process ends, and the next one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from support.langchain_agents import ASKED, LARGE, SMALL, THREAD, LangChainWorkspace, codes
from support.workspaces.langchain import says

SAVERS = {
    "a file": SqliteSaver,
    "a file, in a loop": AsyncSqliteSaver,
    "PostgreSQL": PostgresSaver,
    "PostgreSQL, in a loop": AsyncPostgresSaver,
}


@asynccontextmanager
async def opened(kind: Any, address: str) -> AsyncGenerator[Any]:
    """The checkpointer, as a new process opens it."""
    if kind in (SqliteSaver, PostgresSaver):
        with kind.from_conn_string(address) as saver:
            saver.setup()
            yield saver
    else:
        async with kind.from_conn_string(address) as saver:
            await saver.setup()
            yield saver


async def asked(agent: Any, value: Any, config: Any = THREAD) -> Any:
    """The answer of the agent; without a loop if its checkpointer has none."""
    if isinstance(agent.checkpointer, SqliteSaver | PostgresSaver):
        return await asyncio.to_thread(agent.invoke, value, config)
    return await agent.ainvoke(value, config)


async def before_the_tools(agent: Any) -> Any:
    if isinstance(agent.checkpointer, SqliteSaver | PostgresSaver):
        states = list(agent.get_state_history(THREAD))
    else:
        states = [state async for state in agent.aget_state_history(THREAD)]
    return next(state.config for state in states if state.next == ("tools",))


@pytest.mark.parametrize("name", SAVERS)
def test_a_thread_in_a_checkpointer_goes_on_in_the_next_process_and_repeats_no_effect(
    new_workspace: Callable[..., LangChainWorkspace], tmp_path: Path, request: pytest.FixtureRequest, name: str
) -> None:
    workspace, kind = new_workspace(), SAVERS[name]
    address = request.getfixturevalue("postgres") if "PostgreSQL" in name else str(tmp_path / "threads.db")
    turns = [says(LARGE), AIMessage("refunded"), says(SMALL), AIMessage("refunded again")]

    async def first() -> Any:
        async with opened(kind, address) as saver:
            return await asked(workspace.agent(*turns, checkpointer=saver), ASKED)

    async def later() -> tuple[Any, Any, Any]:
        async with opened(kind, address) as saver:
            agent = workspace.agent(*turns, checkpointer=saver)
            goes_on = await asked(agent, Command(resume="look again"))
            old = await before_the_tools(agent)
            next_message = await asked(agent, {"messages": [HumanMessage("Refund order 1 too")]})
            return goes_on, next_message, await asked(agent, None, old)

    assert asyncio.run(first())["__interrupt__"]
    workspace.made[0].close()
    workspace.grant()
    goes_on, next_message, gone_back = asyncio.run(later())
    assert codes(goes_on) == ["ok"]
    assert codes(next_message) == ["ok", "ok"]
    assert codes(gone_back)[0] == "ok"
    assert workspace.shop.RAN == [("refund", "2", 500), ("refund", "1", 20)]
