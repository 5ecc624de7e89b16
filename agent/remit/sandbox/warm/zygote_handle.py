"""One warm sandbox as the broker sees it: a zygote, and the children that stand by for calls.

A thread of the pool's own starts it and hears it; what it says is never believed further than it must be.
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
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from remit.core import Json
from remit.sandbox.egress import Egress, ProxyListener
from remit.sandbox.process import START_SECONDS, DidNotStart, Process, boundary, group_memory, make_base, remove_base
from remit.sandbox.profile import Profile, Runtime, places

IMPORT_SECONDS: Final = 5.0
_SCRATCH_FOLDERS: Final = 256  # children of one zygote where their folders are made before it starts
_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ETOOMANYREFS, errno.EAGAIN)
_PRINTS: Final = 8 << 10  # of what an import prints, the last

Schedule: TypeAlias = Callable[[Callable[[], None]], None]  # has the pool's thread do something


class Cold(Exception):
    """The tool cannot be kept warm: its import fails, or starts threads or processes. It runs in a sandbox of its own."""

    @property
    def silent(self) -> bool:
        """Nothing was said of the cause, so somebody killed it: it is worth another start."""
        return not str(self)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much may stand by. `standby` children of one tool, `total` of all; each holds about 2 MB, each tool about 18 MB."""

    min_ready: int = 2
    max_ready: int = 8
    max_ready_total: int = 32
    max_children: int = 16  # of one tool, standing by or at work; more calls wait
    max_tools: int = 12
    max_calls: int = 2_000  # then the zygote is made anew
    idle_s: float = 60.0


class WarmChild:
    """One process that stands by for one call."""

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
        """SIGKILL it."""
        self.zygote.schedule(lambda: self.zygote.end(self.number))

    async def ended(self, seconds: float) -> dict[str, Json] | None:
        """What its parent says of its end; None where that died too or says nothing in time."""
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
        """Of its end, once."""
        with self._lock:
            if self._over:
                return
            self._over, self.report = True, report
            on_end = self._on_end
        if on_end is not None:
            on_end()

    def close(self) -> None:
        self.channel.close()
        os.close(self.prints)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The working folder that a child is made for: its path beneath what its sandbox was started with, and its very inode."""

    path: str = "."
    device: int = 0
    inode: int = 0


ANY: Final = Folder()  # of a sandbox that has one working folder for all


def folder_of(profile: Profile) -> Folder:
    """Which one a call of a warm tool needs its child to be made for."""
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
    """The demand for one tool: who waits, and how many children were at work at once of late."""

    key: Hashable
    profile: Profile
    account: int | None
    folder: Folder  # that its last call had, for which children stand by
    waiting: deque[Waiter] = field(default_factory=deque[Waiter])
    zygote: Zygote | None = None
    busy: int = 0
    peak: int = 0
    used: float = 0.0
    cold_until: float = 0.0
    cold: str = ""
    silent: int = 0  # starts in a row that ended without a word


class Zygote:
    """One warm sandbox of at most `most` children. All of it but `ready` belongs to the thread that does what is ordered."""

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
        self.listener: ProxyListener | None = None  # where its calls leave for the network
        self.schedule = schedule
        self._most = most
        self._lock = lock
        self.ready: deque[WarmChild] = deque()  # guarded by `lock`
        self.busy: dict[int, WarmChild] = {}
        self.lingering: dict[int, float] = {}  # answered and not yet ended: number and deadline
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
        self.process = Process(profile, runtime, at, account=tool.account, egress=egress, warm=True)
        try:
            self.process.__enter__()
        except BaseException:
            self._remove_base()
            raise
        sent_boundary = boundary(profile, runtime, at, warm=True, network=self.process.network)
        with suppress(OSError):  # it is gone already; its prints say why
            self.process.channel.sendall(_framed(sent_boundary))

    @property
    def children(self) -> int:
        return len(self.ready) + len(self.busy)

    @property
    def used_up(self) -> bool:
        """It can have no further child."""
        return self.tool.profile.tier != "full" and not self._scratch_names

    def fork(self, folder: Folder) -> bool:
        """Have one more child stand by for calls with that working folder; it can be told its call at once.

        False: not now, descriptors are short.
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
            os.write(lines[0], _framed({"scratch_folder": scratch_name}))  # for the child alone
        except OSError as failure:
            for line in lines:
                os.close(line)
            if failure.errno not in _SHORT:
                self.process.kill()  # its control line tells
            return failure.errno not in _SHORT
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
        """A child that stands by for that working folder; the lock is held."""
        return next((child for child in self.ready if child.folder == folder), None)

    def drop_other_folders(self, folders: set[Folder]) -> None:
        """Let go of what stands by for working folders that nobody asks for."""
        with self._lock:
            others = [child for child in self.ready if child.folder not in folders]
            for child in others:
                self.ready.remove(child)
        for child in others:
            child.close()

    def end(self, number: int) -> None:
        try:
            self.process.channel.sendall(_framed({"end": number}))
        except OSError:
            self.process.kill()

    def read_control(self) -> bool:
        """Read its control line; False at its end."""
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
        """It is the supervisor's, in which no code of the tool runs; what makes no sense ends it all the same."""
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
        """A start that takes too long, and a process that goes on after its answer, are ended."""
        if not self.running:
            spent = now - (self._locked or self.started)
            if spent > (max(self.tool.profile.wall, IMPORT_SECONDS) if self._locked else START_SECONDS):
                self.tool.cold = "its import does not come to an end" if self._locked else ""
                self.process.kill()
        for number, deadline in tuple(self.lingering.items()):
            if now > deadline:
                del self.lingering[number]
                self.end(number)

    def read_prints(self) -> bool:
        try:
            data = os.read(self.process.prints, 65_536)
        except BlockingIOError:
            return True
        self._printed += data
        del self._printed[:-_PRINTS]
        return bool(data)

    def failure(self) -> DidNotStart | Cold:
        """Why it never ran: it could not be confined, or it is confined and its import is to blame."""
        self.read_prints()
        if self._locked or self.tool.cold:
            return Cold(self.tool.cold)
        return DidNotStart(self._printed.decode("utf-8", "replace").strip())

    def close(self) -> None:
        """End it and all of its children."""
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
            # What a call left may be millions of files.
            base = self._base
            threading.Thread(target=remove_base, args=(base,)).start()
            self._base = None


def source_of(number: int) -> str:
    """The address of this machine that a child's connections come from: only the supervisor chooses one in a sandbox."""
    return f"127.{1 + (number >> 16) % 250}.{number >> 8 & 255}.{number & 255}"


def _framed(frame: Mapping[str, Json]) -> bytes:
    body = json.dumps(frame).encode()
    return len(body).to_bytes(4, "big") + body


def _soon(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop of a call that was given up
        loop.call_soon_threadsafe(event.set)
