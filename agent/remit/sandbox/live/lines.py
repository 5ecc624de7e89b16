"""The standard streams of a server that is kept in a live sandbox: lines to it, lines from it, what it prints.

A line is JSON that untrusted code wrote: nothing is read beyond what a line may have, and reading is linear.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from remit.sandbox.outcome import FLOOD

LONGEST_LINE: Final = 12 << 20  # bytes; base64 of an image or a file of 8 MiB fits
_PART: Final = 65_536


class ServerEnded(Exception):
    """The server has ended, or has closed its standard output."""


class LineTooLong(Exception):
    """The server wrote more than a line may have."""


class Flood(Exception):
    """The server printed so much that the call is ended."""


class ServerLines:
    """The broker's ends of the streams, in the event loop that made it. It owns the descriptors.

    `printed` counts the bytes on standard error since `begin`; `stderr` has the first of them, up to the output limit of the call.
    `greeted` is what its speaker has learnt of it; None before.
    """

    watched = True  # what it wrote between two calls is read before the next

    def __init__(self, stdin: int, stdout: int, stderr: int, wake: Callable[[], None]) -> None:
        self.printed = 0
        self.stderr = bytearray()
        self.greeted: object = None
        self.wake = wake
        self._stdin, self._stdout, self._prints = stdin, stdout, stderr
        self._loop = asyncio.get_running_loop()
        self._data = bytearray()
        self._searched = 0
        self._keeps = _PART
        self._on_print: Callable[[bytes], None] | None = None
        self._closed = False
        self._ended = asyncio.Event()  # nothing more is printed
        self._wake: Callable[[], None] | None = None  # ends the waiting of `receive` or `send`
        for descriptor in (stdin, stdout, stderr):
            os.set_blocking(descriptor, False)
        self._loop.add_reader(stderr, self._on_stderr)

    def begin(self, keeps: int, on_print: Callable[[bytes], None] | None) -> None:
        """A call begins: what is printed from now on belongs to it, and the first `keeps` bytes are kept."""
        self.printed, self._keeps, self._on_print = 0, keeps, on_print
        self.stderr.clear()

    async def send(self, line: bytes, fields: Mapping[str, str] | None = None) -> None:
        """Write one line; `line` has no newline. There is no header for `fields`.

        Raises:
            ServerEnded: it reads no more.
        """
        data = memoryview(line + b"\n")
        while data:
            try:
                data = data[os.write(self._stdin, data) :]
            except BlockingIOError:
                await self._ready(self._stdin, writing=True)
            except OSError as failure:
                raise ServerEnded from failure

    async def receive(self) -> bytes:
        """The next line.

        Raises:
            ServerEnded: there is none.
            LineTooLong: it is longer than `LONGEST_LINE`.
            Flood: too much was printed.
        """
        while True:
            if self.printed > FLOOD * self._keeps:
                raise Flood
            end = self._data.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._data[:end])
                del self._data[: end + 1]
                self._searched = 0
                return line
            self._searched = len(self._data)
            if self._searched > LONGEST_LINE:
                raise LineTooLong
            try:
                data = os.read(self._stdout, _PART)
            except BlockingIOError:
                await self._ready(self._stdout, writing=False)
                continue
            if not data:
                raise ServerEnded
            self._data += data

    def pending(self) -> list[bytes]:
        """The lines that are there. The rest of a line that is not complete stays for `receive`."""
        with suppress(BlockingIOError):
            while len(self._data) <= LONGEST_LINE and (data := os.read(self._stdout, _PART)):
                self._data += data
        *lines, rest = bytes(self._data).split(b"\n")
        self._data[:] = rest
        self._searched = 0
        return lines

    def tell(self, text: str) -> None:
        """Show a line of progress. It counts like what the server prints."""
        self._keep(text.encode("utf-8", "replace") + b"\n")

    async def cancel(self, line: bytes) -> None:
        """Nothing: a server that has not ended its call is ended."""

    async def _ready(self, descriptor: int, *, writing: bool) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        add = self._loop.add_writer if writing else self._loop.add_reader
        remove = self._loop.remove_writer if writing else self._loop.remove_reader

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        add(descriptor, wake)
        self._wake = wake
        try:
            await ready
        finally:
            self._wake = None
            remove(descriptor)

    def _on_stderr(self) -> None:
        try:
            data = os.read(self._prints, _PART)
        except BlockingIOError:
            return
        if not data:
            self._ended.set()
            self._loop.remove_reader(self._prints)
            return
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        self.printed += len(data)
        kept = data[: max(0, self._keeps - len(self.stderr))]
        self.stderr += kept
        if self._on_print is not None and kept:
            self._on_print(kept)
        if self.printed > FLOOD * self._keeps and self._wake is not None:
            self._wake()

    def read_prints(self) -> None:
        """Read what was printed so far."""
        before = -1
        while before != self.printed and not self._closed:
            before = self.printed
            self._on_stderr()

    async def at_end(self) -> None:
        """Wait until standard error is at its end."""
        await self._ended.wait()

    def close(self) -> None:
        """Stop reading, and close the descriptors."""
        if self._closed:
            return
        self._closed = True
        for descriptor in (self._stdin, self._stdout, self._prints):
            with suppress(RuntimeError, ValueError):
                self._loop.remove_reader(descriptor)
                self._loop.remove_writer(descriptor)
            os.close(descriptor)
