"""`remit serve mcp`: the tools of one agent for one MCP client, over standard input and output."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from pathlib import Path

import click


@click.command("mcp", short_help="the tools of an agent for one MCP client, over standard input and output")
@click.argument("agent")
@click.option(
    "--workspace",
    type=click.Path(path_type=Path),
    help="The folder of the workspace: a client starts this command in a folder of its own.",
)
@click.option("--json", "as_json", is_flag=True, help="Print an error before the first message as JSON.")
def mcp_command(agent: str, workspace: Path | None, as_json: bool) -> None:
    """Serve the tools of AGENT to the MCP client that starts this command, until it closes standard input.

    Each call is decided, confined and recorded. Your account is who asks, and the connection is one conversation. Over HTTP, `remit serve`
    has the same at /mcp/AGENT.

    \b
    Examples:
      remit serve mcp triage
      remit serve mcp triage --workspace /srv/agents
    """
    from remit.core import UsageError
    from remit.workspace import open_session

    if importlib.util.find_spec("mcp") is None:
        raise UsageError("`remit serve mcp` needs the MCP library: pip install 'remit[mcp]'")
    from remit.client import AsyncRemit
    from remit.server.mcp import serve_stdio

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve_stdio(AsyncRemit(open_session(workspace)), agent))
