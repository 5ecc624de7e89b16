"""The pages of `docs/security` name tests, threats and files that exist, and call a gap a gap."""

from __future__ import annotations

import re
from typing import Final

import pytest

from support import ROOT, TESTS

FOLDER: Final = ROOT / "docs" / "security"
PAGES: Final = sorted(FOLDER.glob("*.md"))
ID: Final = r"[A-Z]+-\d+"
KINDS: Final = ("GOAL", "PATH", "NET", "POL", "APP", "ID", "DEP", "TRY", "REC", "SEC", "BOX", "SHARE", "LOAD")
OWASP: Final = tuple(f"{kind}{number:02}" for kind in ("ASI", "MCP") for number in range(1, 11))


def threats() -> list[tuple[str, str, str, str]]:
    """Each row of the threat model: its id, the threat, the mechanism, the tests."""
    text = (FOLDER / "threat-model.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(rf"\| {ID} ", line)]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    assert [row for row, found in zip(rows, cells, strict=True) if len(found) != 4] == []
    return [(one[0], one[1], one[2], one[3]) for one in cells]


def named_tests(text: str) -> list[str]:
    return re.findall(r"`(test_\w+)`", text)


def written_tests() -> set[str]:
    return {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }


def test_every_test_that_a_security_page_names_exists() -> None:
    written = written_tests()
    named = {page.name: named_tests(page.read_text(encoding="utf-8")) for page in PAGES}
    assert {name: [one for one in tests if one not in written] for name, tests in named.items()} == {
        page.name: [] for page in PAGES
    }
    assert len(named["threat-model.md"]) > 200
    assert len(named["owasp.md"]) > 60


def test_every_threat_has_a_mechanism_and_a_test_or_says_that_it_is_not_held() -> None:
    for name, threat, mechanism, tests in threats():
        assert threat, name
        assert mechanism, name
        if tests == "not held":
            assert mechanism.startswith("**Not held"), name
            assert "Instead: " in mechanism, f"{name} says nothing to do instead"
        else:
            assert named_tests(tests), name
            assert re.fullmatch(r"`test_\w+`(, `test_\w+`)*", tests), name
            assert "not held" not in mechanism.lower(), name


def test_the_id_of_a_threat_is_one_row_and_its_group_is_numbered_without_gaps() -> None:
    ids = [name for name, *_ in threats()]
    counts = {kind: sum(name.startswith(f"{kind}-") for name in ids) for kind in KINDS}
    assert ids == [f"{kind}-{number}" for kind in KINDS for number in range(1, counts[kind] + 1)]


def test_every_threat_that_a_page_refers_to_is_in_the_threat_model() -> None:
    ids = {name for name, *_ in threats()}
    for page in PAGES:
        found = re.findall(rf"\b(?:{'|'.join(KINDS)})-\d+\b", page.read_text(encoding="utf-8"))
        assert [one for one in found if one not in ids] == [], page.name


@pytest.mark.parametrize("item", OWASP)
def test_every_item_of_the_owasp_lists_has_what_is_done_its_tests_and_its_gaps(item: str) -> None:
    page = (FOLDER / "owasp.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^### {item} .+\n([\s\S]+?)(?=\n##|\Z)", page, re.MULTILINE)
    assert re.findall(r"^- (\w+): ", section, re.MULTILINE) == ["Does", "Tests", "Gaps"]
    assert named_tests(section)


def test_every_link_and_every_file_that_a_security_page_names_is_there() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        links = re.findall(r"\]\((?!https://)([^)#]+)", text)
        assert [one for one in links if not (FOLDER / one).exists()] == [], page.name
        files = re.findall(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|csv|md|yaml|toml))`", text)
        assert [one for one in files if not any((at / one).exists() for at in (ROOT, ROOT / "agent/remit"))] == []


def test_the_pages_are_reached_from_the_readme_and_from_the_first_line_of_security() -> None:
    assert "](docs/security/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    first = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("\n\n")[1]
    assert "](docs/security/reporting.md)" in first
    front = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.name != "README.md" and f"]({page.name})" not in front] == []
