"""A client for one request, with bounds. INVARIANT: certificates are always checked, and no request waits or reads without a bound."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx
from httpx import (
    AsyncBaseTransport,
    AsyncByteStream,
    AsyncClient,
    ConnectTimeout,
    Request,
    Response,
    TimeoutException,
)

__all__ = [
    "AsyncBaseTransport",
    "AsyncByteStream",
    "AsyncClient",
    "ConnectTimeout",
    "Request",
    "Response",
    "TimeoutException",
]

MOST_REDIRECTS: Final = 5  # of a download
FAILURES: Final = (
    httpx.HTTPError,
    httpx.InvalidURL,
    OSError,
)  # of a request; a certificate that does not fit is among them


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one request may cost, in seconds: `connect` until the connection is made, `silence` between two parts of the answer.

    The caller bounds the time of the whole request, and what it reads: see `read_body`. With `environment`, the proxies and the
    authorities that environment variables name are used.
    """

    connect: float
    silence: float
    environment: bool = True


class TooLarge(Exception):
    """An answer is longer than it may be. The text says how long that is."""


def open_client(
    bounds: Bounds,
    *,
    headers: Mapping[str, str] | None = None,
    transport: AsyncBaseTransport | None = None,
    authorities: ssl.SSLContext | None = None,
    proxy: str | None = None,
    connections: int = 1,
) -> AsyncClient:
    """A client that follows no redirect: keys, forms and signed messages are for the address of the request only.

    `transport` replaces the network, for tests. `authorities` are those of `trusted_authorities`; None: they are read now.
    `proxy` is the URL of the only way out, with its password; `connections` is how many may be open at once.
    """
    return AsyncClient(
        headers=headers,
        timeout=httpx.Timeout(bounds.silence, connect=bounds.connect),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        follow_redirects=False,
        trust_env=bounds.environment,
        verify=authorities or True,
        transport=transport,
        proxy=proxy,
    )


def trusted_authorities() -> ssl.SSLContext:
    """The authorities that sign certificates, read once for many requests: that takes some 20 ms."""
    return httpx.create_ssl_context()


async def read_body(answer: Response, most: int) -> bytes:
    """The whole body of an answer. Raises TooLarge for more than `most` bytes, of which no more than that is kept."""
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > most:
            raise TooLarge(f"{most} bytes")
    return bytes(body)


def download(url: str, *, most: int, seconds: float) -> bytes:
    """The body at an address without a secret. Redirects are followed: the caller checks the bytes by their digest.

    `seconds` bounds the connection, and the time between two parts. Raises an error of `FAILURES`, or TooLarge.
    """
    data = bytearray()
    with (
        httpx.Client(timeout=seconds, follow_redirects=True, max_redirects=MOST_REDIRECTS) as client,
        client.stream("GET", url) as answer,
    ):
        answer.raise_for_status()
        for part in answer.iter_bytes():
            data += part
            if len(data) > most:
                raise TooLarge(f"{most} bytes")
    return bytes(data)
