"""The pages of tools and of the fleet: what is shown is what the commands count, for people who may read every run."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from remit.client import AsyncRemit
from remit.server.pages.fleet.figures import MOST_EVENTS, figures_of
from remit.server.pages.fleet.plots import bar_plot, line_plot
from remit.tracing.reports import tool_statistics
from support.console import HOSTILE, Console, console, pages_of, structure
from support.principals import principal

OPERATOR: Final = principal("operator", account="ann")
LIMITS: Final = """[[limit]]
note = "The ticket system takes no more"
of = "calls"
most = 100
per = "1m"
action = "tickets.*"
"""


@pytest_asyncio.fixture
async def site(session: Path) -> AsyncIterator[Console]:
    (session / "policies" / "limits.toml").write_text(LIMITS)
    async with console(session) as opened:
        yield opened


def browser_of(site: Console, who: Any = OPERATOR) -> httpx.AsyncClient:
    id = site.access.sessions.start(who)
    return httpx.AsyncClient(base_url=site.base, cookies={site.access.cookie: id}, trust_env=False, timeout=60)


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


async def called(site: Console, action: str, **arguments: Any) -> str:
    run = (await site.client(OPERATOR).call(action, arguments, agent="triage")).run
    assert run is not None
    return run


async def test_the_fleet_shows_what_waits_is_held_and_was_denied_with_the_rule_and_a_plot(site: Console) -> None:
    for _ in range(2):
        await called(site, "files.read", path="secrets/payments.env")
    waiting = await called(site, "tickets.close", key="INC-2041", reason="fixed")
    await site.client(OPERATOR).hold("agent:support", reason="look first")
    async with browser_of(site) as browser:
        page = (await browser.get("/fleet")).text
    text = text_of(page)
    assert "1 calls that wait for people" in text
    assert "agent:support held look first user:operator" in text
    assert re.search(r"rules\.csv:\d+ Credentials are never part of an incident, whatever a log line says 2", text)
    assert 'aria-label="2 calls"' in page, "the bar of that rule"
    assert "p95 of files.read by triage over time" in page
    assert "triage waiting 1" in text
    assert "100 calls in 60 s The ticket system takes no more" in text
    assert waiting is not None


async def test_the_figures_of_the_page_are_those_of_the_command(site: Console) -> None:
    runs = [await called(site, "files.read", path="runbooks/payments-pool.md") for _ in range(3)]
    runs.append(await called(site, "files.read", path="runbooks/none.md"))
    client = site.client(OPERATOR)
    found = figures_of(site.session, client.policy, OPERATOR)
    expected = tool_statistics(item for run in runs for item in site.session.journal.events(run))
    assert tuple(item.all for item in found.actions) == expected
    assert [(one.run, one.code) for one in found.failures] == [(runs[-1], found.failures[0].code)]
    assert sum(value is not None for value in found.actions[0].p95) >= 1
    assert found.runs == 4
    assert MOST_EVENTS < 10**6


async def test_no_more_events_are_read_than_a_page_may_take(site: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await called(site, "files.read", path="runbooks/payments-pool.md")
    monkeypatch.setattr("remit.server.pages.fleet.figures.MOST_EVENTS", 10)
    assert figures_of(site.session, site.client(OPERATOR).policy, OPERATOR).runs == 1


async def test_a_tool_shows_its_permission_card_its_pin_its_failures_and_its_times(
    site: Console, session: Path, remit: Any
) -> None:
    run = await called(site, "files.read", path="runbooks/none.md")
    card = remit("tool", "show", "files").out
    async with browser_of(site) as browser:
        listed, shown = (await browser.get("/tools")).text, (await browser.get("/tools/files")).text
        missing = await browser.get("/tools/none")
    assert "files 1.0.0 · as it was reviewed · 1 failed" in text_of(listed)
    assert all(" ".join(line.split()) in text_of(shown) for line in card.splitlines())
    assert f"{run[:8]}/0.0" in shown
    assert "p95 of files.read by triage over time" in shown
    assert missing.status_code == 404


async def test_a_tool_that_changed_after_its_review_is_marked(session: Path) -> None:
    code = session / "tools" / "files" / "main.py"
    code.write_text(code.read_text() + "\n# later\n")
    async with console(session) as site, browser_of(site) as browser:
        listed, shown = (await browser.get("/tools")).text, (await browser.get("/tools/files")).text
    assert "its code has changed since the review" in listed
    assert "its code has changed since the review" in shown


@pytest.mark.parametrize("path", ["/tools", "/tools/files", "/fleet"])
async def test_who_may_not_read_every_run_sees_neither_tools_nor_fleet(site: Console, path: str) -> None:
    await site.client(OPERATOR).hold("agent:support", reason="look first")
    async with browser_of(site, principal("none")) as outsider, browser_of(site) as reader:
        refused, shown = await outsider.get(path), await reader.get(path)
    assert (refused.status_code, shown.status_code) == (403, 200)
    assert "triage" not in refused.text
    assert "look first" not in refused.text


async def test_every_text_stays_text_on_the_pages_of_tools_and_of_the_fleet(session: Path) -> None:
    async def pages(text: str) -> list[str]:
        rules = session / "policies" / "rules.csv"
        rules.write_text(f"{own}\n# {text}\np, agent:triage, tickets.close, ticket:*, True, deny\n")
        limit = text.replace("\\", "\\\\").replace('"', '\\"')
        (session / "policies" / "limits.toml").write_text(LIMITS.replace("The ticket system takes no more", limit[:60]))
        async with pages_of(session, OPERATOR) as (opened, browser):
            client = AsyncRemit(opened, OPERATOR)
            await client.call("tickets.close", {"key": "INC-2041", "reason": text}, agent="triage")
            await client.call("files.read", {"path": text}, agent="triage")
            await client.hold("tool:files", reason=text)
            found = [(await browser.get(path)).text for path in ("/tools", "/tools/files", "/fleet")]
            await client.lift("tool:files")
            return found

    own = (session / "policies" / "rules.csv").read_text()
    texts = " ".join(HOSTILE)
    await pages("harmless")
    for hostile, harmless in zip(await pages(texts), await pages(re.sub("[<>&]", "_", texts)), strict=True):
        assert elements(hostile) == elements(harmless)
        assert "<script>alert" not in hostile


def elements(page: str) -> set[str]:
    """The kinds of elements of a page; how many marks a plot has depends on the time of the runs."""
    return {one for one in map(str, structure(page)) if not re.search("line|circle", one)}


def test_a_plot_says_in_words_what_it_shows_and_escapes_them() -> None:
    plot = line_plot([1.0, None, 2.0, 3.0], '"><script>')
    assert 'aria-label="&quot;&gt;&lt;script&gt;"' in plot
    assert plot.count("<circle") == 3
    assert plot.count("<line") == 1, "a part of the time without a value is a gap"
    assert line_plot([None, None], "nothing") == ""
    assert 'width="150.0"' in bar_plot(1, 2, "half")
