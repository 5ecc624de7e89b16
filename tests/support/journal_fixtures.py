"""The journal of a test, once as a SQLite file and once in PostgreSQL, and the same journal as another process has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from remit.journal import Journal, open_journal


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where the journal of this test is: the path of a file that does not exist yet, or the address of an empty database."""
    if request.param == "sqlite":
        return tmp_path / "traces" / "journal.db"
    address: str = request.getfixturevalue("postgres_journal")
    return address


@pytest.fixture
def journal(place: Path | str) -> Iterator[Journal]:
    """The journal of this test, open."""
    with open_journal(place) as opened:
        yield opened


@pytest.fixture
def other(place: Path | str, journal: Journal) -> Iterator[Journal]:
    """The same journal as another process has it: with connections, threads and memory of its own."""
    with open_journal(place) as opened:
        yield opened
