"""Who asks is said by the entry point alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from remit.core import Principal
from remit.workspace import identity
from remit.workspace.definitions import Settings
from support import ROOT

SOURCE: Final = ROOT / "agent" / "remit"
# Names by which code asks the operating system who runs the process. A part of a name is enough: `os_account`, `_os_account`.
ASKING: Final = ("geteuid", "getuid", "getresuid", "getpwuid", "getpwnam", "getlogin", "getpass", "os_account")
# The files that may ask, each with its reason.
MAY_ASK: Final = {
    "tracing/trace_file.py": "whose file a trace file is",
    "workspace/identity.py": "makes the principal of the process, for entry points",
    "guardrails/secrets.py": "whose file a file of secrets is",
    "journal/storage/sqlite.py": "whose file the journal is",
    "sandbox/packages/environment.py": "whose folder the cache of packages is",
    "sandbox/selfcheck/tiers.py": "as root, tools run as another account",
    "cli/local/answering.py": "whose folder the socket of the service is",
}
# The entry points. The commands of the command line are entry points too.
ENTRY_POINTS: Final = {"client/async_remit.py", "langchain/registry.py", "testing/captured.py"}


def names_in(path: Path) -> Iterator[str]:
    """Every name that the code of a file uses or imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.name


def files_with(*parts: str) -> set[str]:
    return {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if any(part in name for name in names_in(path) for part in parts)
    }


def test_only_entry_points_ask_who_runs_the_process() -> None:
    assert files_with(*ASKING) == set(MAY_ASK)
    asking = {path for path in files_with("principal_of_process") if not path.startswith("cli/")}
    assert asking == ENTRY_POINTS


def test_the_process_is_the_user_of_its_account_and_of_the_tenant_of_the_workspace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "_os_account", lambda: "ann")
    settings = Settings(identity={"ann": "user:ann@example.com"}, tenant="acme")
    assert identity.principal_of_process(settings) == Principal(
        subject="user:ann@example.com", authenticated="os_account", account="ann", tenant="acme"
    )


def test_an_account_without_a_user_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_os_account", lambda: "eve")
    nobody = identity.principal_of_process(Settings(identity={"ann": "user:ann"}))
    assert (nobody.subject, nobody.account, nobody.is_person) == ("user:none", "eve", False)
