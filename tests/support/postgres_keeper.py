"""Keeps one PostgreSQL server running while any process holds a shared lock on a file, and then removes every part of it.

    python postgres_keeper.py '{"lock": "FILE", "programs": "/usr/lib/postgresql/15/bin", "settings": ["fsync=on"]}'

The command returns when the server answers, and leaves a process behind. The file then holds the address of the server as
JSON. The kernel releases a lock with its process, so a test process that is killed counts as gone too. Python's standard
library only: it starts in 30 ms.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

OWNER: Final = "remit"  # may create roles, as a tenant needs one; a superuser would pass every check of rights
ADMIN: Final = "postgres"
START_S: Final = 60.0
TRIES: Final = 5  # another process may take the port first
PR_SET_PDEATHSIG: Final = 1


def main() -> int:
    """Start the process that keeps the server, and wait until the server answers. 1 and the reason on stderr if it does not."""
    given = json.loads(sys.argv[1])
    reading, writing = os.pipe()
    if os.fork() == 0:
        code = 1
        try:
            os.setsid()  # Ctrl-C in a terminal ends the tests; the server then ends because their locks are gone
            os.close(reading)
            keep(Path(given["lock"]), Path(given["programs"]), given["settings"], writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as report:
        message = report.read()
    if message != "ready":
        print(message or "the process that keeps the server died", file=sys.stderr)
        return 1
    return 0


def keep(lock_file: Path, programs: Path, settings: list[str], writing: int) -> None:
    """Run the server until no process holds a shared lock on the file."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    lock = os.open(lock_file, os.O_RDWR)
    folder = Path(tempfile.mkdtemp(prefix="remit-postgres-"))
    server: subprocess.Popen[bytes] | None = None
    try:
        account = unprivileged(folder)
        password = secrets.token_hex(16)
        initialize(folder, programs, password, account)
        server, port = start(folder, programs, settings, account)
        address = {"port": port, "password": password, "pid": server.pid, "folder": str(folder)}
        os.pwrite(lock, json.dumps(address).encode(), 0)
        os.write(writing, b"ready")
        os.close(writing)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except (OSError, RuntimeError, subprocess.SubprocessError) as failure:
        os.write(writing, str(failure).encode())
    finally:
        os.ftruncate(lock, 0)  # still locked: a process that comes now waits, and starts a server of its own
        if server is not None:
            end(server)
        shutil.rmtree(folder, ignore_errors=True)


def unprivileged(folder: Path) -> dict[str, Any]:
    """The account of the server, as arguments of `subprocess`; `folder` is given to it. initdb refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, account.pw_uid, account.pw_gid)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    raise RuntimeError("there is no account `postgres` or `nobody`: PostgreSQL does not run as root")


def initialize(folder: Path, programs: Path, password: str, account: dict[str, Any]) -> None:
    """Make the data directory, the superuser and the ordinary role, both with the password."""
    secret = folder / "password"
    secret.write_text(password)
    if account:
        os.chown(secret, account["user"], account["group"])
    line = [programs / "initdb", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8"]
    line += [f"--username={ADMIN}", f"--pwfile={secret}", "--auth=scram-sha-256", f"--pgdata={folder / 'data'}"]
    _run(line, folder, account)
    role = f"CREATE ROLE {OWNER} LOGIN CREATEROLE PASSWORD '{password}'\n"
    _run([programs / "postgres", "--single", "-D", folder / "data", ADMIN], folder, account, role)


def _run(line: list[Any], folder: Path, account: dict[str, Any], given: str = "") -> None:
    done = subprocess.run(
        line, input=given, cwd=folder, env=_environment(), capture_output=True, text=True, check=False, **account
    )
    if done.returncode or "ERROR" in done.stderr:
        raise RuntimeError(f"{Path(line[0]).name} ended with {done.returncode}: {done.stderr.strip()[-600:]}")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def start(
    folder: Path, programs: Path, settings: list[str], account: dict[str, Any]
) -> tuple[subprocess.Popen[bytes], int]:
    """The server and its loopback port, once it answers."""
    for _ in range(TRIES):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        fixed = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "max_connections=300"]
        line = [programs / "postgres", "-D", folder / "data"]
        for setting in (*fixed, *settings):
            line += ["-c", setting]
        with (folder / "log").open("ab") as log:
            server = subprocess.Popen(
                line, cwd=folder, env=_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_end_with_parent, **account,
            )  # fmt: skip
        if _answers(server, folder):
            return server, port
        end(server)
    raise RuntimeError(f"PostgreSQL does not start: {(folder / 'log').read_text().strip()[-600:]}")


def _end_with_parent() -> None:
    """Called in the new process after its account is set, which would clear this: end at once if the keeper dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def _answers(server: subprocess.Popen[bytes], folder: Path) -> bool:
    """True as soon as the server accepts connections, False if it ends. `pg_ctl` reads the same line of the same file."""
    until = time.monotonic() + START_S
    state = folder / "data" / "postmaster.pid"
    while server.poll() is None and time.monotonic() < until:
        lines = state.read_text().splitlines() if state.exists() else []
        if len(lines) >= 8 and lines[0] == str(server.pid) and lines[7].strip() == "ready":
            return True
        time.sleep(0.02)
    return False


def end(server: subprocess.Popen[bytes]) -> None:
    """End the server at once: its data is removed anyway."""
    if server.poll() is None:
        server.send_signal(signal.SIGQUIT)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()  # its other processes end when they notice
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
