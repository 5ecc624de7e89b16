"""One connection, plain or under TLS: bytes in, bytes out, never waiting longer than it may."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from remit.egress.verdict import Blocked
from remit.event import AddressClass

CHUNK: Final = 64 << 10
HANDSHAKE_SECONDS: Final = 10.0


class Wire:
    """A socket that does not block, owned from here on. `idle` is how many seconds it may be silent.

    INVARIANT: under TLS one coroutine uses it at a time, or pieces of two records could be mixed.
    """

    def __init__(self, connection: socket.socket, idle: float, *, kind: AddressClass | None = None) -> None:
        self.idle = idle
        self.kind: AddressClass | None = kind  # of the address at the other end
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    async def receive(self) -> bytes:
        """What comes next, b"" at the end.

        Raises:
            Blocked: `idle`.
            OSError: the connection broke.
        """
        try:
            async with asyncio.timeout(self.idle):
                if self._tls is None:
                    return await self._loop.sock_recv(self._socket, CHUNK)
                return await self._receive_tls(self._tls)
        except TimeoutError as failure:
            raise Blocked("idle", f"nothing came for {self.idle:g} s") from failure

    async def send(self, data: bytes) -> None:
        """All of it.

        Raises:
            Blocked: `idle`.
            OSError: the connection broke.
        """
        try:
            async with asyncio.timeout(self.idle):
                if self._tls is None:
                    await self._loop.sock_sendall(self._socket, data)
                else:
                    self._tls.write(data)
                    await self._flush()
        except TimeoutError as failure:
            raise Blocked("idle", f"nothing was taken for {self.idle:g} s") from failure

    async def secure(
        self, context: ssl.SSLContext, *, name: str | None = None, server: bool = False, already: bytes = b""
    ) -> None:
        """Go on under TLS. `already` was received before.

        Raises:
            ssl.SSLError: the peer does not agree, or is not who it should be.
        """
        self._incoming.write(already)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server, server_hostname=name)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self._shake_hands(self._tls)
        except TimeoutError as failure:
            raise Blocked("idle", "the TLS handshake came to no end") from failure

    def quiet(self) -> bool:
        """Whether the other end is there and says nothing: what comes unasked belongs to no request."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self._tls is None or not self._tls.pending()
        except OSError:
            return False
        return False

    def end(self) -> None:
        """Nothing more will be sent."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._tls is not None:
            with suppress(ssl.SSLError, OSError, BlockingIOError):  # a last word, if there is room for it
                self._tls.unwrap()
            with suppress(OSError):
                self._socket.send(self._outgoing.read())
        self._socket.close()

    async def _shake_hands(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                with suppress(OSError):
                    await self._flush()  # the alert that says why
                raise
            else:
                await self._flush()
                return

    async def _receive_tls(self, tls: ssl.SSLObject) -> bytes:
        while True:
            try:
                return tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def _fill(self) -> None:
        data = await self._loop.sock_recv(self._socket, CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self._socket, self._outgoing.read())


async def splice(one: Wire, other: Wire, *, there: Callable[[int], None], back: Callable[[int], None]) -> None:
    """Pass bytes on both ways, unopened, until both ends are done. `there` and `back` count, and may refuse."""
    heard = [asyncio.get_running_loop().time()]
    tasks = [
        asyncio.create_task(_pump(one, other, there, heard)),
        asyncio.create_task(_pump(other, one, back, heard)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(source: Wire, sink: Wire, count: Callable[[int], None], heard: list[float]) -> None:
    """One way. `heard` is when something last passed either way: silence is only idle where both are silent."""
    now = asyncio.get_running_loop().time
    while True:
        try:
            data = await source.receive()
        except Blocked:
            if now() - heard[0] < source.idle:
                continue
            raise
        heard[0] = now()
        if not data:
            sink.end()
            return
        count(len(data))
        await sink.send(data)
