"""One CONNECT: opened under the proxy's own authority where something is to be looked at, else passed on unopened."""

from __future__ import annotations

import ssl
from typing import Final, Protocol

from remit.sandbox.egress.addresses import Resolver, dial, find
from remit.sandbox.egress.call_session import CallSession, SessionEntry
from remit.sandbox.egress.certificate_authority import CertificateAuthority
from remit.sandbox.egress.client_hello import ClientHello, ClientHelloReader
from remit.sandbox.egress.connection import ProxiedConnection, splice
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.forwarder import Forwarder
from remit.sandbox.egress.requests import Head, Requests, authority, malformed

_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"


class _Proxy(Protocol):
    @property
    def resolver(self) -> Resolver: ...
    @property
    def authority(self) -> CertificateAuthority: ...
    @property
    def trust(self) -> ssl.SSLContext: ...


class Tunnel:
    """One CONNECT of one call."""

    def __init__(self, proxy: _Proxy, call_session: CallSession, requests: Requests) -> None:
        self._proxy = proxy
        self._call_session = call_session
        self._requests = requests
        self._wire = requests.wire

    async def serve(self, head: Head) -> None:
        """From the request to the end of the connection. Raises Blocked only where the tunnel never stood."""
        entry = self._call_session.begin("https", "", 0)
        entry.method = head.method
        self._standing = False
        try:
            await self._serve(head, entry)
        except Blocked as blocked:
            entry.block(blocked)
            if not self._standing:
                raise
        except ssl.SSLError:
            entry.block(Blocked("broken", "the tool does not agree to the proxy's certificate"))
        finally:
            entry.end()

    async def _serve(self, head: Head, entry: SessionEntry) -> None:
        entry.host = head.target[:253]
        name, port = authority(head.target)
        entry.host, entry.port = name, port
        if any(host.decode("latin-1") not in (head.target, name) for host in head.all(b"host")):
            raise Blocked("other_name", "its Host header names another host")
        self._call_session.may_tunnel(name, port)
        if self._requests.left:
            raise malformed("something follows before the tunnel stands")
        if not self._call_session.network.opaque(name, port):
            await self._look_into(name, port, entry)
            return
        entry.method = ""
        try:
            targets = await find(name, port, self._proxy.resolver, self._call_session.network.ranges)
            connection, target = await dial(name, targets)
        except Blocked as blocked:
            entry.address = blocked.kind
            raise
        entry.address = target.kind
        server = ProxiedConnection(connection, self._call_session.idle)
        try:
            await self._stand()
            await self._pass(server, name, entry)
        finally:
            server.close()

    async def _stand(self) -> None:
        await self._wire.send(_ESTABLISHED)
        self._standing = True

    async def _hello(self, name: str) -> bytes:
        """The bytes of the hello, which must name that host and nobody else."""
        reader = ClientHelloReader()
        hello: ClientHello | None = None
        while hello is None:
            data = await self._wire.receive()
            if not data:
                raise Blocked("not_tls", "the connection does not begin with TLS")
            hello = reader.take(data)
        if not hello.name:
            raise Blocked("hidden_name", "the TLS hello names no host")
        if hello.hidden:
            raise Blocked("hidden_name", "the TLS hello encrypts the name of its host")
        if hello.name.lower() != name:
            raise Blocked("other_name", "the TLS hello names another host than the tunnel")
        return bytes(reader.said)

    async def _pass(self, server: ProxiedConnection, name: str, entry: SessionEntry) -> None:
        hello, call_session = await self._hello(name), self._call_session
        call_session.spend_sent(len(hello), entry)
        await server.send(hello)
        await splice(
            self._wire,
            server,
            there=lambda size: call_session.spend_sent(size, entry),
            back=lambda size: call_session.spend_received(size, entry),
        )

    async def _look_into(self, name: str, port: int, entry: SessionEntry) -> None:
        await self._stand()
        hello = await self._hello(name)
        await self._wire.secure(self._proxy.authority.context(name), server=True, already=hello)
        entry.drop()  # from here on each request has its own
        requests = Requests(self._wire)
        await Forwarder(self._call_session, requests, self._proxy.resolver, self._proxy.trust, tunnel=(name, port)).run(
            None
        )
