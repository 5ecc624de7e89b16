"""The broker's side of one call: send what was granted, read the answer and the prints, trust none of it.

The process first reports that its arguments are decoded, and waits. It gets the second frame, with the secrets and the
ticket of the proxy, once the attempt is recorded. The last byte that it is sent is `GO`: it takes that byte right before
it calls the function, and then it answers. `guest/onecall.py` is the other side.

If a process ends while a byte that was sent to it is unread, the kernel reports a reset of the connection. So the broker
knows that the function was not called, without an answer for which either side would wait.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, Protocol, cast

from remit.core import Json, Refusal
from remit.core.parsing import parse_json
from remit.sandbox.file_grants import FileGrant
from remit.sandbox.live.speaker import Speaker
from remit.sandbox.outcome import FLOOD, Ending, Stop
from remit.sandbox.profile import Profile

ENVELOPE: Final = 64 << 10  # the most bytes of an answer besides its value
DECODE_SECONDS: Final = 5.0  # the longest that the arguments of a call may take to decode
GO: Final = b"!"  # the last byte before the function is called
_AS_GIVEN: Final = b'{"kind":"decoded","arguments":null}'
_REPORTS: Final = (b'{"kind":"loaded"', b'{"kind":"decoded"')
_BATCH: Final = 64  # descriptors on one message: an account may have few in flight at a time
_PRINTS_DELAY_SECONDS: Final = 0.005


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """What a tool has to do. Mode "describe" returns the schemas of its functions instead of calling one; "conform" tries examples.

    `named` are the arguments whose decoded values are reported. `declared` maps the manifest's error names to exception
    classes; `allowed` decides each file of a set. `speaker` speaks with the server of a tool that keeps one.
    """

    arguments: Mapping[str, Json]
    declared: Mapping[str, str]
    allowed: Callable[[str], bool]
    named: Collection[str] = ()
    mode: Literal["call", "describe", "conform"] = "call"
    speaker: Speaker | None = None


class Grants(Protocol):
    """What a process is narrowed to by descriptor."""

    def grants(self) -> Iterator[FileGrant]: ...


class Exchange:
    """The connections to the process of a call: the channel for its frame and its answer, the pipe for its prints.

    It owns neither; the caller closes them. `files` are received descriptors that nobody has taken yet, at most one for
    each file that the call may write; one more ends the call. `stop` is why the broker has to end the call; None while
    it may go on. `on_print` gets what is printed, as it comes, up to the number of bytes that the result keeps.
    """

    def __init__(
        self, channel: socket.socket, prints: int, profile: Profile, on_print: Callable[[bytes], None] | None = None
    ) -> None:
        self.files: list[int] = []
        self.stop: Stop | None = None
        # Takes the descriptor that an observed call sends before its answer: the listener of its filter.
        self.on_first_descriptor: Callable[[int], None] | None = None
        self.ended: Callable[[], bool] = lambda: self.answered  # True once nothing more comes
        self._unread = False  # True: the process ended before it read everything that was sent to it
        self.decoding = False  # True: the process has imported the tool, and decodes the arguments
        self.waiting = False  # True: it has decoded them, and waits for the second frame
        self._go = False  # True: the second frame is sent, so the function may be called
        self.decoded: Mapping[str, Json] | None = None  # the named ones; None: all are as given
        self._channel = channel
        self._prints_line = prints
        self._profile = profile
        self.on_print = on_print
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._prints = bytearray()
        self._printed = 0
        self._answer = bytearray()
        self._open: set[int] = set()
        self._deadline: asyncio.TimerHandle | None = None
        self._late: asyncio.TimerHandle | None = None  # begins to watch the pipe for prints

    # ── connections ───────────────────────────────────────────────────────────────────────────────────────────────────

    def watch(self) -> None:
        """Read both connections as data comes, until `unwatch`."""
        self.listen(self._channel.fileno(), self._on_channel)
        self.listen(self._prints_line, self._on_prints)

    def unwatch(self) -> None:
        self._limit(None)
        if self._late is not None:
            self._late.cancel()
        for descriptor in tuple(self._open):
            self.close(descriptor)

    def listen(self, descriptor: int, on_readable: Callable[[], object]) -> None:
        self._loop.add_reader(descriptor, on_readable)
        self._open.add(descriptor)

    def close(self, descriptor: int) -> None:
        """Stop reading this descriptor: nothing more comes from it."""
        self._loop.remove_reader(descriptor)
        self._open.discard(descriptor)
        self._changed.set()

    def closed(self, descriptor: int) -> bool:
        return descriptor not in self._open

    @property
    def answered(self) -> bool:
        """True if the channel is at its end, so that nothing can be added to the answer."""
        return self._channel.fileno() not in self._open

    @property
    def complete(self) -> bool:
        """True if the whole answer has arrived."""
        return len(self._answer) >= 4 and len(self._answer) >= 4 + int.from_bytes(self._answer[:4], "big")

    @property
    def call_unread(self) -> bool:
        """True if the process ended before it read the call, so that no code of the tool ran."""
        return self._unread and not (self._answer or self.decoding or self.waiting)

    @property
    def entered(self) -> bool:
        """False if `GO` was not sent, or the process ended before it took it, without an answer: the function was not called.

        Code of the tool that replaces the guest's could leave the byte unread. It gains nothing: a declared error says as much.
        """
        return self._go and (not self._unread or self.complete)

    @property
    def printed_text(self) -> str:
        """What was printed so far, as text."""
        return self._prints.decode("utf-8", "replace").strip()

    async def decode(self, granted: Grants, call: Mapping[str, Json], seconds: float) -> None:
        """Send the call, and read until the process waits for the second frame, or has ended or answered.

        `decoding` restarts the time limit, at `DECODE_SECONDS` or less.
        """
        self._limit(seconds)
        # Most calls answer at once and print nothing: these save registering the pipe.
        self._late = self._loop.call_later(_PRINTS_DELAY_SECONDS, self.listen, self._prints_line, self._on_prints)
        self.listen(self._channel.fileno(), self._on_channel)
        await self.send_call(granted, call)
        while not self.waiting:
            await self.wait_until(lambda: self.complete or self.ended())
            if self.stop is not None or not self._take_report():
                break
            if not self.waiting:
                self._limit(min(seconds, DECODE_SECONDS))
        self._limit(None)

    async def at_once(
        self, granted: Grants, call: Mapping[str, Json], variables: Mapping[str, str], seconds: float
    ) -> None:
        """Send a call that has nothing to decode, with its second frame, and read the answer to its end."""
        self._limit(seconds)
        self._late = self._loop.call_later(_PRINTS_DELAY_SECONDS, self.listen, self._prints_line, self._on_prints)
        self.listen(self._channel.fileno(), self._on_channel)
        self._go = self.waiting = True  # descriptors come with the answer, which may follow the report at once
        await self.send_call(granted, call)
        await self.send({"env": dict(variables)} if variables else {}, [], GO)
        await self.wait_until(lambda: self.complete or self.ended())
        if self.stop is None and self._take_report():
            await self.wait_until(self.ended)
        self._limit(None)

    async def finish(self, variables: Mapping[str, str], seconds: float) -> None:
        """Send the second frame, and read the answer to its end. Nothing is sent if the call has to be ended already."""
        if self.stop is not None:
            return
        self._go = True
        self._limit(seconds)
        await self.send({"env": dict(variables)} if variables else {}, [], GO)
        await self.wait_until(self.ended)
        self._limit(None)

    def _limit(self, seconds: float | None) -> None:
        """End the call after so many seconds from now; None: no longer."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self._loop.call_later(seconds, self._on_timeout)

    def _take_report(self) -> bool:
        """Take a report of the first phase from the channel; False if what is there is none, so that it is the answer."""
        size = int.from_bytes(self._answer[:4], "big")
        text = bytes(self._answer[4 : 4 + size]) if self.complete else b""
        if not text.startswith(_REPORTS):
            return False
        try:
            # Most calls send this one, and the process waits meanwhile.
            frame = {"kind": "decoded"} if text == _AS_GIVEN else cast("Mapping[str, Json]", parse_json(text.decode()))
        except (Refusal, UnicodeDecodeError):
            return False
        if frame["kind"] == "loaded":
            if self.decoding:
                return False
            self.decoding = True
        else:
            decoded: Json = frame.get("arguments")
            self.decoded = cast("Mapping[str, Json]", decoded) if isinstance(decoded, dict) else None
            self.decoding, self.waiting = False, True
        del self._answer[: 4 + size]
        return True

    def _on_timeout(self) -> None:
        self.stop = self.stop or "wall"
        self._changed.set()

    def changed(self) -> None:
        """Wake a waiting `wait_until`, because something that it depends on changed elsewhere."""
        self._changed.set()

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds` returns True, or until the call has to be ended."""
        while not holds() and self.stop is None:
            self._changed.clear()
            await self._changed.wait()

    async def drain(self, seconds: float) -> None:
        """Read what is left in both connections, once the processes of the sandbox are dead or dying."""
        lines = {self._channel.fileno(), self._prints_line}
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._open & lines:
                    self._changed.clear()
                    await self._changed.wait()

    def read_prints(self) -> None:
        """Read what was printed before the answer. What comes later is not part of the call."""
        while self.stop is None and self._on_prints():
            pass

    # ── sending ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def send_call(self, granted: Grants, call: Mapping[str, Json]) -> None:
        """Send the granted files and the call.

        That is one message, unless the call has more files than a message can hold.
        """
        batch: list[FileGrant] = []
        try:
            for grant in granted.grants():
                if len(batch) == _BATCH:
                    await self._grant(batch, {})
                batch.append(grant)
            await self._grant(batch, call)
        finally:
            for grant in batch:
                os.close(grant.descriptor)

    async def _grant(self, batch: list[FileGrant], call: Mapping[str, Json]) -> None:
        kinds = [grant.kind for grant in batch]
        await self.send({**call, "kinds": kinds}, [grant.descriptor for grant in batch])
        while batch:
            os.close(batch.pop().descriptor)

    async def send(self, frame: Mapping[str, Json], descriptors: list[int], after: bytes = b"") -> None:
        body = json.dumps(frame).encode() if frame else b""
        data = memoryview(len(body).to_bytes(4, "big") + body + after)
        while data:
            try:
                if descriptors:
                    sent = socket.send_fds(self._channel, [data], descriptors)
                    descriptors = []
                else:
                    sent = self._channel.send(data)
                data = data[sent:]
            except BlockingIOError:
                await self._writable()
            except (BrokenPipeError, ConnectionResetError):  # it ended; how is seen where its report is awaited
                self._unread = True
                return
            except OSError as failure:
                if failure.errno != errno.ETOOMANYREFS:
                    raise
                # The kernel limits the descriptors of an account that are in flight: wait until some have arrived.
                await asyncio.sleep(0.001)

    async def _writable(self) -> None:
        free = asyncio.Event()
        self._loop.add_writer(self._channel, free.set)
        try:
            await free.wait()
        finally:
            self._loop.remove_writer(self._channel)

    # ── receiving ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_prints(self) -> bool:
        """Read once; False if there is nothing to read, now or ever again."""
        try:
            data = os.read(self._prints_line, 65_536)
        except BlockingIOError:  # `read_prints` has read it after the event loop saw it readable
            return False
        if not data:
            self.close(self._prints_line)
        self._printed += len(data)
        kept = data[: max(0, self._profile.output - len(self._prints))]
        self._prints += kept
        if self.on_print is not None:
            self.on_print(kept)
        if self._printed > FLOOD * self._profile.output and self.stop is None:
            self.stop = "flood"
            self._changed.set()
        return bool(data)

    def _on_channel(self) -> None:
        data = b""
        try:
            if self.on_first_descriptor is not None:
                _, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1, socket.MSG_CMSG_CLOEXEC)
                take, self.on_first_descriptor = self.on_first_descriptor, None
                for descriptor in descriptors:
                    take(descriptor)
                return
            data = self._receive()
        except BlockingIOError:
            return
        except ConnectionResetError:
            self._unread = True
        except OSError:
            pass
        if not data:
            self.close(self._channel.fileno())
        self._answer += data
        # A forged length is caught before the bytes come, so that the broker never buffers more than it accepts.
        most = self._profile.output + ENVELOPE
        if len(self._answer) > most + 4 or (len(self._answer) >= 4 and int.from_bytes(self._answer[:4], "big") > most):
            self.stop = self.stop or "output"
            self.close(self._channel.fileno())
        elif data and self.complete:
            self._changed.set()
            if not self._answer.startswith(_REPORTS, 4):
                self._on_channel()  # the end of the channel usually comes together with the answer

    def _receive(self) -> bytes:
        """The next bytes of the answer.

        The kernel itself drops the descriptors that exceed the number of writable files.

        INVARIANT: a hostile call cannot use up the broker's own descriptors, in one message or in many.
        """
        if not self.waiting:  # the report of the first phase comes with none; `recvmsg` would take 0.06 ms longer
            return self._channel.recv(65_536)
        acceptable = len(self._profile.writes) - len(self.files)
        data, descriptors, flags, _ = socket.recv_fds(self._channel, 65_536, acceptable, socket.MSG_CMSG_CLOEXEC)
        self.files += descriptors
        if flags & socket.MSG_CTRUNC:
            self.stop = self.stop or "descriptors"
            self.close(self._channel.fileno())
        return data

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def ending(self, started: float, report: Mapping[str, Json] | None) -> Ending:
        """How the call ended.

        `started` is a time of the monotonic clock; `report` comes from the parent of the call's process.
        """
        size = int.from_bytes(self._answer[:4], "big")
        return Ending(
            answer=bytes(self._answer[4 : 4 + size]) if self.complete else None,
            extra=self.complete and len(self._answer) > 4 + size,
            status=report["status"] if report else None,
            stop=self.stop,
            stderr=bytes(self._prints),
            printed=self._printed,
            wall_s=time.monotonic() - started,
            cpu_s=report["cpu"] if report else 0.0,
            memory_bytes=report["memory"] if report else 0,
        )
