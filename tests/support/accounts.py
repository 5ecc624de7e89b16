"""Other accounts of this machine, which only root can be."""

from __future__ import annotations

import grp
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest

from remit.workspace.template import write_starter

ONLY_ROOT: Final = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")
OTHER: Final = 48_123  # an account without an entry in the list of accounts


def identity(root: Path, accounts: dict[str, str]) -> None:
    """Let only these accounts be users, in place of every account."""
    rows = "".join(f'"{account}" = "{user}"\n' for account, user in accounts.items())
    marker = root / "remit.toml"
    found = re.sub(r'^"\*" = .*\n', rows, marker.read_text(), flags=re.MULTILINE)
    assert rows in found
    marker.write_text(found)


def gid_of(group: str) -> int:
    return grp.getgrnam(group).gr_gid


@contextmanager
def passable_starter() -> Iterator[Path]:
    """A starter workspace that other accounts can reach. Not below the folder of pytest, which each run makes private again."""
    with TemporaryDirectory(prefix="remit-passable-") as folder:
        Path(folder).chmod(0o711)
        write_starter(Path(folder) / "workspace")
        yield Path(folder) / "workspace"


def posted_by(uid: int, gid: int, root: Path, path: str, body: Any) -> tuple[int, Any]:
    """What the service of the workspace answers to a process of that account; (0, why) if it does not answer."""
    from remit.cli.local.requesting import posted

    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        given: tuple[int, Any] = (0, "")
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            given = posted(root, path, body)
        except Exception as failure:  # noqa: BLE001 - whatever fails is what the test compares
            given = (0, str(failure))
        finally:
            with os.fdopen(write, "w", encoding="utf-8") as file:
                json.dump(given, file)
            os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as file:
        answer = json.load(file)
    os.waitpid(process, 0)
    return answer[0], answer[1]
