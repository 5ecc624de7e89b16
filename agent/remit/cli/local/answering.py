"""The side of the service: one process, which forks a process for each command.

It has one thread, so that a fork copies no lock that another thread holds. It imports Remit at the first command, so that a service that
nobody asks on this machine costs no memory. It ends with the service: its standard input is a pipe of it.
"""

from __future__ import annotations

import array
import gc
import grp
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from remit.cli.local.asking import INTERRUPT, LARGEST, SHOWN
from remit.cli.local.forwarded import command_of
from remit.cli.local.peers import FOLDER, PATIENCE_S, SOCKET, is_overflow, peer_uid, place_in
from remit.core import RemitError, UsageError

MOST_COMMANDS: Final = 64  # at one time
MOST_OF_ACCOUNT: Final = 16  # of these, so that one account leaves some for others
ENDS_S: Final = 10.0  # how long commands get to end once the service ends
_MODE: Final = 0o750
_IMPORTED: Final = (
    "remit.cli.approve",
    "remit.cli.policy",
    "remit.cli.run",
    "remit.cli.trace.show",
    "remit.client.replays",
    "remit.client.requests",
    "remit.client.results",
    "remit.runtime.resuming",
    "remit.runtime.runner",
    "remit.tracing.reports.incident",
)


@contextmanager
def local_commands(root: Path, *, group: str = "") -> Generator[Path]:
    """Carry out commands of local accounts in this workspace, in a process of its own, until the context is left.

    `group` is the group whose accounts may ask; "": only this account and root.

    Raises:
        UsageError: the folder of the socket cannot be made, belongs to another account, or another service listens there.
    """
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
        self._running: dict[int, int] = {}  # the account of each process
        self._read: tuple[Any, Any] | None = None  # the state of remit.toml, and its settings

    def serve(self) -> None:
        """Fork for each connection until the service ends; then let commands end."""
        signal.signal(signal.SIGCHLD, _ignored)  # wakes the selector
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            for source in (self._listener, sys.stdin, woken):
                selector.register(source, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if woken in ready:
                    with suppress(BlockingIOError):
                        os.read(woken, 4096)
                self._reap()
                if sys.stdin in ready:
                    break
                if self._listener in ready:
                    self._accept()
        self._listener.close()
        self._end()

    def _accept(self) -> None:
        """Fork for one connection. Where it is closed without an answer, the client does the command by itself."""
        is_first = self._read is None
        connection, _ = self._listener.accept()
        with connection:
            uid = peer_uid(connection)
            of_account = sum(other == uid for other in self._running.values())
            settings = None if is_first else self._settings()
            if settings is not None and len(self._running) < MOST_COMMANDS and of_account < MOST_OF_ACCOUNT:
                if (process := os.fork()) == 0:
                    self._in_child(connection, settings)
                self._running[process] = uid
        if is_first:  # it takes longer than the command by itself, so the first one does not wait for it
            self._settings()

    def _in_child(self, connection: socket.socket, settings: Any) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._listener.close()
            code = _executed(connection, self._root, settings)
            with suppress(OSError):
                connection.send(json.dumps({"code": code}).encode())
        finally:
            os._exit(code)

    def _settings(self) -> Any:
        """The settings of remit.toml as it is now; None if it cannot be read. Imports Remit at the first call."""
        try:
            found = os.stat("remit.toml")
            state = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)
            if self._read is None or self._read[0] != state:
                first = self._read is None
                self._read = (state, _prepared(self._root))
                if first:
                    gc.collect()
                    gc.freeze()  # what is imported stays: no process of a command looks at it again
        except (OSError, RemitError):
            return None
        return self._read[1]

    def _reap(self) -> None:
        for process in list(self._running):
            if os.waitpid(process, os.WNOHANG)[0]:
                del self._running[process]

    def _end(self) -> None:
        """Interrupt the commands, as Ctrl-C does, and kill those that have not ended in time."""
        for number, seconds in ((signal.SIGINT, ENDS_S), (signal.SIGKILL, 1.0)):
            for process in self._running:
                os.kill(process, number)
            until = time.monotonic() + seconds
            while self._running and time.monotonic() < until:
                time.sleep(0.02)
                self._reap()


def _prepared(root: Path) -> Any:
    """The settings of the workspace; imports and computes what the commands have in common."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for name in _IMPORTED:
        import_module(name)
    from remit.guardrails import Redactor
    from remit.policy import check_agreement, read_case_tables
    from remit.workspace import open_session

    opened = open_session(root)
    opened.journal.close()  # INVARIANT: before the first fork, which must not copy an open database
    with suppress(RemitError):  # a command reports it
        check_agreement(opened.policy, read_case_tables(opened.policies))
    Redactor("", ()).text("a text, so that the formats of secrets are compiled")
    return opened.workspace.settings


def _executed(connection: socket.socket, root: Path, settings: Any) -> int:
    """In the process of the command: check who asks for what, then run it with the files of the client."""
    from remit.core import NOBODY
    from remit.workspace import account_of, act_for, subject_of

    connection.settimeout(PATIENCE_S)
    words, shown, files = _request(
        connection, root
    )  # read in any case: a client that cannot send it would see no answer
    uid = peer_uid(connection)
    account = account_of(uid)
    if is_overflow(uid) or subject_of(settings, account) == NOBODY:
        why = "the service does not know your account: [identity] of remit.toml names those that it knows"
        _say(connection, refused=why)
        return 1
    if not words:
        _say(connection, own=True)
        return 0
    act_for(account)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    _look_as(shown)
    _say(connection, begun=True)
    connection.settimeout(None)
    threading.Thread(target=_interrupted_by, args=(connection,), daemon=True).start()
    return _run(words)


def _ignored(_number: int, _frame: object) -> None:
    """A handler that does nothing: its signal only wakes the selector."""


def _request(connection: socket.socket, root: Path) -> tuple[list[str], dict[str, str], list[int]]:
    """The words of the command, how its output looks, and its open files; no words for a request that is not valid."""
    data, ancillary, flags, _ = connection.recvmsg(LARGEST, socket.CMSG_SPACE(3 * 4))
    files = array.array("i")
    for level, kind, numbers in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(numbers[: len(numbers) - len(numbers) % files.itemsize])
    try:
        request = json.loads(data)
        words: Any = request["words"]
        shown: Any = request["shown"]
        place = root.stat()
        if (
            len(files) == 3
            and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
            and request["workspace"] == [place.st_dev, place.st_ino]
            and all(isinstance(word, str) and "\0" not in word for word in words)
            and all(name in SHOWN and isinstance(value, str) and "\0" not in value for name, value in shown.items())
            and command_of(words)
        ):
            return words, shown, list(files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return [], {}, list(files)


def _look_as(shown: dict[str, str]) -> None:
    """The variables of the client that say how output looks. INVARIANT: no pager runs: it could start programs of the client's choice."""
    for name in SHOWN:
        os.environ.pop(name, None)
    os.environ.update({**shown, "PAGER": "cat"})
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(0),
        os.fdopen(1, "w", encoding="utf-8"),
        os.fdopen(2, "w", encoding="utf-8"),
    )


def _run(words: Sequence[str]) -> int:
    from remit.cli import run_command

    sys.argv = ["remit", *words]
    try:
        run_command(list(words))
        code: Any = 0
    except SystemExit as ended:
        code = ended.code
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


def _interrupted_by(connection: socket.socket) -> None:
    """Interrupt the command, as Ctrl-C does, when the client says so or has ended."""
    while True:
        try:
            data = connection.recv(len(INTERRUPT))
        except OSError:
            data = b""
        os.kill(os.getpid(), signal.SIGINT)
        if not data:
            return


def _say(connection: socket.socket, **answer: object) -> None:
    with suppress(OSError):
        connection.send(json.dumps(answer).encode())
