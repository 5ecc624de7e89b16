"""Keeps the requests of one call and their responses, so that a test case can be made of a real call.

A response is kept as the tool gets it: without the secrets of the proxy. Of a request, no header is kept: neither those
that the proxy adds nor a token that the tool sends itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from remit.core import EgressVerdict

LARGEST_KEPT: Final = 1 << 20  # bytes of one body


@dataclass(kw_only=True)
class Exchange:
    """One request and what came back.

    `url` has its query. `failure`: why there was no response, None if there was one. `whole`: False if the response is
    incomplete, or a body is larger than `LARGEST_KEPT`.
    """

    method: str
    url: str
    sent: bytes
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytearray = field(default_factory=bytearray)
    failure: EgressVerdict | None = None
    whole: bool = False
    _over: bool = False

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The response has begun."""
        self.status = status
        self.headers = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)

    def add(self, piece: bytes) -> None:
        """A part of the body has arrived."""
        self._over = self._over or len(self.body) + len(piece) > LARGEST_KEPT
        if not self._over:
            self.body += piece

    def end(self) -> None:
        """The response is complete."""
        self.whole = not self._over and len(self.sent) <= LARGEST_KEPT


@dataclass(kw_only=True)
class ExchangeLog:
    """The exchanges of one call, in the order of its requests."""

    exchanges: list[Exchange] = field(default_factory=list[Exchange])

    def begin(self, method: str, url: str, sent: bytes) -> Exchange:
        """A request that was allowed."""
        exchange = Exchange(method=method, url=url, sent=sent[: LARGEST_KEPT + 1])
        self.exchanges.append(exchange)
        return exchange
