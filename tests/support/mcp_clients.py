"""MCP clients of tests: the official client, over HTTP, as a user of a service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from remit.server import Access, Service
from remit.workspace import open_session
from support.served import Caller, answering
from support.tokens import AUDIENCE, ISSUER, Provider

ERAS: Final = ("legacy", "auto")  # of the protocol: with a handshake until 2025-11-25, and without one since
READ: Final[Any] = ("files_read", {"path": "runbooks/payments-pool.md", "lines": 1})
SECRET: Final[Any] = ("files_read", {"path": "secrets/payments.env"})
CLOSE: Final[Any] = ("tickets_close", {"key": "INC-2041", "reason": "fixed"})
HELLO: Final[Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
_SETTINGS: Final = """
[issuers.corp]
kind = "oidc"
issuer = "{issuer}"
audience = "{audience}"
"""


async def called(client: Client, name: str, arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The result of a call, as its text says it; the structured content says the same."""
    result = await client.call_tool(name, arguments, **options)
    body = json.loads(result.content[0].text)  # type: ignore[union-attr]  # a text
    assert (result.structured_content, result.is_error) == (body, not body["ok"])
    return dict(body)


@dataclass(frozen=True, kw_only=True)
class McpService:
    """A service with an identity provider, on a socket of this machine."""

    caller: Caller
    provider: Provider
    url: str

    def token(self, name: str, **claims: Any) -> str:
        text: str = self.provider.token(sub=name, **claims)
        return text

    @asynccontextmanager
    async def client(
        self, name: str = "operator", path: str = "/mcp/triage", era: str = "auto", **options: Any
    ) -> AsyncIterator[Client]:
        """The official client as that user."""
        headers = {"authorization": f"Bearer {self.token(name)}"}
        async with (
            create_mcp_http_client(headers=headers) as http,
            Client(streamable_http_client(f"{self.url}{path}", http_client=http), mode=era, **options) as client,
        ):
            yield client

    async def send(
        self,
        content: bytes | Any,
        *,
        name: str = "operator",
        path: str = "/mcp/triage",
        method: str = "POST",
        **headers: str,
    ) -> httpx.Response:
        """One request as it is."""
        given = {
            "authorization": f"Bearer {self.token(name)}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **{key.replace("_", "-"): value for key, value in headers.items()},
        }
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        async with httpx.AsyncClient(timeout=60) as client:
            return await client.request(method, f"{self.url}{path}", content=body, headers=given)


@asynccontextmanager
async def mcp_service(folder: Path, *, audience: str = AUDIENCE) -> AsyncIterator[McpService]:
    """A service of the starter workspace, whose people log in at an identity provider."""
    settings = folder / "remit.toml"
    if ISSUER not in settings.read_text():
        settings.write_text(settings.read_text() + _SETTINGS.format(issuer=ISSUER, audience=audience))
        (folder / "agent/triage/incident/stores/tickets/tickets.lock").unlink()
    session, provider = open_session(folder), Provider()
    service = Service([session], Access([session], secure=False, get=provider))
    async with answering(service) as caller:
        yield McpService(caller=caller, provider=provider, url=caller.url)
