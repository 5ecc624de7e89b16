"""MCP clients over HTTP, as routes of the service: `/mcp/AGENT` and `/mcp/AGENT/NAME`.

The address names the conversation: with NAME the host program separates the chats of one user. OAuth 2.1: the service is a resource
server (RFC 6750, RFC 9728), and its identity providers are the authorization servers.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from remit.core import Json
from remit.server.http.answers import HttpRefusal, json_response, not_found
from remit.server.http.bodies import check_declared, read_body
from remit.server.http.route import Asked
from remit.server.mcp.conversation import Conversation
from remit.server.mcp.messages import Refused, checked
from remit.workspace import OidcIssuer

if TYPE_CHECKING:  # the library is loaded at the first request of a client
    from remit.server.handlers.calls import ApprovalView
    from remit.server.mcp.endpoint import McpEndpoint
    from remit.server.mcp.served import Served
    from remit.server.service import Service

METADATA: Final = "/.well-known/oauth-protected-resource"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


async def serve(asked: Asked) -> Response:
    """Answer a request of a client, as the library does, once its body is checked."""
    agent, name = asked.path["agent"], asked.path.get("run", "")
    asked.authorize_agent(agent)
    if name and _NAME.fullmatch(name) is None:
        raise not_found("address")
    _check_origin(asked)
    body = b""
    if asked.request.method == "POST":
        check_declared(asked.request)
        async with asyncio.timeout(asked.service.settings.timeout):
            body = await read_body(asked.request, asked.service.settings.body)
        message = checked(body)
        if isinstance(message, Refused):
            return json_response(message.body, 400)
    clients = asked.service.mcp
    endpoint = clients.endpoint
    return _Handed(endpoint, _served(asked, clients.conversation(asked.workspace, asked.principal, agent, name)), body)


async def metadata(service: Service, request: Request) -> Response:
    """RFC 9728: which resource this is, and who gives tokens for it."""
    path = quote(request.url.path.removeprefix(METADATA))
    issuers = [] if service.access is None else [item.issuer for item in service.access.trusted]
    servers = [item for item in issuers if isinstance(item, OidcIssuer)]
    url = f"{base_url(service, request)}{path}"
    body: Json = {
        "resource": _resource(url, servers),
        "authorization_servers": list(dict.fromkeys(item.issuer for item in servers)),
        "bearer_methods_supported": ["header"],
        "resource_name": "Remit",
    }
    return json_response(body)


def challenge(service: Service, request: Request) -> str:
    """What the header `WWW-Authenticate` says to a client without a valid token (RFC 6750 section 3, RFC 9728 section 5.1)."""
    error = 'error="invalid_token", ' if "authorization" in request.headers else ""
    return f'Bearer {error}resource_metadata="{base_url(service, request)}{METADATA}{quote(request.url.path)}"'


def base_url(service: Service, request: Request) -> str:
    """The address of the service as this client calls it. The header Host names the service: that was checked before."""
    settings = service.settings
    scheme = "https" if settings.certificate or settings.behind_proxy else "http"
    return f"{scheme}://{request.headers.get('host', settings.host)}"


def _resource(url: str, servers: list[OidcIssuer]) -> str:
    """The audience (RFC 8707) that tokens for that address need: one that is a URL and contains it, or else the address itself."""
    for server in servers:
        audience = server.audience
        if audience.startswith(("https://", "http://")) and f"{url}/".startswith(f"{audience.rstrip('/')}/"):
            return audience
    return url


def _check_origin(asked: Asked) -> None:
    """Refuse what a page of another site sends. Programs send no Origin."""
    given = asked.request.headers.getlist("origin")
    own = base_url(asked.service, asked.request)
    if any(urlsplit(item).netloc != urlsplit(own).netloc for item in given):
        raise HttpRefusal("forbidden", "a page of another site sends this request")


def _served(asked: Asked, conversation: Conversation) -> Served:
    from remit.server.mcp.served import Served  # noqa: PLC0415 - see above

    own, has_pages = base_url(asked.service, asked.request), asked.service.access is not None

    def page(view: ApprovalView) -> str:
        return f"{own}/approvals/{view.id.replace('/', '.')}" if has_pages else ""

    return Served(client=asked.client, conversation=conversation, page=page, longest_wait=asked.service.longest_wait)


class _Handed(Response):
    """A response that the endpoint writes."""

    def __init__(self, endpoint: McpEndpoint, served: Served, body: bytes) -> None:
        super().__init__()
        self._endpoint, self._served, self._body = endpoint, served, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._endpoint.handle(self._served, self._body, scope, receive, send)
