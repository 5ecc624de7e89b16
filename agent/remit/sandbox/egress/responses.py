"""Writes the response that a tool receives: a server's, part by part, or the proxy's own refusal."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Literal, TypeAlias

from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.requests import Head

_Framing: TypeAlias = Literal["none", "length", "chunks", "end"]


def reason_of(status: int) -> bytes:
    """The standard reason phrase of a status, never the server's own.

    A server's phrase is free text that could contain a secret or instructions for the model. RFC 9112 section 4 asks
    clients to ignore it, so nothing is lost.
    """
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Other"


class ResponseWriter:
    """Builds one response, as bytes to send. Its fields come from h11 or the proxy, so they contain no line breaks.

    `closes`: the connection ends after this response.
    """

    def __init__(self, head: Head, *, closes: bool) -> None:
        self.closes = closes
        self.begun = False
        self._head = head
        self._framing: _Framing = "none"

    def begin(self, status: int, reason: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
        """The status line and the header. Of framing fields, `fields` may contain Content-Length only."""
        self.begun = True
        lines = [b"HTTP/1.1 %d %s" % (status, reason)]
        # RFC 9110 section 8.6: a 204 has no Content-Length.
        lines += [key + b": " + value for key, value in fields if key != b"content-length" or status != 204]
        # RFC 9112 section 6.3: these have no body, whatever their header says. A body would be read as the next
        # response.
        if self._head.method == "HEAD" or status in (204, 304):
            self._framing = "none"
        elif any(key == b"content-length" for key, _ in fields):
            self._framing = "length"
        elif self._head.minor:
            self._framing = "chunks"
            lines.append(b"transfer-encoding: chunked")
        else:  # HTTP/1.0 has no chunks: only the end of the connection marks the end of the body
            self._framing = "end"
            self.closes = True
        if self.closes:
            lines.append(b"connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def piece(self, data: bytes) -> bytes:
        """A part of the body. An empty one is left out, because an empty chunk would end the body."""
        if not data or self._framing == "none":
            return b""
        return b"%x\r\n%s\r\n" % (len(data), data) if self._framing == "chunks" else data

    def end(self) -> bytes:
        """The end of the body. Without it the tool sees that the response is incomplete."""
        return b"0\r\n\r\n" if self._framing == "chunks" else b""

    def refuse(self, blocked: Blocked) -> bytes:
        """A complete response that says why the request was refused."""
        # After a malformed request, the start of the next one is a guess.
        self.closes = self.closes or blocked.verdict == "malformed"
        text = f"{blocked.text}\n".encode()
        fields = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(text)),
            (b"proxy-status", blocked.proxy_status.encode()),
        ]
        if blocked.verdict == "no_call":  # RFC 9110 section 15.5.8: a 407 names the scheme that the proxy accepts
            fields.append((b"proxy-authenticate", b'Basic realm="remit"'))
        return self.begin(blocked.status, blocked.reason.encode(), fields) + self.piece(text)


def refusal_response(blocked: Blocked) -> bytes:
    """The response to a request that was not read to its end; the connection closes after it."""
    return ResponseWriter(Head(method="GET", target="", minor=1, fields=()), closes=True).refuse(blocked)
