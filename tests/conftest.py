"""Fixtures of all tests: a workspace per test, and the command line as a user calls it."""

from __future__ import annotations

import asyncio
import compileall
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remit.runtime import runner as run_module
from remit.workspace import session as session_module
from remit.workspace.identity import subject_of
from remit.workspace.template import write_starter
from support import ROOT, cli_server
from support.http_servers import authority
from support.otlp_collector import collecting
from support.principals import principal
from support.runs import Command, CommandResult, Play, Played, Remit
from support.workspaces.ledger import ledger_workspace

pytest_plugins = [
    "support.harness",
    "support.journal_fixtures",
    "support.postgres_fixtures",
    "support.storage_fixtures",
]


def pytest_configure(config: pytest.Config) -> None:
    """Compile Remit once: with PYTHONDONTWRITEBYTECODE, each process that the tests start would do it again."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(ROOT / "agent" / "remit", quiet=2)


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """The starter workspace, as `remit init` writes it."""
    folder = tmp_path / "workspace"
    write_starter(folder)
    return folder


@pytest.fixture
def remit(session: Path) -> Remit:
    """Call the command line in the starter workspace, as a user does: in another process, without a terminal."""

    def call(
        *args: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 120
    ) -> CommandResult:
        return cli_server.command(cwd or session, *args, timeout=timeout, env=env)

    return call


@pytest.fixture
def command() -> Command:
    """Call the command line as a user does, in the folder that is the first argument."""
    return cli_server.command


@pytest.fixture
def trusting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the certificate authority of the test servers, and keep secrets in a folder of the test."""
    roots = tmp_path / "roots.pem"
    roots.write_text(authority().certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def backend() -> Iterator[tuple[str, list[bytes]]]:
    """An OpenTelemetry collector on loopback: its address, and the bodies that it received."""
    with collecting() as collector:
        yield collector


@pytest.fixture
def clerk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write the ledger workspace, whose one tool runs in this process."""

    def write(turns: list[dict[str, Any]], **options: Any) -> Path:
        folder = tmp_path / "clerk"
        monkeypatch.syspath_prepend(str(folder / "hosted"))
        monkeypatch.setenv("LEDGER", str(folder / "ledger.jsonl"))
        monkeypatch.delitem(sys.modules, "ledger_host", raising=False)
        return ledger_workspace(folder, turns, **options)

    return write


@pytest.fixture
def play(clerk: Callable[..., Path]) -> Play:
    """Run a script in the ledger workspace to its end, or to where it waits."""

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
        by = principal(subject_of(opened.workspace.settings, account), account=account)
        start = run_module.RunRequest(agent="clerk", task="keep the ledger", subject=user, by=by, model=model)
        return Played(folder=folder, opened=opened, ended=asyncio.run(run_module.start_run(opened, start, wait=wait)))

    return played
