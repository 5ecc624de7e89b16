"""The service: the workspaces of one process, one for each tenant, and what all of them share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from starlette.requests import Request

from remit.client import AsyncRemit
from remit.core import Json, Principal, UsageError
from remit.server.apart import Apart
from remit.server.authentication import Access, Authenticator
from remit.server.http.answers import HttpRefusal
from remit.server.mcp.clients import McpClients
from remit.server.workspaces import ServedWorkspace
from remit.workspace import ServeSettings, WorkspaceSession


class Service:
    """What every request uses. The settings of the first workspace say how the process listens, and its limits."""

    def __init__(self, sessions: Iterable[WorkspaceSession], authenticator: Authenticator) -> None:
        opened = [ServedWorkspace(session) for session in sessions]
        self.workspaces: Final[Mapping[str, ServedWorkspace]] = {item.settings.tenant: item for item in opened}
        if not opened or len(self.workspaces) != len(opened):
            raise UsageError("each workspace of a service is of another tenant: write `tenant` in each remit.toml")
        self.settings: Final[ServeSettings] = opened[0].settings.serve
        self.ending: Final = asyncio.Event()
        self.document: Json = {}  # OpenAPI, of the routes of the application
        self.address = ""  # by which browsers reach it, once it listens
        self.mcp: Final = McpClients()
        self.apart: Final = Apart()
        self._authenticator = authenticator
        # Who logs in with a browser; None: the service has no pages.
        self.access: Final = authenticator if isinstance(authenticator, Access) else None

    async def principal(self, request: Request) -> Principal:
        """Who sends the request. Raises NotAuthenticated."""
        return await self._authenticator.principal(request)

    def client(self, by: Principal) -> tuple[ServedWorkspace, AsyncRemit]:
        """The workspace of the principal's tenant, and a client that acts as them there."""
        workspace = self.workspaces.get(by.tenant)
        if workspace is None:
            raise HttpRefusal("forbidden", "the rules do not allow it")
        return workspace, workspace.client(by)

    def begin(self) -> None:
        """Begin what the service does beside requests."""
        for workspace in self.workspaces.values():
            workspace.begin()

    async def end(self) -> None:
        """Answer no new request, end the streams of events, let runs pause, and close the journals."""
        self.ending.set()
        await self.mcp.end()
        await self.apart.end()
        await asyncio.gather(*(workspace.end() for workspace in self.workspaces.values()))

    @property
    def longest_wait(self) -> float:
        """How many seconds an answer may wait: less than the longest time of a request, so that there is an answer."""
        return self.settings.timeout * 0.9
