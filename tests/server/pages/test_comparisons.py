"""A run compared, replayed and tried with other rules from its page: for who may read it, without an effect, apart and bounded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from remit.core.events import ContentRead
from remit.journal import WORKSPACE_RUN
from remit.server import apart
from support.console import Console, console
from support.principals import principal

OPERATOR: Final = principal("operator", account="ann")
READ: Final[Any] = {"path": "runbooks/payments-pool.md"}
DENY: Final = "\n# Runbooks are being rewritten\np, agent:triage, files.read, file:runbooks/**, True, deny\n"
COMPUTED_S: Final = 120.0


@pytest_asyncio.fixture
async def site(session: Path) -> AsyncIterator[Console]:
    async with console(session) as opened:
        yield opened


def browser_of(site: Console, who: Any = OPERATOR) -> httpx.AsyncClient:
    id, headers = site.access.sessions.start(who), {"origin": site.base}
    cookies = {site.access.cookie: id}
    return httpx.AsyncClient(base_url=site.base, cookies=cookies, headers=headers, trust_env=False, timeout=60)


async def read(site: Console, **changes: str) -> str:
    run = (await site.client(OPERATOR).call("files.read", {**READ, **changes}, agent="triage")).run
    assert run is not None
    return run


async def asked(browser: httpx.AsyncClient, run: str, way: str, other: str = "") -> httpx.Response:
    token = re.findall(r'name="form_token" value="([^"]*)"', (await browser.get(f"/runs/{run}")).text)[0]
    return await browser.post(f"/runs/{run}/compare", data={"form_token": token, "way": way, "other": other})


async def result(browser: httpx.AsyncClient, run: str, way: str, other: str = "") -> str:
    """The page of the result once it is computed."""
    begun = await asked(browser, run, way, other)
    assert begun.status_code == 303, begun.text
    async with asyncio.timeout(COMPUTED_S):
        while "still computing" in (page := (await browser.get(begun.headers["location"])).text):
            await asyncio.sleep(0.1)
    return page


async def test_a_run_is_replayed_and_tried_with_the_rules_of_now(site: Console, session: Path) -> None:
    run = await read(site)
    rules = session / "policies" / "rules.csv"
    rules.write_text(rules.read_text() + DENY)
    events = len(site.session.journal.events(run))
    async with browser_of(site) as browser:
        replayed, what_if = await result(browser, run, "replay"), await result(browser, run, "rules")
        tools = await result(browser, run, "tools")
    assert "Nothing differs." in replayed
    assert "reproduced" in replayed
    assert "diverged" in what_if
    assert "Runbooks are being rewritten" in what_if
    assert "Nothing differs." in tools
    assert len(site.session.journal.events(run)) == events, "nothing happens to the run"


async def test_a_run_is_compared_with_another_one_and_both_readings_are_recorded(site: Console) -> None:
    first, second = await read(site), await read(site, path="runbooks/checkout-latency.md")
    async with browser_of(site) as browser:
        page = await result(browser, second, "other", first[:16])
        acts = [item.event for item in site.session.journal.events(WORKSPACE_RUN)]
        refused = await asked(browser, first, "good")
    assert "first divergence" in page
    assert "Something differs" in page
    assert {event.run for event in acts if isinstance(event, ContentRead)} == {first, second}, (
        "only the second was opened"
    )
    assert refused.status_code == 403
    assert "no earlier run" in refused.text


async def test_a_run_that_a_person_may_not_read_is_not_compared_by_any_way(site: Console) -> None:
    run = await read(site)
    async with browser_of(site) as browser, browser_of(site, principal("none")) as outsider:
        begun = await asked(browser, run, "replay")
        token = re.findall(r'name="form_token" value="([^"]*)"', (await outsider.get("/runs")).text)[0]
        for way in ("good", "other", "replay", "rules", "tools"):
            fields = {"form_token": token, "way": way, "other": run}
            answers = [await outsider.post(f"/runs/{id}/compare", data=fields) for id in (run, "0" * 32)]
            assert [answer.status_code for answer in answers] == [403, 403]
            assert answers[0].text == answers[1].text
        assert (await outsider.get(begun.headers["location"])).status_code == 404, "a result is its author's"
        forged = await browser.post(f"/runs/{run}/compare", data={"form_token": "guessed", "way": "replay"})
        assert forged.status_code == 403


async def test_a_comparison_that_takes_too_long_is_ended_and_the_page_says_so(
    site: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart.Apart.command, "__kwdefaults__", {"longest": 0.05})
    run = await read(site)
    async with browser_of(site) as browser:
        page = await result(browser, run, "replay")
    assert "ended: it took longer" in page
