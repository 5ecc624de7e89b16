"""The database is put back to an earlier state while workers drive runs: no irreversible effect happens twice.

`make restores` plays it with more runs, and with a backup that is ten minutes old.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from remit.client import AsyncRemit
from remit.core import RunEnded
from remit.core.events import AttemptBegun
from remit.journal import RunQuery, list_runs
from remit.workspace import open_session
from support.fleet import until, workers
from support.postgres import OWNER, Server, journals_in, programs
from support.workspaces.ledger import effects

RUNS: Final = int(os.environ.get("REMIT_RESTORE_RUNS", "8"))
AGE_S: Final = float(os.environ.get("REMIT_RESTORE_AGE_S", "0"))  # how old the backup is at least
SLOW: Final = "0.15"  # seconds of an effect
TURNS: Final = [
    {"calls": [{"ledger__wire": {"name": "one", "amount": 1}}]},
    {"calls": [{"ledger__pay": {"name": "two", "amount": 2}}]},
    {"calls": [{"ledger__wire": {"name": "three", "amount": 3}}]},
    {"say": "done"},
]


@pytest.fixture(autouse=True)
def _on_postgres(postgres_server: Server) -> Iterator[None]:
    with journals_in(postgres_server):
        yield


class Backups:
    """The database of a workspace, which can be put back while it is in use."""

    def __init__(self, server: Server, folder: Path, url: str) -> None:
        self._server, self._file = server, folder / "backup"
        self._name = urlsplit(url).path.removeprefix("/")
        self.begun = 0.0

    def _run(self, program: str, database: str, *args: str) -> None:
        found = programs()
        assert found is not None
        address = self._server.url(database, user="postgres")
        line = [str(found / program), *args, f"--dbname={address}"]
        env = {**os.environ, "PGPASSWORD": self._server.password}
        done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def take(self) -> None:
        self._run("pg_dump", self._name, "--format=custom", f"--file={self._file}")
        self.begun = time.monotonic()

    def put_back(self) -> None:
        """As the page says: into a new database first, because a process that finds an empty one makes its tables."""
        with self._server.admin() as admin:
            admin.execute(f"CREATE DATABASE {self._name}_new OWNER {OWNER} TEMPLATE template0")
            self._run("pg_restore", f"{self._name}_new", str(self._file))
            admin.execute(f"DROP DATABASE {self._name} WITH (FORCE)")
            admin.execute(f"ALTER DATABASE {self._name}_new RENAME TO {self._name}")


@pytest.fixture
def desk(clerk: Callable[..., Path], storage: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEDGER_SLOW", SLOW)
    root = clerk(TURNS)
    settings = root / "remit.toml"
    settings.write_text(f"{settings.read_text()}{storage}")
    return root


def journal_url(root: Path) -> str:
    return (root / "remit.toml").read_text().split('journal = "')[1].partition('"')[0]


def unfinished(root: Path) -> int | None:
    """How many runs have not ended; None while the database is away."""
    try:
        session = open_session(root)
    except RunEnded:
        return None
    try:
        return sum(row.outcome is None for row in list_runs(session.journal, RunQuery(evaluation=None)))
    except RunEnded:
        return None
    finally:
        session.journal.close()


def enqueue(root: Path, count: int) -> list[str]:
    async def some() -> list[str]:
        async with AsyncRemit(open_session(root)) as client:
            return [await client.enqueue("clerk", "pay") for _ in range(count)]

    return asyncio.run(some())


@pytest.mark.parametrize("storage", ["folder"], indirect=True)
def test_a_database_that_is_put_back_under_load_repeats_no_irreversible_effect(
    desk: Path, postgres_server: Server, tmp_path: Path
) -> None:
    backups = Backups(postgres_server, tmp_path, journal_url(desk))
    runs = enqueue(desk, RUNS)
    with workers(desk, 2, slots=2):
        until(lambda: len(effects(desk)) >= RUNS // 2)
        backups.take()
        runs += enqueue(desk, RUNS // 2)  # of which the backup knows nothing
        known = len(effects(desk))
        until(lambda: len(effects(desk)) >= known + RUNS and time.monotonic() - backups.begun >= AGE_S, 60.0 + AGE_S)
        lost = len(effects(desk)) - known
        backups.put_back()
        until(lambda: unfinished(desk) == 0, 120.0 + RUNS)
    print(f"{lost} effects since the backup")
    assert lost >= RUNS
    made = Counter(row["key"] for row in effects(desk) if row["action"] == "wire")
    assert [key for key, count in made.items() if count > 1] == []
    paid = sum(row["action"] == "pay" for row in effects(desk))
    session = open_session(desk)
    assert paid <= len(runs)
    rows = list(list_runs(session.journal, RunQuery(evaluation=None)))
    assert sorted(row.run for row in rows) == sorted(runs)  # also those of which the backup knew nothing
    for row in rows:
        assert session.journal.verify(row.run) == ()
        assert row.outcome == "completed", (row.run, row.code)
    begun = [
        recorded.event.idempotency_key
        for run in runs
        for recorded in session.journal.events(run)
        if isinstance(recorded.event, AttemptBegun) and recorded.event.idempotency_key
    ]
    assert set(made) <= set(begun)  # every effect that happened is in the record
    in_doubt = sum(len(row.in_doubt) for row in rows)
    recorded_pays = sum(row.actions.get("ledger.pay", 0) for row in rows)
    assert paid <= recorded_pays + in_doubt
    session.journal.close()
