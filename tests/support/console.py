"""The console in tests: a service that listens, people who are logged in, and a real browser that looks at its pages."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import httpx

from remit.client import AsyncRemit
from remit.core import Principal
from remit.server import ROUTES, Access, Service, build_app, serve
from remit.workspace import WorkspaceSession, open_session
from support.browser import CHROMIUM, Browser, browser, lacking

SIZES: Final = {"phone": (390, 844, True), "desk": (1280, 900, False)}
THEMES: Final = ("light", "dark")
# Texts that try to become a part of the page.
HOSTILE: Final = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre><form action=https://evil.example.com>",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(1)",
    "' onmouseover='alert(1)",
    "<svg/onload=alert(1)>",
    "&lt;b&gt;",
    "<!--",
    "</title><style>*{display:none}</style>",
)
RUN: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Console:
    """A service that listens at `base`, which names this machine as browsers want it for passkeys."""

    base: str
    access: Access
    session: WorkspaceSession
    service: Service

    def client(self, who: Principal) -> AsyncRemit:
        return AsyncRemit(self.session, who)

    def log_in(self, page: Browser, who: Principal) -> str:
        """Give the browser a session of that person, as after a login. Returns the id of the session."""
        id = self.access.sessions.start(who)
        page.ask("Network.setCookie", name=self.access.cookie, value=id, url=self.base, httpOnly=True, sameSite="Lax")
        return id


@asynccontextmanager
async def console(folder: Path, *, host: str = "localhost") -> AsyncIterator[Console]:
    """Serve the workspace in that folder until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://{host}:{listener.getsockname()[1]}"
    opened = open_session(folder)
    access = Access([opened], secure=False)
    ready = asyncio.Event()
    service = Service([opened], access)
    serving = asyncio.create_task(serve(service, sockets=[listener], listening=lambda _: ready.set()))
    try:
        await asyncio.wait_for(ready.wait(), 60)
        yield Console(base=base, access=access, session=opened, service=service)
    finally:
        service.ending.set()
        await asyncio.wait_for(serving, 30)


@asynccontextmanager
async def pages_of(folder: Path, who: Principal) -> AsyncIterator[tuple[WorkspaceSession, httpx.AsyncClient]]:
    """The pages of the workspace in that folder for that person, without a socket, until the block ends."""
    opened = open_session(folder)
    access = Access([opened], secure=False)
    service = Service([opened], access)
    transport = httpx.ASGITransport(build_app(service, ROUTES), raise_app_exceptions=False)
    base = "http://localhost:8340"
    cookies = {access.cookie: access.sessions.start(who)}
    async with httpx.AsyncClient(
        transport=transport, base_url=base, cookies=cookies, headers={"origin": base}
    ) as browser:
        yield opened, browser
    await service.end()


@contextmanager
def page_of(profile: Path) -> Iterator[Browser]:
    """A browser with an empty page, on a phone."""
    if CHROMIUM is None:
        lacking("Chromium", "apt-get install chromium")
    with browser(profile) as page:
        page.open("about:blank")
        show_on(page, "phone")
        yield page


def show_on(page: Browser, size: str, theme: str = "light") -> None:
    width, height, mobile = SIZES[size]
    page.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])


def press(page: Browser, button: str, *, within: str = "document") -> None:
    """Press the button or link whose text begins with that, and wait for the next page."""
    page.events.clear()
    found = f"[...{within}.querySelectorAll('button, a')].find(one => one.textContent.trim().startsWith({button!r}))"
    page.value(f"{found}.click()")
    try:
        page.loaded()
    except AssertionError:
        raise AssertionError(f"no page after {button!r}: {text_of(page)}") from None


def text_of(page: Browser) -> str:
    return str(page.value("document.body.innerText"))


def until_shown(page: Browser, text: str, seconds: float = 60.0) -> str:
    """The text of the page once it contains that, without loading it again."""
    end = time.monotonic() + seconds
    while text not in (shown := text_of(page)):
        assert time.monotonic() < end, shown
        time.sleep(0.05)
    return shown


def problems(page: Browser, address: str) -> list[str]:
    """What is wrong with a page, on a phone and on a desk, in light and dark: axe-core, sideways scrolling, and the security policy."""
    found: list[str] = []
    for size in SIZES:
        for theme in THEMES:
            show_on(page, size, theme)
            page.go(address)
            where = f"{address} on a {size}, {theme}"
            found += [f"{where}: {one}" for one in page.violations()]
            if page.value("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{where}: scrolls sideways")
            found += [f"{where}: {one}" for one in refused_by_policy(page)]
    return found


def refused_by_policy(page: Browser) -> list[str]:
    """What the content security policy has refused, and errors of scripts, since the page was loaded."""
    texts = [event["params"]["entry"]["text"] for event in page.events if event["method"] == "Log.entryAdded"]
    thrown = [str(event["params"]) for event in page.events if event["method"] == "Runtime.exceptionThrown"]
    return [text for text in texts if "Content Security Policy" in text or "content-security-policy" in text] + thrown


class _Structure(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.found.append("comment")


def structure(page: str) -> list[Any]:
    """The elements of a page with the names of their attributes, without any text: what a text must not change."""
    parser = _Structure()
    parser.feed(page)
    return parser.found
