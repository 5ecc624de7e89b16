"""What holds of every page: no barrier, no refused script, no text that becomes a part of it, and all of it without scripts.

`PAGES` has a row for each route of the console: a new page without one fails.
"""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from remit.client import AsyncRemit
from remit.core.events import ApprovalGranted
from remit.server import apart
from remit.server.apart import CommandAnswer
from remit.server.pages import page_routes
from remit.workspace import WorkspaceSession
from support.browser import Browser
from support.console import (
    HOSTILE,
    Console,
    console,
    page_of,
    pages_of,
    press,
    problems,
    refused_by_policy,
    show_on,
    structure,
    text_of,
)
from support.passkey import SoftPasskey
from support.principals import principal

ANN: Final = principal("operator", account="ann")
DANA: Final = principal("dana")
RULES: Final = "policies/rules.csv"
LONG: Final = "y" * 3000 + " مرحبا بالعالم، هذا نص طويل من اليمين إلى اليسار " + "long words " * 50
# The address of each page, with places for what `prepared` makes.
PAGES: Final[Mapping[str, str]] = {
    "/login": "/login",
    "/login/link/{secret}": "/login/link/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "/approvals": "/approvals",
    "/approvals/{id}": "/approvals/{waiting}.0.0",
    "/runs": "/runs",
    "/runs/{run}": "/runs/{failed}",
    "/runs/{run}/compared/{id}": "{compared}",
    "/policy": "/policy?ask=can&subject=agent:triage",
    "/policy/edit": "/policy/edit?file=policies/rules.csv",
    "/policy/drafts/{id}": "{draft}",
    "/tools": "/tools",
    "/tools/{name}": "/tools/files",
    "/fleet": "/fleet",
    "/passkeys": "/passkeys",
}
# Routes that answer no page, each with the reason.
NO_PAGE: Final[Mapping[str, str]] = {
    "/": "leads to the inbox",
    "/pages/{name}": "a style or a script",
    "/login/start/{tenant}/{name}": "leads to the identity provider",
    "/login/callback": "leads from the identity provider to a page",
    "/runs/{run}/file": "a file, whose content is that of `remit trace show --html`",
    "/policy/drafts/{id}/patch": "a file for git",
    "/live/runs": "a stream of parts of /runs",
    "/live/runs/{run}": "a stream of parts of /runs/{run}",
    "/live/approvals": "a stream of parts of /approvals",
}


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, page
    return html.unescape(found[1])


async def prepared(session: WorkspaceSession, browser: httpx.AsyncClient, text: str) -> dict[str, str]:
    """Let that text come from people, from a model and from a tool, wherever it can. Returns the address of each page."""
    client = AsyncRemit(session, ANN)
    for reason in (text, "another one"):
        earlier = await client.call("tickets.close", {"key": "INC-2041", "reason": reason}, agent="triage")
        await AsyncRemit(session, DANA).approve(f"{earlier.run}/0.0")
    waiting = await client.call("tickets.close", {"key": "INC-2041", "reason": text}, agent="triage")
    failed = await client.call("files.read", {"path": f"logs/{text[:60]}"}, agent="triage")
    await client.hold("tool:python", reason=text[:400])
    token = field((await browser.get("/passkeys")).text, "form_token")
    made = SoftPasskey(browser.headers["origin"], "localhost").made(
        (await browser.post("/passkeys/begin", data={"form_token": token})).json()
    )
    enrolled = await browser.post("/passkeys/enroll", data={"form_token": token, "name": text[:60], **made})
    assert enrolled.status_code == 200, enrolled.text
    compared = await browser.post(f"/runs/{failed.run}/compare", data={"form_token": token, "way": "replay"})
    editor = (await browser.get("/policy/edit")).text
    sent = {name: field(editor, name) for name in ("form_token", "file", "base")}
    draft = await browser.post("/policy/drafts", data={**sent, "rules": f"# {text}\n"})
    made_here = {
        "waiting": str(waiting.run),
        "failed": str(failed.run),
        "compared": compared.headers["location"],
        "draft": draft.headers["location"],
    }
    return {route: address.format(**made_here) for route, address in PAGES.items()}


def answer_with(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let every command that runs apart print that text: what a page shows of it is the same, and no test waits for an analysis."""

    async def command(*_: Any, **__: Any) -> CommandAnswer:
        return CommandAnswer(text=f"error: {text}\n+ {text}", code=1)

    monkeypatch.setattr(apart.Apart, "command", command)


def with_notes(session: Path, text: str) -> None:
    """Write that text as the note of a rule that denies."""
    rules = session / RULES
    line = " ".join(text.split())[:200]
    rules.write_text(f"{rules.read_text()}\n# {line}\np, agent:triage, files.read, file:logs/**, True, deny\n")


def browser_of(site: Console) -> httpx.AsyncClient:
    cookies = {site.access.cookie: site.access.sessions.start(DANA)}
    return httpx.AsyncClient(
        base_url=site.base, cookies=cookies, headers={"origin": site.base}, trust_env=False, timeout=60
    )


async def test_every_route_of_the_console_has_a_row_here(session: Path) -> None:
    async with console(session) as site:
        routes = page_routes(site.service, site.access)
    shown = {route.path for route in routes if "GET" in (route.methods or ())}
    assert shown == {*PAGES, *NO_PAGE}
    assert not PAGES.keys() & NO_PAGE.keys()


async def test_no_page_has_a_barrier_or_a_refused_script_with_long_texts_from_right_to_left(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(site: Console, addresses: list[str]) -> list[str]:
        with page_of(tmp_path / "profile") as page:
            site.log_in(page, DANA)
            return [one for address in addresses for one in problems(page, site.base + address)]

    answer_with(monkeypatch, LONG)
    with_notes(session, LONG)
    async with console(session) as site, browser_of(site) as browser:
        addresses = [*(await prepared(site.session, browser, LONG)).values()]
        found = await asyncio.to_thread(look, site, addresses)
    assert found == []


async def test_every_page_works_without_scripts(session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def look(site: Console, addresses: Mapping[str, str]) -> None:
        with page_of(tmp_path / "profile") as page:
            site.log_in(page, DANA)
            page.ask("Emulation.setScriptExecutionDisabled", value=True)
            for route, address in addresses.items():
                page.go(site.base + address)
                seen[route] = (
                    page.value("document.querySelectorAll('h1').length"),
                    dead(page),
                    refused_by_policy(page),
                )
            page.go(site.base + addresses["/approvals/{id}"])
            press(page, "Approve as role:oncall-lead")
            seen["approved"] = text_of(page)
            page.go(site.base + addresses["/policy/edit"])
            page.value("document.querySelector('#rules').value += '# one more line\\n'")
            press(page, "Analyse the change")
            seen["draft"] = text_of(page)

    answer_with(monkeypatch, "harmless")
    async with console(session) as site, browser_of(site) as browser:
        addresses = await prepared(site.session, browser, "harmless")
        await asyncio.to_thread(look, site, addresses)
    approved, draft = seen.pop("approved"), seen.pop("draft")
    assert seen == {route: (1, [], []) for route in PAGES}
    assert "Approved as user:dana in role:oncall-lead." in approved
    assert "+# one more line" in draft


def dead(page: Browser) -> list[str]:
    """The buttons and links of the page that do nothing without a script. Only a script can make a passkey; the page says so."""
    found: list[str] = page.value(
        "[...document.querySelectorAll('button, a')].filter(one => one.tagName === 'A' ? !one.getAttribute('href')"
        " : !(one.form && one.form.getAttribute('action'))).map(one => one.outerHTML)"
    )
    return found


async def test_every_text_stays_text_on_every_page(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = (session / RULES).read_text()

    async def pages(text: str) -> dict[str, str]:
        answer_with(monkeypatch, text)
        (session / RULES).write_text(rules)
        with_notes(session, text)
        async with pages_of(session, DANA) as (opened, browser):
            addresses = await prepared(opened, browser, text)
            found = {route: (await browser.get(address)).text for route, address in addresses.items()}
            await AsyncRemit(opened, ANN).lift("tool:python")
            return found

    texts = " ".join(HOSTILE)
    await pages("the first runs, so that both times have earlier ones")
    hostile, harmless = await pages(texts), await pages(re.sub("[<>&'\"]", "_", texts))
    for route, page in hostile.items():
        assert kinds(page) == kinds(harmless[route]), route
        assert "<script>alert" not in page, route
        assert "onerror=alert(1)>" not in html.unescape(page) or "<img" not in page, route


def kinds(page: str) -> set[str]:
    """The kinds of elements of a page, with their attributes. How many there are depends on how many runs there are."""
    return {one for one in map(str, structure(page)) if not re.search("line|circle|rect", one)}


async def test_no_link_of_any_page_is_dead(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, "harmless")
    async with pages_of(session, DANA) as (opened, browser):
        addresses = await prepared(opened, browser, "harmless")
        pages = [(await browser.get(address)).text for address in addresses.values()]
        links = {html.unescape(link) for page in pages for link in re.findall(r'(?:href|src)="(/[^"]*)"', page)}
        answers = {link: (await browser.get(link)).status_code for link in sorted(links)}
    assert len(links) > 20
    assert {link: status for link, status in answers.items() if status not in (200, 303)} == {}


async def test_a_call_is_read_and_approved_by_the_keyboard_alone(session: Path, tmp_path: Path) -> None:
    seen: dict[str, Any] = {"bare": []}

    def use(site: Console, address: str) -> None:
        with page_of(tmp_path / "profile") as page:
            show_on(page, "desk")
            site.log_in(page, DANA)
            page.go(site.base + address)
            page.press("Tab")
            seen["first"] = page.value("document.activeElement.className")
            page.press("Enter")
            seen["skipped to"] = page.value("document.activeElement.id")
            for _ in range(60):
                page.press("Tab")
                ring = "getComputedStyle(document.activeElement).outlineStyle"
                seen["bare"] += [] if page.value(ring) != "none" else [page.value("document.activeElement.outerHTML")]
                if str(page.value("document.activeElement.textContent")).strip().startswith("Approve as"):
                    break
            page.events.clear()
            page.press("Enter")
            page.loaded()
            seen["approved"] = text_of(page)

    async with console(session) as site:
        asked = await site.client(ANN).call("tickets.close", {"key": "INC-2041", "reason": "x"}, agent="triage")
        await asyncio.to_thread(use, site, f"/approvals/{asked.run}.0.0")
        granted = [item.event for item in site.session.journal.events(str(asked.run))]
    assert seen["first"] == "skip"
    assert seen["skipped to"] == "main"
    assert seen["bare"] == [], "what has the focus is marked"
    assert "Approved as user:dana" in seen["approved"]
    assert sum(isinstance(event, ApprovalGranted) for event in granted) == 1
