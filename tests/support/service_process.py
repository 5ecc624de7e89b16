"""A service of tests in a process of its own, on a port of this machine: what can be killed, measured and sent anything.

python -m support.service_process FOLDER            prints {"listening": URL}; who asks is named in the header Authorization
python -m support.service_process FOLDER everybody  the same, and every request is of user:operator
python -m support.service_process FOLDER TOKENS     prints also so many tokens of an identity provider, with which requests come
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from support import TESTS


@dataclass(frozen=True, kw_only=True)
class ServiceProcess:
    """A service that listens at `url`. `log` is the file of what it writes on stderr, None without one."""

    url: str
    process: subprocess.Popen[str]
    log: Path | None = None

    def client(self, name: str = "operator", **options: Any) -> httpx.AsyncClient:
        """A client whose requests are those of that person."""
        given = {"base_url": self.url, "headers": {"authorization": f"Bearer {name}"}, "timeout": 120.0, **options}
        return httpx.AsyncClient(**given)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it with kill -9."""
        self.process.kill()
        self.process.wait(30)

    @property
    def lives(self) -> bool:
        return self.process.poll() is None


@contextmanager
def service_process(
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
    log: Path | None = None,
) -> Iterator[ServiceProcess]:
    """A service of that workspace, until the end of the block.

    `command` is another one that starts it: see `remit_serve`. `log` is a file for what it writes on stderr; None: where this process does.
    """
    environment = {**os.environ, **(env or {})}
    paths = [*filter(None, [environment.get("PYTHONPATH")]), str(TESTS.parent / "agent"), str(TESTS)]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    words = command or [sys.executable, "-m", "support.service_process", str(folder)]
    errors = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=folder, text=True)
    if errors is not None:
        os.close(errors)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "listening" in line, f"the service did not start: {line}"
        yield ServiceProcess(url=json.loads(line)["listening"], process=process, log=log)
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def remit_serve(folder: Path, *, env: Mapping[str, str] | None = None) -> Iterator[ServiceProcess]:
    """`remit serve` itself, with its own authentication. The settings of the workspace have `[serve]` with port 0."""
    with service_process(folder, env=env, command=[sys.executable, "-m", "remit", "serve", "--json"]) as running:
        yield running


@contextmanager
def token_service(folder: Path, tokens: int) -> Iterator[tuple[ServiceProcess, list[str]]]:
    """A service whose identity provider (`support.tokens`) is in its process, and so many tokens of `ann`."""
    command = [sys.executable, "-m", "support.service_process", str(folder), str(tokens)]
    with service_process(folder, command=command) as running:
        assert running.process.stdout is not None
        yield running, json.loads(running.process.stdout.readline())


def main(folder: Path, tokens: int, *, everybody: bool = False) -> None:
    from remit.server import Access, Service, serve
    from remit.workspace import open_session
    from support.cli_server import WITHOUT
    from support.served import PEOPLE, Everybody
    from support.tokens import Provider

    if WITHOUT in os.environ:
        import pytest

        from adversarial.mutation import take_away

        take_away(os.environ[WITHOUT], pytest.MonkeyPatch())
    session, provider = open_session(folder), Provider()
    named = Everybody() if everybody else PEOPLE
    service = Service([session], Access([session], secure=False, get=provider) if tokens else named)
    bound = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def listening(url: str) -> None:
        print(json.dumps({"listening": url}), flush=True)
        if tokens:
            print(json.dumps([provider.token(jti=str(number)) for number in range(tokens)]), flush=True)

    asyncio.run(serve(service, sockets=[bound], listening=listening))


if __name__ == "__main__":
    given = sys.argv[2] if len(sys.argv) > 2 else "0"
    main(Path(sys.argv[1]), 0 if given == "everybody" else int(given), everybody=given == "everybody")
