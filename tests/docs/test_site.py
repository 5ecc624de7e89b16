"""The site of `make docs`: it builds without a warning and without network, no link is broken, and a real browser reads it."""

from __future__ import annotations

import base64
import importlib.util
import os
import random
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pytest

from generator import python
from generator.site import SITE, NotBuilt, build, mkdocs
from support import ROOT
from support.browser import CHROMIUM, Browser, browser, lacking

PAGES: Final = int(os.environ.get("REMIT_SITE_PAGES", "10"))  # how many pages axe-core looks at; 0: all
SEED: Final = 16
VIEWS: Final = (
    (1400, 900, "default"),
    (390, 800, "slate"),
)  # a desktop in light and a phone in dark colours; CSS pixels
WITHOUT_TRANSITIONS: Final = (
    "document.head.insertAdjacentHTML('beforeend', '<style>*{transition: none !important}</style>')"
)


@pytest.fixture(scope="session")
def site() -> Path:
    """The site of `make docs`. It is built here if a file has changed since, once for all test processes."""
    if importlib.util.find_spec("mkdocs") is None:
        lacking("mkdocs", "run make docs")
    build()
    return SITE


class Links(HTMLParser):
    """The links of a page, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if value and ((tag == "a" and name == "href") or name == "src" or (tag == "link" and name == "href")):
                (self.links if tag == "a" else self.loads).append(value)


def pages_of(site: Path) -> dict[Path, Links]:
    return {path: Links(path.read_text("utf-8")) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def broken(pages: dict[Path, Links]) -> list[str]:
    """Every link to a file or an anchor that is not there."""
    found: list[str] = []
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = unquote(link).partition("#")
            place = (path.parent / target).resolve() if target else path
            if not place.is_file() or (anchor and place in pages and anchor not in pages[place].anchors):
                found.append(f"{path.name}: {link}")
    return found


def test_no_link_of_the_site_is_broken_and_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = pages_of(site)
    assert len(pages) > 30
    assert broken(pages) == []
    assert [
        load
        for page in pages.values()
        for load in page.loads
        if re.match(r"(?!data:)[a-z]*:?//|[a-z]+:(?!//|image)", load)
    ] == []
    for name in ("README", "SECURITY"):  # pages outside of docs/
        assert (site / "project" / f"{name.replace('README', 'index')}.html").is_file()


def test_a_broken_link_or_anchor_of_a_page_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="b.html">b</a> <a href="#gone">x</a> <a href="#here">x</a></p>'
    )
    assert broken(pages_of(tmp_path)) == ["a.html: b.html", "a.html: #gone"]


def test_make_docs_refuses_broken_links(tmp_path: Path) -> None:
    """With the settings of mkdocs.yml, and three pages. The strict mode counts one warning for each."""
    if importlib.util.find_spec("mkdocs") is None:
        lacking("mkdocs", "run make docs")
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    (validation,) = re.findall(r"^validation:\n(?:  .+\n)+", settings, re.MULTILINE)
    (strict,) = re.findall(r"^strict: .+\n", settings, re.MULTILINE)
    (tmp_path / "docs").mkdir()
    for page, link in (("index", "gone.md"), ("anchor", "#gone"), ("file", "gone.py")):
        (tmp_path / "docs" / f"{page}.md").write_text(f"# A page\n\n[a]({link})\n")
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\n{strict}{validation}")
    done = mkdocs("--config-file", str(tmp_path / "mkdocs.yml"))
    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    for warning, what in (("'index.md'", "'gone.md'"), ("'anchor.md'", "'#gone'"), ("'file.md'", "'gone.py'")):
        assert [line for line in warnings if warning in line and what in line], warnings
    assert "3 warnings" in done.stdout + done.stderr


def test_the_site_is_built_again_if_a_file_or_the_site_has_changed_or_the_build_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, index = tmp_path / "page.md", tmp_path / ".cache" / "site" / "index.html"
    results = [(0, ""), (0, ""), (1, ""), (0, "WARNING"), (0, "")]

    def mkdocs() -> subprocess.CompletedProcess[str]:
        index.parent.mkdir(exist_ok=True)
        index.write_text(page.read_text())
        code, printed = results.pop(0)
        return subprocess.CompletedProcess([], code, "", printed)

    for name, value in {"ROOT": tmp_path, "SITE": index.parent, "_STAMP": tmp_path / ".cache/stamp"}.items():
        monkeypatch.setattr(f"generator.site.{name}", value)
    monkeypatch.setattr("generator.site.mkdocs", mkdocs)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text(".cache/\n")
    page.write_text("one")
    assert (build(), build()) == (True, False)
    index.write_text("edited")
    assert (build(), build(), index.read_text()) == (True, False, "one")
    page.write_text("two")
    for _ in ("a failure", "a warning"):
        with pytest.raises(NotBuilt):
            build()
    assert (build(), build(), results) == (True, False, [])


def test_every_public_name_and_its_methods_have_an_anchor(site: Path) -> None:
    """mkdocstrings writes these pages; a name that it did not find would be missing."""
    for module in python.MODULES:
        if names := python.names(module):
            anchors = Links((site / "reference" / "python" / f"{module}.html").read_text("utf-8")).anchors
            assert {f"{module}.{name}" for name in names} - anchors == set()
    inherited = "remit.RunResult.answer"
    assert {"remit.Remit.open", "remit.Remit.run", "remit.Policy.load", "remit.Sandbox.run", inherited} <= Links(
        (site / "reference" / "python" / "remit.html").read_text("utf-8")
    ).anchors


# -- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if CHROMIUM is None:
        lacking("chromium", "apt-get install chromium")
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def violations(tab: Browser, path: Path) -> list[str]:
    """What axe-core finds on a page, on a desktop and on a phone."""
    tab.go(path)
    tab.value(WITHOUT_TRANSITIONS)
    found: list[str] = []
    for width, height, scheme in VIEWS:
        tab.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        tab.value(f"document.body.setAttribute('data-md-color-scheme', '{scheme}')")
        found += [f"{path.name}, {width} px, {scheme}: {one}" for one in tab.violations()]
    return found


def test_axe_core_finds_nothing_on_sampled_pages(site: Path, tab: Browser, tmp_path: Path) -> None:
    """Pages that are drawn by chance from a fixed seed; a page without a language and with a picture without text fails."""
    every = sorted(pages_of(site))
    sampled = random.Random(SEED).sample(every, PAGES) if PAGES else every
    tab.open(site / "index.html")
    assert [one for path in sampled for one in violations(tab, path)] == []
    picture = base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>").decode()
    (tmp_path / "bad.html").write_text(
        f"<title>x</title><main><h1>x</h1><img src='data:image/svg+xml;base64,{picture}'></main>"
    )
    assert {one.split(": ")[1] for one in violations(tab, tmp_path / "bad.html")} == {"html-has-lang", "image-alt"}


def test_the_search_finds_a_term_without_a_server(site: Path, tab: Browser) -> None:
    """From the file system, as a person opens the site after `make docs`."""
    tab.open(site / "index.html")
    tab.value("document.querySelector('.md-search__input').focus()")
    for key in "seccomp":
        tab.press(key)  # the search looks when a key is released
    results = "[...document.querySelectorAll('.md-search-result__link')].map(one => one.href)"
    wait = f"new Promise(done => {{ const at = setInterval(() => {{ const got = {results}; if (got.length) {{ clearInterval(at); done(got); }} }}, 50); }})"
    found = tab.value(wait)
    assert any("/security/threat-model.html" in link for link in found), found
    requested = [
        event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert {url.partition(":")[0] for url in requested} <= {"file", "data"}
    assert not [event for event in tab.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
