"""A tool that tries to get out. `remit doctor` runs it for real; each attempt returns how far it came.

An attempt that ends in an `OSError` was held; one that returns has escaped.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any


def escape(outside: str, neighbour: str, broker: int, port: int, unix: str, names: list[str]) -> dict[str, str]:
    """Try each attempt of `names`: "held: why", or "ESCAPED: what it reached"."""
    attempts: dict[str, Callable[[], Any]] = {
        "read_outside": lambda: _read(outside),
        "read_system": lambda: _read("/etc/passwd"),
        "read_undecided": lambda: _read(neighbour),
        "read_through_link": lambda: _read_link(outside),
        "write_outside": lambda: _write(outside),
        "write_undecided": lambda: _write(neighbour),
        "hard_link": lambda: os.link(neighbour, "linked"),
        "change_mode": lambda: os.chmod(neighbour, 0o600),
        "change_times": lambda: os.utime(neighbour, (1, 1)),
        "start_program": lambda: subprocess.run(["/bin/true"], check=True),
        "fork": _fork,
        "socket_internet": lambda: socket.create_connection(("127.0.0.1", port), 1),
        "socket_datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "socket_unix": lambda: _unix(unix),
        "socket_pair_addressed": lambda: _addressed(unix),
        "trace_broker": lambda: _call("ptrace", 16, broker, 0, 0),
        "new_namespaces": lambda: _call("unshare", 0x10000000),
        "mount": lambda: _call("mount", b"none", b"/", b"tmpfs", 0, None),
        "change_root": lambda: os.chroot("/"),
        "signal_broker": lambda: os.kill(broker, 0),
        "signal_parent": lambda: os.kill(os.getppid(), 0),
        "see_processes": lambda: os.listdir("/proc/1/task"),
        "inherited_descriptors": _descriptors,
        "environment": lambda: _environment(),
        "raise_limits": lambda: resource.setrlimit(
            resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        ),
        "many_descriptors": lambda: [os.dup(0) for _ in range(10_000)],
    }
    results: dict[str, str] = {}
    for name in names:
        try:
            results[name] = f"ESCAPED: {attempts[name]()!r}"[:200]
        except (OSError, ValueError, subprocess.SubprocessError) as failure:
            results[name] = f"held: {failure}"[:200]
    return results


def greet(name: str) -> str:
    """What stays allowed: a plain call, a file of scratch, a thread."""
    with open(f"{os.environ['TMPDIR']}/greeting", "w") as file:
        file.write(name)
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(f"hello {name}"))
    thread.start()
    thread.join()
    return said[0]


def _read(path: str) -> str:
    with open(path) as file:
        return file.read(20)


def _read_link(target: str) -> str:
    link = f"{os.environ['TMPDIR']}/link"
    with contextlib.suppress(FileExistsError):
        os.symlink(target, link)
    return _read(link)


def _write(path: str) -> str:
    with open(path, "a") as file:
        file.write("escaped")
    return path


def _fork() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    return child


def _unix(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    return path


def _addressed(path: str) -> str:
    """A pair needs no `socket`, and a datagram end of it can be sent anywhere."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"x", path)
    return path


def _call(name: str, *arguments: Any) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(getattr(libc, name)(*arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _descriptors() -> list[int]:
    """Any open descriptor but the standard three and the one channel."""
    found: list[int] = []
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found.append(number)
    if len(found) <= 1:
        raise OSError(0, "only the channel is open")
    return found


def _environment() -> list[str]:
    """Any variable that the sandbox did not set itself."""
    known = {"PATH", "HOME", "TMPDIR", "LANG", "LC_CTYPE", "PWD", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
    found = sorted(set(os.environ) - known)
    if not found:
        raise OSError(0, "only the sandbox's own variables")
    return found
