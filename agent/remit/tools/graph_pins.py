"""Pins of custom graphs: the digest of the file that a reviewer has read, beside the pins of tools."""

from __future__ import annotations

from typing import Final

from remit.core import UsageError
from remit.workspace import Workspace

_GRAPH: Final = "agent:"  # before the name of an agent whose graph is pinned


def is_graph(name: str) -> bool:
    """True for `agent:NAME`, which stands for the graph of that agent."""
    return name.startswith(_GRAPH)


def pinnable(workspace: Workspace) -> tuple[str, ...]:
    """Everything that can be pinned: each tool, and `agent:NAME` for each agent with a graph."""
    graphs = (f"{_GRAPH}{name}" for name, agent in workspace.agents.items() if agent.graph is not None)
    return (*workspace.tools, *graphs)


def pin_graph(workspace: Workspace, name: str, pins: dict[str, str]) -> str:
    """Put the present graph of an agent into the pins: "new", "changed" or "unchanged".

    Raises:
        UsageError: there is no such agent with a graph.
    """
    agent, code = name.removeprefix(_GRAPH), graph_code(workspace, name)
    before, pins[agent] = pins.get(agent), code
    return "new" if before is None else "unchanged" if before == code else "changed"


def graph_code(workspace: Workspace, name: str) -> str:
    """The digest of the present graph of `agent:NAME`. Raises UsageError if there is no such agent with a graph."""
    agent = name.removeprefix(_GRAPH)
    graph = workspace.agents[agent].graph if agent in workspace.agents else None
    if graph is None:
        known = ", ".join(pinnable(workspace))
        raise UsageError(f"no agent with a graph has the name {name!r}; what can be pinned: {known}")
    return graph.code
