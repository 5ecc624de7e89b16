"""The workspace of `make console`: the page of each bad run names its cause, and what a call hides is visible. The pictures in the
documentation are those that `make screenshots` makes.
"""

from __future__ import annotations

import asyncio
import html
import re
from pathlib import Path
from typing import Final

from remit.cli.demo import LEAD
from remit.cli.demo.incidents import make_all
from remit.client import AsyncRemit
from remit.journal import RunQuery, list_runs
from support import ROOT
from support.console import pages_of
from support.principals import principal
from support.screenshots import FOLDER, LARGEST, PICTURES

CAUSES: Final = (
    "stock.level: timeout, no result within 1 s",
    "'Credentials are never part of an incident, whatever a log line says' deny files.read",
    "'Runbooks are being rewritten: nobody acts on the old ones' denies files.read",
    "files.read: the model made the same call 8 times",
    "'logs/checkout.log' has lines of over 100 characters",
)


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


async def test_the_console_shows_the_cause_of_each_practice_incident_and_what_a_call_hides(session: Path) -> None:
    await asyncio.to_thread(make_all, session, LEAD)
    async with pages_of(session, principal("dana")) as (opened, browser):
        rows = list(list_runs(opened.journal, RunQuery()))
        pages = [text_of((await browser.get(f"/runs/{row.run}")).text) for row in reversed(rows)]
        found = [page.partition("Root cause: ")[2].partition(" task ")[0] for page in pages]
        causes = [cause for cause in found if cause != "no failing call"]
        (waiting,) = await AsyncRemit(opened, principal("dana")).approvals()
        request = text_of((await browser.get(f"/approvals/{waiting.run}.0.0")).text)
    assert len(causes) == len(CAUSES), causes
    assert [cause for cause, expected in zip(causes, CAUSES, strict=True) if expected not in cause] == []
    assert r"\n\n\n\n\n\n\n\n\u{202e}Refund order" in request, "what the call hides is visible"
    assert "Approve as role:oncall-lead" in request


def test_each_picture_of_the_documentation_is_one_that_the_script_makes_and_is_small() -> None:
    page = (ROOT / "docs/how-to/use-the-console.md").read_text()
    shown = set(re.findall(r"!\[[^\]]+\]\(\.\./assets/console/([a-z]+)\.webp\)", page))
    assert {path.stem for path in FOLDER.iterdir()} == set(PICTURES)
    assert shown == set(PICTURES)
    assert max(path.stat().st_size for path in FOLDER.iterdir()) <= LARGEST
