"""The accounts that can start a broker. Run as a script (`make abuse`), it tries the whole abuse list with each of them.

The interpreter of root may be in a folder that only root can enter, so ordinary users use the interpreter of the system. As a
plug-in of pytest it gives each test a folder that other accounts can enter, because the usual one of root is closed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

import pytest

from support import ROOT, TESTS

SYSTEM: Final = "/usr/bin/python3"
USER: Final = 1001
_KNOWS: Final = "import pydantic_core, pytest, remit"


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account that starts the broker, and its interpreter; `prefix` is the command that switches to it."""

    name: str
    prefix: tuple[str, ...]
    python: str
    environment: dict[str, str]

    def run(self, *arguments: str, timeout: float = 120, capture: bool = True) -> subprocess.CompletedProcess[str]:
        """Start the interpreter of the account; call `missing` first."""
        return subprocess.run(
            [*self.prefix, self.python, *arguments],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=capture,
            text=True,
            timeout=timeout,
            check=False,
        )

    def missing(self) -> str:
        """Why the account cannot be tried on this machine; "" if it can."""
        if self.prefix and (os.getuid() != 0 or shutil.which(self.prefix[0]) is None):
            return "only root can become another account"
        tried = self.run("-c", _KNOWS)
        return f"{self.python} does not know the packages: {tried.stderr[-100:]!r}" if tried.returncode else ""


def accounts() -> tuple[Account, ...]:
    """Every kind of account; an ordinary account can only try itself."""
    paths = [str(ROOT / "agent"), str(TESTS), *(path for path in sys.path if path.endswith("site-packages"))]
    bare = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    own = Account(name="this account", prefix=(), python=sys.executable, environment=dict(os.environ))
    if os.getuid() != 0:
        return (own,)
    user = ("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups")
    return (
        own,
        Account(name="root that becomes nobody", prefix=(), python=SYSTEM, environment=bare),
        Account(name="an ordinary user", prefix=user, python=SYSTEM, environment=bare),
    )


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that every account can enter, unlike that of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="remit-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    failed = 0
    for account in accounts():
        print(f"== the abuse list as {account.name}", flush=True)
        if why := account.missing():
            print(f"NOT TRIED: {why}")
            failed += 1
            continue
        plugins = ("-p", "no:cacheprovider", "-p", "adversarial.accounts")
        done = account.run(
            "-m", "pytest", "-q", "-m", "abuse", *plugins, *sys.argv[1:], "tests", timeout=3600, capture=False
        )
        failed += done.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
