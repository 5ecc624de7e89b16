"""The pages for developers name packages, files, classes and tests that exist, and show the layers that are checked."""

from __future__ import annotations

import configparser
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from support import ROOT, TESTS

PACKAGE: Final = ROOT / "agent" / "remit"
CONCEPTS: Final = ROOT / "docs" / "concepts"
ARCHITECTURE: Final = ROOT / "docs" / "architecture"
DECISIONS: Final = sorted((ARCHITECTURE / "decisions").glob("*.md"))
CONTRIBUTING: Final = ROOT / "CONTRIBUTING.md"
PACKAGES: Final = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
PAGES: Final = [*sorted(CONCEPTS.glob("*.md")), ARCHITECTURE / "README.md", *DECISIONS, CONTRIBUTING]
NAMES: Final = [page.relative_to(ROOT).as_posix() for page in PAGES]
LEAST_RECORDS: Final = 10
# Parts of a name that stand for any name.
PLACEHOLDER: Final = re.compile(r"NAME|RUN|PAGE|-N/|…")
# Files that only some workspaces have.
OPTIONAL: Final = (
    "traces/journal.db",
    "traces/objects/",
    "traces/checkpoints.db",
    "policies/content.toml",
    "policies/entities.jsonl",
    "policies/limits.toml",
    "policies/prices.toml",
)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def quoted(page: Path) -> list[str]:
    """What the page has in backticks, without blocks of code."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```[\s\S]*?```", "", text_of(page)))


@cache
def words_of_the_code() -> frozenset[str]:
    """Every word of the code, the tests and the files of the workspace."""
    listed = ["agent", "tests", "tools", "policies", "Makefile", "pyproject.toml", "remit.toml", ".importlinter"]
    names = subprocess.run(
        ["git", "ls-files", "--", *listed], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    own = TESTS / "docs" / "test_concepts.py"
    kept = [ROOT / name for name in names if Path(name).suffix in (".py", ".pyi", ".toml", ".csv", ".conf", "")]
    texts = (path.read_text(encoding="utf-8") for path in kept if path.is_file() and path != own)
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


@cache
def written_tests() -> frozenset[str]:
    found = (re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")) for path in TESTS.rglob("test_*.py"))
    return frozenset(name for names in found for name in names)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_every_package_has_a_page_that_the_index_links_and_no_page_is_of_anything_else() -> None:
    """`evals-comparison.md` is a second page of the package `evals`."""
    pages = {path.stem for path in CONCEPTS.glob("*.md")} - {"README"}
    assert {page.partition("-")[0] for page in pages} == set(PACKAGES) <= pages
    index = text_of(CONCEPTS / "README.md")
    assert [name for name in PACKAGES if f"[{name}]({name}.md)" not in index] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_concept_page_says_for_whom_it_is_and_has_the_same_parts_as_the_others(package: str) -> None:
    text = text_of(CONCEPTS / f"{package}.md")
    assert text.startswith(f"# {package}: ")
    opening = text.split("\n\n")[1]
    assert opening.startswith("For ")
    assert "After this page you " in opening
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert [heading.partition(" of a ")[0] for heading in headings] == ["Nouns", "The path", "Invariants", "Read on"]
    assert 40 <= len(text.splitlines()) <= 90
    assert re.findall(r"`(test_\w+)`", text.split("## Invariants")[1]), "no invariant names a test"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    paths = [word for word in quoted(page) if re.fullmatch(r"[\w.-]+(?:/[\w.-]*)+", word)]
    named = [path for path in paths if path not in OPTIONAL and not PLACEHOLDER.search(path)]
    known = (ROOT, PACKAGE, PACKAGE / "sandbox", TESTS / "adversarial")
    assert [path for path in named if not any((folder / path).exists() for folder in known)] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_name_that_a_page_gives_is_in_the_code_and_every_test_exists(page: Path) -> None:
    names = {word for word in quoted(page) if re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", word)}
    tests = {name for name in names if name.startswith("test_")}
    assert sorted(tests - written_tests()) == []
    others = {name for name in names - tests if not name.endswith(".md") and not PLACEHOLDER.search(name)}
    assert sorted(name for name in others if not set(name.split(".")) <= words_of_the_code()) == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.is_file():
            broken.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(file), re.MULTILINE)
            if anchor not in map(slug, headings):
                broken.append(target)
    assert broken == []


def test_decision_records_are_numbered_listed_and_complete() -> None:
    numbers = [int(path.name.partition("-")[0]) for path in DECISIONS]
    assert numbers == list(range(1, len(DECISIONS) + 1))
    assert len(DECISIONS) >= LEAST_RECORDS
    index = text_of(ARCHITECTURE / "README.md")
    assert re.findall(r"^\d+\. \[.+\]\(decisions/(.+)\)$", index, re.MULTILINE) == [path.name for path in DECISIONS]
    for number, path in enumerate(DECISIONS, 1):
        text = text_of(path)
        title = re.escape(text.splitlines()[0].removeprefix(f"# {number}. "))
        assert re.search(rf"\[{title}\]\(decisions/{path.name}\)", index), path.name
        assert re.search(r"^Status: ", text, re.MULTILINE), path.name
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Source"], path.name


def test_the_picture_of_the_layers_is_the_checked_contract() -> None:
    """Packages to come, in brackets, and modules of the root are not in the picture."""
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    lines = contract["importlinter:contract:layers"]["layers"].split("\n")
    layers = [[name.strip() for name in line.split("|")] for line in lines]
    expected = [[name for name in layer if re.fullmatch(r"[a-z]\w*", name)] for layer in layers]
    rows: dict[int, list[str]] = {}
    for y, name in re.findall(r'class="package" x="\d+" y="(\d+)"[^>]*>(\w+)<', text_of(ARCHITECTURE / "layers.svg")):
        rows.setdefault(int(y), []).append(name)
    assert [rows[y] for y in sorted(rows)] == [layer for layer in expected if layer]
    assert sorted(name for row in rows.values() for name in row) == PACKAGES


def test_contributing_says_of_every_make_target_what_it_runs() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    table = text_of(CONTRIBUTING).split("## What each target costs")[1]
    rows = set(re.findall(r"^\| `make ([a-z-]+)` \| \S", table, re.MULTILINE))
    assert rows == targets
