"""The first process of a warm sandbox: it runs nothing of the tool, and stands between the base, its children and the broker.

It never serves a call. Its control line says `locked`, `ready` once the import is over, then one line for each process that
ended; on its channel come `{"fork": n, "room": name, "source": address, "root": folder}` with the two descriptors of a call's lines, and `{"end": n}`.

The base and its children ask it, by their filter, for what only some of them may do. INVARIANT: it knows each of them by the
number that the kernel gives in a notice; nothing that one says of itself counts.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from remit.sandbox.guest import base, kernel, notices, onecall, outlet, scratch_folders
else:
    import base
    import kernel
    import notices
    import onecall
    import outlet
    import scratch_folders

_THREAD = 0x00010000  # CLONE_THREAD
_CHANNEL = 3  # the number of a call's line in its process
# Which argument of a call names a process or thread.
_NAMES_A_PROCESS = (
    {"kill": 0, "tgkill": 0, "prlimit64": 0, "getpriority": 1, "setpriority": 1, "ioprio_get": 1}
    | {
        f"sched_{name}": 0
        for name in ("getparam", "getscheduler", "rr_get_interval", "getattr", "setaffinity", "getaffinity")
    }
    | {"getpgid": 0, "getsid": 0}
)


@dataclass
class Child:
    """One process of the base's making, or an order for one: `process` is 0 until its first notice tells it."""

    number: int
    scratch_folder: str
    source: str  # the address that its connections come from
    lines: list[int] = field(default_factory=list[int])
    process: int = 0
    closed_all: bool = False  # it has closed everything that it was born with
    has_call: bool = False  # it holds its call's lines


def serve(channel: socket.socket, control: int, boundary: dict[str, Any], lock_down: Callable[[], None]) -> NoReturn:
    """Start the base, and serve the broker until it hangs up."""
    try:
        where = _scratch_folders(boundary)
    except OSError as failure:
        _report(control, {"cold": f"no file system can be mounted for a call here: {failure}"})
        os._exit(0)
    kernel.not_dumpable()
    kernel.no_new_privileges()
    if boundary["tier"] != "full":  # elsewhere it has what bubblewrap left it, of its own namespaces
        kernel.drop_capabilities()
    ours, theirs = socket.socketpair()
    own = os.getpid()
    process = os.fork()
    if process == 0:
        os.close(control)
        channel.close()
        ours.close()
        kernel.die_with_parent(own)
        lock_down()
        base.run(boundary, theirs)
    theirs.close()
    _, descriptors, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
    ours.close()
    if not descriptors:
        _report(control, {"cold": "it could not be locked down"})
        os._exit(1)
    Supervisor(channel, control, boundary, where, process, notices.Notices(descriptors[0])).run()


def _scratch_folders(
    boundary: dict[str, Any],
) -> scratch_folders.MountedScratchFolders | scratch_folders.PlainScratchFolders:
    if boundary["tier"] != "full":
        return scratch_folders.PlainScratchFolders(boundary["scratch"])
    return scratch_folders.MountedScratchFolders(
        boundary["scratch"], size=boundary["file_bytes"], files=boundary["files"], floating=boundary["floating"]
    )


def _report(control: int, line: dict[str, Any]) -> None:
    os.write(control, json.dumps(line).encode() + b"\n")


class Supervisor:
    """Hands calls to the base's children, answers what they ask, and tells the broker how each ended."""

    def __init__(
        self,
        channel: socket.socket,
        control: int,
        boundary: dict[str, Any],
        where: scratch_folders.MountedScratchFolders | scratch_folders.PlainScratchFolders,
        process: int,
        asked: notices.Notices,
    ) -> None:
        self._channel = channel
        self._control = control
        self._boundary = boundary
        self._folders = where
        self._base = process
        self._notices = asked
        self._held: notices.Notice | None = None  # the base's next fork, which waits for an order
        self._ready = False
        self._ordered: list[Child] = []  # in the order in which the base makes them
        self._unidentified: list[Child] = []  # made, and not heard of yet
        self._known: dict[int, Child] = {}
        self._cleaners: set[int] = set()
        self._woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, wake)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._answers: dict[int, Callable[[notices.Notice], object]] = {
            kernel.syscall_number("clone"): self._on_clone,
            kernel.syscall_number("close_range"): self._on_closing,
            kernel.syscall_number("accept4"): self._on_accept,
            kernel.syscall_number("mmap"): self._on_mapping,
            kernel.syscall_number("connect"): self._on_connect,
        }
        self._names = {kernel.syscall_number(name): index for name, index in _NAMES_A_PROCESS.items()}

    def run(self) -> NoReturn:
        os.write(self._control, b"locked\n")
        poll = select.poll()
        for descriptor in (self._channel.fileno(), self._woken, self._notices.descriptor):
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._woken:
                    with suppress(BlockingIOError):
                        os.read(self._woken, 512)
                    self._reap()
                elif descriptor == self._channel.fileno():
                    self._on_order(*onecall.receive(self._channel))
                elif (notice := self._notices.receive()) is not None:
                    self._answers.get(notice.number, self._on_naming)(notice)

    # ---- the broker's orders -----------------------------------------------------------------------------------------

    def _on_order(self, frame: dict[str, Any], descriptors: list[int]) -> None:
        if "fork" in frame:
            child = Child(frame["fork"], frame["scratch_folder"], frame["source"], descriptors)
            try:
                self._folders.open(child.scratch_folder, frame["root"])
            except OSError as failure:
                self._ended(child, -(failure.errno or 1), 0.0, 0)
                return
            self._ordered.append(child)
            self._release()
            return
        for child in (*self._known.values(), *self._unidentified, *self._ordered):
            if child.number == frame["end"]:
                self._end(child)

    def _end(self, child: Child) -> None:
        if child.process:
            with suppress(ProcessLookupError):
                os.kill(child.process, signal.SIGKILL)
        else:  # it has not asked for its call, and will not be given one
            self._close_lines(child)

    def _release(self) -> None:
        """Let the base make the next child that was ordered."""
        if self._held is None or not self._ordered:
            return
        notice, self._held = self._held, None
        if self._notices.let_continue(notice):  # else a signal took it out of its system call, and it asks again
            self._unidentified.append(self._ordered.pop(0))

    # ---- what is asked -----------------------------------------------------------------------------------------------

    def _child_of(self, thread: int) -> Child | None:
        """Whose thread it is; None for the base's, and for one that is nobody's."""
        if thread == self._base:
            return None
        if (child := self._known.get(thread)) is not None:
            return child
        if self._unidentified and _is_own_child(thread):
            child = self._unidentified.pop(0)
            child.process = thread
            self._known[thread] = child
            return child
        return next((one for pid, one in self._known.items() if kernel.is_thread(pid, thread)), None)

    def _on_clone(self, notice: notices.Notice) -> None:
        if notice.thread == self._base:
            if notice.arguments[0] & _THREAD:
                self._cold("its import starts a thread")
            if not self._ready:
                self._imported()
            self._held = notice
            self._release()
            return
        child = self._child_of(notice.thread)
        if child is not None and child.has_call and notice.arguments[0] & _THREAD:
            self._notices.let_continue(notice)
        else:
            self._notices.refuse(notice, errno.EPERM)

    def _imported(self) -> None:
        """The import is over. INVARIANT: from here on nothing that it could write can be written by it or by a child."""
        if self._boundary["tier"] == "full":
            try:
                kernel.mount_read_only(self._boundary["temporary"])
            except OSError:
                self._cold("its import keeps a file open that it writes")
        self._ready = True
        os.write(self._control, b"ready\n")

    def _on_closing(self, notice: notices.Notice) -> None:
        """Every descriptor: it happens at once, and no other thread of the process is there to keep one."""
        child = self._child_of(notice.thread)
        if self._notices.let_continue(notice) and child is not None and notice.arguments[2] & 0xFFFFFFFF == 0:
            child.closed_all = True

    def _on_accept(self, notice: notices.Notice) -> None:
        """A child asks for its call."""
        child = self._child_of(notice.thread)
        if child is None or not child.closed_all or child.has_call or not child.lines:
            self._notices.refuse(notice, errno.EPERM)
            return
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        line, prints = child.lines
        try:
            for descriptor, number in ((nothing, 0), (prints, 1), (prints, 2), (line, _CHANNEL)):
                self._notices.install_descriptor(notice, descriptor, number)
        except OSError:
            self._notices.refuse(notice, errno.EPERM)
            return
        finally:
            os.close(nothing)
            self._close_lines(child)
        child.has_call = True
        self._notices.answer(notice, _CHANNEL)

    def _on_mapping(self, notice: notices.Notice) -> None:
        """Memory that is shared and written: a fork would share it too."""
        child = self._child_of(notice.thread)
        if child is not None and child.has_call:
            self._notices.let_continue(notice)
        else:
            self._notices.refuse(notice, errno.EPERM)

    def _on_connect(self, notice: notices.Notice) -> None:
        child = self._child_of(notice.thread)
        network = self._boundary["network"]
        if child is None or not child.has_call or not network:
            self._notices.refuse(notice, errno.EPERM)
            return
        code = outlet.connect(child.process, notice.thread, notice.arguments, child.source, network["port"])
        if code:
            self._notices.refuse(notice, code)
        else:
            self._notices.answer(notice, 0)

    def _on_naming(self, notice: notices.Notice) -> None:
        """What names a process: its own, and no other is even there."""
        child = self._child_of(notice.thread)
        own = self._base if child is None else child.process
        named = notice.arguments[self._names[notice.number]] & 0xFFFFFFFF
        if named == own or (0 < named < 1 << 31 and kernel.is_thread(own, named)):
            self._notices.let_continue(notice)
        else:
            self._notices.refuse(notice, errno.EPERM)

    # ---- ends --------------------------------------------------------------------------------------------------------

    def _cold(self, reason: str) -> NoReturn:
        _report(self._control, {"cold": reason})
        os._exit(0)

    def _reap(self) -> None:
        while True:
            try:
                process, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(0)
            if process == 0:
                return
            if process == self._base:
                if not self._ready:
                    self._cold("its import fails")
                os._exit(0)
            if process in self._cleaners:
                self._cleaners.discard(process)
                continue
            child = self._known.pop(process, None)
            if child is None and self._unidentified:  # it ended before it asked for anything
                child = self._unidentified.pop(0)
            if child is not None:
                cpu, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
                self._ended(child, os.waitstatus_to_exitcode(status), cpu, memory)
                if cleaner := self._folders.close(child.scratch_folder):
                    self._cleaners.add(cleaner)

    def _ended(self, child: Child, status: int, cpu: float, memory: int) -> None:
        self._close_lines(child)
        _report(self._control, {"ended": child.number, "status": status, "cpu": cpu, "memory": memory})

    def _close_lines(self, child: Child) -> None:
        for line in child.lines:
            os.close(line)
        child.lines = []


def _is_own_child(process: int) -> bool:
    """A thread of a child is none."""
    try:
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def wake(number: int, frame: Any) -> None:
    """A signal that nobody handles wakes nobody."""
