"""Starts an MCP server confined, without files and without secrets, and lists its tools: what is pinned of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from remit.broker import McpListing, output_schema, with_server
from remit.core import Json, Problem, Refusal, WorkspaceError
from remit.core.parsing import check_schema, closed
from remit.sandbox import Profile, Sandbox
from remit.sandbox.egress import Network
from remit.sandbox.packages import check_environment, make_environment
from remit.workspace.manifest import ActionSchema, Manifest, ServerPin


async def listed_server(code: Path, manifest: Manifest, sandbox: Sandbox) -> ServerPin:
    """What the server of the tool in that folder says of itself now.

    Raises:
        WorkspaceError: it does not start, or does not speak MCP.
        RunEnded: `sandbox_unavailable`.
    """
    check_environment(code)
    run = f"list-{secrets.token_hex(8)}"  # no run of an agent has its sandbox
    profile = Profile(
        tool=manifest.name,
        action="",
        source="mcp",
        code=code,
        root=code,
        programs=manifest.programs,
        memory=manifest.limits.memory,
        tier=sandbox.confinement,
        life="run",
        run=run,
        proc=manifest.proc,
        environment=make_environment(code),
        network=Network() if manifest.hosts or manifest.url_hosts else None,
    )
    listing = McpListing(tool=manifest.name)
    try:
        async with sandbox.open(with_server(profile, manifest), {}, speaker=listing) as opened:
            if listing.session is None:
                raise Refusal("tool_crashed", (await opened.run()).message)
    except Refusal as refusal:
        fix = "correct [server], or what it needs: it is started without files and without secrets"
        problem = Problem(file=f"tools/{manifest.name}/tool.toml", what=refusal.message, fix=fix)
        raise WorkspaceError([problem]) from refusal
    finally:
        sandbox.end_run(run)
    tools = {name: dict(tool) for name, tool in listing.session.listing.items()}
    return ServerPin(protocol=listing.session.version, tools=tools)


def server_schemas(manifest: Manifest, server: ServerPin) -> dict[str, ActionSchema]:
    """The schemas of the actions, from the list of the server; without those whose tool it does not list."""
    return {
        name: action_schema(server.tools[action.tool])
        for name, action in manifest.actions.items()
        if action.tool in server.tools
    }


def action_schema(tool: Mapping[str, Json]) -> ActionSchema:
    """The schemas of an action that calls the tool. A result whose schema Remit cannot check is any object."""
    output = output_schema(tool)
    if check_schema(output):
        output = output_schema({})
    description = tool.get("description", "")
    return ActionSchema(
        description=description if isinstance(description, str) else "",
        input=closed(cast("dict[str, Json]", tool["inputSchema"])),
        output=output,
    )
