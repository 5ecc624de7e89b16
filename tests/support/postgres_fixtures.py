"""Fixtures of the tests that need a PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from support.browser import lacking
from support.postgres import Server, journals_in, programs, shared_server


@pytest.fixture(scope="session", autouse=True)
def _journals(request: pytest.FixtureRequest) -> Iterator[None]:
    """With REMIT_TEST_JOURNAL=postgresql, tests that can have their journals in PostgreSQL do."""
    if os.environ.get("REMIT_TEST_JOURNAL") != "postgresql":
        yield
        return
    with journals_in(request.getfixturevalue("postgres_server")):
        yield


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of this test session, without fsync. Without PostgreSQL the test is skipped; in CI it fails."""
    if programs() is None:
        lacking("PostgreSQL", "apt-get install postgresql")
    base = tmp_path_factory.getbasetemp()
    with shared_server(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base, fsync=False) as server:
        yield server


@pytest.fixture
def postgres(postgres_server: Server) -> Iterator[str]:
    """The address of an empty database that only this test uses; the password is in PGPASSWORD."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def postgres_journal(postgres_server: Server) -> Iterator[str]:
    """The address of a database that only this test uses, with the tables of an empty journal."""
    from remit.journal import open_journal

    template = postgres_server.template("journal", lambda url: open_journal(url).close())
    with postgres_server.database(template) as url:
        yield url
