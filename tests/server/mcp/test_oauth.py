"""An MCP client gets its own token by OAuth 2.1: the official client, against a real OpenID provider (RFC 9728, RFC 8707).

It begins with the address of an agent alone. Whom to ask, and for which resource, the service says.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest
import pytest_asyncio
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from remit.journal import list_runs
from remit.server import Access, Service
from remit.workspace import open_session
from support.mcp_clients import HELLO, READ, SECRET, called
from support.openid_provider import OpenIdProvider, openid_provider
from support.served import answering

RIGHTS: Final = "\ng, user:ann, role:operator\n"
SETTINGS: Final = """
[issuers.corp]
kind = "oidc"
issuer = "{issuer}"
audience = "{audience}"
"""


@dataclass(kw_only=True)
class Storage:
    """What a client keeps: that the provider knows it already, and its tokens."""

    redirect: str
    tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return OAuthClientInformationFull(
            client_id="api", redirect_uris=[self.redirect], token_endpoint_auth_method="none"
        )  # type: ignore[list-item]  # parsed

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        raise AssertionError("the provider knows this client")


@dataclass(kw_only=True)
class Site:
    """The service and the provider. `asked` are the addresses at which a client let its user log in."""

    url: str
    provider: OpenIdProvider
    service: Service
    asked: list[httpx.URL] = field(default_factory=list[httpx.URL])

    @asynccontextmanager
    async def client(self, person: str, storage: Storage) -> AsyncIterator[Client]:
        back: list[httpx.URL] = []

        async def opens(address: str) -> None:
            self.asked.append(httpx.URL(address))
            back.append(httpx.URL(await asyncio.to_thread(self.provider.log_in, address, person)))

        async def returns() -> AuthorizationCodeResult:
            given = back[-1].params
            return AuthorizationCodeResult(code=given["code"], state=given.get("state"), iss=given.get("iss"))

        known = OAuthClientMetadata(redirect_uris=[storage.redirect], token_endpoint_auth_method="none", scope="openid")  # type: ignore[list-item]  # parsed
        agent = f"{self.url}/mcp/triage"
        auth = OAuthClientProvider(agent, known, storage, opens, returns)
        async with (
            create_mcp_http_client(auth=auth) as http,
            Client(streamable_http_client(agent, http_client=http)) as client,
        ):
            yield client


@pytest_asyncio.fixture
async def site(session: Path) -> AsyncIterator[Site]:
    rights, settings = session / "policies" / "remit.csv", session / "remit.toml"
    rights.write_text(rights.read_text() + RIGHTS)
    bound = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    with openid_provider(f"{url}/callback") as provider:
        text = settings.read_text().replace("users = [", 'users = ["user:ann", ')
        settings.write_text(text + SETTINGS.format(issuer=provider.issuer, audience=url))
        opened = open_session(session)
        service = Service([opened], Access([opened], secure=False))
        async with answering(service, bound):
            yield Site(url=url, provider=provider, service=service)


async def test_a_client_that_knows_only_the_address_of_an_agent_gets_a_token_for_this_service(site: Site) -> None:
    storage = Storage(redirect=site.provider.redirect)
    async with site.client("ann", storage) as client:
        read, denied = await called(client, *READ), await called(client, *SECRET)
    assert (read["ok"], denied["error"]["code"]) == (True, "policy_denied")
    ((address),) = site.asked
    assert str(address).startswith(f"{site.provider.issuer}/auth?")
    asked = address.params
    assert (asked["resource"], asked["code_challenge_method"]) == (site.url, "S256")
    (run,) = list_runs(site.service.workspaces["default"].journal)
    assert (run.user, storage.tokens is not None) == ("user:ann", True)
    async with site.client("ann", storage) as client:
        assert (await called(client, *READ))["run"] == read["run"]
    assert len(site.asked) == 1, "the token is used again"


async def test_a_token_of_the_provider_for_another_resource_is_refused(site: Site) -> None:
    """By default the provider gives this client tokens for another service."""
    token = await asyncio.to_thread(site.provider.access_token, "ann")
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{site.url}/mcp/triage", json=HELLO, headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert list(list_runs(site.service.workspaces["default"].journal)) == []


async def test_a_person_whom_the_rules_give_nothing_gets_a_token_and_no_run(site: Site) -> None:
    with pytest.raises(Exception) as failed:  # noqa: PT011 - a group of the library
        async with site.client("eve", Storage(redirect=site.provider.redirect)) as client:
            await called(client, *READ)
    assert len(site.asked) == 1, failed.value
    assert list(list_runs(site.service.workspaces["default"].journal)) == []
