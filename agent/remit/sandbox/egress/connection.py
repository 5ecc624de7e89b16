"""One connection, plain or under TLS. Every wait has a limit."""

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
PATIENCE: Final = 16  # reads in a row without a wait, before other connections get a turn


class ProxiedConnection:
    """A non-blocking socket, which this object owns and closes. `idle`: seconds that a read or a write may wait.

    INVARIANT: under TLS, one coroutine uses it at a time. Two could mix the bytes of their records.
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
        self._watching = False
        self._at_once = 0  # reads in a row that did not have to wait

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end of the connection.

        Raises:
            Blocked: `idle`.
            OSError: the connection broke.
        """
        if self._tls is None:
            return await self._read()
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            Blocked: `idle`.
            OSError: the connection broke.
        """
        if self._tls is None:
            await self._write(data)
        else:
            self._tls.write(data)
            await self._flush()

    async def secure(
        self, context: ssl.SSLContext, *, name: str | None = None, server: bool = False, already: bytes = b""
    ) -> None:
        """Start TLS. `already`: bytes of the peer's handshake that were read before.

        Raises:
            ssl.SSLError: the handshake failed, or the peer's certificate is not valid for `name`.
            Blocked: `idle`.
        """
        self._incoming.write(already)
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server, server_hostname=name)
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await self._handshake(self._tls)
        except TimeoutError as failure:
            raise Blocked("idle", "the TLS handshake did not finish") from failure

    def is_quiet(self) -> bool:
        """True if the peer has neither closed nor sent anything. Unrequested bytes belong to no request."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self._tls is None or not self._tls.pending()
        except OSError:
            return False
        return False

    def end(self) -> None:
        """Send the end of the stream; reading goes on."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._tls is not None:
            with suppress(ssl.SSLError, OSError, BlockingIOError):  # close_notify, if the socket takes it
                self._tls.unwrap()
            with suppress(OSError):
                self._socket.send(self._outgoing.read())
        self._stop_watching()
        self._socket.close()

    async def _handshake(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                with suppress(OSError):
                    await self._flush()  # the TLS alert with the reason
                raise
            else:
                await self._flush()
                return

    async def _fill(self) -> None:
        data = await self._read()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._write(self._outgoing.read())

    # Reads and writes try at once and set a timeout only if they have to wait, which is rare.

    async def _read(self) -> bytes:
        while True:
            try:
                data = self._socket.recv(CHUNK)
            except BlockingIOError:
                self._at_once = 0
                await self._readable()
                continue
            self._at_once += 1
            if self._at_once % PATIENCE == 0:  # a busy peer must not starve the other connections
                await asyncio.sleep(0)
            return data

    async def _readable(self) -> None:
        """Wait until there is something to read.

        The event loop keeps watching the socket afterwards: most waits are followed by another, and registering it each
        time is slow.
        """
        if not self._watching:
            self._loop.add_reader(self._socket, self._on_readable)
            self._watching = True
        self._waiter = self._loop.create_future()
        timeout = self._loop.call_later(self.idle, _expire, self._waiter)
        try:
            if not await self._waiter:
                raise Blocked("idle", f"no data arrived for {self.idle:g} s")
        finally:
            timeout.cancel()
            self._waiter = None

    def _on_readable(self) -> None:
        if self._waiter is None:  # nobody reads now: the event loop would call this again and again
            self._stop_watching()
        elif not self._waiter.done():
            self._waiter.set_result(True)

    def _stop_watching(self) -> None:
        if self._watching:
            self._loop.remove_reader(self._socket)
            self._watching = False

    async def _write(self, data: bytes) -> None:
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
            raise Blocked("idle", f"the other side accepted no data for {self.idle:g} s") from failure


def _expire(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)


async def splice(
    client: ProxiedConnection,
    server: ProxiedConnection,
    *,
    sent: Callable[[int], None],
    received: Callable[[int], None],
) -> None:
    """Copy bytes in both directions until both ends are done.

    `sent` and `received` get the size of each piece before it is passed on, and may raise Blocked to stop it.
    """
    last_traffic = [asyncio.get_running_loop().time()]
    tasks = [
        asyncio.create_task(_copy(client, server, sent, last_traffic)),
        asyncio.create_task(_copy(server, client, received, last_traffic)),
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


async def _copy(
    source: ProxiedConnection, sink: ProxiedConnection, count: Callable[[int], None], last_traffic: list[float]
) -> None:
    """Copy one direction. `last_traffic`: when either one last had data; a download is silent in the other direction."""
    now = asyncio.get_running_loop().time
    while True:
        try:
            data = await source.receive()
        except Blocked:
            if now() - last_traffic[0] < source.idle:
                continue
            raise
        last_traffic[0] = now()
        if not data:
            sink.end()
            return
        count(len(data))
        await sink.send(data)
