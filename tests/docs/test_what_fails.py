"""The page about what fails is complete: each thing has an alert or a line of the log, a command, and a test that plays it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from support import ROOT

PAGE = ROOT / "docs" / "how-to" / "what-fails.md"
ALERTS = re.findall(r"- alert: (\w+)", (ROOT / "traces" / "alerts.yaml").read_text(encoding="utf-8"))


def tables() -> Iterator[list[list[str]]]:
    """The rows of each table of the page, without its head."""
    rows: list[list[str]] = []
    for line in [*PAGE.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif rows:
            yield rows[2:]
            rows = []


MODES, TESTS = tables()


@pytest.mark.parametrize("row", MODES, ids=lambda row: row[0])
def test_each_failure_says_what_stops_what_goes_on_how_it_shows_and_what_to_type(row: list[str]) -> None:
    assert len(row) == 5
    assert all(row)
    assert "`" in row[3]
    assert set(re.findall(r"`(Remit\w+)`", row[3])) <= set(ALERTS)
    assert "`remit " in row[4]


def test_each_failure_of_the_page_is_played_by_a_test_that_exists() -> None:
    assert [row[0] for row in TESTS] == [row[0] for row in MODES]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for _, tests in TESTS:
        names = re.findall(r"`(test_\w+)`", tests)
        assert names
        assert [name for name in names if f"def {name}(" not in sources] == []
