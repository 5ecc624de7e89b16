"""A service in a process of its own whose people are logged in already: what a console costs is measured from outside.

python -m support.console_process FOLDER NAME…     prints {"listening": URL}, then the header Cookie of each person
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.service_process import service_process


@dataclass(frozen=True, kw_only=True)
class ConsoleProcess:
    """A service that listens at `url`, and the header `Cookie` of each person."""

    url: str
    process: subprocess.Popen[str]
    cookies: tuple[str, ...]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextmanager
def console_process(folder: Path, people: Sequence[str]) -> Iterator[ConsoleProcess]:
    """A service of that workspace with these people, each with a session, until the end of the block."""
    command = [sys.executable, "-m", "support.console_process", str(folder), *people]
    with service_process(folder, command=command) as running:
        assert running.process.stdout is not None
        cookies = tuple(json.loads(running.process.stdout.readline()))
        yield ConsoleProcess(url=running.url, process=running.process, cookies=cookies)


def main(folder: Path, people: Sequence[str]) -> None:
    import socket

    from remit.server import Access, Service, serve
    from remit.workspace import open_session
    from support.principals import principal

    session = open_session(folder)
    access = Access([session], secure=False)
    bound = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def listening(url: str) -> None:
        print(json.dumps({"listening": url}), flush=True)
        ids = [access.sessions.start(principal(name)) for name in people]
        print(json.dumps([f"{access.cookie}={id}" for id in ids]), flush=True)

    asyncio.run(serve(Service([session], access), sockets=[bound], listening=listening))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
