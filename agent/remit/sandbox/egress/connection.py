"""One connection, plain or under TLS: bytes in, bytes out, never waiting longer than it may."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from remit.core import AddressClass
from remit.sandbox.egress.errors import Blocked

CHUNK: Final = 64 << 10
HANDSHAKE_SECONDS: Final = 10.0
PATIENCE: Final = 16


class ProxiedConnection:
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
        self._waiter: asyncio.Future[bool] | None = None
        self._listening = False
        self._at_once = 0  # pieces in a row that did not have to be waited for

    async def receive(self) -> bytes:
        """What comes next, b"" at the end.

        Raises:
            Blocked: `idle`.
            OSError: the connection broke.
        """
        if self._tls is None:
            return await self._take()
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def send(self, data: bytes) -> None:
        """All of it.

        Raises:
            Blocked: `idle`.
            OSError: the connection broke.
        """
        if self._tls is None:
            await self._give(data)
        else:
            self._tls.write(data)
            await self._flush()

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
        self._unlisten()
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

    async def _fill(self) -> None:
        data = await self._take()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._give(self._outgoing.read())

    # A clock is set only where there is something to wait for: mostly there is not.

    async def _take(self) -> bytes:
        while True:
            try:
                data = self._socket.recv(CHUNK)
            except BlockingIOError:
                self._at_once = 0
                await self._readable()
                continue
            self._at_once += 1
            if self._at_once % PATIENCE == 0:  # whoever always has something to say lets the others speak too
                await asyncio.sleep(0)
            return data

    async def _readable(self) -> None:
        """Wait until there is something. The loop goes on listening afterwards, for most waits are followed by another."""
        if not self._listening:
            self._loop.add_reader(self._socket, self._hear)
            self._listening = True
        self._waiter = self._loop.create_future()
        over = self._loop.call_later(self.idle, _end, self._waiter)
        try:
            if not await self._waiter:
                raise Blocked("idle", f"nothing came for {self.idle:g} s")
        finally:
            over.cancel()
            self._waiter = None

    def _hear(self) -> None:
        if self._waiter is None:  # nobody wants it yet: it would be told of again and again
            self._unlisten()
        elif not self._waiter.done():
            self._waiter.set_result(True)

    def _unlisten(self) -> None:
        if self._listening:
            self._loop.remove_reader(self._socket)
            self._listening = False

    async def _give(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        try:
            async with asyncio.timeout(self.idle):
                await self._loop.sock_sendall(self._socket, data[sent:])
        except TimeoutError as failure:
            raise Blocked("idle", f"nothing was taken for {self.idle:g} s") from failure


def _end(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)


async def splice(
    one: ProxiedConnection, other: ProxiedConnection, *, there: Callable[[int], None], back: Callable[[int], None]
) -> None:
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


async def _pump(
    source: ProxiedConnection, sink: ProxiedConnection, count: Callable[[int], None], heard: list[float]
) -> None:
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
