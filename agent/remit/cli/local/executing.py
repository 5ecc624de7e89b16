"""The process that executes the commands of one account, one after another: a fork of the service.

INVARIANT: each command is checked as the first one is: its account, its workspace and its words. Between two commands the process keeps what
it has loaded, the open journal and the warm tools, and no open file, variable or setting of the last terminal. What was interrupted or has
failed ends the process.
"""

from __future__ import annotations

import array
import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from remit.cli.local.asking import INTERRUPT, LARGEST, SHOWN
from remit.cli.local.forwarded import command_of
from remit.cli.local.peers import PATIENCE_S, is_overflow, peer_uid
from remit.core import RemitError

MOST_IN_ROW: Final = 500  # commands of one process
MOST_UNCOLLECTED: Final = 10  # commands between two collections of garbage
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


def prepared(root: Path) -> Any:
    """The settings of the workspace; imports and computes what the commands have in common."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for name in _IMPORTED:
        import_module(name)
    from remit.guardrails import Redactor
    from remit.policy import check_agreement, read_case_tables
    from remit.sandbox import Sandbox
    from remit.workspace import keep_sessions, open_session

    keep_sessions()
    opened = open_session(root)
    opened.journal.close()  # INVARIANT: before the first fork, which must not copy an open database
    with suppress(RemitError):  # a command reports it
        check_agreement(opened.policy, read_case_tables(opened.policies))
    with suppress(RemitError):
        _ = Sandbox.shared(opened.workspace.settings.accept).confinement
    Redactor("", ()).text("a text, so that the formats of secrets are compiled")
    return opened.workspace.settings


def execute_each(control: socket.socket, root: Path, settings: Any, uid: int) -> None:
    """Answer each connection that the service gives, until it gives no more."""
    from remit.sandbox import close_shared

    _take_files([os.open(os.devnull, os.O_RDWR)] * 3)
    with suppress(KeyboardInterrupt):
        for number in range(1, MOST_IN_ROW + 1):
            _, files, _, _ = socket.recv_fds(control, 1, 1)
            if not files:
                break
            with socket.socket(fileno=files[0]) as connection:
                if not _is_of(connection, uid):
                    break
                code, goes_on = executed(connection, root, settings)
                if goes_on:  # first, so that the next command of the client finds this process
                    control.send(b"idle")
                if code is not None:
                    _say(connection, code=code)
            if not goes_on:
                break
            if number % MOST_UNCOLLECTED == 0:
                gc.collect()
    close_shared()


def _is_of(connection: socket.socket, uid: int) -> bool:
    """INVARIANT: what one account leaves in this process, no other account gets."""
    return peer_uid(connection) == uid


def executed(connection: socket.socket, root: Path, settings: Any) -> tuple[int | None, bool]:
    """Check who asks for what, then run it with the files of the client.

    Returns its exit code, None if nothing was run, and whether a further command may run in this process.
    """
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
        return None, False
    if not words:
        _say(connection, own=True)
        return None, False
    act_for(account)
    _take_files(files)
    try:
        _look_as(shown)
        _say(connection, begun=True)
        connection.settimeout(None)
        interrupts = _Interrupts(connection)
        code, is_whole = 1, False
        with suppress(KeyboardInterrupt):  # it came when the command had ended
            code = _run(words)
            is_whole = interrupts.end()
        return code, is_whole
    finally:
        _take_files([os.open(os.devnull, os.O_RDWR)] * 3)


def _take_files(files: Sequence[int]) -> None:
    """Let these be the three standard files of the process."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in set(files):
        os.close(file)


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
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


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


class _Interrupts:
    """Interrupts the command, as Ctrl-C does, when the client says so or has ended."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._over = self._sent = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def end(self) -> bool:
        """The command has ended: interrupt nothing any more. False if something was interrupted."""
        with self._lock:
            self._over = True
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)
        self._thread.join()
        return not self._sent

    def _listen(self) -> None:
        while True:
            try:
                data = self._connection.recv(len(INTERRUPT))
            except OSError:
                data = b""
            with self._lock:
                if self._over:
                    return
                self._sent = True
                os.kill(os.getpid(), signal.SIGINT)
            if not data:
                return


def _say(connection: socket.socket, **answer: object) -> None:
    with suppress(OSError):
        connection.send(json.dumps(answer).encode())
