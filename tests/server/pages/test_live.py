"""Pages that follow the journal: what several people share of a rendering, and what nobody shares."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from remit.client import SharedLists, page_of_runs, readable_page
from remit.core import Principal, UsageError
from remit.journal import RunQuery, StoredRecord, list_runs
from remit.server.pages.live import TOKEN, Following, Pulse, shown_to
from remit.workspace import open_session
from support.console import Console, console
from support.events import started
from support.principals import principal

CLOSE: Final[Any] = {"key": "INC-2041", "reason": "fixed"}
OPERATOR: Final = principal("operator", account="ann")
FORM_TOKEN: Final = re.compile(r'name="form_token" value="([^"]*)"')


class Shown:
    """A page whose view is the name of a group of people, and how often each part of it was asked for."""

    def __init__(self, groups: dict[str, str]) -> None:
        self.groups = groups
        self.reads = 0
        self.renderings: list[str] = []

    @property
    def page(self) -> Following[int]:
        return Following(what="a page", read=self.read, seen=self.seen, render=self.render)

    def read(self) -> int:
        self.reads += 1
        return self.reads

    def seen(self, by: Principal, found: int) -> dict[str, Any]:
        if (group := self.groups.get(by.subject)) is None:
            raise UsageError("not for this person")
        return {"group": group, "found": found}

    def render(self, seen: dict[str, Any], found: int, token: str) -> str:
        self.renderings.append(seen["group"])
        return f"{seen['group']} {found} {token}"


async def test_people_who_see_the_same_share_a_rendering_and_others_do_not(session: Path) -> None:
    shown = Shown({"user:a": "operators", "user:b": "operators", "user:c": "readers"})
    with open_session(session).journal as journal:
        pulse = Pulse(journal)
        got = await asyncio.gather(*(shown_to(pulse, shown.page, principal(name)) for name in "abcab"))
        assert [message.count(b"operators 1") for message in got] == [1, 1, 0, 1, 1]
        assert (shown.reads, sorted(shown.renderings)) == (1, ["operators", "readers"])
        with pytest.raises(UsageError):
            await shown_to(pulse, shown.page, principal("d"))


async def test_a_page_of_another_name_is_read_for_itself(session: Path) -> None:
    first, second = Shown({"user:a": "operators"}), Shown({"user:a": "readers"})
    with open_session(session).journal as journal:
        pulse = Pulse(journal)
        other = Following(what="another page", read=second.read, seen=second.seen, render=second.render)
        got = [await shown_to(pulse, page, principal("a")) for page in (first.page, other)]
    assert [b"operators" in got[0], b"readers" in got[1]] == [True, True]


@asynccontextmanager
async def people(site: Console, *names: str) -> AsyncIterator[list[tuple[httpx.AsyncClient, str]]]:
    """A browser of each of them, and the token of the forms of its session."""
    ids = [site.access.sessions.start(principal(name)) for name in names]
    found = [site.access.sessions.find(id) for id in ids]
    browsers = [httpx.AsyncClient(base_url=site.base, cookies={site.access.cookie: id}, trust_env=False) for id in ids]
    try:
        yield [(browser, one.form_token) for browser, one in zip(browsers, found, strict=True) if one is not None]
    finally:
        for browser in browsers:
            await browser.aclose()


def with_roles(session: Path, **roles: str) -> str:
    """Give people roles in the workspace. Returns the rules as they were before."""
    rules, marker = session / "policies" / "remit.csv", session / "remit.toml"
    before = rules.read_text()
    rules.write_text(
        before + "".join(f"\n# For this test\ng, user:{name}, role:{role}\n" for name, role in roles.items())
    )
    names = "".join(f'"user:{name}", ' for name in roles)
    marker.write_text(marker.read_text().replace("users = [", f"users = [{names}", 1))
    return before


async def next_page(lines: AsyncIterator[str]) -> str:
    """The next rendering that the stream brings."""
    async with asyncio.timeout(60):
        async for line in lines:
            if line.startswith('data: "'):
                return str(json.loads(line.removeprefix("data: ")))
    raise AssertionError("the stream has ended")


async def test_each_session_has_its_own_token_in_the_forms_of_a_shared_rendering(session: Path) -> None:
    with_roles(session, one="operator", two="operator", reader="auditor")
    async with console(session) as site, people(site, "one", "two", "one", "reader") as browsers:
        run = (await site.client(OPERATOR).call("tickets.close", CLOSE, agent="triage")).run
        pages: list[str] = []
        for browser, _ in browsers:
            async with browser.stream("GET", f"/live/runs/{run}") as live:
                pages.append(await next_page(live.aiter_lines()))
    tokens = [token for _, token in browsers]
    assert len(set(tokens)) == 4
    assert [set(FORM_TOKEN.findall(page)) for page in pages] == [{token} for token in tokens[:3]] + [set()]
    assert all(TOKEN not in page for page in pages)
    without = {page.replace(token, "") for page, token in zip(pages[:3], tokens, strict=False)}
    assert len(without) == 1


async def test_the_page_of_a_run_ends_once_its_reader_may_not_read_it(session: Path) -> None:
    before = with_roles(session, reader="auditor")
    async with console(session) as site, people(site, "reader") as ((browser, _),):
        run = (await site.client(OPERATOR).call("tickets.close", CLOSE, agent="triage")).run
        async with browser.stream("GET", f"/live/runs/{run}") as live:
            lines = live.aiter_lines()
            assert "tickets.close" in await next_page(lines)
            (session / "policies" / "remit.csv").write_text(before)
            async with asyncio.timeout(60):
                ended = [line async for line in lines]
    assert "event: end" in ended


# ── lists that are read once for several people ──────────────────────────────────────────────────────────────────────────


def test_a_shared_list_is_that_of_the_journal_and_is_read_as_far_as_one_of_them_looks(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_session(session)
    with opened.journal as journal:
        for number in range(150):
            StoredRecord(journal, f"{number:032x}").append(started())
        whole = [row.run for row in list_runs(journal)]
        asked: list[object] = []
        read = journal.read
        monkeypatch.setattr(
            journal, "read", lambda statement, **given: (asked.append(statement), read(statement, **given))[1]
        )
        lists = SharedLists(journal)
        first = lists.runs(RunQuery())
        assert [next(first).run for _ in range(10)] == whole[:10]
        assert len(asked) == 1
        assert [row.run for row in lists.runs(RunQuery())] == whole
        count = len(asked)
        assert [row.run for row in lists.runs(RunQuery())] == whole
        assert len(asked) == count, "each row is read once"
        assert [row.run for row in lists.runs(RunQuery(agent="agent:nobody"))] == []


def test_pages_of_a_list_end_with_the_list_and_read_no_more_than_they_show(
    session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_session(session)
    with opened.journal as journal:
        for number in range(130):
            StoredRecord(journal, f"{number:032x}").append(started())
        whole = [row.run for row in list_runs(journal)]
        rows: list[int] = []
        read = journal.read

        def counted(statement: Any, **given: Any) -> Any:
            found = read(statement, **given)
            rows.append(len(found))
            return found

        monkeypatch.setattr(journal, "read", counted)
        pages, before = [], None
        while not pages or before is not None:
            page = page_of_runs(opened, opened.policy, OPERATOR, limit=50, before=before)
            pages.append([row.run for row in page.runs])
            before = page.next
        assert [run for page in pages for run in page] == whole
        assert [len(page) for page in pages] == [50, 50, 30]
        assert max(rows) <= 51
        assert len(rows) <= 4, "a page reads what it shows, and one row more"
        assert readable_page(opened.policy, principal("none"), list_runs(journal), 50).runs == ()
