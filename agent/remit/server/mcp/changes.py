"""Reports to clients that the list of tools may be another one: the rules, the pins or the agents have changed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Final

from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ToolsListChanged

from remit.client import AsyncRemit
from remit.core import RemitError

MOST: Final = 1000  # sessions of the older protocol
_LOOK_S: Final = 1.0


class ToolChanges:
    """Whom to report changes of tools to: clients of the newer protocol listen at `bus`, those of the older one have sessions."""

    def __init__(self) -> None:
        self.bus: Final = InMemorySubscriptionBus()
        self._sessions: OrderedDict[str, ServerSession] = OrderedDict()
        self._seen: dict[Path, tuple[AsyncRemit, object]] = {}

    def listed(self, client: AsyncRemit, name: str, session: ServerSession) -> None:
        """Note that a client has read the list; `name` is that of its session, "" without one."""
        self._seen.setdefault(client.root, (client, _state(client)))
        if name:
            self._sessions[name] = session
            self._sessions.move_to_end(name)
            if len(self._sessions) > MOST:
                self._sessions.popitem(last=False)

    async def watch(self) -> None:
        """Look for changes until it is cancelled."""
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
                await self.bus.publish(ToolsListChanged())
                for session in list(self._sessions.values()):
                    with suppress(Exception):  # a client that has gone
                        await session.send_tool_list_changed()


def _state(client: AsyncRemit) -> object:
    """What decides which tools are offered, as far as it can change."""
    workspace = client.session.workspace
    pins = {name: tool.pin.digest for name, tool in workspace.tools.items() if tool.pin is not None}
    actions = {name: agent.actions for name, agent in workspace.agents.items()}
    return client.policy.digest, pins, actions
