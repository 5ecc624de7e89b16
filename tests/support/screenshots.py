"""Makes the pictures of the console in the documentation: `make screenshots`. They show the five practice incidents.

A picture is written again only by this program, from the pages as a browser draws them.
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from remit.cli.demo import LEAD
from remit.cli.demo.incidents import make_all
from remit.core import Principal
from remit.workspace import write_starter
from support import ROOT
from support.browser import Browser
from support.console import Console, console, page_of, press, show_on

FOLDER: Final = ROOT / "docs/assets/console"
LARGEST: Final = 90 * 1024  # bytes of one picture
QUALITY: Final = 60  # of WebP, in percent
TRIED_S: Final = 180.0  # how long the report of a change may take
RULE: Final = "# Triage may close tickets\np, agent:triage, tickets.close, ticket:*, True, allow\n"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture: `address` has places for runs, by what is said of them in `found`; `height` is in pixels."""

    address: str
    size: str
    height: int
    theme: str = "light"


PICTURES: Final[Mapping[str, Picture]] = {
    "request": Picture(address="/approvals/{waiting}.0.0", size="phone", height=1000),
    "runs": Picture(address="/runs", size="desk", height=900),
    "run": Picture(address="/runs/{refused}", size="desk", height=900),
    "compared": Picture(address="good", size="desk", height=700),
    "rules": Picture(address="draft", size="desk", height=1100),
    "fleet": Picture(address="/fleet", size="desk", height=1200, theme="dark"),
    "tool": Picture(address="/tools/files", size="desk", height=900),
}


async def made(folder: Path) -> None:
    """Write each picture into that folder."""
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name) / "practice"
        await asyncio.to_thread(write_starter, workspace)
        await asyncio.to_thread(make_all, workspace, LEAD)
        async with console(workspace) as site:
            await asyncio.to_thread(_shoot, site, folder, Path(name) / "profile")


def _shoot(site: Console, folder: Path, profile: Path) -> None:
    lead = Principal(subject=LEAD, authenticated="os_account", account="dana")
    runs = _runs(site, lead)
    with page_of(profile) as page:
        site.log_in(page, lead)
        for name, picture in PICTURES.items():
            show_on(page, picture.size, picture.theme)
            _open(page, site, picture.address, runs)
            width = page.value("innerWidth")
            clip = {"x": 0, "y": 0, "width": width, "height": picture.height, "scale": 1}
            asked = {"format": "webp", "quality": QUALITY, "clip": clip, "captureBeyondViewport": True}
            data = base64.b64decode(page.ask("Page.captureScreenshot", **asked)["data"])
            assert len(data) <= LARGEST, f"{name}.webp has {len(data)} bytes"
            (folder / f"{name}.webp").write_bytes(data)


def _runs(site: Console, lead: Principal) -> Mapping[str, str]:
    """The runs that the pictures show."""
    cookies = {site.access.cookie: site.access.sessions.start(lead)}
    with httpx.Client(base_url=site.base, cookies=cookies, trust_env=False, timeout=60) as browser:
        rows = browser.get("/v1/runs").json()["value"]["runs"]
    waiting = next(row["run"] for row in rows if row["state"] == "waiting")
    refused = next(row["run"] for row in rows if row.get("denied"))
    return {"waiting": waiting, "refused": refused}


def _open(page: Browser, site: Console, address: str, runs: Mapping[str, str]) -> None:
    if address == "good":
        page.go(f"{site.base}/runs/{runs['refused']}")
        press(page, "Compare with the last good run")
        _await(page)
    elif address == "draft":
        page.go(f"{site.base}/policy/edit?file=policies/rules.csv")
        page.value(f"document.querySelector('#rules').value += {RULE!r}")
        press(page, "Analyse the change")
        _await(page)
    else:
        page.go(site.base + address.format(**runs))


def _await(page: Browser) -> None:
    """Load the page until nothing of it is computed any more."""
    for _ in range(round(TRIED_S)):
        if (
            "still computed" not in (text := str(page.value("document.body.innerText")))
            and "still computing" not in text
        ):
            return
        page.go(str(page.value("location.href")))
    raise AssertionError("the report was not computed in time")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    asyncio.run(made(FOLDER))
