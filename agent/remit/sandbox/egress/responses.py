"""The answer to the tool, written anew: a server's, piece by piece, or the proxy's own in its place."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Literal, TypeAlias

from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.requests import Head

_Framing: TypeAlias = Literal["none", "length", "chunks", "end"]


def reason_of(status: int) -> bytes:
    """The standard's words for a status; a server's own could hold anything, and nothing needs them (RFC 9112 section 4)."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Other"


class Reply:
    """One answer on its way. Fields are those that h11 has read, or our own; the reason is always our own.

    `closes`: nothing may follow it on its connection; where its end cannot be told otherwise, that is how.
    """

    def __init__(self, head: Head, *, closes: bool) -> None:
        self.closes = closes
        self.begun = False
        self._head = head
        self._framing: _Framing = "none"

    def begin(self, status: int, reason: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Its head. `fields` hold no framing but a length."""
        self.begun = True
        lines = [b"HTTP/1.1 %d %s" % (status, reason)]
        lines += [key + b": " + value for key, value in fields if key != b"content-length" or status != 204]
        if self._head.method == "HEAD" or status in (204, 304):
            self._framing = "none"
        elif any(key == b"content-length" for key, _ in fields):
            self._framing = "length"
        elif self._head.minor:
            self._framing = "chunks"
            lines.append(b"transfer-encoding: chunked")
        else:
            self._framing = "end"
            self.closes = True
        if self.closes:
            lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def piece(self, data: bytes) -> bytes:
        if not data or self._framing == "none":
            return b""
        return b"%x\r\n%s\r\n" % (len(data), data) if self._framing == "chunks" else data

    def end(self) -> bytes:
        return b"0\r\n\r\n" if self._framing == "chunks" else b""

    def refuse(self, blocked: Blocked) -> bytes:
        """The whole of it, in place of a server's."""
        self.closes = self.closes or blocked.verdict == "malformed"  # whoever writes one may have written another
        text = f"{blocked.text}\n".encode()
        fields = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"proxy-status", blocked.proxy_status.encode()),
        ]
        if blocked.verdict == "no_call":
            fields.append((b"proxy-authenticate", b'Basic realm="remit"'))
        return self.begin(blocked.status, blocked.reason.encode(), fields) + self.piece(text)


def refused(blocked: Blocked) -> bytes:
    """The answer to what is not taken any further, whoever it is of."""
    return Reply(Head(method="GET", target="", minor=1, fields=()), closes=True).refuse(blocked)
