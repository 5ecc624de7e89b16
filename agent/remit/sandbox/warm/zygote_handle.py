"""The broker's handle on one warm sandbox: a zygote process and its idle children.

The pool's keeper thread starts it and reads from it. What comes from inside is treated as untrusted, even from the
supervisor, which runs no code of the tool.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from remit.core import Json
from remit.sandbox.egress import Egress, ProxyListener
from remit.sandbox.process import START_SECONDS, DidNotStart, Process, boundary, group_memory, make_base, remove_base
from remit.sandbox.profile import Profile, Runtime, places

IMPORT_SECONDS: Final = 5.0
_SCRATCH_FOLDERS: Final = 256  # made in advance in the landlock tier: so many children can one zygote have there
# Too few descriptors or processes for now: worth another try.
_SHORTAGES: Final = (errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS, errno.EAGAIN)
_PRINTS: Final = 8 << 10  # the last bytes that an import printed

Schedule: TypeAlias = Callable[[Callable[[], None]], None]  # runs a task in the pool's keeper thread


class Cold(Exception):
    """The tool cannot be kept warm: its import fails, or starts threads or processes.

    Its calls run in sandboxes of their own.
    """

    @property
    def silent(self) -> bool:
        """True if no cause was reported: it was killed from outside, so another start may work."""
        return not str(self)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How many warm tools and children there may be. An idle child uses about 2 MB, a warm tool about 18 MB."""

    min_ready: int = 2  # idle children of each tool
    max_ready: int = 8  # idle children of each tool, under load
    max_ready_total: int = 32  # idle children of all tools
    max_folders: int = 12  # working folders for each of which a child of a tool stands by
    max_children: int = 16  # children of one tool, idle or busy; further calls wait
    max_tools: int = 12
    max_calls: int = 2_000  # after so many calls, the zygote is replaced
    idle_s: float = 60.0  # an unused tool is ended after this time


class WarmChild:
    """One child process: idle, then used for exactly one call."""

    def __init__(self, number: int, zygote: Zygote, channel: socket.socket, prints: int, folder: Folder) -> None:
        self.number = number
        self.folder = folder
        self.zygote = zygote
        self.channel = channel
        self.prints = prints
        self.source = source_of(number)
        self.report: dict[str, Json] | None = None
        self._over = False
        self._on_end: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def end(self) -> None:
        """Have the supervisor kill it with SIGKILL."""
        self.zygote.schedule(lambda: self.zygote.end(self.number))

    async def ended(self, seconds: float) -> dict[str, Json] | None:
        """The supervisor's report of its end; None if the supervisor died, too, or reports nothing in time."""
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        with self._lock:
            if self._over:
                return self.report
            self._on_end = lambda: _soon(loop, over)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await over.wait()
        return self.report

    def report_end(self, report: dict[str, Json] | None) -> None:
        """Record its end and wake the call that waits for it. Later reports are ignored."""
        with self._lock:
            if self._over:
                return
            self._over, self.report = True, report
            on_end = self._on_end
        if on_end is not None:
            on_end()

    def close(self) -> None:
        """Close the broker's ends. A child that is still idle exits when its channel closes."""
        self.channel.close()
        os.close(self.prints)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The working folder of a child: its path beneath the folder that the sandbox mounts, and its device and inode."""

    path: str = "."
    device: int = 0
    inode: int = 0


ANY: Final = Folder()  # in a sandbox with one working folder for all calls


def child_folder(profile: Profile) -> Folder:
    """The working folder that the child of a call must be made for."""
    if not profile.root_per_call:
        return ANY
    status = os.stat(profile.root)
    path = os.fspath(profile.root)[len(profile.root_mount_source) + 1 :] or "."
    return Folder(path=path, device=status.st_dev, inode=status.st_ino)


@dataclass(kw_only=True)
class Waiter:
    """A call that waits for a child."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[WarmChild]
    folder: Folder


@dataclass(kw_only=True)
class WarmTool:
    """One tool in the pool, and the demand for it.

    `folders` are the working folders of its recent calls with the time of the last one, the newest last. Idle children are made for
    them: runs that call in turns find a child each, and none is ended for another one. `busy` children run calls now, and `peak` is
    the recent maximum of them. `cold` is why the tool is not kept warm until `cold_until`.
    """

    key: Hashable
    profile: Profile
    account: int | None
    folders: dict[Folder, float] = field(default_factory=dict[Folder, float])
    waiting: deque[Waiter] = field(default_factory=deque[Waiter])
    zygote: Zygote | None = None
    busy: int = 0
    peak: int = 0
    used: float = 0.0
    cold_until: float = 0.0
    cold: str = ""
    silent: int = 0  # starts in a row that ended without a message

    @property
    def newest(self) -> Folder:
        return next(reversed(self.folders))

    def use(self, folder: Folder, most: int) -> None:
        """Note a call in that working folder; beyond `most` folders, the one that was used least lately is forgotten."""
        self.folders.pop(folder, None)
        self.folders[folder] = time.monotonic()
        if len(self.folders) > most:
            del self.folders[next(iter(self.folders))]

    def forget(self, before: float) -> None:
        """Forget the working folders without a call since then, but the newest."""
        self.folders = {folder: at for folder, at in self.folders.items() if at >= before or folder == self.newest}


class Zygote:
    """One warm sandbox with at most `most` children at once.

    INVARIANT: only the keeper thread uses it, except for `ready`, which `lock` guards, and `schedule`.
    """

    def __init__(
        self,
        tool: WarmTool,
        runtime: Runtime,
        *,
        most: int,
        lock: threading.Lock,
        schedule: Schedule,
        egress: Egress | None = None,
    ) -> None:
        self.tool = tool
        self.listener: ProxyListener | None = None  # served by the proxy; None without a network
        self.schedule = schedule
        self._most = most
        self._lock = lock
        self.ready: deque[WarmChild] = deque()  # guarded by `lock`
        self.busy: dict[int, WarmChild] = {}
        self.lingering: dict[int, float] = {}  # answered but not ended yet: number and deadline
        self.running = False
        self.retired = False
        self.served = 0
        self.started = time.monotonic()
        self._number = 0
        self._scratch_names = (
            [secrets.token_hex(16) for _ in range(_SCRATCH_FOLDERS)] if tool.profile.tier != "full" else []
        )
        self._control_data = bytearray()
        self._printed = bytearray()
        self._locked = 0.0
        profile = tool.profile.resolved()
        self._base = make_base(profile, self._scratch_names)
        at = places(profile, runtime, self._base or "")
        self.process = Process(profile, runtime, at, account=tool.account, egress=egress, kind="warm")
        try:
            self.process.__enter__()
        except BaseException:
            self._remove_base()
            raise
        sent_boundary = boundary(profile, runtime, at, kind="warm", network=self.process.network)
        with suppress(OSError):  # it has ended already; what it printed is the reason
            self.process.channel.sendall(_framed(sent_boundary))

    @property
    def children(self) -> int:
        return len(self.ready) + len(self.busy)

    @property
    def used_up(self) -> bool:
        """True if it can have no further child, because every scratch folder was used."""
        return self.tool.profile.tier != "full" and not self._scratch_names

    def fork(self, folder: Folder) -> bool:
        """Order one more child for calls with that working folder. It can be sent its call at once, before it exists.

        False: not possible now, for lack of descriptors; try again later.
        """
        lines: list[int] = []
        try:
            ours, theirs = socket.socketpair()
            lines += [ours.detach(), theirs.detach()]
            lines += os.pipe2(os.O_CLOEXEC)
            scratch_name = self._scratch_names[-1] if self._scratch_names else secrets.token_hex(16)
            number = self._number + 1
            root: Json = [folder.path, folder.device, folder.inode]
            order: dict[str, Json] = {
                "fork": number,
                "scratch_folder": scratch_name,
                "source": source_of(number),
                "root": root,
            }
            socket.send_fds(self.process.channel, [_framed(order)], [lines[1], lines[3]])
            os.write(
                lines[0], _framed({"scratch_folder": scratch_name})
            )  # for the child alone: the base and other children must not know the name
        except OSError as failure:
            for line in lines:
                os.close(line)
            if failure.errno not in _SHORTAGES:
                self.process.kill()  # the keeper then sees the end of its control socket
            return failure.errno not in _SHORTAGES
        self._number = number
        del self._scratch_names[-1:]
        channel, theirs_, prints, their_prints = lines
        os.close(theirs_)
        os.close(their_prints)
        child = WarmChild(self._number, self, socket.socket(fileno=channel), prints, folder)
        child.channel.setblocking(False)
        os.set_blocking(prints, False)
        with self._lock:
            self.ready.append(child)
        return True

    def ready_for(self, folder: Folder) -> WarmChild | None:
        """An idle child for that working folder. The caller holds the lock."""
        return next((child for child in self.ready if child.folder == folder), None)

    def drop_other_folders(self, folders: Collection[Folder]) -> None:
        """End the idle children of other working folders, so that they do not use up the bounds."""
        with self._lock:
            others = [child for child in self.ready if child.folder not in folders]
            for child in others:
                self.ready.remove(child)
        for child in others:
            child.close()

    def end(self, number: int) -> None:
        """Have the supervisor kill one child."""
        try:
            self.process.channel.sendall(_framed({"end": number}))
        except OSError:
            self.process.kill()

    def read_control(self) -> bool:
        """Read from the control socket and handle its lines; False at its end."""
        try:
            data = self.process.receive()
        except BlockingIOError:
            return True
        self._control_data += data
        *lines, rest = bytes(self._control_data).split(b"\n")
        self._control_data[:] = rest
        for line in lines:
            self._understand(line)
        return bool(data) and len(rest) < 65_536

    def _understand(self, line: bytes) -> None:
        """Handle one line of the supervisor.

        It runs no code of the tool, but a malformed line ends the sandbox all the same.
        """
        if line == b"begun":
            return
        if line in (b"ready", b"locked"):
            if not self._locked:
                self._locked = time.monotonic()
                self._open_listener()
                self.process.limit(group_memory(self.tool.profile, self._most), self._most * 8)
            self.running = self.running or line == b"ready"
            return
        try:
            message = json.loads(line)
            if "cold" in message:
                self.tool.cold = str(message["cold"])[:1000]
                return
            number = int(message["ended"])
            report: dict[str, Json] = {
                "status": int(message["status"]),
                "cpu": float(message["cpu"]),
                "memory": int(message["memory"]),
            }
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            self.process.kill()
            return
        self.lingering.pop(number, None)
        child = self.busy.get(number)
        if child is not None:
            child.report_end(report)

    def _open_listener(self) -> None:
        if self.process.handover is not None:
            try:
                self.listener = self.process.handover.receive_listener()
            except OSError:
                self.process.kill()

    def check_deadlines(self, now: float) -> None:
        """End a sandbox whose start takes too long, and processes that live on after their answer."""
        if not self.running:
            spent = now - (self._locked or self.started)
            if spent > (max(self.tool.profile.wall, IMPORT_SECONDS) if self._locked else START_SECONDS):
                self.tool.cold = "its import does not end" if self._locked else ""
                self.process.kill()
        for number, deadline in tuple(self.lingering.items()):
            if now > deadline:
                del self.lingering[number]
                self.end(number)

    def read_prints(self) -> bool:
        """Keep the last bytes that the import printed; False at the end of the pipe."""
        try:
            data = os.read(self.process.prints, 65_536)
        except BlockingIOError:
            return True
        self._printed += data
        del self._printed[:-_PRINTS]
        return bool(data)

    def failure(self) -> DidNotStart | Cold:
        """Why it never became ready: the sandbox did not start, or, after the lock-down, the tool's import failed."""
        self.read_prints()
        if self._locked or self.tool.cold:
            return Cold(self.tool.cold)
        return DidNotStart(self._printed.decode("utf-8", "replace").strip())

    def close(self) -> None:
        """End the sandbox with all of its children, and wake the calls that wait for their end."""
        self.process.__exit__(None, None, None)
        if self.listener is not None:
            self.listener.close()
        with self._lock:
            ready, self.ready = self.ready, deque()
        for child in ready:
            child.close()
        for child in self.busy.values():
            child.report_end(None)
        self._remove_base()

    def _remove_base(self) -> None:
        if self._base is not None:
            # In a thread: a call may have left millions of files, and the keeper must not wait.
            base = self._base
            threading.Thread(target=remove_base, args=(base,)).start()
            self._base = None


def source_of(number: int) -> str:
    """The loopback address that a child's connections come from.

    In a sandbox only the supervisor can bind, so it proves the call.
    """
    return f"127.{1 + (number >> 16) % 250}.{number >> 8 & 255}.{number & 255}"


def _framed(frame: Mapping[str, Json]) -> bytes:
    body = json.dumps(frame).encode()
    return len(body).to_bytes(4, "big") + body


def _soon(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the event loop of a call that was cancelled is closed
        loop.call_soon_threadsafe(event.set)
