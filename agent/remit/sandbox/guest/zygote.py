"""The warm process of one tool: import it once, keep processes ready, give each call one of them.

It never serves a call itself. Its own control line says `ready`, then one line for each process that ended; on its channel
come `{"fork": n}` with the two descriptors of a call's lines, and `{"end": n}`.

INVARIANT: the tool's import has run in this process, so what it says is a claim; what binds it is what `inside.lock_down`
took away before.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from remit.sandbox.guest import kernel, onecall, serving, watch
else:
    import kernel
    import onecall
    import serving
    import watch

_FURTHEST = 1 << 16  # numbers looked at for threads


def serve(channel: socket.socket, control: int, boundary: dict[str, Any]) -> NoReturn:
    """Import the tool and serve forks until the broker hangs up."""
    try:
        kernel.adopt_orphans()  # so that a daemon of the import is seen here
        module = serving.load(boundary)
        _warm_up(module)
        reason = _left_running()
    except BaseException as failure:  # noqa: BLE001 - a tool's import may raise anything
        traceback.print_exc()
        _cold(control, f"{type(failure).__name__}: {failure}"[:1000])
    serving.flush()
    if reason:
        _cold(control, reason)
    zygote = Zygote(channel, control, boundary, module)
    gc.collect()
    gc.freeze()  # what a child never frees it never copies
    os.write(control, b"ready\n")
    zygote.run()


def _cold(control: int, reason: str) -> NoReturn:
    serving.flush()
    os.write(control, json.dumps({"cold": reason}).encode() + b"\n")
    os._exit(0)


def _warm_up(module: Any) -> None:
    """What every child would otherwise do again: imports, types, validators."""
    importlib.import_module("random")  # reseeded in each child
    for name in serving.public(module):
        with suppress(Exception):  # a function that cannot be an action is no reason not to serve the others
            serving.action(module, name).warm()
    if "httpx" in sys.modules:  # it brings the rest of itself in when it is first used: a tenth of a second
        for name in ("httpcore", "encodings.idna"):
            with suppress(ImportError):
                importlib.import_module(name)
    json.loads(serving.to_json({"warm": [1, 2.5, "é", None, True]}))


def _left_running() -> str:
    """Why a fork would not carry everything that the import started; empty where it does."""
    if threading.active_count() > 1:
        return "its import starts a thread"
    probe = os.fork()
    if probe == 0:
        os._exit(0)
    os.waitpid(probe, 0)
    with suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return "its import starts a process"
    own = os.getpid()
    if not own < probe < own + _FURTHEST:
        return "it cannot be told whether its import starts a thread"
    # A thread of a C library is known by its number alone: there is no /proc here.
    if any(kernel.is_thread(own, number) for number in range(own + 1, probe)):
        return "its import starts a thread"
    return ""


class Zygote:
    """Forks one child for each request and tells how each ended."""

    def __init__(self, channel: socket.socket, control: int, boundary: dict[str, Any], module: Any) -> None:
        self._channel = channel
        self._control = control
        self._boundary = boundary
        self._module = module
        self._children: dict[int, int] = {}
        self._cleaners: set[int] = set()
        self._runtime: list[tuple[int, int, bool]] = []
        for path, access in onecall.runtime_access(boundary):
            with suppress(FileNotFoundError, NotADirectoryError):
                self._runtime.append((os.open(path, os.O_PATH | os.O_CLOEXEC), access, not os.path.isdir(path)))
        self._pid = os.getpid()
        self._woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, wake)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)

    def run(self) -> NoReturn:
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._woken:
                    with suppress(BlockingIOError):
                        os.read(self._woken, 512)
                    self._reap()
                else:
                    frame, descriptors = onecall.receive(self._channel)
                    if "fork" in frame:
                        self._fork(frame["fork"], descriptors)
                    else:
                        self._end(frame["end"])

    def _fork(self, number: int, descriptors: list[int]) -> None:
        try:
            child = os.fork()
        except OSError as failure:
            self._tell({"ended": number, "status": -failure.errno if failure.errno else -1, "cpu": 0.0, "memory": 0})
        else:
            if child == 0:
                self._child(number, *descriptors)
            self._children[child] = number
        for descriptor in descriptors:
            os.close(descriptor)

    def _end(self, number: int) -> None:
        for child, own in self._children.items():
            if own == number:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    def _reap(self) -> None:
        while self._children or self._cleaners:
            child, status, usage = os.wait4(-1, os.WNOHANG)
            if child == 0:
                return
            self._cleaners.discard(child)
            number = self._children.pop(child, None)
            if number is None:
                continue
            self._tell(
                {
                    "ended": number,
                    "status": os.waitstatus_to_exitcode(status),
                    "cpu": usage.ru_utime + usage.ru_stime,
                    "memory": usage.ru_maxrss * 1024,
                }
            )
            self._clean(number)

    def _clean(self, number: int) -> None:
        """Most leave nothing; what the others left may be millions of files, and must not hold up the next call."""
        own = self._own(number)
        for path in (own["temporary"], own["scratch"]):
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue
            except OSError:
                with suppress(OSError):
                    cleaner = os.fork()
                    if cleaner == 0:
                        onecall.close_others([])
                        onecall.clean(own)
                        os._exit(0)
                    self._cleaners.add(cleaner)
                return

    def _tell(self, line: dict[str, Any]) -> None:
        os.write(self._control, json.dumps(line).encode() + b"\n")

    def _own(self, number: int) -> dict[str, Any]:
        """The boundary of one child: its folders lie beside those of the others, which it cannot open."""
        return {
            **self._boundary,
            "scratch": os.path.join(self._boundary["scratch"], str(number)),
            "temporary": os.path.join(self._boundary["temporary"], str(number)),
        }

    def _child(self, number: int, line: int, prints: int) -> NoReturn:
        status = 1
        try:
            self._become(line, prints)
            own = self._own(number)
            for path in (own["scratch"], own["temporary"]):
                os.mkdir(path, 0o700)
            os.environ["HOME"] = os.environ["TMPDIR"] = own["temporary"]
            channel = socket.socket(fileno=line)
            rules = onecall.prepare(own, [line], self._runtime)
            _refresh()
            heard = watch.Watch()
            onecall.rehearse(own, heard)
            for one in serving.actions():
                one.warm()
            call = onecall.narrow(channel, own, rules)
            onecall.serve(channel, own, call, self._module, heard)
            status = 0
            onecall.clean(own)
        except BaseException:  # noqa: BLE001 - nothing of a child may reach the zygote's own code
            traceback.print_exc()
        os._exit(status)

    def _become(self, line: int, prints: int) -> None:
        """No signal, no terminal and no descriptor is shared with the zygote."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        kernel.die_with_parent(self._pid)
        os.setsid()
        os.dup2(prints, 1)
        os.dup2(prints, 2)
        os.close(prints)


def wake(number: int, frame: Any) -> None:
    """A signal that nobody handles wakes nobody."""


def _refresh() -> None:
    """What a copy of a process must not share with its siblings."""
    sys.modules["random"].seed()
    if tempfile := sys.modules.get("tempfile"):
        vars(tempfile)["tempdir"] = None
