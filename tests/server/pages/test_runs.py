"""The pages of runs in a real browser: what needs a person first, a run as it happens, and what a person may do with it."""

from __future__ import annotations

import asyncio
import html
import re
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from remit.core.events import ContentRead, HoldLifted, HoldSet, RunResumed
from remit.journal import WORKSPACE_RUN
from remit.workspace import open_session
from support.browser import Browser
from support.console import (
    HOSTILE,
    Console,
    console,
    page_of,
    press,
    problems,
    structure,
    text_of,
    until_shown,
)
from support.principals import principal

CLOSE: Final[Any] = {"key": "INC-2041", "reason": "fixed"}
READ: Final[Any] = {"path": "runbooks/payments-pool.md"}
OPERATOR: Final = principal("operator", account="ann")
DANA: Final = principal("dana")


async def waiting_run(site: Console, **changes: str) -> str:
    asked = await site.client(OPERATOR).call("tickets.close", {**CLOSE, **changes}, agent="triage")
    assert asked.run is not None
    return asked.run


async def finished_run(site: Console) -> str:
    done = await site.client(OPERATOR).call("files.read", READ, agent="triage")
    assert done.run is not None
    return done.run


async def test_what_needs_a_person_is_listed_first_and_the_list_follows_the_journal(
    session: Path, tmp_path: Path
) -> None:
    def look(site: Console, finished: str, loop: asyncio.AbstractEventLoop) -> tuple[str, str, str, list[str]]:
        with page_of(tmp_path / "profile") as page:
            site.log_in(page, DANA)
            page.go(f"{site.base}/runs")
            before = text_of(page)
            waiting = asyncio.run_coroutine_threadsafe(waiting_run(site), loop).result(60)
            after = until_shown(page, "waiting · agent:triage")
            page.go(f"{site.base}/runs?state=finished")
            filtered = text_of(page)
            wrong = problems(page, f"{site.base}/runs") + problems(page, f"{site.base}/runs?state=lost")
            assert waiting[:8] not in filtered
            return before, after, filtered, wrong

    async with console(session) as site:
        finished = await finished_run(site)
        before, after, filtered, wrong = await asyncio.to_thread(look, site, finished, asyncio.get_running_loop())
    assert wrong == []
    assert "LOST, WAITING" not in before.upper()
    assert after.index("Lost, waiting and in doubt") < after.index("waiting · agent:triage") < after.index(finished[:8])
    assert finished[:8] in filtered


async def test_a_run_is_shown_as_it_happens_and_is_held_released_and_resumed(session: Path, tmp_path: Path) -> None:
    shown: dict[str, Any] = {}

    def use(site: Console, run: str, loop: asyncio.AbstractEventLoop) -> None:
        with page_of(tmp_path / "profile") as page:
            site.log_in(page, OPERATOR)
            address = f"{site.base}/runs/{run}"
            shown["problems"] = problems(page, address)
            shown["waiting"] = text_of(page)
            opened(page)
            page.value("document.querySelector('#why').value = 'look first'")
            press(page, "Hold the run", within="document.querySelector('details form')")
            shown["held"] = text_of(page)
            page.go(address)
            press(page, "Release the hold")
            shown["released"] = text_of(page)
            page.go(address)
            opened(page)
            approving = site.client(DANA).approve(f"{run}/0.0")
            asyncio.run_coroutine_threadsafe(approving, loop).result(60)
            shown["approved"] = until_shown(page, "approved by user:dana as role:oncall-lead")
            shown["open"] = page.value("[...document.querySelectorAll('details.row')].every(one => one.open)")
            press(page, "Resume the run")
            shown["resumed"] = text_of(page)
            page.go(address)
            shown["ended"] = until_shown(page, "completed · agent:triage")
            shown["problems"] += problems(page, address)

    async with console(session) as site:
        run = await waiting_run(site)
        await asyncio.to_thread(use, site, run, asyncio.get_running_loop())
        acts = [item.event for item in site.session.journal.events(WORKSPACE_RUN)]
        resumed = [item.event for item in site.session.journal.events(run) if isinstance(item.event, RunResumed)]
    assert shown["problems"] == []
    assert "tickets.close" in shown["waiting"]
    assert "The run is held." in shown["held"]
    assert "The hold is lifted." in shown["released"]
    assert shown["open"] is True, "what a person has opened stays open while the page changes"
    assert "The service drives the run." in shown["resumed"]
    assert [event.by.subject for event in acts if isinstance(event, HoldSet | HoldLifted)] == ["user:operator"] * 2
    assert [event.by.subject for event in resumed] == ["user:operator"]
    assert {event.run for event in acts if isinstance(event, ContentRead)} == {run}, "reading is recorded"


def opened(page: Browser) -> None:
    page.value("[...document.querySelectorAll('details')].forEach(one => { one.open = true; })")


def logged_in(site: Console, who: Any) -> httpx.AsyncClient:
    id = site.access.sessions.start(who)
    return httpx.AsyncClient(base_url=site.base, cookies={site.access.cookie: id}, trust_env=False, timeout=60)


@pytest.mark.parametrize("text", HOSTILE)
async def test_every_text_of_a_run_stays_text_on_the_pages_of_runs(session: Path, text: str) -> None:
    async with console(session) as site, logged_in(site, OPERATOR) as browser:
        hostile, harmless = await waiting_run(site, reason=text), await waiting_run(site, reason="fixed")
        pages = [(await browser.get(f"/runs/{run}")).text for run in (hostile, harmless)]
        assert text[:5] in re.sub("&[a-z#0-9]+;", lambda found: html_of(found[0]), pages[0])
        assert structure(pages[0]) == structure(pages[1])


def html_of(entity: str) -> str:

    return html.unescape(entity)


async def test_a_run_that_a_person_may_not_read_is_as_if_it_did_not_exist(session: Path) -> None:
    async with console(session) as site, logged_in(site, principal("none")) as outsider:
        run = await waiting_run(site)
        for path in ("", "/file"):
            answers = [await outsider.get(f"/runs/{id}{path}") for id in (run, "0" * 32)]
            assert [answer.status_code for answer in answers] == [404, 404]
            assert answers[0].text == answers[1].text
        assert run[:8] not in (await outsider.get("/runs")).text
        live = await outsider.get(f"/live/runs/{run}")
        assert "event: page" not in live.text


async def test_a_person_who_follows_a_run_without_its_page_is_recorded_as_a_reader(session: Path) -> None:
    async with console(session) as site, logged_in(site, OPERATOR) as person:
        run = await waiting_run(site)
        async with person.stream("GET", f"/live/runs/{run}") as live:
            assert live.status_code == 200
            await anext(live.aiter_text())
        assert reads(session) == [(run, "user:operator")]


async def test_a_stream_that_is_refused_is_no_reading(session: Path) -> None:
    settings = session / "remit.toml"
    settings.write_text(settings.read_text() + "\n[serve]\nlisteners = 1\n")
    async with console(session) as site, logged_in(site, OPERATOR) as person:
        run = await waiting_run(site)
        foreign = await person.get(f"/live/runs/{run}", headers={"sec-fetch-site": "cross-site"})
        async with person.stream("GET", "/live/approvals") as live:
            texts = live.aiter_text()  # kept: without a reference, it closes the stream
            await anext(texts)
            async with person.stream("GET", f"/live/runs/{run}") as full:
                pass
        assert (foreign.status_code, full.status_code) == (403, 429)
        assert reads(session) == []


def reads(session: Path) -> list[tuple[str, str]]:
    """Who has read which run, as recorded."""
    opened = open_session(session)
    events = [item.event for item in opened.journal.events(WORKSPACE_RUN)]
    return [(event.run, event.by.subject) for event in events if isinstance(event, ContentRead)]


async def test_the_file_of_a_run_is_the_page_of_the_command_line(session: Path, tmp_path: Path, remit: Any) -> None:
    async with console(session) as site, logged_in(site, OPERATOR) as browser:
        run = await finished_run(site)
        answer = await browser.get(f"/runs/{run}/file")
    assert answer.headers["content-disposition"] == f'attachment; filename="{run[:8]}.html"'
    file = tmp_path / "run.html"
    assert remit("trace", "show", run, "--html", str(file)).code == 0
    assert file.read_text() == answer.text


async def test_a_form_of_another_site_does_nothing_with_a_run(session: Path) -> None:
    async with console(session) as site, logged_in(site, OPERATOR) as browser:
        run = await waiting_run(site)
        page = (await browser.get(f"/runs/{run}")).text
        token = re.findall(r'name="form_token" value="([^"]*)"', page)[0]
        fields = {"form_token": token, "reason": "x", "place": "0.0", "landed": "yes"}
        for path in ("hold", "release", "resume", "settle"):
            foreign = {"origin": "https://evil.example.com", "sec-fetch-site": "cross-site"}
            assert (await browser.post(f"/runs/{run}/{path}", data=fields, headers=foreign)).status_code == 403
            guessed = {**fields, "form_token": "guessed"}
            own = {"origin": site.base}
            assert (await browser.post(f"/runs/{run}/{path}", data=guessed, headers=own)).status_code == 403
        assert site.session.journal.holds() == {}
        held = await browser.post(f"/runs/{run}/hold", data=fields, headers={"origin": site.base})
        assert (held.status_code, list(site.session.journal.holds())) == (200, [f"run:{run}"])
