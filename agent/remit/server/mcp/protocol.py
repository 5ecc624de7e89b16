"""The server of the MCP library, with the handlers of Remit: tools and tasks, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import ListenHandler, SubscriptionBus
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from remit import __version__
from remit.server.mcp.calls import call_tool, written_result
from remit.server.mcp.conversation import Conversation
from remit.server.mcp.served import Served
from remit.server.mcp.tools import OfferedTools
from remit.server.mcp.waiting.tasks import Task, add_tasks

LISTED_MS: Final = 1000  # how long a client may keep the list of tools
INSTRUCTIONS: Final = (
    "Remit decides each call of these tools by its rules, confines it and records it. A result has `ok`. If it is false, `error` "
    "says why and what to do next: do not work around a refusal. After `approval_required`, make the same call again once a person "
    "has approved it."
)
Context: TypeAlias = ServerRequestContext[Any, Any]


class _Tools(Server[Any]):
    """A server whose list of tools changes."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        changes = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(changes, experimental_capabilities, extensions)


def build_server(
    served_of: Callable[[Context], Served], bus: SubscriptionBus, listed: Callable[[Context], None] = lambda _: None
) -> Server[Any]:
    """A server whose requests are served what `served_of` says. `listed` is called for each request for the list of tools."""

    offered = WeakKeyDictionary[Conversation, OfferedTools]()

    async def list_tools(ctx: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        served = served_of(ctx)
        listed(ctx)
        tools = offered.setdefault(served.conversation, OfferedTools()).now(served.client, served.agent)
        return ListToolsResult(tools=tools, ttl_ms=LISTED_MS, cache_scope="private")

    async def call(ctx: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult | Task:
        return await call_tool(served_of(ctx), ctx, params)

    def bound_to(ctx: Context) -> str:
        by = served_of(ctx).client.principal
        return "\n".join((by.tenant, by.subject, by.issuer, by.account, served_of(ctx).conversation.id))

    server: Server[Any] = _Tools(
        "remit",
        version=__version__,
        title="Remit",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_subscriptions_listen=ListenHandler(bus),
    )
    server.add_request_handler("tools/call", CallToolRequestParams, call)  # a task is a result that only this takes
    add_tasks(server, served_of, written_result)
    security = RequestStateSecurity.ephemeral(ttl=3600.0)
    security.bind_principal = bound_to
    server.middleware[:] = [RequestStateBoundary(security, default_audience="remit")]
    return server
