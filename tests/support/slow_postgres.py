"""A proxy before PostgreSQL that counts round trips, adds time to each, and can be cut: `with slow_postgres(url) as proxy: … proxy.url`.

A round trip is a message of the client that asks for an answer (Query, Sync or FunctionCall) while no answer is outstanding:
what the client sends without waiting for an earlier answer is one round trip with it. The proxy is a process of its own, so it
takes no processor time of the process that is measured.
"""

from __future__ import annotations

import mmap
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit, urlunsplit

SHARED: Final = struct.Struct("=qd")  # round trips so far, seconds to add
ASKS: Final = frozenset(b"QSF")  # https://www.postgresql.org/docs/current/protocol-message-formats.html
READY: Final = ord("Z")
PLAIN: Final = frozenset((80877103, 80877104))  # SSLRequest and GSSENCRequest: answered with "no"


class Proxy:
    """A running proxy: `url` is the database's address through it."""

    def __init__(self, url: str, shared: mmap.mmap, process: int) -> None:
        self.url = url
        self._process = process
        self._shared = shared
        self._from = 0

    @property
    def round_trips(self) -> int:
        """Round trips since the last `reset`."""
        return int(SHARED.unpack_from(self._shared)[0]) - self._from

    def reset(self) -> None:
        """Count from here."""
        self._from += self.round_trips

    def add(self, milliseconds: float) -> None:
        """Add this time to each round trip from now on."""
        struct.pack_into("=d", self._shared, 8, milliseconds / 1e3)

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Nothing passes meanwhile, and nothing fails: as with a network that is cut. What was sent arrives afterwards."""
        os.kill(self._process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process, signal.SIGCONT)


@contextmanager
def slow_postgres(url: str, *, milliseconds: float = 0.0) -> Iterator[Proxy]:
    """A proxy before the server of `url`, for as long as the context is open."""
    parts = urlsplit(url)
    with tempfile.TemporaryFile() as file, socket.create_server(("127.0.0.1", 0)) as listening:
        file.write(SHARED.pack(0, milliseconds / 1e3))
        file.flush()
        target = f"{parts.hostname}:{parts.port}"
        line = [sys.executable, "-I", __file__, str(listening.fileno()), str(file.fileno()), target]
        process = subprocess.Popen(line, stdin=subprocess.PIPE, pass_fds=(listening.fileno(), file.fileno()))
        account = parts.netloc.rpartition("@")[0]
        through = f"{account}@127.0.0.1:{listening.getsockname()[1]}"
        try:
            with mmap.mmap(file.fileno(), SHARED.size) as shared:
                yield Proxy(urlunsplit(parts._replace(netloc=through)), shared, process.pid)
        finally:
            assert process.stdin is not None
            process.stdin.close()  # the proxy ends with its input, so it also ends if this process is killed
            process.wait()


class Messages:
    """Cuts a stream of one direction into messages, and returns the type of each that is complete."""

    def __init__(self) -> None:
        self._rest = b""

    def types(self, data: bytes) -> list[int]:
        found: list[int] = []
        self._rest += data
        at = 0
        while len(self._rest) - at >= 5:
            length = 1 + int.from_bytes(self._rest[at + 1 : at + 5], "big")
            if len(self._rest) - at < length:
                break
            found.append(self._rest[at])
            at += length
        self._rest = self._rest[at:]
        return found


class Connection:
    """One connection of a client: three threads, and the round trip that is outstanding."""

    def __init__(self, client: socket.socket, server: socket.socket, shared: mmap.mmap, lock: threading.Lock) -> None:
        self._client, self._server, self._shared, self._lock = client, server, shared, lock
        self._outstanding = 0
        self._sending: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def run(self) -> None:
        for work in (self._send_late, self._answer):
            threading.Thread(target=work, daemon=True).start()
        with suppress(OSError):
            self._put(self._startup())
            messages = Messages()
            while data := self._client.recv(1 << 16):
                asked = sum(kind in ASKS for kind in messages.types(data))
                self._count(asked)
                self._put(data)
        self._put(b"")

    def _startup(self) -> bytes:
        """The first message, which has no type. A request to encrypt is refused before it."""
        while True:
            head = self._client.recv(8, socket.MSG_WAITALL)
            length, code = struct.unpack("!II", head) if len(head) == 8 else (8, 0)
            if code not in PLAIN:
                return head + self._client.recv(length - 8, socket.MSG_WAITALL) if length > 8 else head
            self._client.sendall(b"N")

    def _count(self, asked: int) -> None:
        with self._lock:
            if asked and not self._outstanding:
                struct.pack_into("=q", self._shared, 0, SHARED.unpack_from(self._shared)[0] + 1)
            self._outstanding += asked

    def _put(self, data: bytes) -> None:
        self._sending.put((time.monotonic() + SHARED.unpack_from(self._shared)[1], data))

    def _send_late(self) -> None:
        """Send each part at its time: parts that come together are late together, as on a long line."""
        with suppress(OSError):
            while True:
                at, data = self._sending.get()
                time.sleep(max(0.0, at - time.monotonic()))
                if not data:
                    break
                self._server.sendall(data)
            self._server.shutdown(socket.SHUT_WR)

    def _answer(self) -> None:
        messages = Messages()
        with suppress(OSError):
            while data := self._server.recv(1 << 16):
                ready = messages.types(data).count(READY)
                with self._lock:  # the first one ends the log-in, which nothing asked for
                    self._outstanding = max(0, self._outstanding - ready)
                self._client.sendall(data)
        for side in (self._client, self._server):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


def main() -> None:
    """In the process of the proxy: accept connections until the input ends."""
    listening = socket.socket(fileno=int(sys.argv[1]))
    shared = mmap.mmap(int(sys.argv[2]), SHARED.size)
    host, _, port = sys.argv[3].rpartition(":")
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    lock = threading.Lock()
    while True:
        client, _ = listening.accept()
        server = socket.create_connection((host, int(port)))
        for side in (client, server):
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Connection(client, server, shared, lock).run, daemon=True).start()


if __name__ == "__main__":
    main()
