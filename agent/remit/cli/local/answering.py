"""The side of the service: one process, which accepts connections and gives each to a process of the account that connects.

Such a process executes one command after another, so that the workspace, the journal and the warm tools of the last command are there for
the next one. It is a fork of this process, which has one thread, so that a fork copies no lock that another thread holds. This process imports
Remit at the first command, so that a service that nobody asks on this machine costs no memory. It ends with the service: its standard input
is a pipe of it.
"""

from __future__ import annotations

import gc
import grp
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from remit.cli.local.executing import execute_each, prepared
from remit.cli.local.peers import FOLDER, PATIENCE_S, SOCKET, peer_uid, place_in
from remit.core import RemitError, UsageError

MOST_COMMANDS: Final = 64  # at one time
MOST_OF_ACCOUNT: Final = 16  # of these, so that one account leaves some for others
ENDS_S: Final = 10.0  # how long commands get to end once the service ends
MOST_IDLE: Final = 4  # processes that wait for the next command
IDLE_S: Final = 60.0  # how long one waits: as long as an unused warm tool
TICK_S: Final = 5.0
_MODE: Final = 0o750


@contextmanager
def local_commands(root: Path, *, group: str = "") -> Generator[Path]:
    """Carry out commands of local accounts in this workspace, in a process of its own, until the context is left.

    `group` is the group whose accounts may ask; "": only this account and root. Without Linux there are no sockets that keep packets
    apart: then only the folder is made, and each command does its own work.

    Raises:
        UsageError: the folder of the socket cannot be made, belongs to another account, or another service listens there.
    """
    if sys.platform != "linux":
        os.close(_made(root, _group_id(group)))
        yield root / FOLDER / SOCKET
        return
    with _listening(root, _group_id(group)) as listener:
        command = [
            sys.executable,
            "-P",  # no module of the folder in which the service was started
            "-c",
            "from remit.cli.local.answering import main; main()",
            str(listener.fileno()),
            str(root),
        ]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(listener.fileno(),),
            start_new_session=True,
        )
        try:
            yield root / FOLDER / SOCKET
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(ENDS_S + 5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _group_id(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid if group else None
    except KeyError:
        raise UsageError(
            f"the group {group!r} does not exist on this machine: create it, or change [serve] group"
        ) from None


@contextmanager
def _listening(root: Path, group: int | None) -> Generator[socket.socket]:
    folder = _made(root, group)
    try:
        if _is_answered(folder):
            raise UsageError(f"another service answers the commands of {str(root)!r}: end it first")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            try:
                _bind(listener, folder, group)
            except OSError as failure:
                raise UsageError(f"cannot listen in {str(root / FOLDER)!r}: {failure.strerror}") from failure
            yield listener
        with suppress(OSError):
            os.unlink(SOCKET, dir_fd=folder)
    finally:
        os.close(folder)


def _bind(listener: socket.socket, folder: int, group: int | None) -> None:
    with suppress(FileNotFoundError):
        os.unlink(SOCKET, dir_fd=folder)
    listener.bind(place_in(folder))
    if group is not None:
        os.chown(SOCKET, -1, group, dir_fd=folder)
    os.chmod(SOCKET, 0o600 if group is None else 0o660, dir_fd=folder)
    listener.listen(MOST_COMMANDS)


def _made(root: Path, group: int | None) -> int:
    """The folder of the socket, which only this account can change. INVARIANT: it is checked after it is opened."""
    place = root / FOLDER
    if os.geteuid() not in (0, root.stat().st_uid):
        raise UsageError(f"{str(root)!r} belongs to another account than the service: commands would not trust it")
    try:
        place.parent.mkdir(exist_ok=True)
        with suppress(FileExistsError):
            place.mkdir(mode=0o700)
        folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as failure:
        raise UsageError(f"the folder {str(place)!r} cannot be made: {failure.strerror}") from failure
    if os.fstat(folder).st_uid != os.geteuid():
        os.close(folder)
        raise UsageError(f"{str(place)!r} belongs to another account: remove it")
    if group is not None:
        os.fchown(folder, -1, group)
    os.fchmod(folder, 0o700 if group is None else _MODE)
    return folder


def _is_answered(folder: int) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.settimeout(PATIENCE_S)
        try:
            probe.connect(place_in(folder))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # it listens, and as many clients wait as may
            pass
        return True


def main() -> None:
    """The process: `sys.argv` has the number of the listening socket and the folder of the workspace."""
    listener, root = socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2])
    os.chdir(root)
    _Commands(listener, root).serve()


class _Commands:
    def __init__(self, listener: socket.socket, root: Path) -> None:
        self._listener = listener
        self._root = root
        self._workers: dict[int, Worker] = {}  # by process
        self._read: tuple[Any, Any] | None = None  # the state of remit.toml, and its settings
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Give each connection to a process until the service ends; then let commands end."""
        signal.signal(signal.SIGCHLD, _ignored)  # wakes the selector
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for source in (self._listener, sys.stdin, woken):
            self._selector.register(source, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in self._selector.select(TICK_S if self._workers else None)}
            if woken in ready:
                with suppress(BlockingIOError):
                    os.read(woken, 4096)
            for worker in self._workers.values():
                if worker.control in ready:
                    worker.receive()
            self._reap()
            self._dismiss_unused()
            if sys.stdin in ready:
                break
            if self._listener in ready:
                self._accept()
        self._listener.close()
        self._end()

    def _accept(self) -> None:
        """Give one connection to a process. Where it is closed without an answer, the client does the command by itself."""
        is_first = self._read is None
        connection, _ = self._listener.accept()
        with connection:
            uid = peer_uid(connection)
            settings = None if is_first else self._settings()
            if settings is not None and (worker := self._worker_for(uid, settings)) is not None:
                worker.give(connection)
        if is_first:  # it takes longer than the command by itself, so the first one does not wait for it
            self._settings()

    def _worker_for(self, uid: int, settings: Any) -> Worker | None:
        """A process that executes commands of the account; None if too many commands run."""
        busy = [worker.uid for worker in self._workers.values() if not worker.is_idle]
        if len(busy) >= MOST_COMMANDS or busy.count(uid) >= MOST_OF_ACCOUNT:
            return None
        idle = (worker for worker in self._workers.values() if worker.is_idle)
        found = next((worker for worker in idle if worker.uid == uid and worker.settings is settings), None)
        return found or self._forked(uid, settings)

    def _forked(self, uid: int, settings: Any) -> Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if (process := os.fork()) == 0:
            ours.close()
            self._in_child(theirs, settings, uid)
        theirs.close()
        worker = self._workers[process] = Worker(process, uid, ours, settings)
        self._selector.register(ours, selectors.EVENT_READ)
        return worker

    def _in_child(self, control: socket.socket, settings: Any, uid: int) -> None:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # INVARIANT: it keeps no control socket of another process, which has to notice that this service has ended.
            self._selector.close()
            self._listener.close()
            for worker in self._workers.values():
                worker.control.close()
            execute_each(control, self._root, settings, uid)
        finally:
            os._exit(1)

    def _settings(self) -> Any:
        """The settings of remit.toml as it is now; None if it cannot be read. Imports Remit at the first call."""
        try:
            found = os.stat("remit.toml")
            state = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            if self._read is None or self._read[0] != state:
                first = self._read is None
                self._read = (state, prepared(self._root))
                if first:
                    gc.collect()
                    gc.freeze()  # what is imported stays: no process of a command looks at it again
        except (OSError, RemitError):
            return None
        return self._read[1]

    def _reap(self) -> None:
        for process, worker in list(self._workers.items()):
            if os.waitpid(process, os.WNOHANG)[0]:
                self._selector.unregister(worker.control)
                worker.control.close()
                del self._workers[process]

    def _dismiss_unused(self) -> None:
        """End the processes that nobody has used for a while, that have other settings, or that are too many."""
        idle = sorted((worker for worker in self._workers.values() if worker.is_idle), key=lambda item: item.since)
        last, now = self._read and self._read[1], time.monotonic()
        for number, worker in enumerate(idle):
            if number < len(idle) - MOST_IDLE or now - worker.since > IDLE_S or worker.settings is not last:
                worker.dismiss()

    def _end(self) -> None:
        """Interrupt the commands, as Ctrl-C does, and kill those that have not ended in time."""
        for worker in self._workers.values():
            worker.dismiss()
        for number, seconds in ((signal.SIGINT, ENDS_S), (signal.SIGKILL, 1.0)):
            for process in self._workers:
                os.kill(process, number)
            until = time.monotonic() + seconds
            while self._workers and time.monotonic() < until:
                time.sleep(0.02)
                self._reap()


class Worker:
    """The process of an account, as the service sees it: idle, or with one command."""

    def __init__(self, process: int, uid: int, control: socket.socket, settings: Any) -> None:
        self.process: Final = process
        self.uid: Final = uid
        self.control: Final = control
        self.settings: Final = settings
        self.is_idle = True
        self.since = time.monotonic()

    def give(self, connection: socket.socket) -> None:
        """Have it answer the connection. If it has ended, nobody does, and the client does the command by itself."""
        self.is_idle = False
        with suppress(OSError):
            socket.send_fds(self.control, [b"c"], [connection.fileno()])

    def receive(self) -> None:
        """It says that it is idle again, or has ended."""
        with suppress(OSError):
            if self.control.recv(16):
                self.is_idle, self.since = True, time.monotonic()

    def dismiss(self) -> None:
        """Have it end. INVARIANT: it gets no connection any more."""
        self.is_idle = False
        with suppress(OSError):
            self.control.shutdown(socket.SHUT_WR)


def _ignored(_number: int, _frame: object) -> None:
    """A handler that does nothing: its signal only wakes the selector."""
