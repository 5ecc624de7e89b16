"""Passkeys: who has one signs each approval in the console, and the record proves it to anyone who reads it."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from remit.client import AsyncRemit, CallResult
from remit.core import Principal
from remit.core.events import ApprovalGranted, ApprovalRefused, PasskeyConfirmed, PasskeyEnrolled, PasskeyRevoked
from remit.journal import WORKSPACE_RUN
from remit.server import ROUTES, Access, Service, build_app
from remit.workspace import WorkspaceSession, open_session
from support.console import Console, console, page_of, press, problems, text_of
from support.passkey import SEEN, SoftPasskey, data, text
from support.principals import principal
from support.runs import Remit

CLOSE: Final[Any] = {"key": "INC-2041", "reason": "fixed"}
OPERATOR: Final = principal("operator", account="ann")
DANA: Final = principal("dana")
TEAM: Final = principal("team")
EVE: Final = principal("eve")
BASE: Final = "http://localhost:8340"
RULES: Final = "g, user:team, role:oncall-lead\ng, user:eve, role:runner\n"
DEVICE: Final = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


# ── in a browser, on a phone ─────────────────────────────────────────────────────────────────────────────────────────────


def used(site: Console, paths: list[str], profile: Path) -> dict[str, Any]:
    """What dana sees, from making a passkey on a phone to an approval that it signs."""
    shown: dict[str, Any] = {}
    with page_of(profile) as page:
        page.ask("WebAuthn.enable")
        page.ask("WebAuthn.addVirtualAuthenticator", options=DEVICE)
        site.log_in(page, DANA)
        shown["problems"] = problems(page, f"{site.base}/passkeys")
        page.value("document.querySelector('#name').value = 'my phone'")
        press(page, "Make a passkey")
        shown["made"] = text_of(page)
        site.log_in(page, OPERATOR)
        shown["problems"] += problems(page, f"{site.base}/passkeys")
        shown["number"] = page.value("document.querySelector('code').textContent")
        press(page, "Confirm that it belongs to user:dana")
        shown["confirmed"] = text_of(page)
        site.log_in(page, DANA)
        shown["problems"] += problems(page, site.base + paths[0])
        press(page, "Approve as role:oncall-lead")
        shown["approved"] = text_of(page)
        page.go(site.base + paths[1])
        page.value("[...document.querySelectorAll('details')].forEach(one => { one.open = true; })")
        press(page, "Show which calls")
        press(page, "Approve as role:oncall-lead")
        shown["bounded"] = text_of(page)
    return shown


async def test_an_approver_on_a_phone_signs_with_a_passkey_and_the_run_goes_on(
    session: Path, tmp_path: Path, remit: Remit
) -> None:
    async with console(session) as site:
        calling = asyncio.create_task(site.client(OPERATOR).call("tickets.close", CLOSE, agent="triage", wait=300))
        other = await site.client(OPERATOR).call("tickets.close", CLOSE, agent="triage")
        while len(waiting := await site.client(DANA).approvals()) < 2:
            await asyncio.sleep(0.1)
        run = next(item.run for item in waiting if item.run != other.run)
        paths = [f"/approvals/{id}.0.0" for id in (run, other.run)]
        shown = await asyncio.to_thread(used, site, paths, tmp_path / "profile")
        result: CallResult = await asyncio.wait_for(calling, 60)
        (granted,) = recorded(site.session, run, ApprovalGranted)
        (bounded,) = recorded(site.session, str(other.run), ApprovalGranted)
    assert shown["problems"] == []
    assert shown["number"] in shown["made"], "two people compare the number"
    assert "Approved as user:dana in role:oncall-lead." in shown["approved"]
    assert "Approved as user:dana in role:oncall-lead." in shown["bounded"]
    assert result.run == run
    assert granted.passkey is not None
    assert bounded.passkey is not None
    assert (granted.passkey.origin, bounded.scope.more) == (site.base, 5)
    answers = remit("approve", "show", f"{run}/0.0").out + remit("trace", "show", run).out
    assert f"approved by user:dana as role:oncall-lead, signed by the passkey {granted.passkey.id[:8]}" in answers
    check_offline(session, tmp_path, remit, run)


def check_offline(session: Path, tmp_path: Path, remit: Remit, run: str) -> None:
    """The record of the run proves the signature where nothing else of the workspace is; a changed one fails."""
    assert remit("trace", "verify", run).code == 0
    file, elsewhere = session / "run.jsonl", tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert remit("trace", "export", run, "-o", str(file)).code == 0
    assert remit("trace", "verify", str(file), cwd=elsewhere).code == 0


# ── every part of a signature counts ─────────────────────────────────────────────────────────────────────────────────────


def recorded(session: WorkspaceSession, run: str, kind: type) -> list[Any]:
    return [item.event for item in session.journal.events(run) if isinstance(item.event, kind)]


@dataclass(frozen=True, kw_only=True)
class Site:
    """The service, and a browser for one person after the other."""

    browser: httpx.AsyncClient
    access: Access
    session: WorkspaceSession

    def log_in(self, who: Principal) -> None:
        self.browser.cookies.clear()
        self.browser.cookies.set(self.access.cookie, self.access.sessions.start(who), domain="localhost.local")

    async def ask(self) -> str:
        asked = await AsyncRemit(self.session, OPERATOR).call("tickets.close", CLOSE, agent="triage")
        return f"/approvals/{asked.run}.0.0"

    async def post(self, path: str, fields: Any, base: str = BASE) -> httpx.Response:
        headers = {"origin": base, "sec-fetch-site": "same-origin"}
        return await self.browser.post(base + path, data=fields, headers=headers)

    async def fields(self, path: str, *, role: str = "role:oncall-lead") -> dict[str, str]:
        page = await self.browser.get(path)
        found = re.findall(r'name="(form_token|digest)" value="([^"]*)"', page.text)
        return {"role": role, **{name: html.unescape(value) for name, value in found}}

    async def asked(self, path: str, **bounds: str) -> Any:
        """The challenge for an approval."""
        answer = await self.post(f"{path}/challenge", {**await self.fields(path), **bounds})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def grant(self, path: str, **fields: str) -> httpx.Response:
        return await self.post(f"{path}/grant", {**await self.fields(path), **fields})

    async def enrolled(self, who: Principal, *, confirmed: bool = True, base: str = BASE) -> SoftPasskey:
        """A passkey of that person, who is logged in afterwards."""
        self.log_in(who)
        token = (await self.fields("/passkeys"))["form_token"]
        asked = (await self.post("/passkeys/begin", {"form_token": token}, base)).json()
        passkey = SoftPasskey(base, "localhost")
        made = await self.post("/passkeys/enroll", {"form_token": token, "name": "phone", **passkey.made(asked)}, base)
        assert made.status_code == 200, made.text
        if confirmed:
            assert (await self.confirm(passkey, OPERATOR)).status_code == 200
        self.log_in(who)
        return passkey

    async def confirm(self, passkey: SoftPasskey, by: Principal) -> httpx.Response:
        self.log_in(by)
        token = (await self.fields("/passkeys"))["form_token"]
        return await self.post("/passkeys/confirm", {"form_token": token, "id": passkey.id})

    async def revoke(self, passkey: SoftPasskey) -> httpx.Response:
        token = (await self.fields("/passkeys"))["form_token"]
        return await self.post("/passkeys/revoke", {"form_token": token, "id": passkey.id, "reason": "lost"})

    def grants(self, path: str) -> list[Any]:
        return recorded(self.session, path.rpartition("/")[2].partition(".")[0], ApprovalGranted)


@pytest_asyncio.fixture
async def site(session: Path) -> AsyncIterator[Site]:
    rules, settings = session / "policies" / "remit.csv", session / "remit.toml"
    rules.write_text(rules.read_text() + RULES)
    settings.write_text(settings.read_text().replace("users = [", 'users = ["user:team", "user:eve", '))
    opened = open_session(session)
    access = Access([opened], secure=False)
    service = Service([opened], access)
    transport = httpx.ASGITransport(build_app(service, ROUTES), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as browser:
        yield Site(browser=browser, access=access, session=opened)
    await service.end()


async def test_who_has_a_confirmed_passkey_approves_only_with_its_signature(site: Site) -> None:
    path = await site.ask()
    site.log_in(DANA)
    assert "Your passkey signs" not in (await site.browser.get(path)).text
    passkey = await site.enrolled(DANA)
    unsigned = await site.grant(path)
    assert (unsigned.status_code, "needs a signature" in unsigned.text, site.grants(path)) == (403, True, [])
    signed = await site.grant(path, **passkey.signed(await site.asked(path)))
    assert signed.status_code == 200, signed.text
    (granted,) = site.grants(path)
    assert granted.passkey.id == passkey.id


async def test_a_signature_counts_once(site: Site) -> None:
    path, passkey = await site.ask(), await site.enrolled(DANA)
    proof = passkey.signed(await site.asked(path))
    assert (await site.grant(path, **proof)).status_code == 200
    token = await site.fields(path)
    await site.post(f"{path}/revoke", {**token, "reason": "I misread it"})
    again = await site.grant(path, **proof)
    assert (again.status_code, "was used" in again.text, len(site.grants(path))) == (403, True, 1)
    assert (await site.grant(path, **passkey.signed(await site.asked(path)))).status_code == 200, "a new one counts"


async def test_a_revoked_passkey_signs_nothing(site: Site) -> None:
    path, passkey = await site.ask(), await site.enrolled(DANA)
    proof = passkey.signed(await site.asked(path))
    assert (await site.revoke(passkey)).status_code == 200
    refused, unsigned = await site.grant(path, **proof), await site.grant(path)
    assert (refused.status_code, unsigned.status_code, site.grants(path)) == (403, 403, [])
    kinds = (PasskeyEnrolled, PasskeyConfirmed, PasskeyRevoked)
    assert [len(recorded(site.session, WORKSPACE_RUN, kind)) for kind in kinds] == [1, 1, 1]
    assert (await site.confirm(passkey, OPERATOR)).status_code == 403, "and is not confirmed again"


async def test_a_signature_for_another_request_does_not_count(site: Site) -> None:
    path, other = await site.ask(), await site.ask()
    passkey = await site.enrolled(DANA)
    refused = await site.grant(path, **passkey.signed(await site.asked(other)))
    assert (refused.status_code, "it signs another approval" in refused.text) == (403, True)
    assert (site.grants(path), site.grants(other)) == ([], [])
    (event,) = recorded(site.session, path.rpartition("/")[2].partition(".")[0], ApprovalRefused)
    assert "it signs another approval" in event.message, "the attempt is in the record"


@pytest.mark.parametrize(
    "changed", [{"more": "9"}, {"resources": "ticket:**"}, {"condition": "len(args.reason) <= 9"}, {"more": ""}]
)
async def test_a_signature_counts_for_its_bounds_only(site: Site, changed: dict[str, str]) -> None:
    path, passkey = await site.ask(), await site.enrolled(DANA)
    bounds = {"more": "2", "minutes": "10"}
    refused = await site.grant(path, **passkey.signed(await site.asked(path, **bounds)), **{**bounds, **changed})
    assert (refused.status_code, site.grants(path)) == (403, [])
    longer = passkey.signed(await site.asked(path, **bounds))
    assert (await site.grant(path, **longer, **{**bounds, "minutes": "900"})).status_code == 200
    (granted,) = site.grants(path)
    lasts = (granted.until - site.session.journal.clock()) / 60e9
    assert (granted.scope.more, lasts < 10) == (2, True), "the end is the one that was signed"


async def test_a_signature_made_elsewhere_or_without_the_person_does_not_count(site: Site) -> None:
    path, passkey = await site.ask(), await site.enrolled(DANA)
    elsewhere = SoftPasskey(BASE, "evil.example.com")
    elsewhere._key, elsewhere.id = passkey._key, passkey.id
    wrong = [
        passkey.signed(await site.asked(path), origin="https://evil.example.com"),
        passkey.signed(await site.asked(path), origin="http://localhost:9999"),
        passkey.signed(await site.asked(path), flags=SEEN),
        passkey.signed(await site.asked(path), flags=0),
        passkey.signed(await site.asked(path), kind="webauthn.create"),
        elsewhere.signed(await site.asked(path)),
        {**SoftPasskey(BASE, "localhost").signed(await site.asked(path)), "id": passkey.id},
    ]
    for proof in wrong:
        assert (await site.grant(path, **proof)).status_code == 403
    for name in ("client_data", "authenticator_data", "signature"):
        good = passkey.signed(await site.asked(path))
        first = data(good[name])
        for changed in ("", "!", "A" * 9000, text(first[:-1]), text(bytes([first[0] ^ 1]) + first[1:])):
            good = passkey.signed(await site.asked(path))
            assert (await site.grant(path, **{**good, name: changed})).status_code == 403, (name, changed[:10])
    assert site.grants(path) == []
    assert (await site.grant(path, **passkey.signed(await site.asked(path)))).status_code == 200


async def test_a_passkey_signs_for_its_person_and_only_once_another_person_has_confirmed_it(site: Site) -> None:
    path = await site.ask()
    passkey = await site.enrolled(DANA, confirmed=False)
    asked = await site.post(f"{path}/challenge", await site.fields(path))
    assert (asked.status_code, "you have no passkey for this address" in asked.text) == (403, True)
    assert (await site.confirm(passkey, DANA)).status_code == 403, "nobody confirms their own"
    assert (await site.confirm(passkey, EVE)).status_code == 403, "nor may a person whom the rules do not name"
    assert (await site.confirm(passkey, OPERATOR)).status_code == 200
    own = await site.enrolled(TEAM)
    stolen = passkey.signed(await site.asked(path))
    assert (await site.grant(path, **stolen)).status_code == 403
    assert (await site.grant(path, **own.signed(await site.asked(path)))).status_code == 200
    assert [item.approver for item in site.grants(path)] == ["user:team"]


async def test_a_person_sees_passkeys_of_others_only_if_they_may_confirm_them(site: Site) -> None:
    await site.enrolled(DANA, confirmed=False)
    site.log_in(EVE)
    assert "user:dana" not in (await site.browser.get("/passkeys")).text
    site.log_in(OPERATOR)
    assert "Confirm that it belongs to user:dana" in (await site.browser.get("/passkeys")).text


async def test_the_record_of_an_approval_shows_any_change_of_what_was_signed(site: Site, tmp_path: Path) -> None:
    """Also if the whole chain is sealed again by a person who can write everything but has not the passkey."""
    from remit.tracing.reports.verification import find_contradictions

    path, passkey = await site.ask(), await site.enrolled(DANA)
    assert (await site.grant(path, **passkey.signed(await site.asked(path)))).status_code == 200
    run = path.rpartition("/")[2].partition(".")[0]
    records = site.session.journal.events(run)
    assert find_contradictions(records) == []
    (granted,) = site.grants(path)
    for change in ({"role": "role:owner"}, {"by": TEAM}, {"reason": "x"}, {"until": 1}):
        forged = granted.model_copy(update=change)
        changed = [item.model_copy(update={"event": forged}) if item.event == granted else item for item in records]
        faults = [fault.what for fault in find_contradictions(changed)]
        assert any("the approval by a passkey does not count: it signs another approval" in what for what in faults), (
            change
        )
