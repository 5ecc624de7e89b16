"""The first process of a live sandbox: it mounts what each call was decided for, starts the call, and takes the mounts out.

It runs no code of the tool, and keeps the capabilities that bubblewrap gave it, in the namespaces of the sandbox.

* Orders from the broker, on its channel: `{"call": n, "tree": {...}}` with the two descriptors of a call (channel and
  prints); `tree` is null for a call that shares the mounts of a running one. `{"clear": true}` takes the mounts out,
  `{"end": n}` kills the processes of a call.
* Reports to the broker, on its control socket: one line for each process of a call that ended, or was not started.

What is mounted for a call, its tree, is a new tmpfs at /work with exactly the decided files in it. It is filled where no other process
can look, and moved to /work as a whole, so nothing that an earlier call left running can change it meanwhile. The rest of it disappears.

INVARIANT: a file is opened below the working folder without following any link, and the opened inode is what is mounted.
"""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import select
import shutil
import signal
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from remit.sandbox.guest import kernel, onecall, serving, supervisor, watch
else:
    import kernel
    import onecall
    import serving
    import supervisor
    import watch

_HIDDEN = "/inside/tree"  # where a tree is built: no process of a call can enter the folder above it
_UNDECIDED = "/undecided"  # a folder that does not exist: names that a call may list and not open lead there
_TRIES = 20  # to mount a file that is replaced all the time
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.EACCES)


def readiness(boundary: dict[str, Any]) -> bytes:
    """The first line for the broker: `ready`, or why no file can be mounted here, as under a security module that takes capabilities."""
    try:
        kernel.mount_tmpfs(_HIDDEN, size=boundary["file_bytes"], files=boundary["files"])
        try:
            with open(f"{_HIDDEN}/from", "w"):
                pass
            source = os.open(f"{_HIDDEN}/from", os.O_PATH | os.O_CLOEXEC)
            try:
                kernel.mount_file(source, f"{_HIDDEN}/from")
            finally:
                os.close(source)
        finally:
            kernel.unmount(_HIDDEN)
    except OSError as failure:
        return json.dumps({"cold": f"no file can be mounted in a running sandbox: {failure}"}).encode() + b"\n"
    return b"ready\n"


class Keeper:
    """Mounts the files of calls, and starts and ends the processes of calls.

    `prepare_call` drops the rights of such a process, and returns what locks it down.
    """

    def __init__(
        self,
        channel: socket.socket,
        control: int,
        boundary: dict[str, Any],
        prepare_call: Callable[[], Callable[[], None]],
    ) -> None:
        self._channel = channel
        self._control = control
        self._boundary = boundary
        self._prepare_call = prepare_call
        self._top = os.open(boundary["floating"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._calls: dict[int, int] = {}  # the number of a call, by its process
        self._mounted = False
        self._standby: tuple[int, socket.socket] | None = None  # the process of the next call, and the line to it
        self._woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, supervisor.wake)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)

    def run(self) -> NoReturn:
        """Serve the broker until it closes the channel."""
        kernel.not_dumpable()
        kernel.no_new_privileges()
        self._stand_by()
        poll = select.poll()
        for descriptor in (self._channel.fileno(), self._woken):
            poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._woken:
                    with suppress(BlockingIOError):
                        os.read(self._woken, 512)
                    self._reap()
                else:
                    self._on_order(*onecall.receive(self._channel))

    def _on_order(self, order: dict[str, Any], lines: list[int]) -> None:
        if "call" in order:
            try:
                if order["tree"] is not None:
                    self._mount(order["tree"])
                if not self._mounted:
                    raise OSError(errno.ESTALE, "the files that this call shares are not mounted")
                self._start(order["call"], lines)
            except OSError as failure:
                self._report({"ended": order["call"], "failed": failure.errno or errno.EIO})
            finally:
                for line in lines:
                    os.close(line)
        elif "clear" in order:
            self._unmount()
            if self._standby is None:
                self._stand_by()
        else:
            for process, number in self._calls.items():
                if number == order["end"]:
                    with suppress(ProcessLookupError):
                        os.killpg(process, signal.SIGKILL)

    def _report(self, line: dict[str, Any]) -> None:
        os.write(self._control, json.dumps(line).encode() + b"\n")

    # ---- mounts --------------------------------------------------------------------------------------------------------

    def _unmount(self) -> None:
        """Take the tree out. A process that still has a file of it open keeps that file: it was given to this sandbox."""
        if self._mounted:
            kernel.unmount(self._boundary["root"])
            self._mounted = False

    def _mount(self, tree: dict[str, Any]) -> None:
        kernel.mount_tmpfs(_HIDDEN, size=self._boundary["file_bytes"], files=self._boundary["files"])
        try:
            self._fill(tree)
            if not tree["writes"]:
                kernel.mount_read_only(_HIDDEN)
            kernel.move_mount(_HIDDEN, self._boundary["root"])
            self._mounted = True
        except BaseException:
            kernel.unmount(_HIDDEN)
            raise

    def _fill(self, tree: dict[str, Any]) -> None:
        folder = self._folder(*tree["folder"])
        try:
            for name in (*tree["folders"], *(os.path.dirname(name) for name in tree["writes"])):
                os.makedirs(f"{_HIDDEN}/{name}", exist_ok=True)
            for name in tree["files"]:
                self._give(folder, name, stat.S_ISREG)
            for name in tree["stores"]:
                self._give(folder, f"stores/{name}", stat.S_ISDIR)
            for name in tree["copies"]:
                self._copy(folder, name)
            for name in tree["listed"]:
                with suppress(FileExistsError):
                    os.symlink(f"{_UNDECIDED}/{name}", f"{_HIDDEN}/{name}")
        finally:
            os.close(folder)

    def _folder(self, path: str, device: int, inode: int) -> int:
        """Open the working folder of the run: the very one in which the broker looked for the files."""
        folder = kernel.open_beneath(self._top, path, os.O_PATH | os.O_DIRECTORY)
        status = os.fstat(folder)
        if (status.st_dev, status.st_ino) == (device, inode):
            return folder
        os.close(folder)
        raise OSError(errno.ESTALE, "the working folder was replaced by another one")

    def _give(self, folder: int, name: str, fits: Callable[[int], bool]) -> None:
        """Mount one file, or one store that is only read. What is missing, or a link, is left out: the tool finds nothing."""
        at = f"{_HIDDEN}/{name}"
        for _ in range(_TRIES):
            try:
                source = kernel.open_beneath(folder, name, os.O_PATH | os.O_NOFOLLOW)
            except OSError as failure:
                if failure.errno in _ABSENT:
                    return
                raise
            try:
                if not fits(os.fstat(source).st_mode):
                    return
                self._make_place(at, is_file=fits is stat.S_ISREG)
                kernel.mount_file(source, at)
                return
            except FileNotFoundError:  # replaced since it was opened, as editors do when they save: open the new one
                (os.unlink if fits is stat.S_ISREG else os.rmdir)(at)
            finally:
                os.close(source)

    def _make_place(self, at: str, *, is_file: bool) -> None:
        """Make what a file, or a folder, is mounted over."""
        os.makedirs(os.path.dirname(at) if is_file else at, exist_ok=True)
        if is_file:
            os.close(os.open(at, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o400))

    def _copy(self, folder: int, name: str) -> None:
        """Copy a file that the call may change: the original stays as it is until the broker takes the copy over."""
        try:
            source = kernel.open_beneath(folder, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as failure:
            if failure.errno in _ABSENT:
                return
            raise
        with open(source, "rb") as original:
            if stat.S_ISREG(os.fstat(source).st_mode):
                with open(f"{_HIDDEN}/{name}", "wb") as copy:
                    shutil.copyfileobj(original, copy)

    # ---- calls ---------------------------------------------------------------------------------------------------------

    def _stand_by(self) -> None:
        """Fork the process of the next call, which drops its rights meanwhile: a fork takes longer than all else of a call."""
        first = os.getpid()
        ours, theirs = socket.socketpair()
        process = os.fork()
        if process:
            theirs.close()
            self._standby = (process, ours)
            return
        try:
            ours.close()
            self._become_call(first, theirs)
        except BaseException as failure:  # noqa: BLE001 - nothing of the tool has run, and the broker sees the end
            os.write(2, f"remit: {type(failure).__name__}: {failure}\n".encode())
        finally:
            os._exit(1)

    def _start(self, number: int, lines: list[int]) -> None:
        for last in (False, True):
            if self._standby is None:
                self._stand_by()
            assert self._standby is not None
            process, line = self._standby
            self._standby = None
            with line:
                try:
                    socket.send_fds(line, [b"!"], lines)
                except OSError:  # it was killed while it stood by
                    if last:
                        raise
                    continue
            self._calls[process] = number
            return

    def _become_call(self, first: int, line: socket.socket) -> NoReturn:
        """The process of one call: drop every right, wait for the call, lock down for it, run the tool.

        INVARIANT: it was forked while no call had files, and it opens /work only once those of its call are mounted there:
        so no layer of it allows what another call was given. It holds no descriptor but its own.
        """
        os.setsid()
        kernel.die_with_parent(first)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        lock = self._prepare_call()
        watcher = watch.Watch()
        onecall.rehearse(self._boundary, watcher)
        watcher.paused = True
        _, lines, _, _ = socket.recv_fds(line, 1, 2, socket.MSG_CMSG_CLOEXEC)
        if len(lines) != 2:
            os._exit(1)
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor, target in ((null, 0), (lines[1], 1), (lines[1], 2)):
            os.dup2(descriptor, target)
        lock()
        channel = socket.socket(fileno=lines[0])
        onecall.close_others([channel.fileno()])
        seconds = math.ceil(self._boundary["cpu"])
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        kernel.install(bytes.fromhex(self._boundary["call_filter"]))
        call, _ = onecall.receive(channel)
        os.chdir(self._boundary["root"])
        os.environ.update(call["env"])
        onecall.serve(channel, self._boundary, call, None, watcher, None)
        os._exit(0)

    def _reap(self) -> None:
        """Wait for every process that has ended, also for those that a call left behind."""
        while True:
            try:
                process, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            if self._standby is not None and self._standby[0] == process:
                self._standby[1].close()
                self._standby = None
            if (number := self._calls.pop(process, None)) is not None:
                used = {"cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024}
                self._report({"ended": number, "status": os.waitstatus_to_exitcode(status), **used})


class ServerKeeper(Keeper):
    """Mounts the files of each call for one server, such as an MCP server, which it starts once for a run.

    * `{"server": {"argv": [...], "env": {...}}}`, with its three standard streams: start it. Nothing is mounted then.
    * `{"call": n, "tree": {...}, "cpu": s}`, with the channel of the call: mount its files, let the server go on, and report.
    * `{"collect": {...}}`: stop the server, and send what it wrote, by descriptor, on that channel. `{"wake": s}`: let it go on.

    INVARIANT: between two calls everything in the sandbox is stopped, so nothing runs that no call asked for.
    INVARIANT: the server is locked down before any file is mounted. Its Landlock rule is that of the folder above the files,
    which holds nothing else: a rule on the folder itself would not count below a mount on it.
    """

    _server = 0
    _lines: tuple[int, ...] = ()  # of the call whose files are mounted: its channel, and the folder of the files
    _before: dict[str, tuple[int, int, int]]

    def _stand_by(self) -> None:
        """No process of a call: the server runs them all."""

    def _on_order(self, order: dict[str, Any], lines: list[int]) -> None:
        if "server" in order:
            try:
                self._start_server(order["server"], lines)
            finally:
                for line in lines:
                    os.close(line)
        elif "call" in order:
            self._begin(order, lines)
        elif "wake" in order:
            self._go_on(order["wake"])
        else:
            self._stop()
            self._end(order)

    def _end(self, order: dict[str, Any]) -> None:
        if "collect" in order:
            with suppress(OSError):  # the broker has left the call
                self._collect(order["collect"])
            return
        self._unmount()
        for line in self._lines:
            os.close(line)
        self._lines = ()

    def _start_server(self, server: dict[str, Any], lines: list[int]) -> None:
        assert not self._mounted
        first = os.getpid()
        self._server = os.fork()
        if self._server:
            return
        try:
            self._become_server(server, lines, first)
        except BaseException as failure:  # noqa: BLE001 - nothing of the server has run, and the broker sees its end
            os.write(2, f"remit: {type(failure).__name__}: {failure}\n".encode())
        finally:
            os._exit(127)

    def _become_server(self, server: dict[str, Any], lines: list[int], first: int) -> NoReturn:
        os.setsid()
        kernel.die_with_parent(first)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        enclose = self._prepare_call()
        for descriptor, target in zip(lines, (0, 1, 2), strict=True):
            os.dup2(descriptor, target)
        environment: dict[str, str] = {**os.environ, **server["env"]}
        words: list[str] = server["argv"]
        program = shutil.which(words[0], path=environment["PATH"])
        if program is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), words[0])
        os.chdir(self._boundary["scratch"])
        enclose()
        onecall.close_others([])
        kernel.install(bytes.fromhex(self._boundary["call_filter"]))
        os.execve(program, words, environment)  # noqa: S606 - there is no shell

    def _stop(self) -> None:
        """Stop every process of the sandbox but this one."""
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGSTOP)

    def _go_on(self, seconds: float) -> None:
        """Let them go on, and give the server so much more processor time."""
        with suppress(ProcessLookupError):
            limit = math.ceil(self._used() + seconds)
            resource.prlimit(self._server, resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
            os.kill(-1, signal.SIGCONT)

    def _used(self) -> float:
        """The processor time of the server, in seconds: the clock of another process, as `clock_getcpuclockid` names it."""
        with suppress(OSError):
            return time.clock_gettime((~self._server << 3) | 2)
        return 0.0

    def _begin(self, order: dict[str, Any], lines: list[int]) -> None:
        channel, failed = lines[0], 0
        self._lines = (channel,)
        try:
            self._mount(order["tree"])
            self._lines = (channel, os.open(self._boundary["root"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            self._before = self._written(order["tree"]["writes"])
            self._go_on(order["cpu"])
        except OSError as failure:
            failed = failure.errno or errno.EIO
        with suppress(OSError), socket.socket(fileno=os.dup(channel)) as line:
            onecall.report(line, {"failed": failed, "cpu": self._used()})

    def _collect(self, layout: dict[str, Any]) -> None:
        channel, tree = self._lines
        after = self._written(layout["writes"])
        changed = [name for name, status in after.items() if status != self._before.get(name)]
        answer: dict[str, Any] = {
            "files": changed,
            "removed": [name for name in self._before if name not in after],
            "note": self._stray(layout) if layout["writes"] else "",
            "cpu": self._used(),
        }
        files: list[int] = []
        try:
            for name in changed:
                files.append(kernel.open_beneath(tree, name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
            with socket.socket(fileno=os.dup(channel)) as line:
                onecall.send(line, json.dumps(answer).encode(), files)
        finally:
            for file in files:
                os.close(file)

    def _written(self, names: list[str]) -> dict[str, tuple[int, int, int]]:
        """Inode, time and size of each file that the call may write. What is a link, or lies behind one, does not count."""
        found: dict[str, tuple[int, int, int]] = {}
        for name in names:
            with suppress(OSError):
                file = kernel.open_beneath(self._lines[1], name, os.O_PATH | os.O_NOFOLLOW)
                status = os.fstat(file)
                os.close(file)
                if stat.S_ISREG(status.st_mode):
                    found[name] = (status.st_ino, status.st_mtime_ns, status.st_size)
        return found

    def _stray(self, layout: dict[str, Any]) -> str:
        """A note about files that the call may not write: they are not saved."""
        os.fchdir(self._lines[1])
        dropped = serving.undecided_files(layout)
        os.chdir("/")
        return serving.not_saved(dropped)
