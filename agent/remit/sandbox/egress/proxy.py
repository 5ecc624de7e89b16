"""The egress proxy: one listener for each sandbox, one session for each call.

It runs its own event loop in its own thread, so that a busy agent and a busy connection do not delay each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import certifi

from remit.core import Connection
from remit.sandbox import egress
from remit.sandbox.egress.addresses import Resolver, SystemResolver
from remit.sandbox.egress.call_session import IDLE_SECONDS, CallSession, Permit
from remit.sandbox.egress.connect_tunnel import Tunnel
from remit.sandbox.egress.connection import ProxiedConnection
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.forwarder import Forwarder
from remit.sandbox.egress.permissions import Network
from remit.sandbox.egress.requests import Head, RequestReader
from remit.sandbox.egress.responses import refusal_response

if TYPE_CHECKING:  # cryptography is loaded at the first use
    from remit.sandbox.egress.certificate_authority import CertificateAuthority

PORT: Final = 3128  # of the listener in every sandbox with namespaces
IDENTIFY_SECONDS: Final = 10.0  # for a new connection to send the token of its call
DISMISS_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 0.05
MOST_PRIVATE: Final = 64  # settings for private authorities that are kept
MOST_UNIDENTIFIED: Final = 64  # connections of one sandbox that have not sent a token yet


class Egress:
    """The egress proxy of this process. Any thread may use it. The owner closes it.

    `trust`: the authorities that sign servers' certificates; None: those of this machine.
    """

    def __init__(
        self, *, resolver: Resolver | None = None, trust: ssl.SSLContext | None = None, idle: float = IDLE_SECONDS
    ) -> None:
        self.resolver: Resolver = resolver or SystemResolver()
        self.idle = idle
        self._trust = trust
        self._private: dict[str, ssl.SSLContext] = {}  # by the certificates of private authorities
        self._authority: CertificateAuthority | None = None
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listeners: set[ProxyListener] = set()

    @property
    def authority(self) -> CertificateAuthority:
        """Signs the certificates that tools see where the proxy opens TLS; made at first use."""
        with self._lock:
            if self._authority is None:
                self._authority = egress.CertificateAuthority()
            return self._authority

    @property
    def trust(self) -> ssl.SSLContext:
        """The TLS settings for connections to servers."""
        with self._lock:
            if self._trust is None:
                self._trust = ssl.create_default_context()
                # A machine may have no authorities, as a small container.
                if not self._trust.cert_store_stats()["x509_ca"]:
                    self._trust.load_verify_locations(certifi.where())
            return self._trust

    def trust_of(self, certificates: str) -> ssl.SSLContext:
        """The TLS settings for a host that only these authorities sign for, in PEM; "": those of this machine.

        INVARIANT: no other authority counts for that host, so that a server with a certificate of a public one is refused.
        """
        if not certificates:
            return self.trust
        with self._lock:
            if (context := self._private.get(certificates)) is None:
                context = ssl.create_default_context(cadata=certificates)
                # A reviewer has named these certificates, so one that another signed is trusted for itself.
                context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
                if len(self._private) >= MOST_PRIVATE:
                    self._private.clear()
                self._private[certificates] = context
            return context

    def roots(self, network: Network) -> str:
        """The certificates that a tool must trust, in PEM.

        They are the proxy's authority, and this machine's authorities if some TLS passes through unopened.
        """
        own = self.authority.certificate
        if network.sees_all:
            return own
        return own + "".join(map(ssl.DER_cert_to_PEM_cert, self.trust.get_ca_certs(binary_form=True)))

    def open(self, listener: socket.socket) -> ProxyListener:
        """Serve the connections of a listening socket, which the result owns and closes."""
        listener.setblocking(False)
        loop = self._running()
        proxy_listener = ProxyListener(self, listener, loop)
        with self._lock:
            self._listeners.add(proxy_listener)
        loop.call_soon_threadsafe(proxy_listener.start)
        return proxy_listener

    def forget(self, proxy_listener: ProxyListener) -> None:
        """Drop a listener that has closed."""
        with self._lock:
            self._listeners.discard(proxy_listener)

    def close(self) -> None:
        """Close every listener and end the thread. A later `open` starts a new one."""
        with self._lock:
            thread, self._thread = self._thread, None
            loop, self._loop = self._loop, None
            listeners, self._listeners = self._listeners, set()
        if thread is None or loop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for proxy_listener in listeners:
            proxy_listener.proxy_ended()

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
        loop.run_until_complete(asyncio.sleep(0))  # callbacks that were scheduled before become tasks
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()


class ProxyListener:
    """Accepts the connections of one sandbox. With namespaces its socket was made inside, so no other process can reach it.

    Without them, any process of this machine can, but it has the token of no call.
    """

    def __init__(self, egress: Egress, listener: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._egress = egress
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._loop = loop
        self._sessions: dict[str, CallSession] = {}  # by token
        self._unidentified = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # ── the broker's side, from any thread ───────────────────────────────────────────────────────────────────────────

    @property
    def open(self) -> bool:
        """True while connections are accepted."""
        return not self._closed and self._loop.is_running()

    def admit(self, network: Network, permit: Permit, *, source: str = "", token: str = "") -> CallSession:
        """Open the session of one call. The caller ends it with `dismiss`, and runs in the call's own event loop.

        Args:
            network: what the call may reach.
            permit: its secrets and how to decide further URLs.
            source: the address that its connections come from; "" if the sandbox serves no other call.
            token: that of the sandbox, if its calls run one after another; "": one for this call alone. A call that runs
                at the same time with the same token shares the session, so its network and permit must be equal.
        """
        if (call_session := self._sessions.get(token)) is not None:
            call_session.users += 1
            return call_session
        call_session = CallSession(network, permit, self._port, self._egress.idle, asyncio.get_running_loop(), source)
        call_session.token = token or call_session.token
        self._sessions[call_session.token] = call_session
        return call_session

    async def dismiss(self, call_session: CallSession) -> Sequence[Connection]:
        """Close the connections of a call and return the record of its requests.

        Of calls that share a session, the last one closes it; each gets what ended since another one got its record. Waits at most `DISMISS_SECONDS` for a busy proxy, which then closes them later.
        """
        call_session.users -= 1
        if call_session.users:
            return call_session.take_ended()
        self._sessions.pop(call_session.token, None)
        work = call_session.finish()
        try:
            ending = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the proxy has ended, and with it every connection
            work.close()
            return call_session.take_ended()
        try:
            async with asyncio.timeout(DISMISS_SECONDS):
                await asyncio.shield(asyncio.wrap_future(ending))
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if not ending.cancelled():  # the call was cancelled; the proxy did not end
                raise
        return call_session.take_ended()

    def close(self) -> None:
        self._closed = True
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:  # the proxy has ended
            self.proxy_ended()

    def proxy_ended(self) -> None:
        """Close the socket without the event loop, which is gone."""
        self._closed = True
        self._listener.close()

    # ── the proxy's side ─────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener, self._accept)

    def _end(self) -> None:
        # INVARIANT: a listener leaves the proxy's set only here. If the proxy ends first, it closes the socket itself.
        self._egress.forget(self)
        self._loop.remove_reader(self._listener)
        for task in self._tasks:
            task.cancel()
        self._listener.close()

    def _accept(self) -> None:
        try:
            connection, (address, _) = self._listener.accept()
        except BlockingIOError:  # the client has closed already
            return
        except OSError:  # out of descriptors: try again later; the client waits in the backlog
            self._loop.remove_reader(self._listener)
            self._loop.call_later(PAUSE_SECONDS, self.start)
            return
        if self._unidentified >= MOST_UNIDENTIFIED:
            connection.close()
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        proxied = ProxiedConnection(connection, IDENTIFY_SECONDS)
        task = self._loop.create_task(self._serve(proxied, address))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._served(done, proxied))

    def _served(self, task: asyncio.Task[None], proxied: ProxiedConnection) -> None:
        """Close the connection. The task cannot: one that is cancelled early never runs."""
        self._tasks.discard(task)
        proxied.close()

    async def _serve(self, proxied: ProxiedConnection, address: str) -> None:
        try:
            requests = RequestReader(proxied)
            head = await self._first_head(requests)
            if head is not None:
                await self._admitted(requests, head, address)
        except Blocked as blocked:
            with contextlib.suppress(OSError, Blocked):
                await proxied.send(refusal_response(blocked))
        except (OSError, TimeoutError):  # the tool closed the connection, or sent no token in time
            pass

    async def _first_head(self, requests: RequestReader) -> Head | None:
        """The first head of a connection, which contains the token of its call."""
        self._unidentified += 1
        try:
            async with asyncio.timeout(IDENTIFY_SECONDS):
                return await requests.head()
        finally:
            self._unidentified -= 1

    async def _admitted(self, requests: RequestReader, head: Head, address: str) -> None:
        """Serve a connection whose first head was read."""
        # The token is checked once: later requests on this connection belong to the same call, whatever they send.
        call_session = self._sessions.get(head.token)
        if call_session is None or not call_session.accepts(address):
            raise Blocked("no_call", "its token belongs to no running call")
        task = asyncio.current_task()
        assert task is not None
        call_session.join(task)
        requests.connection.idle = call_session.idle
        if head.method == "CONNECT":
            await Tunnel(self._egress, call_session, requests).serve(head)
        else:
            await Forwarder(call_session, requests, self._egress.resolver, self._egress.trust).run(head)
