"""Serves one CONNECT: the TLS inside is passed through unopened, or opened to check each request.

It is opened where the manifest limits methods or paths, or adds a secret. In both cases the ClientHello must name the
host of the tunnel.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final, Protocol

from remit.sandbox.egress.addresses import Resolver, dial, resolve_targets
from remit.sandbox.egress.call_session import CallSession, SessionEntry
from remit.sandbox.egress.client_hello import ClientHello, ClientHelloReader
from remit.sandbox.egress.connection import ProxiedConnection, splice
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.forwarder import Forwarder
from remit.sandbox.egress.requests import Head, RequestReader, malformed, parse_authority

if TYPE_CHECKING:
    from remit.sandbox.egress.certificate_authority import CertificateAuthority

_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class _Proxy(Protocol):
    @property
    def resolver(self) -> Resolver: ...
    @property
    def authority(self) -> CertificateAuthority: ...
    def trust_of(self, certificates: str) -> ssl.SSLContext: ...


class Tunnel:
    """One CONNECT of one call."""

    def __init__(self, proxy: _Proxy, call_session: CallSession, requests: RequestReader) -> None:
        self._proxy = proxy
        self._call_session = call_session
        self._requests = requests
        self._connection = requests.connection
        self._established = False

    async def serve(self, head: Head) -> None:
        """Serve the tunnel until its connection ends.

        Raises:
            Blocked: the tunnel was refused before the tool received its 200. Later no HTTP response is possible: the
                connection closes, and the reason is in the record.
        """
        entry = self._call_session.begin("https", "", 0)
        entry.method = head.method
        try:
            await self._serve(head, entry)
        except Blocked as blocked:
            entry.block(blocked)
            if not self._established:
                raise
        except ssl.SSLError:
            entry.block(Blocked("broken", "the tool does not accept the proxy's certificate"))
        finally:
            entry.end()

    async def _serve(self, head: Head, entry: SessionEntry) -> None:
        entry.host = head.target[:253]
        name, port = parse_authority(head.target)  # RFC 9112 section 3.2.3: the target of a CONNECT is name:port
        entry.host, entry.port = name, port
        if any(host.decode("latin-1") not in (head.target, name) for host in head.all(b"host")):
            raise Blocked("other_name", "its Host header names another host")
        self._call_session.may_tunnel(name, port)
        # A client waits for the 200 (RFC 9110 section 9.3.6). Bytes before it would skip the check of the ClientHello.
        if self._requests.unread:
            raise malformed("it sends data before the tunnel is established")
        if not self._call_session.opaque(name, port):
            await self._serve_opened(name, port, entry)
            return
        entry.method = ""
        try:
            targets = await resolve_targets(name, port, self._proxy.resolver, self._call_session.network.ranges)
            connection, target = await dial(name, targets)
        except Blocked as blocked:
            entry.address = blocked.kind
            raise
        entry.address = target.kind
        entry.why = self._call_session.unsent("https", name, port)
        server = ProxiedConnection(connection, self._call_session.idle)
        try:
            await self._establish()
            await self._pass_through(server, name, entry)
        finally:
            server.close()

    async def _establish(self) -> None:
        await self._connection.send(_ESTABLISHED)
        self._established = True

    async def _hello(self, name: str) -> bytes:
        """The bytes of the ClientHello, which must name the host `name`.

        Without this check a tunnel to one host of a shared server (a CDN) reaches every other host there: domain
        fronting. The Host field inside an unopened tunnel can still do so; the threat model says it (NET-10).
        """
        reader = ClientHelloReader()
        hello: ClientHello | None = None
        while hello is None:
            data = await self._connection.receive()
            if not data:
                raise Blocked("not_tls", "the connection does not begin with TLS")
            hello = reader.feed(data)
        if not hello.name:
            raise Blocked("hidden_name", "the TLS ClientHello names no host")
        if hello.hidden:
            raise Blocked("hidden_name", "the TLS ClientHello encrypts the name of its host")
        if hello.name.lower() != name:  # names in DNS do not depend on case (RFC 4343)
            raise Blocked("other_name", "the TLS ClientHello names another host than the tunnel")
        return bytes(reader.received)

    async def _pass_through(self, server: ProxiedConnection, name: str, entry: SessionEntry) -> None:
        # INVARIANT: the server receives nothing before the whole ClientHello was checked.
        hello, call_session = await self._hello(name), self._call_session
        call_session.spend_sent(len(hello), entry)
        await server.send(hello)
        await splice(
            self._connection,
            server,
            sent=lambda size: call_session.spend_sent(size, entry),
            received=lambda size: call_session.spend_received(size, entry),
        )

    async def _serve_opened(self, name: str, port: int, entry: SessionEntry) -> None:
        """End the tool's TLS here, with a certificate of the proxy's own, and forward each request by itself."""
        await self._establish()
        hello = await self._hello(name)
        await self._connection.secure(self._proxy.authority.context(name), server=True, already=hello)
        entry.drop()  # from here on each request has an entry of its own
        requests = RequestReader(self._connection)
        trust = self._proxy.trust_of(self._call_session.network.authorities_of(name, port))
        forwarder = Forwarder(self._call_session, requests, self._proxy.resolver, trust, tunnel=(name, port))
        await forwarder.run(None)
