"""MCP over HTTP (streamable HTTP), by the library: sessions of the older protocol, single requests of the newer one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.session import ServerSession
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus, ToolsListChanged
from starlette.types import Message, Receive, Scope, Send

from remit.client import AsyncRemit
from remit.core import RemitError
from remit.server.mcp.calls import Served
from remit.server.mcp.protocol import Context, build_server

SERVED: Final = "remit.mcp"  # in the scope of a request: what it is served
SESSIONS: Final = 1000  # of clients of the older protocol at one time
SESSION_S: Final = 1800.0  # how long one may be idle
_LOOK_S: Final = 1.0  # how often it is looked whether the tools have changed
_SESSION: Final = "mcp-session-id"


class McpEndpoint:
    """Speaks the protocol with all clients of a service."""

    def __init__(self) -> None:
        self._bus: Final = InMemorySubscriptionBus()
        self._sessions: OrderedDict[str, ServerSession] = OrderedDict()
        self._seen: dict[Path, tuple[AsyncRemit, object]] = {}
        self._manager: Final = StreamableHTTPSessionManager(
            build_server(_served_of, self._bus, self._listed),
            session_idle_timeout=SESSION_S,
            max_sessions=SESSIONS,
        )
        self._ready, self._over = asyncio.Event(), asyncio.Event()
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._watch())]

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
        """Note whom to tell when the tools change."""
        client = _served_of(ctx).client
        self._seen.setdefault(client.root, (client, _state(client)))
        session = ctx.request.headers.get(_SESSION, "") if ctx.request is not None else ""
        if session:
            self._sessions[session] = ctx.session
            if len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)

    async def _watch(self) -> None:
        """Tell clients when the rules or the definitions change: their list may be another one."""
        while True:
            await asyncio.sleep(_LOOK_S)
            changed = False
            for root, (client, before) in self._seen.items():
                with suppress(
                    RemitError
                ):  # rules that are not valid are reported elsewhere; those before stay in force
                    if (now := _state(client)) != before:
                        self._seen[root], changed = (client, now), True
            if changed:
                await self._bus.publish(ToolsListChanged())
                for session in list(self._sessions.values()):
                    with suppress(Exception):  # a client that has gone
                        await session.send_tool_list_changed()


def _state(client: AsyncRemit) -> object:
    """What decides which tools are offered, as far as it can change."""
    workspace = client.session.workspace
    pins = {name: tool.pin.digest for name, tool in workspace.tools.items() if tool.pin is not None}
    actions = {name: agent.actions for name, agent in workspace.agents.items()}
    return client.policy.digest, pins, actions


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
