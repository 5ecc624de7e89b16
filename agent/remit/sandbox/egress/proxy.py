"""The proxy itself: one door for each sandbox, one ticket for each call, and what passes between them.

It runs in a thread of its own, so that a busy agent delays no connection and a busy connection no agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Final

import certifi

from remit.core import Connection
from remit.sandbox.egress.addresses import Resolver, SystemResolver
from remit.sandbox.egress.call_session import IDLE_SECONDS, CallSession, Permit
from remit.sandbox.egress.certificate_authority import CertificateAuthority
from remit.sandbox.egress.connect_tunnel import Tunnel
from remit.sandbox.egress.connection import ProxiedConnection
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.forwarder import Forwarder
from remit.sandbox.egress.permissions import Network
from remit.sandbox.egress.requests import Head, Requests
from remit.sandbox.egress.responses import refused

PORT: Final = 3128  # of the listener in every sandbox
STRANGER_SECONDS: Final = 10.0  # in which a connection says whose it is
DISMISS_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.05
MOST_STRANGERS: Final = 64  # connections of one sandbox that have not said it yet


class Egress:
    """The egress proxy of this process. Safe to use from any thread; close it at the end.

    `trust` is what servers' certificates are checked against, this machine's authorities where None.
    """

    def __init__(
        self, *, resolver: Resolver | None = None, trust: ssl.SSLContext | None = None, idle: float = IDLE_SECONDS
    ) -> None:
        self.resolver: Resolver = resolver or SystemResolver()
        self.idle = idle
        self._trust = trust
        self._authority: CertificateAuthority | None = None
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._doors: set[ProxyListener] = set()

    @property
    def authority(self) -> CertificateAuthority:
        with self._lock:
            if self._authority is None:
                self._authority = CertificateAuthority()
            return self._authority

    @property
    def trust(self) -> ssl.SSLContext:
        with self._lock:
            if self._trust is None:
                self._trust = ssl.create_default_context()
                if not self._trust.cert_store_stats()["x509_ca"]:  # a machine without authorities of its own
                    self._trust.load_verify_locations(certifi.where())
            return self._trust

    def roots(self, network: Network) -> str:
        """What a tool with that reach has to trust, PEM: the proxy's authority, and this machine's where TLS passes unopened."""
        own = self.authority.certificate
        if network.sees_all:
            return own
        return own + "".join(map(ssl.DER_cert_to_PEM_cert, self.trust.get_ca_certs(binary_form=True)))

    def open(self, listener: socket.socket) -> ProxyListener:
        """Serve what comes in at a listener, which the door owns from here on."""
        listener.setblocking(False)
        loop = self._running()
        door = ProxyListener(self, listener, loop)
        with self._lock:
            self._doors.add(door)
        loop.call_soon_threadsafe(door.start)
        return door

    def left(self, door: ProxyListener) -> None:
        with self._lock:
            self._doors.discard(door)

    def close(self) -> None:
        """Close every door and end the thread. A later `open` starts anew."""
        with self._lock:
            thread, self._thread = self._thread, None
            loop, self._loop = self._loop, None
            doors, self._doors = self._doors, set()
        if thread is None or loop is None:
            return
        with contextlib.suppress(RuntimeError):  # it has ended already
            loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for door in doors:
            door.fell()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="remit-egress", daemon=True)
                self._thread.start()
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(asyncio.sleep(0))  # what was ordered before has become tasks
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()


class ProxyListener:
    """Where the connections of one sandbox come in; no other process can come to it."""

    def __init__(self, egress: Egress, listener: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._egress = egress
        self._listener = listener
        self._loop = loop
        self._tickets: dict[str, CallSession] = {}
        self._strangers = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # ── the broker's side, from any thread ───────────────────────────────────────────────────────────────────────────

    @property
    def open(self) -> bool:
        return not self._closed and self._loop.is_running()

    def admit(self, network: Network, permit: Permit, source: str = "") -> CallSession:
        """Let one call in, until `dismiss`. To be called where the call's own event loop runs.

        `source`: the address that its connections come from, where the sandbox serves other calls too.
        """
        call_session = CallSession(network, permit, PORT, self._egress.idle, asyncio.get_running_loop(), source)
        self._tickets[call_session.token] = call_session
        return call_session

    async def dismiss(self, call_session: CallSession) -> Sequence[Connection]:
        """End what the call has open, and tell what came of its connections.

        A proxy that is held up is not waited for: its connections end when it comes to it.
        """
        self._tickets.pop(call_session.token, None)
        work = call_session.finish()
        try:
            ending = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # it has ended, and with it every connection
            work.close()
            return call_session.ended
        try:
            async with asyncio.timeout(DISMISS_SECONDS):
                await asyncio.shield(asyncio.wrap_future(ending))
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if not ending.cancelled():  # it is the call that was cancelled, not the proxy that ended meanwhile
                raise
        return call_session.ended

    def close(self) -> None:
        self._closed = True
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:  # the proxy has ended
            self.fell()

    def fell(self) -> None:
        """The proxy ended: nobody listens any more."""
        self._closed = True
        self._listener.close()

    # ── the proxy's side ─────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener, self._accept)

    def _end(self) -> None:
        # INVARIANT: the proxy forgets a door only here; one that it ends before, it closes itself.
        self._egress.left(self)
        self._loop.remove_reader(self._listener)
        for task in self._tasks:
            task.cancel()
        self._listener.close()

    def _accept(self) -> None:
        try:
            connection, (address, _) = self._listener.accept()
        except BlockingIOError:  # it went away again
            return
        except OSError:  # descriptors are short: those that wait go on waiting
            self._loop.remove_reader(self._listener)
            self._loop.call_later(PAUSE_SECONDS, self.start)
            return
        if self._strangers >= MOST_STRANGERS:
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = ProxiedConnection(connection, STRANGER_SECONDS)
        task = self._loop.create_task(self._serve(wire, address))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._served(done, wire))

    def _served(self, task: asyncio.Task[None], wire: ProxiedConnection) -> None:
        """Closed here and nowhere else: a task that is cancelled early never runs."""
        self._tasks.discard(task)
        wire.close()

    async def _serve(self, wire: ProxiedConnection, address: str) -> None:
        try:
            requests = Requests(wire)
            head = await self._introduced(requests)
            if head is not None:
                await self._admitted(requests, head, address)
        except Blocked as blocked:
            with contextlib.suppress(OSError, Blocked):
                await wire.send(refused(blocked))
        except (OSError, TimeoutError):  # the tool went away, or never said whose it is
            pass

    async def _introduced(self, requests: Requests) -> Head | None:
        """The first head of a connection, by which it says whose it is."""
        self._strangers += 1
        try:
            async with asyncio.timeout(STRANGER_SECONDS):
                return await requests.head()
        finally:
            self._strangers -= 1

    async def _admitted(self, requests: Requests, head: Head, address: str) -> None:
        call_session = self._tickets.get(head.token)
        if call_session is None or not call_session.is_of(address):
            raise Blocked("no_call", "no call is known by its token")
        task = asyncio.current_task()
        assert task is not None
        call_session.join(task)
        requests.wire.idle = call_session.idle
        if head.method == "CONNECT":
            await Tunnel(self._egress, call_session, requests).serve(head)
        else:
            await Forwarder(call_session, requests, self._egress.resolver, self._egress.trust).run(head)
