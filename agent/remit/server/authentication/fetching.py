"""Asks identity providers: with bounds, without redirects, and without the proxy settings of the environment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

import remit.outgoing

LARGEST: Final = 256 * 1024  # bytes of an answer
SECONDS: Final = 5.0  # until the connection is made, and between two parts of the answer
LONGEST_S: Final = 15.0  # for the whole request
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class ProviderFailed(Exception):
    """An identity provider does not answer as it must."""


class Fetch(Protocol):
    """Gets the body of an answer with status 200: of a GET, or of a POST if there is a form."""

    async def __call__(self, url: str, form: Mapping[str, str] | None = None) -> bytes:
        """Raises ProviderFailed."""
        ...


async def fetch(url: str, form: Mapping[str, str] | None = None) -> bytes:
    """The `Fetch` of the service."""
    bounds = remit.outgoing.Bounds(connect=SECONDS, silence=SECONDS, environment=False)
    try:
        async with (
            asyncio.timeout(LONGEST_S),
            remit.outgoing.open_client(bounds) as client,
            client.stream(
                "GET" if form is None else "POST", url, data=form, headers={"accept": "application/json"}
            ) as got,
        ):
            if got.status_code != 200:
                raise ProviderFailed(f"it answers with status {got.status_code}")
            return await remit.outgoing.read_body(got, LARGEST)
    except remit.outgoing.TooLarge as failure:
        raise ProviderFailed(f"its answer is longer than {failure}") from failure
    except remit.outgoing.FAILURES as failure:
        raise ProviderFailed(f"it does not answer: {type(failure).__name__}") from failure


def is_safe(url: object, issuer: str) -> bool:
    """True for an address of https, and on this machine for one of http if the issuer is on this machine too."""
    if not isinstance(url, str):
        return False
    try:
        parts, own = urlsplit(url), urlsplit(issuer)
    except ValueError:
        return False
    local = own.scheme == "http" and own.hostname in _LOOPBACK
    return parts.scheme == "https" or (local and parts.scheme == "http" and parts.hostname in _LOOPBACK)
