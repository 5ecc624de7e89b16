"""Reads the server name in a TLS ClientHello (RFC 8446 section 4.1.2). The proxy reads no more of an unopened tunnel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from remit.sandbox.egress.errors import Blocked

LARGEST: Final = 64 << 10  # bytes of a ClientHello with its record headers
_HANDSHAKE: Final = 22  # the record type of handshake messages (RFC 8446 section 5.1)
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
# Encrypted ClientHello (draft-ietf-tls-esni) and its predecessor ESNI: the real server name is encrypted.
_ENCRYPTED_HELLO: Final = (0xFE0D, 0xFFCE)


@dataclass(frozen=True, kw_only=True)
class ClientHello:
    """The server name as written, "" without one. `hidden`: an encrypted part may contain another name."""

    name: str
    hidden: bool


class ClientHelloReader:
    """Reads the ClientHello at the beginning of a connection, piece by piece."""

    def __init__(self) -> None:
        self.received = bytearray()  # every byte so far
        self._message = bytearray()  # the handshake message, without record headers
        self._at = 0  # the offset of the current record in `received`
        self._taken = 0  # bytes of the current record that are already in `_message`

    def feed(self, data: bytes) -> ClientHello | None:
        """Add `data`; the ClientHello once it is complete, else None.

        Raises:
            Blocked: `not_tls`.
        """
        self.received += data
        # RFC 8446 section 5.1: one message may be split over many records. A reader of the first record alone would
        # miss a name in the second, so the message is put together first. Each byte is copied once, however small the
        # pieces.
        while (size := self._record_size()) is not None:
            begin = self._at + 5
            piece = self.received[begin + self._taken : begin + size]
            self._message += piece
            self._taken += len(piece)
            if self._message and self._message[0] != _CLIENT_HELLO:
                raise Blocked("not_tls", "the connection does not begin with a TLS ClientHello")
            if len(self._message) >= 4 and len(self._message) >= self._message_size():
                return self._hello()
            if self._taken < size:
                break
            self._at, self._taken = begin + size, 0
        if len(self.received) > LARGEST:
            raise Blocked("not_tls", "the TLS ClientHello is too long")
        return None

    def _record_size(self) -> int | None:
        """The size of the current record in bytes; None until its header is complete."""
        record = self.received[self._at : self._at + 5]
        # Checked from the first byte on. A client of another protocol may wait for an answer and never send five bytes.
        if record and (record[0] != _HANDSHAKE or (len(record) > 1 and record[1] != 3)):
            raise Blocked("not_tls", "the connection does not begin with TLS")
        if len(record) < 5:
            return None
        size = int.from_bytes(record[3:5], "big")
        if not 0 < size <= 16384:  # RFC 8446 section 5.1: at most 2^14 bytes, and no empty handshake record
            raise Blocked("not_tls", "the connection does not begin with TLS")
        return size

    def _message_size(self) -> int:
        return 4 + int.from_bytes(self._message[1:4], "big")

    def _hello(self) -> ClientHello:
        try:
            return _FieldReader(bytes(self._message[4 : self._message_size()])).hello()
        except (IndexError, UnicodeDecodeError) as failure:
            raise Blocked("not_tls", "the TLS ClientHello is not valid") from failure


class _FieldReader:
    """Reads the fields of a TLS structure in order; IndexError if one is not valid."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def hello(self) -> ClientHello:
        self._take(2 + 32)  # version, random
        self._vector(1)  # session id
        self._vector(2)  # cipher suites
        self._vector(1)  # compression methods
        extensions = _FieldReader(self._vector(2)) if self._at < len(self._data) else _FieldReader(b"")
        bodies: dict[int, bytes] = {}
        while extensions._at < len(extensions._data):
            kind = int.from_bytes(extensions._take(2), "big")
            body = extensions._vector(2)
            if kind in bodies:  # forbidden by RFC 8446 section 4.2: the proxy and the server could read different names
                raise IndexError
            bodies[kind] = body
        name = _FieldReader(bodies[_SERVER_NAME]).server_name() if _SERVER_NAME in bodies else ""
        return ClientHello(name=name, hidden=any(kind in bodies for kind in _ENCRYPTED_HELLO))

    def server_name(self) -> str:
        """The one host name of a server_name extension (RFC 6066 section 3: one name of each type, in ASCII)."""
        names = _FieldReader(self._vector(2))
        if self._at != len(self._data) or names._take(1) != b"\0":
            raise IndexError
        name = names._vector(2).decode("ascii")
        if names._at != len(names._data):  # a second name, which the server might prefer
            raise IndexError
        return name

    def _take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise IndexError
        self._at += size
        return self._data[self._at - size : self._at]

    def _vector(self, width: int) -> bytes:
        """A field with its length in front, in `width` bytes (RFC 8446 section 3.4)."""
        return self._take(int.from_bytes(self._take(width), "big"))
