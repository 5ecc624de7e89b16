"""A real browser, Debian's Chromium, controlled through its debugging pipe."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

CHROMIUM: Final = os.environ.get("REMIT_CHROMIUM") or shutil.which("chromium")
WAIT_S: Final = 120.0  # a browser without a graphics card draws slowly beside other tests


def lacking(what: str, install: str) -> NoReturn:
    """Skip a test that needs something that this machine does not have. In CI it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"no {what}: {install}")
    pytest.skip(f"no {what}: {install}, and run the test again", allow_module_level=True)


class Browser:
    """One page of the browser. `events` are the events that the browser has reported so far."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self._target = ""
        self.events: list[dict[str, Any]] = []

    def open(self, path: Path | str) -> None:
        """Load a file, or what is at a URL, in a new page, in place of the one before, and wait until it has been loaded."""
        self._session, earlier = None, self._target
        self._target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        if earlier:
            self.ask("Target.closeTarget", targetId=earlier)
        self._session = self.ask("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        self.go(path)

    def go(self, path: Path | str) -> None:
        """Load a file, or what is at a URL, in the page that is open, and wait until it has been loaded.

        Its process has compiled the scripts that both use.
        """
        self.events.clear()
        self.ask("Page.navigate", url=path if isinstance(path, str) else path.as_uri())
        self.loaded()

    def loaded(self) -> None:
        """Wait until a page has been loaded since `events` was cleared."""
        self._until(lambda: any(event["method"] == "Page.loadEventFired" for event in self.events))

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; if it is a promise, the value that it gets."""
        asked = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in asked, asked["exceptionDetails"]
        return asked["result"].get("value")

    def violations(self) -> list[str]:
        """What axe-core finds on the page as it is drawn now: each rule that is broken, with the first element that breaks it."""
        if self.value("typeof axe") == "undefined":
            self.value(f"{_axe()}; 0")
        found: list[str] = self.value(
            "axe.run().then(found => found.violations.map(one => `${one.id}: ${one.nodes[0].html}`))"
        )
        return found

    def press(self, key: str) -> None:
        """Press and release one key."""
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        code = {"Enter": 13, "Tab": 9}.get(key, ord(key[0].upper()))
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, text=text, windowsVirtualKeyCode=code)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []
        self._until(lambda: bool(answers), answers)
        assert "error" not in answers[0], answers[0]
        result: dict[str, Any] = answers[0]["result"]
        return result

    def _until(self, done: Any, answers: list[dict[str, Any]] | None = None) -> None:
        end = time.monotonic() + WAIT_S
        while not done():
            ready, _, _ = select.select([self._reading], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser did not answer in time"
            read = os.read(self._reading, 1 << 20)
            assert read, "the browser ended"
            self._rest += read
            *messages, self._rest = self._rest.split(b"\0")
            for message in map(json.loads, messages):
                if "method" in message:
                    self.events.append(message)
                elif message["id"] == self._number and answers is not None:
                    answers.append(message)


def _axe() -> str:
    """The source of axe-core, which the dependency group `docs` brings."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        lacking("axe-core", "run make docs")
    return (Path(found.origin).parent / "axe.min.js").read_text("utf-8")


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a headless browser, and end it afterwards."""
    assert CHROMIUM is not None
    browser_reads, writing = os.pipe()
    reading, browser_writes = os.pipe()
    assert min(browser_reads, browser_writes) > 4  # otherwise dup2 would overwrite one before it is copied
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",  # it does not work as root; the pages are our own
        "--disable-gpu",
        "--no-first-run",
        "--disable-dev-shm-usage",
        f"--user-data-dir={profile}",
        "--remote-debugging-pipe",
    ]
    launcher = f"import os, sys; os.dup2({browser_reads}, 3); os.dup2({browser_writes}, 4); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", launcher, *command],
        pass_fds=(browser_reads, browser_writes),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(browser_reads)
    os.close(browser_writes)
    try:
        yield Browser(reading, writing)
    finally:
        os.close(writing)  # the browser ends when its pipe is closed
        os.close(reading)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
