"""A real MCP server over HTTP, of the library `mcp`, for the tests of servers that run elsewhere."""

from dataclasses import dataclass
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings


def library_server(*, older: bool = False, **options: Any) -> Any:
    """A server of the library `mcp`, as an ASGI application; `older` keeps it from the version of 2026-07-28."""
    server = MCPServer("kit", log_level="CRITICAL")

    @server.tool()
    def echo(text: str) -> str:
        return text

    @server.tool()
    async def slow(ctx: Context[Any, Any]) -> str:
        await ctx.report_progress(1, 2, "part one")
        await ctx.report_progress(2, 2, "part two")
        return "done"

    anyone = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(transport_security=anyone, **options)
    return _OlderOnly(app) if older else app


@dataclass
class _OlderOnly:
    """The application, without the requests that only a newer server understands."""

    app: Any

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if (b"mcp-protocol-version", b"2026-07-28") in scope.get("headers", ()):
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"unknown version"})
            return
        await self.app(scope, receive, send)
