"""Removes secrets from responses that echo them: in every known spelling, across chunks and inside compression."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import h11

from remit.sandbox.egress.errors import Blocked

_PIECE: Final = 256 << 10  # bytes that are decompressed at a time
_ZIPPED: Final = (b"gzip", b"x-gzip", b"deflate")
# Fields about the compressed body, which are wrong for the decompressed one.
_OF_COMPRESSED: Final = frozenset(
    (b"content-length", b"content-encoding", b"etag", b"content-md5", b"digest", b"content-digest")
)


class Scrubber:
    """Replaces each needle by asterisks of the same length, so that Content-Length stays right."""

    def __init__(self, needles: Iterable[str]) -> None:
        # The longest first: a needle may be the beginning of another.
        words = sorted({needle.encode() for needle in needles}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, words)))
        self._beginnings = {word[:size] for word in words for size in range(1, len(word))}
        self._longest = max(map(len, words)) - 1

    def clean(self, data: bytes) -> bytes:
        return self._pattern.sub(lambda match: b"*" * len(match[0]), data)

    def held(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of a needle. The caller keeps them until more data arrives."""
        sizes = range(min(self._longest, len(data)), 0, -1)
        return next((size for size in sizes if data[-size:] in self._beginnings), 0)


class Body:
    """The headers and the body of one response, scrubbed piece by piece. Without a scrubber they stay as they are.

    Raises:
        Blocked: `opaque_answer`: its encoding cannot be read, so a secret inside would not be found. `bad_answer`: it
            states its length in two ways (RFC 9112 section 6.3), or its compression is broken.
    """

    def __init__(self, response: h11.Response, scrubber: Scrubber | None) -> None:
        self.headers = [(bytes(key), bytes(value)) for key, value in response.headers]
        self._scrubber = scrubber
        self._inflate: Any = None  # zlib exports no type for it
        self._started = False
        self._tail = b""
        names = [key for key, _ in self.headers]
        if b"transfer-encoding" in names and b"content-length" in names:
            raise Blocked("bad_answer", "the response states its length in two ways")
        if scrubber is None:
            return
        codings = [value.strip().lower() for key, value in self.headers if key == b"content-encoding"]
        if codings and codings != [b"identity"]:
            if len(codings) != 1 or codings[0] not in _ZIPPED:
                raise Blocked("opaque_answer", "the response has an encoding that the proxy cannot read")
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # | 32: gzip or zlib, whichever the data is
            self.headers = [(key, value) for key, value in self.headers if key not in _OF_COMPRESSED]
        self.headers = [(key, scrubber.clean(value)) for key, value in self.headers]

    @property
    def inflates(self) -> bool:
        """True if the body is decompressed here."""
        return self._inflate is not None

    def take(self, data: bytes) -> Iterator[bytes]:
        """The parts of the body that can be passed on now."""
        if self._scrubber is None:
            yield data
            return
        for piece in self._pieces(data):
            yield self._clean(piece)

    def rest(self) -> bytes:
        """The bytes that were held back, once the body has ended."""
        if self._scrubber is None:
            return b""
        if self._inflate is not None and not self._inflate.eof and self._started:
            raise Blocked("bad_answer", "the compressed response is incomplete")
        tail, self._tail = self._tail, b""
        return self._scrubber.clean(tail)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            yield data
            return
        self._started = True
        try:
            while data:
                yield self._inflate.decompress(data, _PIECE)
                data = self._inflate.unconsumed_tail
                if self._inflate.eof:
                    return
        except zlib.error as failure:
            raise Blocked("bad_answer", "the compressed response is not valid") from failure

    def _clean(self, data: bytes) -> bytes:
        assert self._scrubber is not None
        data = self._scrubber.clean(self._tail + data)
        held = self._scrubber.held(data)
        self._tail = data[len(data) - held :] if held else b""
        return data[: len(data) - held] if held else data
