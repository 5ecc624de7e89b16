"""The MCP clients of a service: a conversation for each address and principal, and the endpoint that they share."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Final

from remit.core import Principal
from remit.server.http.answers import HttpRefusal
from remit.server.mcp.conversation import Conversation, conversation_id

if TYPE_CHECKING:  # the library is loaded at the first request of a client
    from remit.server.mcp.endpoint import McpEndpoint
    from remit.server.workspaces import ServedWorkspace

MOST: Final = 10_000  # conversations that are kept; one that is not is read from the journal again


class McpClients:
    """The conversations of a service with MCP clients."""

    def __init__(self) -> None:
        self._conversations: dict[str, Conversation] = {}
        self._endpoint: McpEndpoint | None = None

    @property
    def endpoint(self) -> McpEndpoint:
        """What speaks the protocol. Raises HttpRefusal `unavailable` without the library."""
        if self._endpoint is None:
            if importlib.util.find_spec("mcp") is None:
                fix = "install it where the service runs: pip install 'remit[mcp]'"
                raise HttpRefusal("unavailable", "the service has no library for MCP", next_step=fix)
            from remit.server.mcp.endpoint import McpEndpoint  # noqa: PLC0415 - see above

            self._endpoint = McpEndpoint()
        return self._endpoint

    def conversation(self, workspace: ServedWorkspace, by: Principal, agent: str, name: str) -> Conversation:
        """The conversation of that principal with that agent; `name` is the part of the address that names it, "" without one.

        INVARIANT: nothing that a model writes chooses the conversation, so that none can leave what it has read behind.
        """
        id = conversation_id(by.tenant, by.subject, by.issuer, by.account, agent, name)
        if id not in self._conversations:
            self._forget()
            self._conversations[id] = Conversation(agent, id, workspace.driven, named=bool(name))
        return self._conversations[id]

    async def end(self) -> None:
        """End the connections and the open runs; those that wait for people stay open for the next process."""
        if self._endpoint is not None:
            await self._endpoint.end()
        await asyncio.gather(*(item.end(leave=True) for item in self._conversations.values()))

    def _forget(self) -> None:
        if len(self._conversations) >= MOST:
            closed = sorted((item.used, id) for id, item in self._conversations.items() if not item.is_open)
            for _, id in closed[: MOST // 10]:
                del self._conversations[id]
            if not closed:
                raise HttpRefusal("too_many", "the service has as many conversations as it may", retry_after_s=60.0)
