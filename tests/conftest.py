"""What the tests share: a house of one's own, and the command line as a user calls it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remit.runtime import runner as run_module
from remit.workspace import session as session_module
from remit.workspace.template import write_starter
from support import cli_server as warm
from support.http_servers import authority
from support.otlp_collector import collecting
from support.runs import Command, Play, Played, Remit, Said
from support.workspaces.ledger import counting_house

pytest_plugins = ["support.harness"]


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """The starter workspace, as `remit init` writes it."""
    folder = tmp_path / "house"
    write_starter(folder)
    return folder


@pytest.fixture
def remit(session: Path) -> Remit:
    """Call the command line in the house, as a user does: another process, no terminal."""

    def call(*args: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 120) -> Said:
        return warm.command(cwd or session, *args, timeout=timeout, env=env)

    return call


@pytest.fixture
def command() -> Command:
    """Call the command line as a user does, from the folder that is named first."""
    return warm.command


@pytest.fixture
def trusting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine trusts the authority of the tests' servers, and keeps its secrets in a folder of the test."""
    roots = tmp_path / "roots.pem"
    roots.write_text(authority().certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def backend() -> Iterator[tuple[str, list[bytes]]]:
    """A collector on loopback that keeps what it is sent."""
    with collecting() as collector:
        yield collector


@pytest.fixture
def clerk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the counting house, whose one tool runs in this process."""

    def write(turns: list[dict[str, Any]], **options: Any) -> Path:
        folder = tmp_path / "clerk"
        monkeypatch.syspath_prepend(str(folder / "hosted"))
        monkeypatch.setenv("LEDGER", str(folder / "ledger.jsonl"))
        monkeypatch.delitem(sys.modules, "ledger_host", raising=False)
        return counting_house(folder, turns, **options)

    return write


@pytest.fixture
def play(clerk: Callable[..., Path]) -> Play:
    """Play a scripted run of the counting house to where it goes."""

    def played(
        turns: list[dict[str, Any]],
        *,
        wait: float = 0.0,
        user: str = "user:operator",
        account: str = "tester",
        **options: Any,
    ) -> Played:
        folder = clerk(turns, **options)
        opened = session_module.open_session(folder)
        model = run_module.open_model_of(opened, "clerk")
        start = run_module.RunRequest(agent="clerk", task="keep the ledger", subject=user, account=account, model=model)
        return Played(folder=folder, opened=opened, ended=asyncio.run(run_module.start_run(opened, start, wait=wait)))

    return played
