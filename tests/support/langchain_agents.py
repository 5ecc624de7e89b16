"""LangChain agents in the LangChain workspace, under Remit or not, and what their runs recorded."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.config import get_config
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from remit.broker.approvals import requests as approval
from remit.core import Principal
from remit.core.events import ApprovalRequested
from remit.journal import StoredRecord, list_runs
from remit.langchain.middleware import RemitMiddleware
from remit.workspace.session import open_session
from support.principals import OPERATOR, principal
from support.runs import Command, CommandResult
from support.workspaces.langchain import Scripted, langchain_workspace
from support.workspaces.ledger import environment

ASKED = {"messages": [HumanMessage("Refund order 1")]}
LOOK = ("get_order", {"order": "1"})
SMALL = ("refund", {"order": "1", "amount": 20})
LARGE = ("refund", {"order": "2", "amount": 500})
MAIL = ("mail", {"to": "ann@shop.example"})
THREAD: Any = {"configurable": {"thread_id": "t1"}}


@dataclass
class LangChainWorkspace:
    """The LangChain workspace, the module with its tools, and agents that use them."""

    root: Path
    shop: Any
    command: Command
    made: list[RemitMiddleware] = field(default_factory=list)

    def remit(self, **options: Any) -> RemitMiddleware:
        self.made.append(RemitMiddleware("desk", workspace=self.root, **{"principal": _who_asks, **options}))
        return self.made[-1]

    def agent(
        self, *turns: AIMessage, remit: RemitMiddleware | None = None, before: Any = (), after: Any = (), **more: Any
    ) -> Any:
        """A LangChain agent, with Remit in its list of middleware."""
        middleware = [*before, remit or self.remit(), *after]
        return create_agent(Scripted(turns=list(turns)), self.shop.TOOLS, middleware=middleware, **more)

    def graph(self, *turns: AIMessage, remit: RemitMiddleware, **more: Any) -> Any:
        """A graph of LangGraph alone, with Remit around the calls of its `ToolNode`."""
        wrapped = {"wrap_tool_call": remit.wrap_tool_call, "awrap_tool_call": remit.awrap_tool_call}
        model, graph = Scripted(turns=list(turns)), StateGraph(MessagesState)
        graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
        graph.add_node("tools", ToolNode(self.shop.TOOLS, **wrapped))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", lambda state: "tools" if state["messages"][-1].tool_calls else END)
        graph.add_edge("tools", "model")
        return graph.compile(**more)

    def runs(self) -> list[str]:
        return [row.run for row in list_runs(open_session(self.root).journal)]

    def events(self, kind: type) -> list[Any]:
        journal = open_session(self.root).journal
        return [item.event for run in self.runs() for item in journal.events(run) if isinstance(item.event, kind)]

    def cli(self, *args: str) -> CommandResult:
        return self.command(self.root, *args, env=environment(self.root))

    def waiting(self) -> tuple[str, ApprovalRequested]:
        """The one call that waits for approval, read from the journal."""
        journal = open_session(self.root).journal
        ((run, requested),) = [
            (run, item) for run in self.runs() for item in approval.waiting_approvals(StoredRecord(journal, run))
        ]
        return run, requested

    def grant(self) -> None:
        """Approve the one call that waits, as another user."""
        run, requested = self.waiting()
        approval.grant_approval(
            StoredRecord(open_session(self.root).journal, run),
            requested,
            approval.Approval(by=principal("lea"), role="role:lead"),
            roles_of=open_session(self.root).policy.roles_of,
            now=time.time_ns(),
        )

    def reproduced(self) -> list[str]:
        """Verify and replay every run in processes that can import neither the graph nor its tools. Returns the outputs."""
        for remit in self.made:
            remit.close()
        outputs: list[str] = []
        for run in self.runs():
            for command in ("trace verify", "replay"):
                result = self.command(self.root, *command.split(), run)
                assert result.code == 0, result.out + result.err
                outputs.append(result.out)
        assert outputs
        return outputs


def results(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The results as the model reads them. Checks that content, status and artifact of each message agree."""
    found: list[dict[str, Any]] = []
    for message in state["messages"]:
        if isinstance(message, ToolMessage):
            result = json.loads(str(message.content))
            assert message.artifact == result
            assert message.status == ("success" if result["ok"] else "error")
            found.append(result)
    return found


def codes(state: dict[str, Any]) -> list[str]:
    return ["ok" if result["ok"] else result["error"]["code"] for result in results(state)]


@pytest.fixture
def new_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> Iterator[Callable[..., LangChainWorkspace]]:
    """Write the LangChain workspace, with other texts for some of its files."""
    written: list[LangChainWorkspace] = []

    def write(**replaced: str) -> LangChainWorkspace:
        folder = tmp_path / "desk"
        monkeypatch.syspath_prepend(str(folder / "hosted"))
        monkeypatch.delitem(sys.modules, "shop", raising=False)
        langchain_workspace(folder, **replaced)
        written.append(LangChainWorkspace(root=folder, shop=importlib.import_module("shop"), command=command))
        return written[-1]

    yield write
    for workspace in written:
        for remit in workspace.made:
            remit.close()


def interrupts(state: dict[str, Any]) -> Sequence[Any]:
    """What a graph that is interrupted asks."""
    assert "__interrupt__" in state
    return state["__interrupt__"]


def asked_by(who: object, thread: str = "t1") -> Any:
    return {"configurable": {"thread_id": thread, "asked_by": who}}


def _who_asks(runtime: Any) -> Principal:
    """The principal of `asked_by`, and else the one of the process."""
    return OPERATOR if runtime is None else get_config().get("configurable", {}).get("asked_by", OPERATOR)
