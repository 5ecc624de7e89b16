"""The pages in a real browser, from the login at a real OpenID provider to the approval, on a phone and on a desk."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any, Final

import httpx

from remit.core.events import ApprovalGranted
from remit.server import Access, Service, serve
from remit.workspace import open_session
from support.browser import CHROMIUM, Browser, browser, lacking
from support.openid_provider import AUDIENCE, OpenIdProvider, openid_provider

CLOSE: Final[Any] = {"agent": "triage", "action": "tickets.close", "arguments": {"key": "INC-2041", "reason": "fixed"}}
RULES: Final = "\ng, user:ann, role:operator\n"
SETTINGS: Final = """
[issuers.corp]
kind = "oidc"
issuer = "{issuer}"
audience = "{audience}"
roles.groups = {{ leads = "role:oncall-lead" }}
login = {{ client_id = "remit-browser", redirect = "{redirect}" }}
"""
SIZES: Final = {"phone": (390, 844, True), "desk": (1280, 900, False)}


def asked(base: str, provider: OpenIdProvider) -> str:
    """A call of ann that waits for approval. Returns its run."""
    token = provider.access_token("ann")
    headers = {"authorization": f"Bearer {token}"}
    answer = httpx.post(f"{base}/v1/calls", json=CLOSE, headers=headers, timeout=60, trust_env=False)
    run: str = answer.json()["run"]
    return run


def press(page: Browser, button: str) -> None:
    """Press the button or link with that text, and wait for the next page."""
    page.events.clear()
    found = f"[...document.querySelectorAll('button, a')].find(one => one.textContent.trim().startsWith({button!r}))"
    page.value(f"{found}.click()")
    page.loaded()


def used(base: str, provider: OpenIdProvider, run: str, profile: Path) -> dict[str, Any]:
    """What a person sees who follows the link of a notification, logs in and approves."""
    seen: dict[str, Any] = {}
    with browser(profile) as page:
        page.open(f"{base}/approvals/{run}.0.0")
        press(page, "Log in with corp")
        press(page, "dana")
        seen["address"] = page.value("location.pathname")
        for name, (width, height, mobile) in SIZES.items():
            page.ask(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
            )
            seen[f"sideways on a {name}"] = page.value("document.documentElement.scrollWidth > innerWidth")
            seen[f"axe on a {name}"] = page.violations()
        seen["text"] = page.value("document.body.innerText")
        press(page, "Approve as role:oncall-lead")
        seen["answer"] = page.value("document.body.innerText")
        page.go(f"{base}/approvals/{run}.0.0")
        seen["closed"] = page.value("document.body.innerText")
    return seen


async def test_a_person_follows_the_link_logs_in_and_approves_on_a_phone(session: Path, tmp_path: Path) -> None:
    if CHROMIUM is None:
        lacking("Chromium", "apt-get install chromium")
    rules, settings = session / "policies" / "remit.csv", session / "remit.toml"
    rules.write_text(rules.read_text() + RULES)
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    redirect = f"{base}/login/callback"
    with openid_provider(redirect) as provider:
        made = SETTINGS.format(issuer=provider.issuer, audience=AUDIENCE, redirect=redirect)
        settings.write_text(settings.read_text().replace("users = [", 'users = ["user:ann", ') + made)
        opened = open_session(session)
        service = Service([opened], Access([opened], secure=False))
        ready = asyncio.Event()
        serving = asyncio.create_task(serve(service, sockets=[listener], listening=lambda _: ready.set()))
        await asyncio.wait_for(ready.wait(), 30)
        run = await asyncio.to_thread(asked, base, provider)
        seen = await asyncio.to_thread(used, base, provider, run, tmp_path / "profile")
        granted = [item.event for item in opened.journal.events(run) if isinstance(item.event, ApprovalGranted)]
        service.ending.set()
        await asyncio.wait_for(serving, 30)
    assert seen["address"] == f"/approvals/{run}.0.0", "the login leads back to the request"
    assert "tickets.close, called by agent:triage for user:ann" in seen["text"]
    for name in SIZES:
        assert (seen[f"sideways on a {name}"], seen[f"axe on a {name}"]) == (False, [])
    assert "Approved as user:dana in role:oncall-lead" in seen["answer"]
    assert "The request is closed" in seen["closed"]
    assert [(event.by.subject, event.by.issuer) for event in granted] == [("user:dana", provider.issuer)]
