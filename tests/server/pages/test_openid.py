"""Two people with accounts at a real OpenID provider approve each other's calls, by HTTP and by page."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest_asyncio

from remit.core import Failed
from remit.core.events import ApprovalGranted, CallAnswered, RunStarted
from remit.server import ROUTES, Service, build_app
from remit.server.authentication import Access
from remit.workspace import WorkspaceSession, open_session
from support.openid_provider import OpenIdProvider, let_in, openid_provider

CLOSE: Final[Any] = {"agent": "triage", "action": "tickets.close", "arguments": {"key": "INC-2041", "reason": "fixed"}}


@dataclass(frozen=True, kw_only=True)
class Site:
    """The service with its identity provider, and a browser for each person."""

    provider: OpenIdProvider
    access: Access
    session: WorkspaceSession
    app: Any
    base: str

    def browser(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=self.base)

    @asynccontextmanager
    async def logged_in(self, person: str) -> AsyncIterator[httpx.AsyncClient]:
        """A browser in which that person has logged in."""
        async with self.browser() as browser:
            begun = await browser.get("/login/start/default/corp")
            back = self.provider.log_in(begun.headers["location"], person)
            entered = await browser.get(httpx.URL(back).raw_path.decode())
            assert (entered.status_code, entered.headers.get("location")) == (303, "/approvals"), entered.text
            yield browser

    async def calls(self, person: str) -> str:
        """A call that needs approval, by the API with a token of the provider. Returns its run."""
        token = self.provider.access_token(person)
        async with self.browser() as browser:
            answer = await browser.post("/v1/calls", json=CLOSE, headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 202, answer.text
        run: str = answer.json()["run"]
        return run

    def started_by(self, run: str) -> tuple[str, str]:
        (started,) = [item.event for item in self.session.journal.events(run) if isinstance(item.event, RunStarted)]
        return started.by.subject, started.by.issuer

    def grants(self, run: str) -> list[ApprovalGranted]:
        return [item.event for item in self.session.journal.events(run) if isinstance(item.event, ApprovalGranted)]


@pytest_asyncio.fixture
async def site(session: Path) -> AsyncIterator[Site]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        base = f"http://127.0.0.1:{held.getsockname()[1]}"
        redirect = f"{base}/login/callback"
        with openid_provider(redirect) as provider:
            let_in(session, provider)
            opened = open_session(session)
            access = Access([opened], secure=False)
            service = Service([opened], access)
            app = build_app(service, ROUTES)
            yield Site(provider=provider, access=access, session=opened, app=app, base=base)
            await service.end()


async def approve(site: Site, browser: httpx.AsyncClient, run: str) -> httpx.Response:
    """Press the button on the page of the request."""
    page = (await browser.get(f"/approvals/{run}.0.0")).text
    names = ("form_token", "digest", "role")
    fields = {name: page.rpartition(f'name="{name}" value="')[2].partition('"')[0] for name in names}
    return await browser.post(f"/approvals/{run}.0.0/grant", data=fields, headers={"origin": site.base})


async def grant(site: Site, person: str, run: str) -> httpx.Response:
    """Approve by HTTP, with a token of the provider."""
    token = site.provider.access_token(person)
    async with site.browser() as client:
        path, headers = f"/v1/approvals/{run}/0.0/grant", {"authorization": f"Bearer {token}"}
        return await client.post(path, json={}, headers=headers)


async def test_two_people_with_accounts_at_a_provider_approve_each_others_calls_on_the_page(site: Site) -> None:
    for asking, answering in (("ann", "dana"), ("dana", "ann")):
        run = await site.calls(asking)
        assert site.started_by(run) == (f"user:{asking}", site.provider.issuer)
        async with site.logged_in(asking) as own, site.logged_in(answering) as other:
            assert "another person must answer" in (await own.get(f"/approvals/{run}.0.0")).text
            done = await approve(site, other, run)
            assert done.status_code == 200, done.text
            (granted,) = site.grants(run)
            by = granted.by
            assert (by.subject, by.authenticated, granted.role) == (f"user:{answering}", "oidc", "role:oncall-lead")
            assert "Approve as" not in (await own.get(f"/approvals/{run}.0.0")).text


async def test_two_people_with_accounts_at_a_provider_approve_each_others_calls_by_http(site: Site) -> None:
    for asking, answering in (("ann", "dana"), ("dana", "ann")):
        run = await site.calls(asking)
        own = await grant(site, asking, run)
        assert (own.status_code, own.json()["error"]["code"]) == (403, "approval_invalid")
        assert (await grant(site, "eve", run)).status_code == 404, (
            "a group that the setting does not name gives nothing"
        )
        assert site.grants(run) == []
        done = await grant(site, answering, run)
        assert done.status_code == 200, done.text
        (granted,) = site.grants(run)
        by = granted.by
        assert (by.subject, by.authenticated, by.issuer) == (f"user:{answering}", "oidc", site.provider.issuer)
        assert granted.role == "role:oncall-lead"


async def test_claims_that_are_not_mapped_give_nothing(site: Site) -> None:
    """Eve is in a group that the setting does not name: she reads nothing and approves nothing."""
    run = await site.calls("ann")
    async with site.logged_in("eve") as eve:
        assert (await eve.get(f"/approvals/{run}.0.0")).status_code == 404
        assert "No request waits for you" in (await eve.get("/approvals")).text


async def test_a_login_is_finished_only_by_the_browser_that_began_it_and_once(site: Site) -> None:
    async with site.browser() as attacker, site.browser() as victim:
        begun = await attacker.get("/login/start/default/corp")
        back = httpx.URL(site.provider.log_in(begun.headers["location"], "eve")).raw_path.decode()
        assert (await victim.get(back)).status_code == 403, "a login of another browser is not accepted"
        assert victim.cookies.get(site.access.cookie) is None
        assert (await attacker.get(back)).status_code == 403, "and it is used up"
        again = await attacker.get("/login/start/default/corp")
        forged = await attacker.get("/login/callback?code=x&state=y")
        assert (again.status_code, forged.status_code) == (303, 403)


async def test_the_call_goes_on_after_its_approval_in_the_browser(site: Site) -> None:
    run = await site.calls("ann")
    async with site.logged_in("dana") as dana:
        assert (await approve(site, dana, run)).status_code == 200
    journal = site.session.journal
    while True:
        version = journal.version((run,))
        answers = [item.event for item in journal.events(run) if isinstance(item.event, CallAnswered)]
        if answers:
            break
        await journal.changes.wait((run,), version, 60)
        assert journal.version((run,)) != version, "the service drives the run"
    (result,) = (answer.result for answer in answers)
    assert isinstance(result, Failed), "the ticket system of the example is busy the first time"
    assert (result.error.details["error"], result.error.attempts) == ("busy", 1)
