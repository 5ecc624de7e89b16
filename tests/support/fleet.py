"""Processes of `remit worker` on one workspace, and what PostgreSQL was asked meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.postgres import Server
from support.workspaces.ledger import environment

END_S: Final = 60.0
STATEMENT: Final = re.compile(r"LOG:  (?:statement|execute [^:]+): (.*)")


@contextmanager
def workers(
    folder: Path, count: int = 1, *, slots: int = 8, env: Mapping[str, str] | None = None
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many workers of the workspace, which write what they drove to `workers.log`. They end with the block."""
    line = [sys.executable, "-m", "remit", "worker", "--slots", str(slots), "--json"]
    variables = {**os.environ, **environment(folder), **(env or {})}
    with (folder / "workers.log").open("a") as log:
        started = [
            subprocess.Popen(line, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True)
            for _ in range(count)
        ]
        try:
            yield started
        finally:
            for one in started:
                one.send_signal(signal.SIGTERM)
            for one in started:
                try:
                    one.wait(END_S)
                except subprocess.TimeoutExpired:
                    one.kill()
                    one.wait()


def until(is_so: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until it is so. A test that waits for longer than this fails."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


class StatementLog:
    """What a database of the server is asked, by any connection that was opened since."""

    def __init__(self, server: Server, url: str) -> None:
        self._file = server.folder / "log"
        with server.admin() as admin:
            admin.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET log_statement = 'all'")
        self._from = 0

    def begin(self) -> None:
        """Count from here."""
        self._from = self._file.stat().st_size

    def statements(self) -> list[str]:
        """The first line of each statement since `begin`, in order."""
        with self._file.open(errors="replace") as log:
            log.seek(self._from)
            return STATEMENT.findall(log.read())
