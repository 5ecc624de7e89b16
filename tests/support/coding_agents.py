"""A project that a real coding agent works in, and the service of its workspace as people start it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from remit.cli.local.requests_socket import requests_socket
from support.hooked import PEOPLE, with_pack

SECRET: Final = "TOPSECRET-1"
VARIABLES: Final = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
# What answers in place of the service; None: nothing does.
NO_DECISION: Final = [
    pytest.param(None, id="service down"),
    pytest.param(b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}", id="500"),
    pytest.param(b"HTTP/1.1 200 X\r\ncontent-length: 3\r\n\r\n\x00\x01\x02", id="garbage"),
]


def served_project(folder: Path, client: str, rules: str) -> Path:
    """The workspace as a project of that coding agent, with these further rules, a secret and a note."""
    with_pack(folder, client, people=f"{PEOPLE}{rules}")
    toml = folder / "remit.toml"
    toml.write_text(toml.read_text().replace("[sandbox]", '[serve]\naddress = "127.0.0.1:0"\n\n[sandbox]'))
    toml.write_text(toml.read_text().replace('"*" = "user:operator"', 'root = "user:operator"\n"*" = "user:operator"'))
    (folder / "secrets").mkdir()
    (folder / "secrets" / "key").write_text(SECRET)
    (folder / "notes.md").write_text("plain notes\n")
    return folder


@contextmanager
def serving(folder: Path) -> Generator[None]:
    """`remit serve`, as people start it."""
    process = subprocess.Popen([sys.executable, "-m", "remit", "serve"], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 120
        while not _listens(folder):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(60)


def _listens(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.path.relpath(folder / ".remit" / "service" / "requests"))
        except OSError:
            return False
    return True


def approve_first(project: Path) -> None:
    """Approve the first request, as another person."""
    until = time.monotonic() + 45
    while time.monotonic() < until:
        waiting = json.loads(remit(project, "approve", "list", "--json"))
        if waiting:
            item = waiting[0]
            code = (
                "from remit.client import Remit; from remit.core import Principal; from pathlib import Path; import sys\n"
                "by = Principal(subject='user:dana', authenticated='oidc', account='dana', issuer='https://login.example.com')\n"
                "Remit.open(Path.cwd(), principal=by).approve(sys.argv[1])"
            )
            name = f"{item['run']}/{item['step']}.{item['index']}"
            subprocess.run([sys.executable, "-c", code, name], cwd=project, check=True)
            return
        time.sleep(0.2)


def remit(project: Path, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "remit", *words], cwd=project, capture_output=True, text=True, check=False
    )
    return ended.stdout


@contextmanager
def answering(project: Path, reply: bytes) -> Generator[None]:
    (project / ".remit" / "service").mkdir(mode=0o700, parents=True, exist_ok=True)

    def answer_each(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 20)
                connection.sendall(reply)

    with requests_socket(project) as listener:
        threading.Thread(target=answer_each, args=(listener,), daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
