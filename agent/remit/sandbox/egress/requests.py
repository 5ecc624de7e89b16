"""Reads HTTP/1.1 requests from a tool, strictly: a request that two parsers could read differently is refused.

A lenient proxy in front of a lenient server is how request smuggling works (RFC 9112 section 11.2). So the head is
parsed here by a narrow grammar, the body by h11, and the request is complete before anything is sent to a server.
"""

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

# Narrower than RFC 9112 section 3: one space between the parts, HTTP/1.x only, a method in upper case (methods are
# case-sensitive).
_REQUEST = re.compile(rb"([A-Z]{3,10}) ([\x21-\x7e]{1,16384}) HTTP/1\.([01])")
# RFC 9110 section 5.5, with no space before the colon (RFC 9112 section 5.1). Netty ignored that space, which smuggled
# a `Transfer-Encoding : chunked` (CVE-2019-16869).
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?[ \t]*"
)
_AUTHORITY = re.compile(r"([^\s:@/?#]+):([1-9][0-9]{0,4})")
# Digits only: Python's int() also reads "+3", "0_3" and other scripts' digits, as aiohttp did (CVE-2023-47627).
_LENGTH = re.compile(rb"[0-9]{1,15}")
# A line that ends in CR or LF alone. RFC 9112 section 2.2 lets a reader accept a bare LF; a server that does not would
# see one field where the proxy saw two (llhttp, CVE-2022-32214).
_BARE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")


@dataclass(frozen=True, kw_only=True)
class Head:
    """The request line and the header fields of a request; the names in `fields` are in lower case."""

    method: str
    target: str
    minor: int  # the minor version: HTTP/1.`minor`
    fields: tuple[tuple[bytes, bytes], ...]

    def all(self, name: bytes) -> list[bytes]:
        """Every value of the field `name`, in order."""
        return [value for key, value in self.fields if key == name]

    @property
    def closes(self) -> bool:
        """True if no request follows on this connection: the tool sent `Connection: close`, or HTTP/1.0."""
        return self.minor == 0 or b"close" in (part for value in self.all(b"connection") for part in tokens(value))

    @property
    def token(self) -> str:
        """The token of a call, from the password of the proxy credentials; "" without valid credentials."""
        values = self.all(b"proxy-authorization")
        if len(values) != 1 or not values[0].lower().startswith(b"basic "):
            return ""
        try:
            return base64.b64decode(values[0][6:].strip(), validate=True).decode("ascii").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """One complete request."""

    head: Head
    body: bytes
    has_length: bool  # the head gave the length of a body, which may be 0


def parse_head(data: bytes) -> Head:
    """Parse a head that ends with an empty line.

    Raises:
        Blocked: `malformed`.
    """
    first, *lines = data[:-4].split(b"\r\n")
    match = _REQUEST.fullmatch(first)
    if match is None:
        raise malformed("the request line is not valid")
    if len(lines) > MOST_HEADERS:
        raise malformed(f"it has more than {MOST_HEADERS} header fields")
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        # RFC 9112 section 5.2 lets a server unfold a folded line. Here it is an error, as are a space before the colon
        # and control characters: servers disagree on all of them (llhttp and folded Transfer-Encoding, CVE-2022-32215).
        field = _FIELD.fullmatch(line)
        if field is None:
            raise malformed("a header field is not valid")
        fields.append((field[1].lower(), field[2] or b""))
    head = Head(method=match[1].decode(), target=match[2].decode(), minor=int(match[3]), fields=tuple(fields))
    _check_framing(head)
    return head


def _check_framing(head: Head) -> None:
    """Refuse a request unless it has one Host field and at most one statement of its body's length."""
    lengths, codings, hosts = head.all(b"content-length"), head.all(b"transfer-encoding"), head.all(b"host")
    # RFC 9112 section 3.2: a server answers 400 to an HTTP/1.1 request without a Host field, or with two.
    if len(hosts) > 1 or (not hosts and head.method != "CONNECT"):
        raise malformed("it needs exactly one Host header")
    # RFC 9112 section 6.3 lets a server drop Content-Length in favour of Transfer-Encoding, and accept equal lengths
    # twice. Not every server chooses the same one, so neither is accepted here.
    if len(lengths) + len(codings) > 1:
        raise malformed("it states its length more than once")
    if lengths and _LENGTH.fullmatch(lengths[0]) is None:
        raise malformed("its length is not a number")
    # "xchunked", "chunked, identity": llhttp accepted such values (CVE-2022-32213). RFC 9112 section 6.1: the
    # framing of an HTTP/1.0 message with Transfer-Encoding is faulty.
    if codings and (codings[0].lower() != b"chunked" or head.minor == 0):
        raise malformed("its transfer coding is not supported")
    if head.method == "CONNECT" and (lengths or codings):  # RFC 9110 section 9.3.6: a CONNECT has no content
        raise malformed("a CONNECT has no body")
    if head.method not in (*METHODS, "CONNECT"):
        raise malformed("its method is not supported")


def parse_authority(text: str) -> tuple[str, int]:
    """Split `name:port`, where the name is already in its canonical spelling.

    Only one spelling is accepted, so that the name that is checked is the name that is resolved.

    Raises:
        Blocked: `not_a_name`.
    """
    match = _AUTHORITY.fullmatch(text)
    try:
        if match is None or int(match[2]) > 65535 or canonical_host("host", match[1]) != match[1]:
            raise Blocked("not_a_name", "the host is not a plain name and a port")
    except Refusal as refusal:
        raise Blocked("not_a_name", "the host is not a plain name and a port") from refusal
    # A permission names a host. An address has many spellings, which libraries read in different ways (CVE-2021-29921,
    # CVE-2023-42282).
    if is_address(match[1]):
        raise Blocked("not_a_name", "the host is an address; use its name")
    return match[1], int(match[2])


def requested_url(head: Head, tunnel: tuple[str, int] | None) -> tuple[str, str, int, Url]:
    """The scheme, name, port and URL that a request is for.

    All of it comes from the target; the Host field must agree. RFC 9112 section 3.2.2 has a proxy ignore a
    different Host; a refusal shows a confused client, or an attack, instead of hiding it.

    Args:
        head: the head of the request.
        tunnel: the name and port that a TLS connection leads to; None for a plain connection, where each target has its
            own.

    Raises:
        Blocked: the URL is not in its canonical spelling, or the Host field names another host.
    """
    if tunnel is not None:
        if not head.target.startswith("/"):
            raise malformed("its target is not a path")
        scheme, name, port = "https", *tunnel
        text = f"https://{name}:{port}{head.target}"
    else:
        scheme, separator, rest = head.target.partition("://")
        if scheme != "http" or not separator:
            raise malformed("its target is not an http:// URL; for https use CONNECT")
        place = re.split("[/?#]", rest, maxsplit=1)[0]
        name, port = parse_authority(place if ":" in place else f"{place}:80")
        text = head.target
    try:
        url = canonical_url(scheme, text)
    except Refusal as refusal:
        raise malformed(f"its URL is {refusal.message}") from refusal
    (host,) = head.all(b"host")
    named = host.decode("latin-1").lower()
    if named != f"{name}:{port}" and not (named == name and port == DEFAULT_PORT[scheme]):
        raise Blocked("other_name", "its Host header names another host")
    return scheme, name, port, url


def tokens(value: bytes) -> Iterator[bytes]:
    """The items of a comma-separated field, in lower case (RFC 9110 section 5.6.1)."""
    return (part.strip().lower() for part in value.split(b","))


def malformed(why: str) -> Blocked:
    return Blocked("malformed", f"the request is malformed: {why}")


class RequestReader:
    """Reads the requests on one connection of a tool, one after another. `received`: bytes that were read before."""

    def __init__(self, connection: ProxiedConnection, received: bytes = b"") -> None:
        self.last = False  # True once no request may follow the one that was read last
        self.connection = connection
        self._buffer = bytearray(received)
        self._raw = b""  # the head that was read last

    @property
    def unread(self) -> bytes:
        """The bytes that arrived after the head that was read last."""
        return bytes(self._buffer)

    async def head(self) -> Head | None:
        """Read the next head; None if the connection ends before one.

        Raises:
            Blocked: `malformed`, or `idle` inside a head.
        """
        # Each byte is searched once, however small the pieces: a client that sends one byte at a time would
        # otherwise cost quadratic time.
        searched = 0
        while (end := self._buffer.find(b"\r\n\r\n", max(searched - 3, 0))) < 0:
            if len(self._buffer) > LARGEST_HEAD or _BARE_END.search(self._buffer, max(searched - 1, 0)):
                raise malformed("its head has no proper end")
            searched = len(self._buffer)
            try:
                data = await self.connection.receive()
            except Blocked:
                if self._buffer:
                    raise
                return None  # idle between two requests: an ordinary end
            if not data:
                if self._buffer:
                    raise malformed("it is incomplete")
                return None
            self._buffer += data
        if end > LARGEST_HEAD:
            raise malformed("its head is too long")
        head = parse_head(bytes(self._buffer[: end + 4]))
        self._raw = bytes(self._buffer[: end + 4])
        del self._buffer[: end + 4]
        return head

    async def complete(self, head: Head, most: int, over_limit: Callable[[int], Blocked]) -> HttpRequest:
        """Read the body that belongs to `head`. A body of more than `most` bytes raises `over_limit(size)`."""
        has_length = bool(head.all(b"content-length") or head.all(b"transfer-encoding"))
        body = await self._body(head, most, over_limit) if has_length else b""
        # Pipelining (RFC 9112 section 9.3.2) is optional and clients do not use it. A second request that is here
        # before the first is answered is the usual result of smuggling, so the connection ends after this one.
        self.last = bool(self._buffer) or head.closes
        return HttpRequest(head=head, body=body, has_length=has_length)

    async def _body(self, head: Head, most: int, over_limit: Callable[[int], Blocked]) -> bytes:
        # h11 reads the chunks; since 0.16.0 it also checks the two bytes that end each of them (CVE-2025-43859).
        # Trailer fields are dropped.
        peer = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD + 1024)
        body = bytearray()
        try:
            peer.receive_data(self._raw)
            peer.next_event()
            # RFC 9110 section 10.1.1: the proxy answers `Expect: 100-continue` itself, because it reads the body before
            # it forwards.
            if peer.they_are_waiting_for_100_continue and not self._buffer:
                await self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            while True:
                event = peer.next_event()
                if event is h11.NEED_DATA:
                    data, self._buffer = bytes(self._buffer), bytearray()
                    peer.receive_data(data or await self.connection.receive())
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > most:
                        raise over_limit(len(body))
                elif isinstance(event, h11.EndOfMessage):
                    self._buffer += peer.trailing_data[0]
                    return bytes(body)
                else:
                    raise malformed("it is incomplete")
        except h11.RemoteProtocolError as failure:
            raise malformed(str(failure)[:100]) from failure
