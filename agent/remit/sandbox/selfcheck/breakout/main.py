"""A tool that tries to escape from its sandbox. `remit doctor` runs it.

An attempt that raises an `OSError` was blocked; one that returns has escaped. An attempt that succeeds does no damage:
signals are number 0, which only checks the permission, and values are set to what they already are.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_X86 = os.uname().machine == "x86_64"
_NEW_USER = 0x10000000
_SHARED = ("/scratch", "/tmp", os.path.dirname(os.environ.get("TMPDIR", "/tmp")))  # noqa: S108
_left: list[int] = []

# Opened at import, once for all calls: descriptors that a call could inherit.
_pipe = os.pipe()
_held = os.open(os.__file__, os.O_RDONLY)
for _end in _pipe:
    os.set_blocking(_end, False)


# -- calls that must succeed -------------------------------------------------------------------------------------------


def greet(name: str) -> str:
    """A call that does nothing forbidden."""
    return f"hello {name}"


def stay(decided: str) -> dict[str, str]:
    """Try what every tool must be able to do; for each, "allowed" or why it was refused."""
    left, right = socket.socketpair()
    actions: dict[str, Callable[[], Any]] = {
        "read_decided": lambda: _read(decided),
        "write_temporary": lambda: open(f"{_temporary()}/x", "w").close(),
        "thread": lambda: threading.Thread(target=print).start(),
        "own_signal": lambda: os.kill(os.getpid(), 0),
        "socket_pair": lambda: (left.send(b"x"), right.recv(1)),
        "random": lambda: _read("/dev/urandom", "rb"),
    }
    results: dict[str, str] = {}
    for name, action in actions.items():
        try:
            action()
            results[name] = "allowed"
        except (OSError, RuntimeError) as failure:
            results[name] = f"refused: {failure}"
    return results


def leave() -> None:
    """Leave a trace in every place where the next call could find one."""
    _left.append(1)
    os.environ["REMIT_LEFT"] = "x"
    sys.modules["remit_left"] = sys
    open(f"{_temporary()}/left", "w").close()
    with contextlib.suppress(OSError):
        os.write(_pipe[1], b"left")
    with contextlib.suppress(OSError):
        os.lseek(_held, 7, os.SEEK_SET)
        fcntl.fcntl(_held, fcntl.F_SETFL, os.O_NONBLOCK)
    for place in _SHARED:
        with contextlib.suppress(OSError):
            os.utime(place, (7, 7))


def find() -> dict[str, str]:
    """Look for the traces of `leave`; for each place, "held: ..." or "ESCAPED: ..."."""
    results = {
        "left_global": bool(_left),
        "left_environment": "REMIT_LEFT" in os.environ,
        "left_module": "remit_left" in sys.modules,
        "left_file": bool(os.listdir(_temporary())),
        "left_pipe": _gives(lambda: stat.S_ISFIFO(os.fstat(_pipe[0]).st_mode) and os.read(_pipe[0], 4)),
        "left_offset": _gives(lambda: os.lseek(_held, 0, os.SEEK_CUR)),
        "left_flags": _gives(lambda: fcntl.fcntl(_held, fcntl.F_GETFL) & os.O_NONBLOCK),
        "left_times": 7.0 in [os.stat(place).st_mtime for place in _SHARED if os.path.exists(place)],
    }
    return {name: "ESCAPED: it is there" if seen else "held: nothing was left" for name, seen in results.items()}


def _gives(look: Callable[[], Any]) -> bool:
    try:
        return bool(look())
    except OSError:
        return False


# -- escapes -----------------------------------------------------------------------------------------------------------


def escape(outside: str, neighbour: str, broker: int, port: int, unix: str, names: list[str]) -> dict[str, str]:
    """Make each attempt of `names`; for each, "held: " with the error, or "ESCAPED: " with what it got."""
    attempts: dict[str, Callable[[], Any]] = {
        **_files(outside, neighbour),
        **_processes(broker),
        **_sockets(port, unix),
        **_kernel(),
        "inherited_descriptors": _descriptors,
        "environment": _environment,
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


def _files(outside: str, neighbour: str) -> dict[str, Callable[[], Any]]:
    temporary = _temporary()
    return {
        "read_outside": lambda: _read(outside),
        "read_system": lambda: _read("/etc/passwd"),
        "read_undecided": lambda: _read(neighbour),
        "read_dot_dot": lambda: _read(f"../{os.path.basename(os.getcwd())}/{os.path.basename(neighbour)}"),
        "read_through_link": lambda: _read_link(outside),
        "read_attributes": lambda: os.listxattr(neighbour),
        "watch_files": lambda: _call("inotify_init1", 0),
        "write_outside": lambda: _write(outside),
        "write_undecided": lambda: _write(neighbour),
        "hard_link": lambda: os.link(neighbour, f"{temporary}/linked"),
        "device_node": lambda: os.mknod(f"{temporary}/device", 0o60600, os.makedev(8, 0)),
        "set_id": lambda: os.open(f"{temporary}/set", os.O_CREAT | os.O_WRONLY, 0o4755),
        "change_mode": lambda: os.chmod(neighbour, 0o600),
        "change_times": lambda: os.utime(neighbour, (1, 1)),
        "change_attributes": lambda: os.setxattr(neighbour, "user.remit", b"x"),
        "lock_shared_file": lambda: fcntl.flock(os.open(os.__file__, os.O_RDONLY), fcntl.LOCK_SH),
        "device_mode": lambda: os.chmod("/dev/zero", stat.S_IMODE(os.stat("/dev/zero").st_mode)),
        "device_times": lambda: os.utime(
            "/dev/zero", ns=(os.stat("/dev/zero").st_atime_ns, os.stat("/dev/zero").st_mtime_ns)
        ),
        "list_temporary": lambda: os.listdir(os.path.dirname(temporary)),
        "open_by_handle": lambda: _call("open_by_handle_at", -100, b"\0" * 64, 0),
        "kernel_files": _kernel_files,
    }


def _processes(broker: int) -> dict[str, Callable[[], Any]]:
    parent = os.getppid()
    return {
        "start_program": lambda: subprocess.run(["/bin/true"], check=True),
        "fork": _fork,
        "clone": lambda: _child(_number(56, 220, 17, 0, 0, 0, 0)),
        "clone3": lambda: _number(435, 435, 0, 0),
        "trace_broker": lambda: _call("ptrace", 16, broker, 0, 0),
        "read_memory": lambda: _call("process_vm_readv", parent, 0, 0, 0, 0, 0),
        "memory_of_first": lambda: _read("/proc/1/mem", "rb"),
        "signal_broker": lambda: os.kill(broker, 0),
        "signal_parent": lambda: os.kill(parent, 0),
        "signal_everybody": lambda: os.kill(-1, 0),
        "signal_by_file": lambda: fcntl.fcntl(socket.socketpair()[0], fcntl.F_SETOWN, parent),
        "slow_parent": lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, 0)),
        "see_processes": lambda: os.listdir("/proc/1/task"),
        "ask_processes": lambda: os.getpgid(broker),
    }


def _sockets(port: int, unix: str) -> dict[str, Callable[[], Any]]:
    return {
        "socket_internet": lambda: socket.create_connection(("127.0.0.1", port), 1),
        "socket_datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "socket_any_family": _any_family,
        "socket_unix": lambda: _unix(unix),
        "socket_pair_addressed": lambda: _addressed(unix),
    }


def _kernel() -> dict[str, Callable[[], Any]]:
    return {
        "new_namespaces": lambda: _call("unshare", _NEW_USER),
        "clone_namespaces": lambda: _child(_number(56, 220, _NEW_USER | 17, 0, 0, 0, 0)),
        "mount": lambda: _call("mount", b"none", _temporary().encode(), b"tmpfs", 0, None),
        "remount": lambda: _call("mount", None, _temporary().encode(), None, 0x1020, None),
        "unmount": lambda: _call("umount2", _temporary().encode(), 0),
        "change_root": lambda: os.chroot("/"),
        "shared_memory": lambda: _call("shmget", 0, 4096, 0o1600),
        "shared_mapping": lambda: mmap.mmap(-1, 4096),
        "shared_zeroes": lambda: mmap.mmap(os.open("/dev/zero", os.O_RDWR), 4096),
        "memory_file": lambda: os.memfd_create("remit"),
        "message_queue": lambda: _call("msgget", 0, 0o1600),
        "keyring": lambda: _number(250, 219, 0, -3, 1),
        "io_uring": lambda: _number(425, 425, 8, 0),
        "bpf": lambda: _number(321, 280, 0, 0, 0),
        "userfaultfd": lambda: _number(323, 282, 1),
        "perf": lambda: _number(298, 241, 0, 0, -1, -1, 0),
        "x32": lambda: _number(0x40000000 + 39, -1),
        "type_into_terminal": lambda: _number(16, 29, 0, ctypes.c_ulong(0x1_0000_5412), b"x"),
    }


# -- calls over a limit ------------------------------------------------------------------------------------------------


def strain(how: str) -> str:
    """Exceed one limit. Where the limit holds, this does not return."""
    match how:
        case "heap_bomb":
            _held = [bytearray(1 << 20) for _ in range(1 << 20)]
        case "thread_bomb":
            for _ in range(5_000):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        case "big_file":
            with open(f"{_temporary()}/big", "wb") as file:
                file.truncate(100 << 20)
        case "fill_temporary":
            for number in range(1_000):
                _write(f"{_temporary()}/{number}", "x" * (1 << 20))
        case "endless_files":
            for number in range(1 << 60):
                open(f"{_temporary()}/{number}", "w").close()
        case "deaf_sleep":
            _sleep_deaf()
        case "print_flood":
            for _ in range(1_000):
                os.write(1, b"x" * 65_536)
        case "huge_answer":
            return "x" * (10 << 20)
        case "forged_length":
            _send(b"", 0xFFFFFFFF)
            time.sleep(60)
        case "forged_early":
            _send(b'{"kind":"value","value":"early"}')
        case "deep_answer":
            _send(b"[" * 10_000)
            os._exit(0)
        case "half_character":
            _send(b'{"kind":"value","value":"\\ud800"}')
            os._exit(0)
        case "exit":
            os._exit(0)
        case "crash":
            ctypes.string_at(0)
        case _:
            raise ValueError(how)
    return "it returned"


def _sleep_deaf() -> None:
    for number in range(1, 65):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def _send(body: bytes, size: int | None = None) -> None:
    """Send a forged answer on every open socket, before the sandbox sends the real one."""
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, (len(body) if size is None else size).to_bytes(4, "big") + body)


# -- the attempts themselves -------------------------------------------------------------------------------------------


def _temporary() -> str:
    return os.environ["TMPDIR"]


def _read(path: str, mode: str = "r") -> Any:
    with open(path, mode) as file:
        return file.read(20)


def _read_link(target: str) -> Any:
    link = f"{_temporary()}/link"
    with contextlib.suppress(FileExistsError):
        os.symlink(target, link)
    return _read(link)


def _write(path: str, text: str = "escaped") -> str:
    with open(path, "a") as file:
        file.write(text)
    return path


def _kernel_files() -> list[str]:
    """Open files of the kernel for writing, without writing: one that opens could be written."""
    paths = (
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/self/oom_score_adj",
        "/dev/mem",
        "/dev/kmsg",
    )
    reached: list[str] = []
    for path in paths:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY))
            reached.append(path)
    return _some_or(reached, "none of them opens")


def _some_or(found: list[Any], message: str) -> list[Any]:
    """What was found; an `OSError` with the message if there is nothing, so that the attempt counts as blocked."""
    if not found:
        raise OSError(0, message)
    return found


def _fork() -> int:
    return _child(os.fork())


def _child(pid: int) -> int:
    if pid == 0:
        os._exit(0)
    return pid


def _any_family() -> list[tuple[int, int]]:
    made: list[tuple[int, int]] = []
    for family in range(46):
        for kind in (1, 2, 3, 5):
            with contextlib.suppress(OSError):
                socket.socket(family, kind).close()
                made.append((family, kind))
    return _some_or(made, "no family at all")


def _unix(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    return path


def _addressed(path: str) -> str:
    """A pair is made without the system call `socket`, and an end of a datagram pair can send to any address."""
    end, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    end.sendto(b"x", path)
    return path


def _call(name: str, *arguments: Any) -> int:
    return _checked(getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments))


def _number(x86: int, aarch64: int, *arguments: Any) -> int:
    """Make a system call by its number; -1: the architecture does not have it."""
    number = x86 if _X86 else aarch64
    if number < 0:
        raise OSError(0, "this architecture has no such call")
    return _checked(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _descriptors() -> list[int]:
    """Open descriptors besides the three standard ones and the channel."""
    found: list[int] = []
    for number in range(3, 256):
        with contextlib.suppress(OSError):
            kept = os.fstat(number)
            if not _is_of_the_import(number, kept):
                found.append(number)
    return _some_or(found[1:], "only the channel is open")


def _is_of_the_import(number: int, kept: os.stat_result) -> bool:
    """True for a descriptor that this file opened itself: it is open where the import and the call share a process."""
    return (number in _pipe and stat.S_ISFIFO(kept.st_mode)) or (number == _held and stat.S_ISREG(kept.st_mode))


def _environment() -> list[str]:
    """Environment variables that the sandbox did not set."""
    known = {"PATH", "HOME", "TMPDIR", "LANG", "LC_CTYPE", "PWD"}
    known |= {f"{library}_NUM_THREADS" for library in ("OPENBLAS", "OMP", "MKL", "BLIS")}
    return _some_or(sorted(set(os.environ) - known), "only the sandbox's own variables")
