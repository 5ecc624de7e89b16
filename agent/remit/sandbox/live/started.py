"""One started live sandbox, from the broker's side: its start, the orders to it, its end.

A sandbox is started by the thread of its pool, because bubblewrap dies with the thread that started it. It is used by one run,
in the event loop of that run.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from remit.core import Json
from remit.sandbox.egress import Egress, ProxyListener
from remit.sandbox.live.lines import ServerLines
from remit.sandbox.process import START_SECONDS, DidNotStart, Process, boundary, group_memory
from remit.sandbox.profile import PROCESSES, SERVER_FILES, Profile, Runtime, places
from remit.sandbox.warm.zygote_handle import Cold

CALLS_AT_ONCE: Final = 4  # equal calls that run together
_LONGEST_LINE: Final = 65_536


@dataclass(eq=False, kw_only=True)
class LiveProcess:
    """The process of one call in a live sandbox, and the broker's ends of its channel and of its pipe for prints.

    `report` is how it ended, once the first process of the sandbox has said so; `over` is set then, or if the sandbox ended.
    """

    number: int
    channel: socket.socket
    prints: int
    report: dict[str, Json] | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self) -> None:
        self.channel.close()
        os.close(self.prints)


class LiveSandbox:
    """A started sandbox. `started` and `used` are times of the monotonic clock; `alive` is False once it has ended or was killed.

    Any thread may call `close_from_outside`; everything else belongs to the event loop that called `ready`.

    Raises:
        DidNotStart: it could not be started.
    """

    def __init__(self, profile: Profile, runtime: Runtime, account: int | None, egress: Egress) -> None:
        self.account = account
        self.started = self.used = time.monotonic()
        self.alive = True
        self.cold = ""  # why no file can be mounted in it
        self.token = secrets.token_hex(16)  # of the proxy; it admits a request only while a call runs
        self.listener: ProxyListener | None = None
        self.lines: ServerLines | None = None  # of the server that it keeps
        self.held = False  # True while a call has the server
        profile = profile.resolved()
        if profile.source != "mcp":  # a server has one command line for all calls
            profile = replace(profile, argv=())
        self._profile = profile
        # The files of a call are mounted at its working folder, so that is where it writes, too; those of a server below it.
        at = places(profile, runtime)
        at = replace(at, scratch=at.root, root=SERVER_FILES if profile.source == "mcp" else at.root)
        self.process = Process(profile, runtime, at, account=account, egress=egress, kind="live")
        self.process.__enter__()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._control_data = bytearray()
        self._calls: dict[int, LiveProcess] = {}
        self._number = 0
        self._is_ready = self._closed = self._mounted = False
        try:
            sent = _framed(boundary(profile, runtime, at, kind="live", network=self.process.network))
        except BaseException:
            self.process.__exit__(None, None, None)
            raise
        with suppress(OSError):  # it has ended already; what it printed is the reason
            self.process.channel.sendall(sent)

    @property
    def busy(self) -> bool:
        return bool(self._calls) or self.held

    async def ready(self) -> None:
        """Wait until it is started, and use it in this event loop from now on.

        Raises:
            Cold: no file can be mounted in it.
            DidNotStart: it ended before.
        """
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.process.control, self._on_control)
        try:
            async with asyncio.timeout(START_SECONDS):
                while not self._is_ready and not self.cold and self.alive:
                    self._changed.clear()
                    await self._changed.wait()
            if self.cold:
                raise Cold(self.cold)
            if not self.alive:
                raise DidNotStart(self._printed())
            self.process.limit(group_memory(self._profile, CALLS_AT_ONCE), CALLS_AT_ONCE * PROCESSES)
            if self.process.handover is not None:
                self.listener = self.process.handover.receive_listener()
        except TimeoutError as failure:
            raise DidNotStart(f"it did not start within {START_SECONDS:g} s") from failure

    def start(self, tree: Mapping[str, Json]) -> LiveProcess:
        """Order the process of a call, with these files, unless those of an equal call are mounted.

        Raises:
            OSError: there are too few descriptors, or the sandbox has ended.
        """
        lines: list[int] = []
        try:
            ours, theirs = socket.socketpair()
            lines += [ours.detach(), theirs.detach()]
            lines += os.pipe2(os.O_CLOEXEC)
            self.order({"call": self._number + 1, "tree": None if self._mounted else dict(tree)}, [lines[1], lines[3]])
        except OSError:
            for line in lines:
                os.close(line)
            self.kill()
            raise
        channel, theirs_, prints, their_prints = lines
        os.close(theirs_)
        os.close(their_prints)
        os.set_blocking(channel, False)
        os.set_blocking(prints, False)
        self._number, self._mounted = self._number + 1, True
        call = LiveProcess(number=self._number, channel=socket.socket(fileno=channel), prints=prints)
        self._calls[call.number] = call
        return call

    def end(self, call: LiveProcess) -> None:
        """Kill the process of a call, and those of its group."""
        self._order({"end": call.number})

    def leave(self, call: LiveProcess) -> None:
        """The call is over. After the last of those that run together, their files are taken out, or a killed sandbox ends."""
        self._calls.pop(call.number, None)
        self.used = time.monotonic()
        call.close()
        if self._calls:
            return
        if self.alive:
            self._mounted = False
            self._order({"clear": True})
        else:
            self.close()

    def kill(self) -> None:
        """Kill everything in it. The next call of its run gets another one."""
        self.alive = False
        self.process.kill()

    def close(self) -> None:
        """Kill everything in it, and wait until no process is left."""
        if self._closed:
            return
        self._closed, self.alive = True, False
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self.process.control)
        self.process.__exit__(None, None, None)
        if self.listener is not None:
            self.listener.close()
        if self.lines is not None:
            self.lines.close()
        self._ended()

    def close_from_outside(self) -> None:
        """`close` from another thread than that of its event loop, or without one.

        INVARIANT: while that loop runs, only it closes descriptors: another thread could use the number of a closed one.
        """
        self.alive = False
        if self._loop is not None and self._loop.is_running():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.close)
                return
        self.close()

    def order(self, order: Mapping[str, Json], lines: Sequence[int]) -> None:
        """Send an order with these descriptors. Raises OSError if the sandbox has ended."""
        data = _framed(order)
        sent = socket.send_fds(self.process.channel, [data], lines) if lines else 0
        self._send(data[sent:])

    def _order(self, order: Mapping[str, Json]) -> None:
        try:
            self.order(order, ())
        except OSError:
            self.kill()

    def _send(self, data: bytes) -> None:
        """Send the rest of an order. The first process reads at once, so this waits for moments only."""
        if data:
            with suppress(BlockingIOError):
                data = data[self.process.channel.send(data) :]
        if not data:
            return
        self.process.channel.setblocking(True)
        try:
            self.process.channel.settimeout(START_SECONDS)
            self.process.channel.sendall(data)
        finally:
            self.process.channel.setblocking(False)

    # ── reports ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_control(self) -> None:
        try:
            data = self.process.receive()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._control_data += data
        *lines, rest = bytes(self._control_data).split(b"\n")
        self._control_data[:] = rest
        for line in lines:
            self._understand(line)
        if not data or len(rest) > _LONGEST_LINE:
            self.close()
        self._changed.set()

    def _understand(self, line: bytes) -> None:
        """Handle one line of the first process. It runs no code of the tool, but a malformed line ends the sandbox all the same."""
        if line == b"ready":
            self._is_ready = True
            return
        try:
            message = json.loads(line)
            if "cold" in message:
                self.cold = str(message["cold"])[:1000]
                return
            call = self._calls.get(int(message["ended"]))
            report: dict[str, Json] = {"failed": int(message.get("failed", 0))}
            if not report["failed"]:
                report |= {"status": int(message["status"]), "cpu": float(message["cpu"])}
                report |= {"memory": int(message["memory"])}
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            self.kill()
            return
        if call is not None:
            call.report = report
            call.over.set()

    def _ended(self) -> None:
        for call in self._calls.values():
            call.over.set()
        self._changed.set()

    def _printed(self) -> str:
        with suppress(OSError):
            return os.read(self.process.prints, _LONGEST_LINE).decode("utf-8", "replace").strip()
        return ""


def _framed(frame: Mapping[str, Json]) -> bytes:
    body = json.dumps(frame).encode()
    return len(body).to_bytes(4, "big") + body
