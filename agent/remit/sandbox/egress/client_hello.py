"""The one thing that is read of a connection that passes unopened: the name in its TLS ClientHello (RFC 8446 section 4.1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from remit.sandbox.egress.errors import Blocked

LARGEST: Final = 64 << 10  # bytes of a hello with its record headers
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ENCRYPTED_HELLO: Final = (0xFE0D, 0xFFCE)  # ECH, and ESNI before it


@dataclass(frozen=True, kw_only=True)
class ClientHello:
    """`name` is the server's as it stands there, "" where none does; `hidden`: another may stand in an encrypted part."""

    name: str
    hidden: bool


class ClientHelloReader:
    """Reads the hello at the beginning of a connection as it comes; however it is cut, each byte is looked at once."""

    def __init__(self) -> None:
        self.said = bytearray()  # all that came
        self._message = bytearray()  # of the handshake
        self._at = 0  # where the record begins that is read
        self._taken = 0  # bytes of it

    def take(self, data: bytes) -> ClientHello | None:
        """The hello, once it has come with `data`; None where more of it is to come.

        Raises:
            Blocked: `not_tls`.
        """
        self.said += data
        while (size := self._record_size()) is not None:
            begin = self._at + 5
            piece = self.said[begin + self._taken : begin + size]
            self._message += piece
            self._taken += len(piece)
            if self._message and self._message[0] != _CLIENT_HELLO:
                raise Blocked("not_tls", "the connection does not begin with a TLS hello")
            if len(self._message) >= 4 and len(self._message) >= self._message_size():
                return self._hello()
            if self._taken < size:
                break
            self._at, self._taken = begin + size, 0
        if len(self.said) > LARGEST:
            raise Blocked("not_tls", "the TLS hello is too long")
        return None

    def _record_size(self) -> int | None:
        """The size of the record that is read; None where its header has not come."""
        record = self.said[self._at : self._at + 5]
        # The first byte decides at once: a peer that waits for an answer is not waited for.
        if record and (record[0] != _HANDSHAKE or (len(record) > 1 and record[1] != 3)):
            raise Blocked("not_tls", "the connection does not begin with TLS")
        if len(record) < 5:
            return None
        size = int.from_bytes(record[3:5], "big")
        if not 0 < size <= 16384:
            raise Blocked("not_tls", "the connection does not begin with TLS")
        return size

    def _message_size(self) -> int:
        return 4 + int.from_bytes(self._message[1:4], "big")

    def _hello(self) -> ClientHello:
        try:
            return _Reader(bytes(self._message[4 : self._message_size()])).hello()
        except (IndexError, UnicodeDecodeError) as failure:
            raise Blocked("not_tls", "the TLS hello cannot be read") from failure


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def hello(self) -> ClientHello:
        self._take(2 + 32)  # version, random
        self._vector(1)  # session
        self._vector(2)  # cipher suites
        self._vector(1)  # compression
        extensions = _Reader(self._vector(2)) if self._at < len(self._data) else _Reader(b"")
        seen: dict[int, bytes] = {}
        while extensions._at < len(extensions._data):
            kind = int.from_bytes(extensions._take(2), "big")
            body = extensions._vector(2)
            if kind in seen:  # RFC 8446 section 4.2 forbids it, and two readers would take different ones
                raise IndexError
            seen[kind] = body
        name = _Reader(seen[_SERVER_NAME]).server_name() if _SERVER_NAME in seen else ""
        return ClientHello(name=name, hidden=any(kind in seen for kind in _ENCRYPTED_HELLO))

    def server_name(self) -> str:
        """RFC 6066 section 3: exactly one host name."""
        names = _Reader(self._vector(2))
        if self._at != len(self._data) or names._take(1) != b"\0":
            raise IndexError
        name = names._vector(2).decode("ascii")
        if names._at != len(names._data):
            raise IndexError
        return name

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise IndexError
        self._at += size
        return self._data[self._at - size : self._at]

    def _vector(self, width: int) -> bytes:
        return self._take(int.from_bytes(self._take(width), "big"))
