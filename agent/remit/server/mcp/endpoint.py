"""MCP over HTTP (streamable HTTP), by the library: sessions of the older protocol, single requests of the newer one."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Message, Receive, Scope, Send

from remit.server.mcp.changes import ToolChanges
from remit.server.mcp.protocol import Context, build_server
from remit.server.mcp.served import Served

SERVED: Final = "remit.mcp"  # in the scope of a request: what it is served
SESSIONS: Final = 1000  # of clients of the older protocol at one time
SESSION_S: Final = 1800.0  # how long one may be idle
_SESSION: Final = "mcp-session-id"


class McpEndpoint:
    """Speaks the protocol with all clients of a service."""

    def __init__(self) -> None:
        self._changes: Final = ToolChanges()
        self._manager: Final = StreamableHTTPSessionManager(
            build_server(_served_of, self._changes.bus, self._listed),
            session_idle_timeout=SESSION_S,
            max_sessions=SESSIONS,
        )
        self._ready, self._over = asyncio.Event(), asyncio.Event()
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._changes.watch())]

    async def handle(self, served: Served, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whose body has been read and checked."""
        await self._ready.wait()
        # INVARIANT: a session answers only the conversation for which it was begun.
        token = AccessToken(token="", client_id=served.conversation.id, scopes=[])
        handed = {**scope, "user": AuthenticatedUser(token), SERVED: served}
        await self._manager.handle_request(handed, _again(body, receive), send)

    async def end(self) -> None:
        """End every connection."""
        self._over.set()
        self._tasks[1].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        async with self._manager.run():
            self._ready.set()
            await self._over.wait()

    def _listed(self, ctx: Context) -> None:
        session = ctx.request.headers.get(_SESSION, "") if ctx.request is not None else ""
        self._changes.listed(_served_of(ctx).client, session, ctx.session)


def _served_of(ctx: Context) -> Served:
    found: Any = ctx.request
    served: Served = found.scope[SERVED]
    return served


def _again(body: bytes, receive: Receive) -> Receive:
    """Receive a body that was read already, and then what follows it."""
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return parts.pop() if parts else await receive()

    return received
