"""The guard: the first process of a sandbox without namespaces.

It kills every process that is left, and removes the files.

It runs no code of the tool and stays outside the lock-down, so the tool cannot signal it. As a child subreaper it stays
the ancestor of every process that is started below it, even of a daemon in a session of its own.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remit.sandbox.guest import kernel
else:
    import kernel


def start(channel: socket.socket, folder: str) -> None:
    """Fork, and return in the child. This process becomes the guard, and never returns.

    It kills the child and all of its descendants when the broker closes the channel or the child ends. Then it removes
    `folder`, the temporary folder of the sandbox, because a broker that was killed cannot.
    """
    kernel.adopt_orphans()
    own = os.getpid()
    child = os.fork()
    if child:
        _watch(channel, child)
        _remove(folder)
        os._exit(0)
    kernel.die_with_parent(own)


def _watch(channel: socket.socket, child: int) -> None:
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(channel, select.POLLRDHUP)  # only its end: the child reads the data
    poll.register(ended, select.POLLIN)
    poll.poll()
    # Repeated until none is left, because processes may fork while they are listed.
    while processes := descendants(os.getpid()):
        # All are stopped before any is killed: a stopped process cannot fork, so a fork bomb cannot outrun this loop.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid, parents in processes.items():
                _signal(pid, parents, number)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)  # at least one child of the guard was killed; orphans become its children


def _remove(folder: str) -> None:
    """Remove the folder in a process that nobody waits for: a call may have left millions of files."""
    if os.fork() == 0:
        os.setsid()
        kernel.close_all_from(0)
        with suppress(OSError):
            os.chmod(f"{folder}/scratch", 0o700)  # for a warm tool it has mode 0100, so it could not be listed
        shutil.rmtree(folder, ignore_errors=True)


def descendants(pid: int) -> dict[int, set[int]]:
    """Every living descendant of `pid`, each with the processes that may be its parent."""
    known = {pid}
    processes: dict[int, set[int]] = {}
    waiting = [pid]
    while waiting:
        for child in _children(waiting.pop()):
            if child not in known and _state(child)[0] not in ("Z", "X", ""):
                known.add(child)
                processes[child] = known
                waiting.append(child)
            elif child not in known:  # a zombie: its children already belong to this process
                known.add(child)
    return processes


def _signal(pid: int, parents: set[int], number: int) -> None:
    """Signal the process, if it is still a descendant.

    INVARIANT: the handle is opened before the parent is checked, so that a reused process number is never signalled.
    """
    with suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if _state(pid)[1] in parents:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _children(pid: int) -> list[int]:
    pids: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                pids += map(int, file.read().split())
    return pids


def _state(pid: int) -> tuple[str, int]:
    """The letter of its state, and its parent; "" and -1 once it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return fields[0], int(fields[1])
    except (OSError, IndexError, ValueError):
        return "", -1
