"""An answer that is played to the adapter without a network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from remit.outgoing import AsyncBaseTransport, AsyncByteStream, Request, Response

_PIECE: Final = 40  # bytes that arrive together, as from a network


class Played(AsyncBaseTransport):
    """Answers each request with the same bytes, and keeps the bodies of the requests."""

    def __init__(self, status: int, body: bytes) -> None:
        self._status = status
        self._body = body
        self.requests: list[str] = []

    async def handle_async_request(self, request: Request) -> Response:
        """The answer, in pieces."""
        self.requests.append((await request.aread()).decode())
        return Response(self._status, stream=_Pieces(self._body))


class _Pieces(AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._body), _PIECE):
            yield self._body[at : at + _PIECE]
