"""One request to its server, and the answer back: both written anew by us, so that nothing passes that was not understood."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Final

import h11

from remit.core.parsing import DEFAULT_PORT, Url
from remit.sandbox.egress.addresses import Resolver, dial, find
from remit.sandbox.egress.call_session import CallSession, SessionEntry
from remit.sandbox.egress.connection import CHUNK, ProxiedConnection
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.overrides import check_overrides
from remit.sandbox.egress.requests import Head, HttpRequest, Requests, tokens, url_of
from remit.sandbox.egress.response_scrubber import Body
from remit.sandbox.egress.responses import Reply, reason_of, refused

LARGEST_ANSWER_HEAD: Final = 64 << 10

# What belongs to one connection and not to the message (RFC 9110 section 7.6.1), and what only a proxy says.
_HOP: Final = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-authorization", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-status", b"alt-svc"),
    )
)


class Server:
    """A connection to the server of one name and port."""

    def __init__(self, name: str, port: int, wire: ProxiedConnection) -> None:
        self.place = (name, port)
        self.wire = wire
        self.peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_ANSWER_HEAD)

    def rests(self) -> bool:
        """Whether it can take another request."""
        if self.peer.our_state is not h11.DONE or self.peer.their_state is not h11.DONE or not self.wire.quiet():
            return False
        self.peer.start_next_cycle()
        return True


class Forwarder:
    """Carries the requests of one connection of a tool, each decided for itself.

    `tunnel` is where the connection leads, under TLS; None where each request says it.
    """

    def __init__(
        self,
        call_session: CallSession,
        requests: Requests,
        resolver: Resolver,
        trust: ssl.SSLContext,
        tunnel: tuple[str, int] | None = None,
    ) -> None:
        self._call_session = call_session
        self._requests = requests
        self._resolver = resolver
        self._trust = trust
        self._tunnel = tunnel
        self._server: Server | None = None

    async def run(self, head: Head | None) -> None:
        """Every request that comes, from `head` on, which was read before."""
        try:
            while await self._next(head):
                head = None
        finally:
            self.close()

    async def _next(self, head: Head | None) -> bool:
        """One request and its answer; whether another may follow on this connection."""
        entry: SessionEntry | None = None
        reply: Reply | None = None
        try:
            if head is None and (head := await self._requests.head()) is None:
                return False
            entry = self._begin(head.method)
            asked = await self._whole(head)
            reply = Reply(head, closes=self._requests.last)
            await self._carry(asked, entry, reply)
            return not reply.closes
        except Blocked as blocked:
            entry = entry or self._begin("")
            entry.block(blocked)
            if reply is None:  # it was not read to its end, and where another begins is nobody's guess
                await self._requests.wire.send(refused(blocked))
                return False
            if reply.begun:  # too late to say so
                return False
            await self._requests.wire.send(reply.refuse(blocked))
            return not reply.closes
        finally:
            if entry is not None:
                entry.end()

    async def _whole(self, head: Head) -> HttpRequest:
        call_session = self._call_session
        most, spent = call_session.left_to_send, call_session.network.sent - call_session.left_to_send
        return await self._requests.whole(
            head, most, lambda size: call_session.over("sent", call_session.network.sent, spent + size, "bytes")
        )

    def _begin(self, method: str) -> SessionEntry:
        name, port = self._tunnel or ("", 0)
        entry = self._call_session.begin("http" if self._tunnel is None else "https", name, port)
        entry.method = method
        return entry

    def close(self) -> None:
        if self._server is not None:
            self._server.wire.close()
            self._server = None

    async def _carry(self, asked: HttpRequest, entry: SessionEntry, reply: Reply) -> None:
        scheme, name, port, url = url_of(asked.head, self._tunnel)
        path = _path(url.resource)
        entry.host, entry.port, entry.path = name, port, path
        await self._call_session.check(scheme, name, port, asked.head.method, path, url.resource)
        request, body = self._request(asked, scheme, name, port, url)
        server = await self._connect(name, port, entry)
        try:
            data = server.peer.send(request) or b""
            data += (server.peer.send(h11.Data(data=body)) or b"") if body else b""
            data += server.peer.send(h11.EndOfMessage()) or b""
            self._call_session.spend_sent(len(data), entry)
            await server.wire.send(data)
            await self._answer(server, entry, reply)
        except BaseException as failure:
            self.close()
            if isinstance(failure, h11.RemoteProtocolError):
                raise Blocked("bad_answer", f"{name!r} gives no proper answer") from failure
            if isinstance(failure, OSError):
                raise Blocked("broken", f"{name!r} ended the connection") from failure
            raise

    def _request(self, asked: HttpRequest, scheme: str, name: str, port: int, url: Url) -> tuple[h11.Request, bytes]:
        shown = name if port == DEFAULT_PORT[scheme] else f"{name}:{port}"
        own = self._call_session.headers(scheme, name, port)
        own_names = {key.lower() for key, _ in own}
        check_overrides(asked.head, own_names)
        dropped = {b"host", b"content-length", b"expect", *_HOP, *_named(asked), *own_names}
        if self._call_session.scrubber is not None:  # a secret in single pieces is not known again
            dropped |= {b"range", b"if-range"}
        kept = [(key, value) for key, value in asked.head.fields if key not in dropped]
        headers = [(b"host", shown.encode()), *kept, *own]
        if asked.framed:
            headers.append((b"content-length", str(len(asked.body)).encode()))
        target = url.address[len(f"{scheme}://{shown}") :]
        return h11.Request(method=asked.head.method, target=target, headers=headers), asked.body

    async def _connect(self, name: str, port: int, entry: SessionEntry) -> Server:
        server = self._server
        if server is not None:
            if server.place == (name, port) and server.rests():
                entry.address = server.wire.kind
                return server
            self.close()
        try:
            targets = await find(name, port, self._resolver, self._call_session.network.ranges)
            connection, target = await dial(name, targets)
        except Blocked as blocked:
            entry.address = blocked.kind
            raise
        entry.address = target.kind
        wire = ProxiedConnection(connection, self._call_session.idle, kind=target.kind)
        try:
            if self._tunnel is not None:
                await wire.secure(self._trust, name=name)
        except BaseException as failure:
            wire.close()
            if isinstance(failure, ssl.SSLCertVerificationError):
                raise Blocked(
                    "bad_certificate", f"{name!r} has no valid certificate: {failure.verify_message}"
                ) from failure
            if isinstance(failure, OSError):
                raise Blocked("unreachable", f"no TLS with {name!r}") from failure
            raise
        self._server = server = Server(name, port, wire)
        return server

    async def _answer(self, server: Server, entry: SessionEntry, reply: Reply) -> None:
        """Pass the answer on as it comes; what is ready goes out before more is waited for."""
        ready, body = bytearray(), None
        while True:
            event = server.peer.next_event()
            if event is h11.NEED_DATA:
                if ready:
                    await self._requests.wire.send(bytes(ready))
                    ready.clear()
                data = await server.wire.receive()
                self._call_session.spend_received(len(data), entry)
                server.peer.receive_data(data)
            elif isinstance(event, h11.Response):
                entry.status = event.status_code
                body = Body(event, self._call_session.scrubber)
                ready += reply.begin(event.status_code, reason_of(event.status_code), [*_kept(body)])
            elif isinstance(event, h11.Data):
                assert body is not None
                for piece in body.take(bytes(event.data)):
                    if body.inflates:
                        self._call_session.spend_received(len(piece), None)
                    ready += reply.piece(piece)
                    if len(ready) > CHUNK:
                        await self._requests.wire.send(bytes(ready))
                        ready.clear()
            elif isinstance(event, h11.EndOfMessage):
                assert body is not None
                ready += reply.piece(body.rest()) + reply.end()
                await self._requests.wire.send(bytes(ready))
                return
            elif not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise Blocked("bad_answer", f"{server.place[0]!r} gives no proper answer")


def _named(asked: HttpRequest) -> Iterator[bytes]:
    """The fields that the Connection header calls its own."""
    for value in asked.head.all(b"connection"):
        yield from tokens(value)


def _kept(body: Body) -> Iterator[tuple[bytes, bytes]]:
    own = {part for key, value in body.headers if key == b"connection" for part in tokens(value)}
    return ((key, value) for key, value in body.headers if key not in _HOP and key not in own)


def _path(resource: str) -> str:
    return "/" + resource.split("://", 1)[1].partition("/")[2]
