"""The pages: logging in by a link, the page of a request for approval, and what no other site can do."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from remit.client import AsyncRemit, create_key, disable_principal
from remit.core import KeyScope, Principal
from remit.core.events import AccessRefused, ApprovalGranted, ApprovalRejected
from remit.journal import WORKSPACE_RUN
from remit.server import ROUTES, Service, build_app
from remit.server.authentication import Access
from remit.workspace import WorkspaceSession, open_session
from support.console import HOSTILE, structure
from support.principals import principal

CLOSE: Final[Any] = {"key": "INC-2041", "reason": "fixed"}
ANN: Final = principal("operator", account="ann")
DANA: Final = principal("dana")
BASE: Final = "http://127.0.0.1:8340"
SAME: Final = {"origin": BASE, "sec-fetch-site": "same-origin"}
RULES: Final = "g, user:admin, role:operator\ng, user:eve, role:runner\ng, user:team, role:oncall-lead\n"


PROVIDER: Final = """
[issuers.corp]
kind = "oidc"
issuer = "https://login.example.com"
audience = "remit"
login = { client_id = "remit-browser", redirect = "http://127.0.0.1:8340/login/callback" }
"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The service, and a browser with its cookies."""

    browser: httpx.AsyncClient
    access: Access
    session: WorkspaceSession

    def log_in(self, who: Principal) -> None:
        """As after a login."""
        self.browser.cookies.set(self.access.cookie, self.access.sessions.start(who), domain="127.0.0.1")

    async def ask(self, who: Principal = ANN, arguments: Any = CLOSE) -> str:
        """A request for approval of that person. Returns its page."""
        asked = await AsyncRemit(self.session, who).call("tickets.close", arguments, agent="triage")
        return f"/approvals/{asked.run}.0.0"

    async def fields(self, path: str) -> dict[str, str]:
        page = await self.browser.get(path)
        found = re.findall(r'name="(form_token|digest|role)" value="([^"]*)"', page.text)
        return {name: html.unescape(value) for name, value in found}

    async def post(self, path: str, fields: Any, headers: Any = SAME) -> httpx.Response:
        return await self.browser.post(path, data=fields, headers=headers)

    def recorded(self, page: str, kind: type) -> list[Any]:
        run = page.rpartition("/")[2].partition(".")[0]
        return [item.event for item in self.session.journal.events(run) if isinstance(item.event, kind)]

    def refusals(self) -> list[str]:
        events = (item.event for item in self.session.journal.events(WORKSPACE_RUN))
        return [event.why for event in events if isinstance(event, AccessRefused)]


@pytest_asyncio.fixture
async def site(session: Path) -> AsyncIterator[Site]:
    rules, settings = session / "policies" / "remit.csv", session / "remit.toml"
    rules.write_text(rules.read_text() + RULES)
    text = settings.read_text().replace("users = [", 'users = ["user:admin", "user:eve", "user:team", ')
    settings.write_text(text + PROVIDER)
    opened = open_session(session)
    access = Access([opened], secure=False)
    service = Service([opened], access)
    transport = httpx.ASGITransport(build_app(service, ROUTES), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as browser:
        yield Site(browser=browser, access=access, session=opened)
    await service.end()


# ── log in and out ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_link_logs_in_once_and_a_preview_of_it_uses_nothing(site: Site) -> None:
    secret = site.access.sessions.link(ANN.model_copy(update={"authenticated": "link"}))
    for _ in range(3):
        assert "This link works once" in (await site.browser.get(f"/login/link/{secret}")).text
    assert site.browser.cookies.get(site.access.cookie) is None
    entered = await site.post("/login/link", {"secret": secret})
    assert (entered.status_code, entered.headers["location"]) == (303, "/approvals")
    assert "user:operator" in (await site.browser.get("/approvals")).text
    site.browser.cookies.clear()
    again = await site.post("/login/link", {"secret": secret})
    assert (again.status_code, site.browser.cookies.get(site.access.cookie)) == (403, None)
    assert site.refusals() == ["login"]


async def test_the_cookie_is_for_this_service_alone_and_no_script_reads_it(site: Site) -> None:
    secret = site.access.sessions.link(ANN)
    (cookie,) = [
        value
        for value in (await site.post("/login/link", {"secret": secret})).headers.get_list("set-cookie")
        if value.startswith(f"{site.access.cookie}=") and "Max-Age=0" not in value
    ]
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "domain" not in cookie.lower()
    secure = Access([site.session], secure=True)
    assert (secure.cookie, site.access.cookie) == ("__Host-remit", "remit-session")


async def test_a_session_has_a_new_id_after_login_so_nobody_can_choose_it(site: Site) -> None:
    site.browser.cookies.set(site.access.cookie, "chosen-by-an-attacker", domain="127.0.0.1")
    await site.post("/login/link", {"secret": site.access.sessions.link(ANN)})
    chosen = site.access.sessions.find("chosen-by-an-attacker")
    assert chosen is None
    earlier = site.access.sessions.start(DANA)
    site.browser.cookies.clear()
    site.browser.cookies.set(site.access.cookie, earlier, domain="127.0.0.1")
    await site.post("/login/link", {"secret": site.access.sessions.link(ANN)})
    assert site.access.sessions.find(earlier) is None, "the session before is ended"


async def test_logging_out_ends_the_session_at_the_service(site: Site) -> None:
    site.log_in(DANA)
    id = site.browser.cookies.get(site.access.cookie)
    assert id is not None
    fields = await site.fields("/approvals")
    assert (await site.post("/logout", {"form_token": "guessed"})).status_code == 403
    assert site.access.sessions.find(id) is not None
    assert (await site.post("/logout", {"form_token": fields["form_token"]})).status_code == 200
    assert site.access.sessions.find(id) is None


async def test_a_session_ends_without_use_and_after_its_longest_time() -> None:
    from remit.server.authentication.sessions import IDLE_S, LONGEST_S, Sessions

    now = [0.0]
    sessions = Sessions(lambda: now[0])
    id = sessions.start(ANN)
    while now[0] < LONGEST_S - IDLE_S:
        now[0] += IDLE_S - 1
        assert sessions.find(id) is not None
    now[0] = LONGEST_S
    assert sessions.find(id) is None
    idle = sessions.start(ANN)
    now[0] += IDLE_S
    assert sessions.find(idle) is None


async def test_a_disabled_person_is_logged_out_at_once(site: Site) -> None:
    site.log_in(DANA)
    assert (await site.browser.get("/approvals")).status_code == 200
    disable_principal(site.session, "user:dana", by=principal("admin"), reason="left")
    assert (await site.browser.get("/approvals")).headers.get("location") == "/login"
    assert site.refusals() == ["disabled"]


# ── one request ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_another_person_reads_the_call_and_approves_it(site: Site) -> None:
    path = await site.ask()
    site.log_in(DANA)
    assert path in (await site.browser.get("/approvals")).text
    shown = html.unescape((await site.browser.get(path)).text)
    for text in (
        "tickets.close, called by agent:triage for user:operator",
        "INC-2041",
        "1 × role:oncall-lead",
        "Approve as",
    ):
        assert text in shown
    done = await site.post(f"{path}/grant", await site.fields(path))
    assert (done.status_code, "Approved as user:dana in role:oncall-lead" in done.text) == (200, True)
    (granted,) = site.recorded(path, ApprovalGranted)
    assert (granted.by.subject, granted.by.session != "") == ("user:dana", True)


async def test_a_rejection_has_a_reason_that_the_model_reads(site: Site) -> None:
    path = await site.ask()
    site.log_in(DANA)
    fields = await site.fields(path)
    for reason in ("", "  ", "x" * 501):
        assert (await site.post(f"{path}/reject", {**fields, "reason": reason})).status_code == 403
    assert (await site.post(f"{path}/reject", {**fields, "reason": "wrong\n ticket"})).status_code == 200
    assert [event.reason for event in site.recorded(path, ApprovalRejected)] == ["wrong ticket"]
    assert "closed" in (await site.browser.get(path)).text


async def test_the_requester_cannot_answer(site: Site) -> None:
    path = await site.ask()
    site.log_in(DANA)
    fields = await site.fields(path)
    site.browser.cookies.clear()
    site.log_in(principal("dana", account="ann"))  # another name for the same account
    own = await site.browser.get(path)
    assert "You ask for this call, so another person must answer" in own.text
    mine = {**fields, "form_token": re.findall(r'name="form_token" value="([^"]*)"', own.text)[0]}
    assert (await site.post(f"{path}/grant", mine)).status_code == 403
    assert site.recorded(path, ApprovalGranted) == []


async def test_an_approver_who_may_not_read_the_run_sees_the_call_only(site: Site) -> None:
    path = await site.ask()
    site.log_in(principal("team"))
    # the lead may read every run in the starter; without that row only the call is left
    rules = site.session.root / "policies" / "remit.csv"
    rules.write_text(rules.read_text() + "p, user:team, remit.read, run:**, True, deny\n")
    import asyncio

    await asyncio.sleep(1.1)  # rules on disk count within a second
    text = (await site.browser.get(path)).text
    assert ("INC-2041" in text, "remit call tickets.close" in text) == (True, False)
    site.browser.cookies.clear()
    site.log_in(DANA)
    assert "remit call tickets.close" in (await site.browser.get(path)).text, "who may read the run sees its task"


@pytest.mark.parametrize("who", ["eve", "none", "nobody"])
async def test_a_request_that_is_not_for_a_person_is_as_if_it_did_not_exist(site: Site, who: str) -> None:
    path = await site.ask()
    site.log_in(principal(who))
    shown, missing = await site.browser.get(path), await site.browser.get(f"/approvals/{'0' * 32}.0.0")
    assert (shown.status_code, missing.status_code) == (404, 404)
    assert re.sub(r'value="[^"]*"', "", shown.text) == re.sub(r'value="[^"]*"', "", missing.text)


async def test_who_is_not_logged_in_is_sent_to_the_login_and_back(site: Site) -> None:
    path = await site.ask()
    assert (await site.browser.get(path)).headers["location"] == f"/login?next={path}"
    assert (await site.browser.get("/approvals/x%0d%0aset-cookie:a=b")).headers["location"] == "/login"
    assert (await site.post(f"{path}/grant", {})).headers["location"] == "/login"
    elsewhere = await site.browser.get("/login?next=https://evil.example.com")
    assert "evil.example.com" not in elsewhere.text
    assert f"next={path}" in (await site.browser.get(f"/login?next={path}")).text


async def test_an_answer_to_what_the_person_has_not_read_does_not_count(site: Site) -> None:
    path = await site.ask()
    site.log_in(DANA)
    fields = await site.fields(path)
    assert (await site.post(f"{path}/grant", {**fields, "digest": "sha256:other"})).status_code == 409
    assert site.recorded(path, ApprovalGranted) == []


# ── other sites ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example.com", "sec-fetch-site": "cross-site"},
        {"origin": "https://evil.example.com"},
        {"origin": "null"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": BASE},
        {"origin": "http://127.0.0.1:9999", "sec-fetch-site": "same-site"},
        {},
    ],
)
async def test_a_form_of_another_site_does_nothing_even_with_the_token(site: Site, headers: Any) -> None:
    path = await site.ask()
    site.log_in(DANA)
    fields = await site.fields(path)
    assert (await site.post(f"{path}/grant", fields, headers)).status_code == 403
    assert (await site.post("/logout", fields, headers)).status_code == 403
    assert site.recorded(path, ApprovalGranted) == []
    assert site.refusals() == ["cross_site"]
    assert (await site.post(f"{path}/grant", fields)).status_code == 200


@pytest.mark.parametrize("token", ["", "guessed", "ü"])
async def test_a_form_without_the_token_of_the_session_does_nothing(site: Site, token: str) -> None:
    path = await site.ask()
    site.log_in(DANA)
    fields = await site.fields(path)
    assert (await site.post(f"{path}/grant", {**fields, "form_token": token})).status_code == 403
    assert site.recorded(path, ApprovalGranted) == []


async def test_the_cookie_of_a_browser_changes_nothing_through_the_api(site: Site) -> None:
    site.log_in(DANA)
    body = {"agent": "triage", "action": "files.read", "arguments": {"path": "runbooks/payments-pool.md"}}
    refused = await site.browser.post("/v1/decisions", json=body, headers=SAME)
    assert (refused.status_code, site.refusals()) == (401, ["cross_site"])


async def test_no_page_is_framed_cached_or_runs_a_script_of_others(site: Site) -> None:
    path = await site.ask()
    site.log_in(DANA)
    for address in (path, "/approvals", "/login", "/approvals/none", f"/login/link/{'x' * 43}"):
        answer = await site.browser.get(address)
        policy = answer.headers.get("content-security-policy", "")
        assert {
            "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'",
            "base-uri 'none'", "form-action 'self'",
        } == set(policy.split("; "))  # fmt: skip
        assert "unsafe" not in policy
        for name, value in {
            "x-frame-options": "DENY",
            "x-content-type-options": "nosniff",
            "referrer-policy": "same-origin",
            "cache-control": "no-store",
            "cross-origin-opener-policy": "same-origin",
        }.items():
            assert answer.headers.get(name) == value
        scripts = re.findall(r"<script[^>]*>[^<]*", answer.text)
        assert all(re.fullmatch(r'<script src="/pages/[a-z.]+\?v=[0-9a-f]{12}" defer>', tag) for tag in scripts), (
            scripts
        )


@pytest.mark.parametrize("text", HOSTILE)
async def test_every_text_of_a_run_stays_text(site: Site, text: str) -> None:
    path = await site.ask(arguments={"key": "INC-2041", "reason": text})
    site.log_in(DANA)
    page = (await site.browser.get(path)).text
    plain = re.sub(r"\s*\n  ┆ ", "", html.unescape(page))
    written = text.replace("\\", "\\\\").replace('"', '\\"')
    assert written in plain, "it is shown"
    harmless = await site.ask(arguments={"key": "INC-2041", "reason": "fixed"})
    assert structure(page) == structure((await site.browser.get(harmless)).text), "and it is no part of the page"


async def test_a_key_of_a_service_opens_no_page(site: Site) -> None:
    path = await site.ask()
    key = create_key(
        site.session, "service:ci", KeyScope(actions=("remit.read",), agents=("triage",)), by=principal("operator")
    )
    answer = await site.browser.get(path, headers={"authorization": f"Bearer {key.text}"})
    assert answer.headers["location"].startswith("/login")
