"""The supervisor: the first process of a warm sandbox, between the broker, the base and the base's children.

It runs no code of the tool, and serves no call itself.

* Orders from the broker, on its channel: `{"fork": n, "scratch_folder": name, "source": address, "root": folder}` with
  the two descriptors of a call (channel and prints), and `{"end": n}`.
* Reports to the broker, on its control socket: `locked`, then `ready` after the import, then one line for each child
  that ended.
* Notifications of the seccomp filter, which the base and its children share: some system calls are for calls only, or
  only for the process itself. A filter cannot distinguish processes, so the supervisor answers.

INVARIANT: it identifies a process by the number that the kernel puts into the notification. Nothing that a process
reports about itself counts.
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
_CHANNEL = 3  # the descriptor of a call's channel in its process
# Which argument of a system call names a process or thread.
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
    """A child of the base, or an order for one. `process` is 0 until its first notification shows its number."""

    number: int
    scratch_folder: str
    source: str  # the address that its connections are bound to
    lines: list[int] = field(default_factory=list[int])
    process: int = 0
    closed_all: bool = False  # it has closed every descriptor that it inherited
    has_call: bool = False  # it has the descriptors of its call


def serve(channel: socket.socket, control: int, boundary: dict[str, Any], lock_down: Callable[[], None]) -> NoReturn:
    """Start the base, then serve the broker until it closes the channel."""
    try:
        folders = _scratch_folders(boundary)
    except OSError as failure:
        _report(control, {"cold": f"no tmpfs can be mounted for a call: {failure}"})
        os._exit(0)
    kernel.not_dumpable()
    kernel.no_new_privileges()
    # In the full tier it keeps the capabilities that bubblewrap left it, in its own namespaces: it mounts the scratch
    # folders.
    if boundary["tier"] != "full":
        kernel.drop_capabilities()
    ours, theirs = socket.socketpair()
    own = os.getpid()
    process = os.fork()
    if process == 0:
        os.close(control)
        channel.close()
        ours.close()
        kernel.die_with_parent(own)
        lock_down()  # of the base alone: the supervisor needs its own rights
        base.run(boundary, theirs)
    theirs.close()
    _, descriptors, _, _ = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
    ours.close()
    if not descriptors:
        _report(control, {"cold": "the process that imports the tool could not be locked down"})
        os._exit(1)
    Supervisor(channel, control, boundary, folders, process, notices.Notices(descriptors[0])).run()


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
    """Gives calls to the base's children, answers notifications, and reports to the broker how each child ended."""

    def __init__(
        self,
        channel: socket.socket,
        control: int,
        boundary: dict[str, Any],
        folders: scratch_folders.MountedScratchFolders | scratch_folders.PlainScratchFolders,
        process: int,
        filter_notices: notices.Notices,
    ) -> None:
        self._channel = channel
        self._control = control
        self._boundary = boundary
        self._folders = folders
        self._base = process
        self._notices = filter_notices
        self._held: notices.Notice | None = None  # the base, waiting in `clone` until a child is ordered
        self._ready = False
        self._ordered: list[Child] = []  # not forked yet; the base forks them in this order
        # Forked, but without a notification yet, so their process numbers are unknown.
        self._unidentified: list[Child] = []
        self._known: dict[int, Child] = {}
        self._cleaners: set[int] = set()
        # A signal during `poll` writes to this pipe, so that an ended child is noticed without a race.
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
        """Serve orders, notifications and ended children, one after another."""
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
                    # Every other system call that notifies names a process: `_NAMES_A_PROCESS`.
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
        else:  # it has not asked for its call yet; without its descriptors, it will not get one
            self._close_lines(child)

    def _release(self) -> None:
        """Let the base fork the next child that was ordered, if the base waits and there is an order."""
        if self._held is None or not self._ordered:
            return
        notice, self._held = self._held, None
        if self._notices.let_continue(notice):  # else a signal interrupted the `clone`, and the base tries again
            self._unidentified.append(self._ordered.pop(0))

    # ---- notifications -----------------------------------------------------------------------------------------------

    def _child_of(self, thread: int) -> Child | None:
        """The child that the thread belongs to; None for the base, and for any other process."""
        if thread == self._base:
            return None
        if (child := self._known.get(thread)) is not None:
            return child
        # Unidentified children are equal copies of the base and still have no call, so the first that notifies gets the
        # oldest order.
        if self._unidentified and _is_own_child(thread):
            child = self._unidentified.pop(0)
            child.process = thread
            self._known[thread] = child
            return child
        return next((child for pid, child in self._known.items() if kernel.is_thread(pid, thread)), None)

    def _on_clone(self, notice: notices.Notice) -> None:
        """The base forks a child, once one is ordered; the process of a call may start threads; nothing else may clone."""
        if notice.thread == self._base:
            if notice.arguments[0] & _THREAD:
                # A fork copies only the calling thread: locks that others hold would stay locked in every child.
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
        """The base forks for the first time, so the import is over.

        INVARIANT: from here on, no file that the import could write can be written, by the base or by a child.
        Otherwise a call could leave something there for the next.
        """
        if self._boundary["tier"] == "full":
            try:
                kernel.mount_read_only(self._boundary["temporary"])
            except OSError:
                self._cold("its import keeps a file open for writing")
        self._ready = True
        os.write(self._control, b"ready\n")

    def _on_closing(self, notice: notices.Notice) -> None:
        """A process closes all of its descriptors (`close_range` from 0 without flags).

        Continuing is enough: the call itself does it, and a child without a call has no other thread that could keep a
        descriptor. With a flag (CLOSE_RANGE_CLOEXEC) nothing would be closed yet, so that does not count.
        """
        child = self._child_of(notice.thread)
        if self._notices.let_continue(notice) and child is not None and notice.arguments[2] & 0xFFFFFFFF == 0:
            child.closed_all = True

    def _on_accept(self, notice: notices.Notice) -> None:
        """A child asks for its call by `accept4`.

        It gets the descriptors only once, and only after it has closed all others.
        """
        child = self._child_of(notice.thread)
        if child is None or not child.closed_all or child.has_call or not child.lines:
            self._notices.refuse(notice, errno.EPERM)
            return
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        channel, prints = child.lines
        try:
            for descriptor, number in ((null, 0), (prints, 1), (prints, 2), (channel, _CHANNEL)):
                self._notices.install_descriptor(notice, descriptor, number)
        except OSError:
            self._notices.refuse(notice, errno.EPERM)
            return
        finally:
            os.close(null)
            self._close_lines(child)
        child.has_call = True
        self._notices.answer(notice, _CHANNEL)

    def _on_mapping(self, notice: notices.Notice) -> None:
        """A shared, writable mapping.

        In the base, every child would share it; a child without a call is still a copy of the base.
        """
        child = self._child_of(notice.thread)
        if child is not None and child.has_call:
            self._notices.let_continue(notice)
        else:
            self._notices.refuse(notice, errno.EPERM)

    def _on_connect(self, notice: notices.Notice) -> None:
        """The process of a call connects to the proxy; the supervisor does it in its place."""
        child = self._child_of(notice.thread)
        network = self._boundary["network"]
        if child is None or not child.has_call or not network:
            self._notices.refuse(notice, errno.EPERM)
            return
        if self._boundary["tier"] != "full":
            outlet.connect_instead(self._notices, notice, child.source, network["port"])
            return
        code = outlet.connect(child.process, notice.thread, notice.arguments, child.source, network["port"])
        if code:
            self._notices.refuse(notice, code)
        else:
            self._notices.answer(notice, 0)

    def _on_naming(self, notice: notices.Notice) -> None:
        """A system call that names a process: allowed for the own process and its threads.

        Any other number gets the same error, so that a call cannot find out which processes exist.
        """
        child = self._child_of(notice.thread)
        own = self._base if child is None else child.process
        target = notice.arguments[self._names[notice.number]] & 0xFFFFFFFF
        if target == own or (0 < target < 1 << 31 and kernel.is_thread(own, target)):
            self._notices.let_continue(notice)
        else:
            self._notices.refuse(notice, errno.EPERM)

    # ---- ends --------------------------------------------------------------------------------------------------------

    def _cold(self, reason: str) -> NoReturn:
        """Report that the tool cannot stay warm, and exit: each of its calls then gets a sandbox of its own."""
        _report(self._control, {"cold": reason})
        os._exit(0)

    def _reap(self) -> None:
        """Wait for every process that has ended. Without the base there is nothing left to serve."""
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
            if child is None and self._unidentified:  # it ended before its first notification
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
    """True for a child process that this process can wait for; False for a thread of one."""
    try:
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def wake(number: int, frame: Any) -> None:
    """Do nothing. A signal writes to the wakeup descriptor only if it has a handler."""
