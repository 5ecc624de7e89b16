"""Forwards one request to its server, and the response back to the tool.

Both are parsed and written again by the proxy. The server and the tool receive the proxy's own bytes, so there is no
spelling that the proxy and they could read differently.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Final, Protocol

import h11

from remit.core import AddressClass
from remit.core.parsing import DEFAULT_PORT, Url
from remit.sandbox.egress.addresses import Resolver, dial, resolve_targets
from remit.sandbox.egress.call_session import CallSession, SessionEntry
from remit.sandbox.egress.connection import CHUNK, ProxiedConnection
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.exchanges.log import Exchange
from remit.sandbox.egress.overrides import check_overrides
from remit.sandbox.egress.requests import Head, HttpRequest, RequestReader, requested_url, tokens
from remit.sandbox.egress.response_scrubber import Body
from remit.sandbox.egress.responses import ResponseWriter, reason_of, refusal_response

LARGEST_ANSWER_HEAD: Final = 64 << 10

# Fields that belong to one connection, not to the message (RFC 9110 section 7.6.1), and fields that only a proxy may
# send. Alt-Svc would send the tool to another host and port (RFC 7838), where the proxy refuses it.
_HOP: Final = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-authorization", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-status", b"alt-svc"),
    )
)


class _Connection(Protocol):
    """A connection to a server, or what a test case has in its place."""

    kind: AddressClass | None

    async def send(self, data: bytes) -> None: ...
    async def receive(self) -> bytes: ...
    def is_quiet(self) -> bool: ...
    def close(self) -> None: ...


class ServerConnection:
    """A connection to one server."""

    def __init__(self, name: str, port: int, connection: _Connection) -> None:
        self.origin = (name, port)
        self.connection = connection
        self.peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_ANSWER_HEAD)

    def prepare_next(self) -> bool:
        """Make ready for another request; False if that is not possible.

        A server that sent bytes nobody asked for is not used again: they would be read as the response to the next
        request.
        """
        if (
            self.peer.our_state is not h11.DONE
            or self.peer.their_state is not h11.DONE
            or not self.connection.is_quiet()
        ):
            return False
        self.peer.start_next_cycle()
        return True


class Forwarder:
    """Forwards the requests of one connection of a tool; each is decided by itself.

    `tunnel`: the name and port that a TLS connection leads to; None for a plain connection, where each request names
    its own.
    """

    def __init__(
        self,
        call_session: CallSession,
        requests: RequestReader,
        resolver: Resolver,
        trust: ssl.SSLContext,
        tunnel: tuple[str, int] | None = None,
    ) -> None:
        self._call_session = call_session
        self._requests = requests
        self._resolver = resolver
        self._trust = trust
        self._tunnel = tunnel
        self._server: ServerConnection | None = None
        self._exchange: Exchange | None = None  # of the present request, if the call has a log

    async def run(self, head: Head | None) -> None:
        """Serve requests until the connection ends. `head`: the first one, if it was read before."""
        try:
            while await self._serve_next(head):
                head = None
        finally:
            self.close()

    async def _serve_next(self, head: Head | None) -> bool:
        """Serve one request; True if another may follow on this connection."""
        entry: SessionEntry | None = None
        response: ResponseWriter | None = None
        try:
            if head is None and (head := await self._requests.head()) is None:
                return False
            entry = self._begin(head.method)
            request = await self._complete(head)
            response = ResponseWriter(head, closes=self._requests.last)
            await self._forward(request, entry, response)
            return not response.closes
        except Blocked as blocked:
            entry = entry or self._begin("")
            entry.block(blocked)
            if self._exchange is not None and not blocked.final:
                self._exchange.failure = blocked.verdict
            if response is None:  # the request was not read to its end, so the start of the next one is unknown
                await self._requests.connection.send(refusal_response(blocked))
                return False
            if response.begun:  # too late for another status: the tool sees an incomplete response
                return False
            await self._requests.connection.send(response.refuse(blocked))
            return not response.closes
        finally:
            if entry is not None:
                entry.end()

    async def _complete(self, head: Head) -> HttpRequest:
        call_session = self._call_session
        most, spent = call_session.left_to_send, call_session.network.sent - call_session.left_to_send
        return await self._requests.complete(
            head, most, lambda size: call_session.over("sent", call_session.network.sent, spent + size, "bytes")
        )

    def _begin(self, method: str) -> SessionEntry:
        self._exchange = None
        name, port = self._tunnel or ("", 0)
        entry = self._call_session.begin("http" if self._tunnel is None else "https", name, port)
        entry.method = method
        return entry

    def close(self) -> None:
        if self._server is not None:
            self._server.connection.close()
            self._server = None

    async def _forward(self, request: HttpRequest, entry: SessionEntry, response: ResponseWriter) -> None:
        scheme, name, port, url = requested_url(request.head, self._tunnel)
        path = _path(url.resource)
        entry.host, entry.port, entry.path = name, port, path
        # INVARIANT: decided before the name is resolved. Even a DNS query would tell its owner something.
        await self._call_session.check(scheme, name, port, request.head.method, path, url.resource)
        entry.why = self._call_session.unsent(scheme, name, port)
        outgoing, body = self._outgoing(request, scheme, name, port, url)
        if self._call_session.log is not None:
            self._exchange = self._call_session.log.begin(request.head.method, url.address, body)
        if (answers := self._call_session.answers) is not None:
            # INVARIANT: a test case reaches no network: what no row answers is refused here.
            self.close()
            server = ServerConnection(name, port, answers.connection(request.head.method, url, body))
            self._server = server
        else:
            server = await self._connect(name, port, entry)
        try:
            data = server.peer.send(outgoing) or b""
            data += (server.peer.send(h11.Data(data=body)) or b"") if body else b""
            data += server.peer.send(h11.EndOfMessage()) or b""
            self._call_session.spend_sent(len(data), entry)
            await server.connection.send(data)
            await self._relay_response(server, entry, response)
        except BaseException as failure:
            self.close()
            if isinstance(failure, h11.RemoteProtocolError):
                raise Blocked("bad_answer", f"{name!r} sends a response that is not valid") from failure
            if isinstance(failure, OSError):
                raise Blocked("broken", f"{name!r} closed the connection") from failure
            raise

    def _outgoing(self, request: HttpRequest, scheme: str, name: str, port: int, url: Url) -> tuple[h11.Request, bytes]:
        """The request for the server: the decided target and Host, one Content-Length, the proxy's own headers last."""
        shown = name if port == DEFAULT_PORT[scheme] else f"{name}:{port}"
        own = self._call_session.headers(scheme, name, port)
        own_names = {key.lower() for key, _ in own}
        check_overrides(request.head, own_names)
        # A tool cannot use Connection to remove a header that the proxy adds, as an attacker did with F5's BIG-IP
        # (CVE-2022-1388): own headers are added after the ones that Connection names are dropped.
        dropped = {b"host", b"content-length", b"expect", *_HOP, *_connection_fields(request), *own_names}
        # The scrubber finds a secret that arrives in order. A range could fetch one in parts, in separate responses.
        if self._call_session.scrubber is not None:
            dropped |= {b"range", b"if-range"}
        kept = [(key, value) for key, value in request.head.fields if key not in dropped]
        headers = [(b"host", shown.encode()), *kept, *own]
        if request.has_length:
            headers.append((b"content-length", str(len(request.body)).encode()))
        target = url.address[len(f"{scheme}://{shown}") :]
        return h11.Request(method=request.head.method, target=target, headers=headers), request.body

    async def _connect(self, name: str, port: int, entry: SessionEntry) -> ServerConnection:
        server = self._server
        if server is not None:
            if server.origin == (name, port) and server.prepare_next():
                entry.address = server.connection.kind
                return server
            self.close()
        try:
            targets = await resolve_targets(name, port, self._resolver, self._call_session.network.ranges)
            socket, target = await dial(name, targets)
        except Blocked as blocked:
            entry.address = blocked.kind
            raise
        entry.address = target.kind
        connection = ProxiedConnection(socket, self._call_session.idle, kind=target.kind)
        try:
            if self._tunnel is not None:
                await connection.secure(self._trust, name=name)
        except BaseException as failure:
            connection.close()
            # SSLCertVerificationError is an OSError too, so it is looked for first.
            if isinstance(failure, ssl.SSLCertVerificationError):
                raise Blocked(
                    "bad_certificate", f"{name!r} has no valid certificate: {failure.verify_message}"
                ) from failure
            if isinstance(failure, OSError):
                raise Blocked("unreachable", f"TLS with {name!r} failed") from failure
            raise
        self._server = server = ServerConnection(name, port, connection)
        return server

    async def _relay_response(self, server: ServerConnection, entry: SessionEntry, response: ResponseWriter) -> None:
        """Send the response on while it arrives. Data that is ready is sent before the proxy waits for more."""
        ready, body = bytearray(), None
        while True:
            event = server.peer.next_event()
            if event is h11.NEED_DATA:
                if ready:
                    await self._requests.connection.send(bytes(ready))
                    ready.clear()
                data = await server.connection.receive()
                self._call_session.spend_received(len(data), entry)
                server.peer.receive_data(data)
            elif isinstance(event, h11.Response):
                entry.status = event.status_code
                if entry.status in (401, 403):
                    entry.why = entry.why or self._call_session.refused_secret(*server.origin)
                body = Body(event, self._call_session.scrubber)
                headers = [*_end_to_end(body)]
                if self._exchange is not None:
                    self._exchange.begin(event.status_code, headers)
                ready += response.begin(event.status_code, reason_of(event.status_code), headers)
            elif isinstance(event, h11.Data):
                assert body is not None
                for piece in body.take(bytes(event.data)):
                    # A small compressed body can become a huge one, so the bytes after decompression count too.
                    if body.inflates:
                        self._call_session.spend_received(len(piece), None)
                    if self._exchange is not None:
                        self._exchange.add(piece)
                    ready += response.piece(piece)
                    if len(ready) > CHUNK:
                        await self._requests.connection.send(bytes(ready))
                        ready.clear()
            elif isinstance(event, h11.EndOfMessage):
                assert body is not None
                rest = body.rest()
                if self._exchange is not None:
                    self._exchange.add(rest)
                    self._exchange.end()
                ready += response.piece(rest) + response.end()
                await self._requests.connection.send(bytes(ready))
                return
            # Other 1xx responses are skipped. The proxy sends no Upgrade (RFC 9110 section 7.8), so nobody asked for a
            # 101: what follows it would be no HTTP, and unchecked.
            elif not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise Blocked("bad_answer", f"{server.origin[0]!r} sends a response that is not valid")


def _connection_fields(request: HttpRequest) -> Iterator[bytes]:
    """The names of the fields that the Connection header lists (RFC 9110 section 7.6.1)."""
    for value in request.head.all(b"connection"):
        yield from tokens(value)


def _end_to_end(body: Body) -> Iterator[tuple[bytes, bytes]]:
    """The response's header without the fields that belong to the connection."""
    own = {part for key, value in body.headers if key == b"connection" for part in tokens(value)}
    return ((key, value) for key, value in body.headers if key not in _HOP and key not in own)


def _path(resource: str) -> str:
    return "/" + resource.split("://", 1)[1].partition("/")[2]
