"""The first process of a sandbox where no namespace ends what it leaves: it ends it, removes its files, and nothing else.

It runs nothing of the tool and stays outside the sandbox, which therefore cannot signal it. Whatever is started below it, in
whatever session, stays its descendant.
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
    """Fork: the child goes on, and this process ends it and all below it when the broker hangs up, or the child ends.

    `folder` is the sandbox's own, and goes with it: a broker that was killed removes nothing.
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
    poll.register(channel, 0)  # only its end: what is said on it is the child's
    poll.register(ended, select.POLLIN)
    poll.poll()
    while found := descendants(os.getpid()):
        for number in (signal.SIGSTOP, signal.SIGKILL):  # the stopped ones start no more
            for pid, parents in found.items():
                _signal(pid, parents, number)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)  # one of its own children is among the killed


def _remove(folder: str) -> None:
    """In a process that nobody waits for: what a call left may be millions of files."""
    if os.fork() == 0:
        os.setsid()
        kernel.close_all_from(0)
        with suppress(OSError):
            os.chmod(f"{folder}/scratch", 0o700)  # that of a warm tool can only be entered
        shutil.rmtree(folder, ignore_errors=True)


def descendants(pid: int) -> dict[int, set[int]]:
    """Every process that descends from `pid` and lives, and whose child each may be."""
    known = {pid}
    found: dict[int, set[int]] = {}
    waiting = [pid]
    while waiting:
        for one in _children(waiting.pop()):
            if one not in known and _state(one)[0] not in ("Z", "X", ""):
                known.add(one)
                found[one] = known
                waiting.append(one)
            elif one not in known:  # dead and not waited for yet: what was below it is ours
                known.add(one)
    return found


def _signal(pid: int, parents: set[int], number: int) -> None:
    """INVARIANT: held before it is looked at, so that a number that was given anew is never signalled."""
    with suppress(OSError):
        held = os.pidfd_open(pid)
        try:
            if _state(pid)[1] in parents:
                signal.pidfd_send_signal(held, number)
        finally:
            os.close(held)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                found += map(int, file.read().split())
    return found


def _state(pid: int) -> tuple[str, int]:
    """Its state's letter and its parent; empty and -1 once it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return fields[0], int(fields[1])
    except (OSError, IndexError, ValueError):
        return "", -1
