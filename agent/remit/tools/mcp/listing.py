"""Starts an MCP server confined, without files and without secrets, and lists its tools: what is pinned of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from remit.broker import McpListing, output_schema, with_server
from remit.core import Json, Problem, Refusal, WorkspaceError
from remit.core.parsing import check_schema, closed
from remit.sandbox import CallContext, Profile, Sandbox, Tier
from remit.sandbox.egress import Network, Permit
from remit.sandbox.packages import check_environment, make_environment
from remit.workspace import read_code
from remit.workspace.manifest import (
    ActionSchema,
    Manifest,
    ServerPin,
    code_digest,
    resource_arguments,
    resource_input,
    with_authorities,
)


async def listed_server(
    code: Path, manifest: Manifest, sandbox: Sandbox, values: Mapping[str, str] | None = None
) -> ServerPin:
    """What the server of the tool in that folder says of itself now. `values` are the secrets for one that runs elsewhere.

    Raises:
        WorkspaceError: it does not start, or does not speak MCP.
        RunEnded: `sandbox_unavailable`.
    """
    run = f"list-{secrets.token_hex(8)}"  # no run of an agent has its sandbox, or its session
    profile = (
        _elsewhere(code, manifest, run) if manifest.server_url else _here(code, manifest, run, sandbox.confinement)
    )
    listing = McpListing(tool=manifest.name)
    context = CallContext(permit=Permit(values=values or {}))
    try:
        async with sandbox.open(with_server(profile, manifest), {}, speaker=listing) as opened:
            if listing.session is None and (output := await opened.run(context)).code is not None:
                raise Refusal("tool_crashed", output.message)
    except Refusal as refusal:
        fix = "correct [server], or what it needs: it is started without files and without secrets"
        if manifest.server_url:
            fix = "correct the URL, the hosts and the secrets in tool.toml, or start the server"
        problem = Problem(file=f"tools/{manifest.name}/tool.toml", what=refusal.message, fix=fix)
        raise WorkspaceError([problem]) from refusal
    finally:
        sandbox.end_run(run)
    assert listing.session is not None  # else a refusal was raised
    tools = {name: dict(tool) for name, tool in listing.session.listing.items()}
    return ServerPin(protocol=listing.session.version, tools=tools)


def _here(code: Path, manifest: Manifest, run: str, tier: Tier) -> Profile:
    check_environment(code)
    return Profile(
        tool=manifest.name,
        action="",
        source="mcp",
        code=code,
        root=code,
        programs=manifest.programs,
        memory=manifest.limits.memory,
        tier=tier,
        life="run",
        run=run,
        proc=manifest.proc,
        environment=make_environment(code),
        network=Network() if manifest.hosts or manifest.url_hosts else None,
    )


def _elsewhere(code: Path, manifest: Manifest, run: str) -> Profile:
    network = manifest.network(next(iter(manifest.actions.values())), ())
    network = with_authorities(network, manifest.authorities, code, code_digest(read_code(code)))
    limits = manifest.limits
    return Profile(
        tool=manifest.name,
        action="",
        source="mcp",
        code=code,
        root=code,
        wall=limits.wall,
        output=limits.output,
        run=run,
        network=network,
    )


def server_schemas(manifest: Manifest, server: ServerPin) -> dict[str, ActionSchema]:
    """The schemas of the actions, from the list of the server; without those whose tool it does not list."""
    found: dict[str, ActionSchema] = {}
    for name, action in manifest.actions.items():
        if (arguments := resource_arguments(action.tool)) is not None:
            found[name] = ActionSchema(input=resource_input(arguments), output=output_schema({}))
        elif action.tool in server.tools:
            found[name] = action_schema(server.tools[action.tool])
    return found


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
