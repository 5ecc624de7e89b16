"""The HTML page of a run: self-contained, safe to open, readable in light and dark mode, usable by keyboard."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit.core.events import AnyEvent
from remit.journal.hash_chain import Chain, link_of
from remit.tracing import Trace
from remit.tracing.reports.html.page import render_page, write_page
from remit.tracing.reports.incident import IncidentReport, incident_report
from support.browser import CHROMIUM, browser, lacking
from support.events import RUN, a_whole_run, decided, ended, intended, recorded, started, succeeded
from support.events import turn as asked
from support.principals import principal
from support.runs import DONE, Command, Play, turn

HOSTILE = """</script></pre><script>document.title = "pwned"</script><img src="http://127.0.0.1:9/x" onerror="document.title='pwned'">
<style>body { display: none }</style><a href="javascript:document.title='pwned'">x</a>\u202e\u200b&lt;"""


def of(events: list[AnyEvent]) -> IncidentReport:
    records = recorded(events)
    return incident_report(
        Trace(run=RUN, records=tuple(records), chain=Chain(run=RUN, links=tuple(map(link_of, records))))
    )


def hostile() -> IncidentReport:
    """A run with texts that look like markup in every place where the page shows a text."""
    return of(
        [
            started(task=HOSTILE, model=HOSTILE, by=principal("ann", account=HOSTILE)),
            *asked(0),
            decided(0, 0, arguments={HOSTILE: HOSTILE}),
            intended(0, 0),
            ended(0, 0, code="tool_failed", error=HOSTILE, message=HOSTILE, retry_in_s=0.1),
            intended(0, 0, 2),
            ended(0, 0, 2),
            succeeded(0, 0, HOSTILE, value={"text": HOSTILE}),
            *a_whole_run()[-3:],
        ]
    )


def test_texts_on_the_page_are_never_markup_and_load_nothing() -> None:
    """Every text is escaped, and the page has no address, file or script except its own."""
    text = render_page(hostile())
    assert text.count("<script") == text.count("</script>") == 1
    assert text.count("<style") == 1
    assert "<img" not in text
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']""", text)
    assert "\u202e" not in text
    assert "\\u{202e}" in text


def test_the_page_shows_what_the_terminal_shows(play: Play, command: Command, tmp_path: Path) -> None:
    played = play([turn(ledger__look={"name": "gone"}), turn(ledger__pay={"name": "ann", "amount": 500}), DONE])
    file = tmp_path / "incident.html"
    done = command(played.folder, "trace", "show", played.ended.run, "--html", str(file))
    assert (done.code, done.out) == (0, f"wrote {file}\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text, shown = file.read_text(), command(played.folder, "trace", "show", played.ended.run).out
    for part in (
        "waiting",
        "step 0.0, ledger.look: tool_failed, there is no such account",
        "1 × role:lead",
        f"remit approve show {played.ended.run[:8]}/1.0",
    ):
        assert part in text
        assert part in shown


def test_a_page_that_cannot_be_written_is_one_error(play: Play, command: Command) -> None:
    played = play([DONE])
    done = command(played.folder, "trace", "show", played.ended.run, "--html", "nowhere/x.html")
    assert (done.code, done.out) == (2, "")
    assert "cannot be written" in done.err


@pytest.fixture
def shown(tmp_path: Path) -> Callable[[IncidentReport], Path]:
    if CHROMIUM is None:
        lacking("chromium", "apt-get install chromium")

    def write(found: IncidentReport) -> Path:
        write_page(found, tmp_path / "page.html")
        return tmp_path / "page.html"

    return write


def test_a_real_browser_shows_it_without_network_by_keys_in_light_and_dark(
    shown: Callable[[IncidentReport], Path], tmp_path: Path
) -> None:
    """Uses the page by keyboard, with hostile texts in the run."""
    path = shown(hostile())
    with browser(tmp_path / "profile") as tab:
        tab.open(path)
        requested = [
            event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"
        ]
        assert requested == [path.as_uri()]
        assert tab.value("document.title") != "pwned"
        assert tab.value("document.documentElement.dataset.keys") == "on"
        assert tab.value("getComputedStyle(document.body).display") == "block"
        assert not [event for event in tab.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
        assert tab.value("document.querySelectorAll('details.row').length") == 1
        assert tab.value("document.querySelector('details.row').open") is False
        tab.press("j")
        assert tab.value("document.activeElement.tagName") == "SUMMARY"
        tab.press("Enter")
        assert tab.value("document.querySelector('details.row').open") is True
        tab.press("c")
        assert tab.value("document.querySelector('details.row').open") is False
        tab.press("e")
        assert tab.value("document.querySelector('details.row').open") is True
        assert tab.value("document.documentElement.scrollWidth <= window.innerWidth") is True
        colours = [in_scheme(tab, scheme) for scheme in ("light", "dark")]
        assert contrast(*colours[0]) >= 4.5
        assert contrast(*colours[1]) >= 4.5
        assert colours[0] != colours[1]


def in_scheme(tab: Any, scheme: str) -> tuple[str, str]:
    tab.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    style = "getComputedStyle(document.body)"
    return tab.value(f"{style}.color"), tab.value(f"{style}.backgroundColor")


def contrast(ink: str, paper: str) -> float:
    """The ratio of WCAG 2.2; text that people can read has at least 4.5."""

    def luminance(colour: str) -> float:
        parts = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
