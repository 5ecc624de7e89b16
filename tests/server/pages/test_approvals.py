"""The inbox and the page of a request in a real browser: what an approver reads, and each answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

from remit.client import find_request, review_of
from remit.core.events import ApprovalGranted, ApprovalRejected, ApprovalRevoked
from remit.workspace import open_session
from support.browser import Browser
from support.console import Console, console, page_of, press, problems, text_of, until_shown
from support.principals import principal

CLOSE: Final[Any] = {"key": "INC-2041", "reason": "fixed"}
ANN: Final = principal("operator", account="ann")
DANA: Final = principal("dana")


async def ask(site: Console, **changes: str) -> str:
    """A call of ann that waits for approval. Returns the path of its page."""
    asked = await site.client(ANN).call("tickets.close", {**CLOSE, **changes}, agent="triage")
    return f"/approvals/{asked.run}.0.0"


def recorded(site: Console, path: str, kind: type) -> list[Any]:
    run = path.rpartition("/")[2].partition(".")[0]
    return [item.event for item in site.session.journal.events(run) if isinstance(item.event, kind)]


async def test_a_new_request_appears_in_the_inbox_while_it_is_open(session: Path, tmp_path: Path) -> None:
    def look(site: Console, loop: asyncio.AbstractEventLoop) -> tuple[str, str, list[str]]:
        with page_of(tmp_path / "profile") as page:
            site.log_in(page, DANA)
            page.go(f"{site.base}/approvals")
            empty = text_of(page)
            asyncio.run_coroutine_threadsafe(ask(site), loop).result(60)
            shown = until_shown(page, "tickets.close, called by agent:triage for user:operator")
            return empty, shown, problems(page, f"{site.base}/approvals")

    async with console(session) as site:
        empty, shown, wrong = await asyncio.to_thread(look, site, asyncio.get_running_loop())
    assert "No request waits for you." in empty
    assert "No request waits for you." not in shown
    assert wrong == []


async def test_an_approver_reads_what_came_before_and_what_differs_from_the_last_approval(
    session: Path, tmp_path: Path
) -> None:
    def look(site: Console, path: str) -> tuple[str, list[str]]:
        with page_of(tmp_path / "profile") as page:
            site.log_in(page, DANA)
            wrong = problems(page, site.base + path)
            return text_of(page), wrong

    async with console(session) as site:
        earlier, path = await ask(site), await ask(site, reason="the pool was full")
        await site.client(DANA).approve(f"{earlier.rpartition('/')[2].partition('.')[0]}/0.0")
        text, wrong = await asyncio.to_thread(look, site, path)
    assert wrong == []
    for shown in (
        "tickets.close, called by agent:triage",
        "INC-2041",
        "Needs 1 × role:oncall-lead",
        "Why a person is asked",
    ):
        assert shown in text
    assert "user:dana as role:oncall-lead" in text, "who approved the last similar call"
    assert '"fixed"' in text, "and with which argument"
    assert "Nothing: this is its first call that succeeds." in text


def answered(page: Browser, site: Console, path: str, fill: str, button: str) -> str:
    """Fill the field with that id in, press the button; returns what the next page says."""
    page.go(site.base + path)
    page.value("[...document.querySelectorAll('details')].forEach(one => { one.open = true; })")
    if fill:
        field, _, text = fill.partition("=")
        page.value(f"document.getElementById({field!r}).value = {text!r}")
    press(page, button)
    return text_of(page)


async def test_each_answer_of_a_person_is_recorded_and_a_person_can_take_an_approval_back(
    session: Path, tmp_path: Path
) -> None:
    shown: dict[str, str] = {}

    def answer(site: Console, paths: list[str]) -> None:
        with page_of(tmp_path / "profile") as page:
            site.log_in(page, DANA)
            shown["rejected"] = answered(page, site, paths[0], "reason=wrong ticket", "Reject")
            shown["instead"] = answered(page, site, paths[1], "answer=it is closed already", "Send the answer")
            shown["approved"] = answered(page, site, paths[2], "", "Approve as role:oncall-lead")
            shown["revoked"] = answered(page, site, paths[2], "revoke=I misread it", "Revoke your approval")
            shown["bounds"] = answered(page, site, paths[3], "more1=2", "Show which calls")
            press(page, "Approve as role:oncall-lead")
            shown["bounded"] = text_of(page)

    async with console(session) as site:
        paths = [await ask(site) for _ in range(4)]
        await asyncio.to_thread(answer, site, paths)
        rejected, instead = (recorded(site, path, ApprovalRejected)[0] for path in paths[:2])
        granted, revoked = recorded(site, paths[2], ApprovalGranted), recorded(site, paths[2], ApprovalRevoked)
        (bounded,) = recorded(site, paths[3], ApprovalGranted)
    assert (rejected.reason, rejected.response) == ("wrong ticket", None)
    assert instead.response == "it is closed already"
    assert ([event.by.subject for event in granted], [event.reason for event in revoked]) == (
        ["user:dana"],
        ["I misread it"],
    )
    assert (bounded.scope.more, bounded.until is not None) == (2, True)
    assert "Approved as user:dana in role:oncall-lead." in shown["approved"]
    assert "The approval of user:dana is revoked." in shown["revoked"]
    assert "2 more" in shown["bounds"]
    assert "Approved as user:dana" in shown["bounded"]


async def test_of_a_run_that_a_person_may_not_read_no_last_approval_is_shown(session: Path) -> None:
    async with console(session) as site:
        earlier, later = await ask(site), await ask(site, reason="the pool was full")
        first = earlier.rpartition("/")[2].partition(".")[0]
        await site.client(DANA).approve(f"{first}/0.0")
        opened = open_session(session)
        waiting = find_request(opened, later.rpartition("/")[2].replace(".", "/", 1))
        assert [one.run for one in review_of(opened, waiting, lambda run: run == first).similar] == [first]
        assert review_of(opened, waiting, lambda run: run != first).similar == ()
