"""What the tool asks, read whole and strictly: nothing that two readers could read differently goes any further."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import h11

from remit.core import Refusal
from remit.core.parsing import DEFAULT_PORT, Url, canonical_host, canonical_url
from remit.sandbox.egress.connection import ProxiedConnection
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.permissions import METHODS, is_address

LARGEST_HEAD: Final = 32 << 10  # bytes
MOST_HEADERS: Final = 100

_REQUEST = re.compile(rb"([A-Z]{3,10}) ([\x21-\x7e]{1,16384}) HTTP/1\.([01])")
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?[ \t]*"
)
_AUTHORITY = re.compile(r"([^\s:@/?#]+):([1-9][0-9]{0,4})")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_BARE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")  # a line that ends in one of the two only


@dataclass(frozen=True, kw_only=True)
class Head:
    """A request's head; names of `fields` are lower case."""

    method: str
    target: str
    minor: int  # of HTTP/1
    fields: tuple[tuple[bytes, bytes], ...]

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]

    @property
    def closes(self) -> bool:
        """Whether the tool says that it is its last on this connection, or knows no other way."""
        return self.minor == 0 or b"close" in (part for value in self.all(b"connection") for part in tokens(value))

    @property
    def token(self) -> str:
        """What the proxy credentials say of the call; "" where they say nothing."""
        given = self.all(b"proxy-authorization")
        if len(given) != 1 or not given[0].lower().startswith(b"basic "):
            return ""
        try:
            return base64.b64decode(given[0][6:].strip(), validate=True).decode("ascii").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """One whole request."""

    head: Head
    body: bytes
    framed: bool  # it said how long its body is, be it empty


def parse_head(data: bytes) -> Head:
    """The head that ends with an empty line. Raises Blocked `malformed`."""
    first, *lines = data[:-4].split(b"\r\n")
    found = _REQUEST.fullmatch(first)
    if found is None:
        raise malformed("the request line is not one")
    if len(lines) > MOST_HEADERS:
        raise malformed(f"more than {MOST_HEADERS} header fields")
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:  # a folded line, a space before the colon, a control, a bare line feed
            raise malformed("a header field is not one")
        fields.append((field[1].lower(), field[2] or b""))
    head = Head(method=found[1].decode(), target=found[2].decode(), minor=int(found[3]), fields=tuple(fields))
    _check_framing(head)
    return head


def _check_framing(head: Head) -> None:
    """One length, said once, in one way (RFC 9112 section 6.1)."""
    lengths, codings, hosts = head.all(b"content-length"), head.all(b"transfer-encoding"), head.all(b"host")
    if len(hosts) > 1 or (not hosts and head.method != "CONNECT"):
        raise malformed("it does not name its host once")
    if len(lengths) + len(codings) > 1:
        raise malformed("it says its length more than once")
    if lengths and _LENGTH.fullmatch(lengths[0]) is None:
        raise malformed("its length is no number")
    if codings and (codings[0].lower() != b"chunked" or head.minor == 0):
        raise malformed("its transfer coding is unknown")
    if head.method == "CONNECT" and (lengths or codings):
        raise malformed("a CONNECT has no body")
    if head.method not in (*METHODS, "CONNECT"):
        raise malformed("its method is unknown")


def authority(text: str) -> tuple[str, int]:
    """The canonical name and the port of `name:port`, where it is spelled in just that way."""
    found = _AUTHORITY.fullmatch(text)
    try:
        if found is None or int(found[2]) > 65535 or canonical_host("host", found[1]) != found[1]:
            raise Blocked("not_a_name", "the host is not spelled as a plain name and a port")
    except Refusal as refusal:
        raise Blocked("not_a_name", "the host is not spelled as a plain name and a port") from refusal
    if is_address(found[1]):
        raise Blocked("not_a_name", "hosts are reached by name, and this is an address")
    return found[1], int(found[2])


def url_of(head: Head, tunnel: tuple[str, int] | None) -> tuple[str, str, int, Url]:
    """Scheme, name, port and the URL that is asked for, from the target alone; the Host header must say the same.

    `tunnel` is where the connection leads, under TLS; None where each request says it.

    Raises:
        Blocked: they differ, or it is not spelled in the one canonical way.
    """
    if tunnel is not None:
        if not head.target.startswith("/"):
            raise malformed("its target is no path")
        scheme, name, port = "https", *tunnel
        text = f"https://{name}:{port}{head.target}"
    else:
        scheme, separator, rest = head.target.partition("://")
        if scheme != "http" or not separator:
            raise malformed("its target is no http:// URL; https goes through CONNECT")
        shown = re.split("[/?#]", rest, maxsplit=1)[0]
        name, port = authority(shown if ":" in shown else f"{shown}:80")
        text = head.target
    try:
        url = canonical_url(scheme, text)
    except Refusal as refusal:
        raise malformed(f"its URL is {refusal.message}") from refusal
    (host,) = head.all(b"host")
    said = host.decode("latin-1").lower()
    if said != f"{name}:{port}" and not (said == name and port == DEFAULT_PORT[scheme]):
        raise Blocked("other_name", "its Host header names another host")
    return scheme, name, port, url


def tokens(value: bytes) -> Iterator[bytes]:
    """The parts of a field that is a list, in lower case."""
    return (part.strip().lower() for part in value.split(b","))


def malformed(why: str) -> Blocked:
    return Blocked("malformed", f"the request is malformed: {why}")


class Requests:
    """The requests on one connection of a tool, one after another. `said` was received before."""

    def __init__(self, wire: ProxiedConnection, said: bytes = b"") -> None:
        self.last = False  # no other may follow the one that was read last
        self.wire = wire
        self._said = bytearray(said)
        self._raw = b""  # the head that was read last

    @property
    def left(self) -> bytes:
        """What came after the head that was read last."""
        return bytes(self._said)

    async def head(self) -> Head | None:
        """The next head; None where the connection ends before one. However it is cut, each byte is looked at once."""
        seen = 0
        while (end := self._said.find(b"\r\n\r\n", max(seen - 3, 0))) < 0:
            if len(self._said) > LARGEST_HEAD or _BARE_END.search(self._said, max(seen - 1, 0)):
                raise malformed("its head does not end as it should")
            seen = len(self._said)
            try:
                data = await self.wire.receive()
            except Blocked:
                if self._said:
                    raise
                return None  # it rests between two requests, and is not needed
            if not data:
                if self._said:
                    raise malformed("it was cut")
                return None
            self._said += data
        if end > LARGEST_HEAD:
            raise malformed("its head is too long")
        head = parse_head(bytes(self._said[: end + 4]))
        self._raw = bytes(self._said[: end + 4])
        del self._said[: end + 4]
        return head

    async def whole(self, head: Head, most: int, over: Callable[[int], Blocked]) -> HttpRequest:
        """The request of that head with its body; raises what `over` says of one of more than `most` bytes."""
        framed = bool(head.all(b"content-length") or head.all(b"transfer-encoding"))
        body = await self._body(head, most, over) if framed else b""
        # Nobody needs a second request on the way before the first is answered, but whoever smuggles one.
        self.last = bool(self._said) or head.closes
        return HttpRequest(head=head, body=body, framed=framed)

    async def _body(self, head: Head, most: int, over: Callable[[int], Blocked]) -> bytes:
        peer = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD + 1024)
        body = bytearray()
        try:
            peer.receive_data(self._raw)
            peer.next_event()
            if peer.they_are_waiting_for_100_continue and not self._said:
                await self.wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            while True:
                event = peer.next_event()
                if event is h11.NEED_DATA:
                    data, self._said = bytes(self._said), bytearray()
                    peer.receive_data(data or await self.wire.receive())
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > most:
                        raise over(len(body))
                elif isinstance(event, h11.EndOfMessage):
                    self._said += peer.trailing_data[0]
                    return bytes(body)
                else:
                    raise malformed("it was cut")
        except h11.RemoteProtocolError as failure:
            raise malformed(str(failure)[:100]) from failure
