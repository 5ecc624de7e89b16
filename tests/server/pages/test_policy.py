"""The pages of rules: questions about them, and the report of a change that is in force nowhere."""

from __future__ import annotations

import asyncio
import html
import os
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from remit.server import apart
from support.console import HOSTILE, Console, console, structure
from support.principals import principal

OPERATOR: Final = principal("operator", account="ann")
RULES: Final = "policies/rules.csv"
# Any ticket may then be closed without an approval.
CLOSES: Final = "\n# Triage may close tickets\np, agent:triage, tickets.close, ticket:*, True, allow\n"
REPORT_S: Final = 240.0


@pytest_asyncio.fixture
async def site(session: Path) -> AsyncIterator[Console]:
    async with console(session) as opened:
        yield opened


def browser_of(site: Console, who: Any = OPERATOR) -> httpx.AsyncClient:
    id = site.access.sessions.start(who)
    headers = {"origin": site.base}
    return httpx.AsyncClient(
        base_url=site.base, cookies={site.access.cookie: id}, headers=headers, trust_env=False, timeout=60
    )


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, page
    return html.unescape(found[1])


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", page))


async def editor_fields(browser: httpx.AsyncClient) -> dict[str, str]:
    """The form of the editor, as a browser would send it unchanged."""
    page = (await browser.get("/policy/edit", params={"file": RULES})).text
    areas = re.findall(r'<textarea id="(rules|cases)"[^>]*>\n(.*?)</textarea>', page, re.S)
    texts = {name: html.unescape(text).replace("\n", "\r\n") for name, text in areas}
    return {**{name: field(page, name) for name in ("form_token", "file", "base")}, **texts}


async def saved(browser: httpx.AsyncClient, more: str) -> str:
    """Save the rules with that text after them; returns the address of the draft."""
    fields = await editor_fields(browser)
    answer = await browser.post("/policy/drafts", data={**fields, "rules": fields["rules"] + more})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def report_of(browser: httpx.AsyncClient, draft: str) -> str:
    """The page of the draft once its report is complete."""
    async with asyncio.timeout(REPORT_S):
        while "still computed" in (page := (await browser.get(draft)).text):
            await asyncio.sleep(0.2)
    return text_of(page)


async def test_a_change_is_shown_with_what_it_permits_and_becomes_a_patch_that_applies(
    site: Console, session: Path, tmp_path: Path
) -> None:
    before = (session / RULES).read_bytes()
    await site.client(OPERATOR).call("tickets.close", {"key": "INC-2041", "reason": "x"}, agent="triage")
    async with browser_of(site) as browser:
        draft = await saved(browser, CLOSES)
        report = await report_of(browser, draft)
        patch = await browser.get(f"{draft}/patch")
    assert "newly allowed" in report
    assert "agent:triage: tickets.close on ticket:" in report, "with a call that shows it"
    assert "new authority: 2" in report
    assert "failed policies/cases.yaml" in report, "cases that the change breaks"
    assert "mutation score" in report
    assert "ask → allow" in report, "the recorded call that would be decided differently"
    assert (session / RULES).read_bytes() == before, "the rules in force are as they were"
    assert patch.headers["content-disposition"].startswith("attachment")
    assert "# Problems" in patch.text
    (tmp_path / "change.patch").write_text(patch.text)
    subprocess.run(["git", "apply", tmp_path / "change.patch"], cwd=session, check=True)
    assert (session / RULES).read_text() == before.decode() + CLOSES


async def test_after_the_third_like_approval_a_person_makes_a_draft_of_the_rule(site: Console, session: Path) -> None:
    before = (session / RULES).read_bytes()

    async def approved() -> str:
        asked = await site.client(OPERATOR).call("tickets.close", {"key": "INC-2041", "reason": "x"}, agent="triage")
        path = f"/approvals/{asked.run}.0.0"
        page = (await dana.get(path)).text
        fields = {name: field(page, name) for name in ("form_token", "digest", "role")}
        return (await dana.post(f"{path}/grant", data=fields)).text

    async with browser_of(site, principal("dana")) as dana:
        pages = [await approved() for _ in range(3)]
        form = {name: field(pages[2], name) for name in ("form_token", "digest")}
        address = re.findall(r'action="(/approvals/[0-9a-f.]+/rule)"', pages[2])[0]
        forged = await dana.post(address, data={**form, "form_token": "guessed"})
        drafted = await dana.post(address, data=form)
        draft = text_of((await dana.get(drafted.headers["location"])).text)
    assert ["Make this a rule" in page for page in pages] == [False, False, True]
    assert forged.status_code == 403
    assert drafted.status_code == 303
    assert "+# tickets.close without asking: approved by user:dana" in draft
    assert "+++ b/policies/cases.yaml" in draft
    assert (session / RULES).read_bytes() == before, "the rules in force are as they were"


async def test_rules_that_do_not_load_are_reported_with_their_line(site: Console) -> None:
    async with browser_of(site) as browser:
        report = await report_of(browser, await saved(browser, "p, agent:triage, tickets.close\n"))
    assert re.search(r"error: policies/rules\.csv:\d+", report)
    assert "Traceback" not in report


async def test_an_analysis_that_takes_too_long_is_ended_and_the_page_says_so(
    site: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart.Apart.command, "__kwdefaults__", {"longest": 0.05})
    async with browser_of(site) as browser:
        draft = await saved(browser, CLOSES)
        report = await report_of(browser, draft)
        assert (await browser.get("/policy")).status_code == 200, "the service goes on"
    assert "ended: it took longer" in report


async def test_only_so_many_analyses_are_computed_at_once(site: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "MOST", 0)
    async with browser_of(site) as browser:
        fields = await editor_fields(browser)
        answer = await browser.post("/policy/drafts", data={**fields, "rules": fields["rules"] + CLOSES})
    assert answer.status_code == 409
    assert "computes too much" in answer.text
    assert "Triage may close tickets" in answer.text, "what the person wrote is not lost"


async def test_a_draft_is_shown_to_its_author_only(site: Console) -> None:
    async with browser_of(site) as browser, browser_of(site, principal("dana")) as other:
        draft = await saved(browser, CLOSES)
        for path in (draft, f"{draft}/patch"):
            assert (await other.get(path)).status_code == 404
            assert (await browser.get(path)).status_code == 200


async def test_who_may_not_read_every_run_edits_nothing_and_learns_nothing(site: Console) -> None:
    async with browser_of(site) as browser, browser_of(site, principal("none")) as outsider:
        fields = await editor_fields(browser)
        assert (await outsider.get("/policy/edit")).status_code == 403
        page = (await outsider.get("/policy")).text
        sent = {**fields, "form_token": field(page, "form_token"), "rules": fields["rules"] + CLOSES}
        assert (await outsider.post("/policy/drafts", data=sent)).status_code == 403
        for query in ("ask=who&action=tickets.close&resource=ticket:INC-7", "ask=can&subject=agent:triage"):
            answer = await outsider.get(f"/policy?{query}")
            assert "The rules do not let you" in answer.text
            assert "rules.csv" not in answer.text


async def test_a_change_of_a_file_that_changed_meanwhile_is_not_taken(site: Console, session: Path) -> None:
    async with browser_of(site) as browser:
        fields = await editor_fields(browser)
        (session / RULES).write_text((session / RULES).read_text() + "# another reviewer was faster\n")
        answer = await browser.post("/policy/drafts", data={**fields, "rules": fields["rules"] + CLOSES})
    assert answer.status_code == 409
    assert "has changed since you opened it" in answer.text
    assert "Triage may close tickets" in answer.text, "what the person wrote is not lost"


async def test_a_form_changes_no_other_file(site: Console, session: Path) -> None:
    async with browser_of(site) as browser:
        fields = await editor_fields(browser)
        for file in ("remit.toml", "policies/../remit.toml", "policies/tools.lock", "/etc/passwd", ""):
            answer = await browser.post("/policy/drafts", data={**fields, "file": file})
            assert answer.status_code == 404, file
        assert (await browser.get("/policy/edit", params={"file": "remit.toml"})).status_code == 404


async def test_a_draft_of_rules_behind_a_link_changes_nothing_that_is_in_force(
    site: Console, session: Path, tmp_path: Path
) -> None:
    rules, elsewhere = session / "policies" / "rules.csv", tmp_path / "elsewhere.csv"
    rules.rename(elsewhere)
    rules.symlink_to(elsewhere)
    before = elsewhere.read_text()
    async with browser_of(site) as browser:
        draft = await saved(browser, "# more\n")
        await report_of(browser, draft)
    assert rules.is_symlink()
    assert elsewhere.read_text() == before


async def test_no_module_and_no_secret_of_the_workspace_reaches_an_analysis(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (session / "click.py").write_text("import os\nprint('LOADED')\n")
    monkeypatch.setenv("REMIT_SECRET_API", "a-value-of-some-length")
    work = apart.Apart()
    answered = await work.command("--version", folder=session)
    assert (answered.code, "LOADED" in answered.text) == (0, False)
    exec_of = asyncio.create_subprocess_exec
    given: list[dict[str, str]] = []

    async def noted(*words: str, env: dict[str, str], **options: Any) -> Any:
        given.append(env)
        return await exec_of(*words, env=env, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    assert (await work.command("--version", folder=session)).code == 0
    assert not [name for name in given[0] if name.startswith("REMIT_SECRET_")]
    assert given[0]["PATH"] == os.environ["PATH"]


async def test_the_page_answers_who_may_and_what_a_subject_may(site: Console) -> None:
    async with browser_of(site) as browser:
        who = await browser.get("/policy?ask=who&action=tickets.close&resource=ticket:INC-7")
        can = await browser.get("/policy?ask=can&subject=agent:triage")
        wrong = await browser.get("/policy?ask=who&action=no.such&resource=ticket:INC-7")
    assert "with approval of role:oncall-lead (user:dana)" in text_of(who.text)
    assert "Credentials are never part of an incident" in text_of(can.text)
    assert "choose an action" in wrong.text


async def test_the_page_explains_why_a_call_is_decided_as_it_is(site: Console) -> None:
    async with browser_of(site) as browser:
        token = field((await browser.get("/policy")).text, "form_token")
        fields = {"form_token": token, "agent": "triage", "action": "tickets.close"}
        good = await browser.post(
            "/policy/explain", data={**fields, "arguments": '{"key": "INC-2041", "reason": "fixed"}'}
        )
        bad = await browser.post("/policy/explain", data={**fields, "arguments": "{"})
        forged = await browser.post("/policy/explain", data={**fields, "form_token": "guessed"})
    assert "needs approval" in text_of(good.text)
    assert "Closing a ticket cannot be undone" in text_of(good.text)
    assert bad.status_code == 200
    assert 'role="alert"' in bad.text
    assert forged.status_code == 403


async def test_every_text_stays_text_on_the_pages_of_rules(site: Console) -> None:
    async def pages(written: str) -> list[str]:
        fields = await editor_fields(browser)
        given = {**fields, "rules": f"{fields['rules']}# {written}\n", "base": "another"}
        token = fields["form_token"]
        asked = {"form_token": token, "agent": "triage", "action": "files.read", "user": written, "arguments": written}
        found = [
            await browser.post("/policy/drafts", data=given),
            await browser.post("/policy/explain", data=asked),
            await browser.get("/policy", params={"ask": "who", "action": "files.read", "resource": written}),
            await browser.get("/policy", params={"ask": "can", "subject": written}),
        ]
        return [answer.text for answer in found]

    async with browser_of(site) as browser:
        for text in HOSTILE:
            same = re.sub("[<>\"'&]", "_", text)
            for hostile, harmless in zip(await pages(text), await pages(same), strict=True):
                assert structure(hostile) == structure(harmless), text
