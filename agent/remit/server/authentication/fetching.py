"""The HTTP client for identity providers: with limits, without redirects, and without the proxy settings of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

LARGEST: Final = 256 * 1024  # bytes of an answer
SECONDS: Final = 5.0
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
    import httpx  # noqa: PLC0415 - 5 MiB, and only identity providers are asked

    try:
        async with (
            httpx.AsyncClient(timeout=SECONDS, trust_env=False, follow_redirects=False) as client,
            client.stream(
                "GET" if form is None else "POST", url, data=form, headers={"accept": "application/json"}
            ) as got,
        ):
            if got.status_code != 200:
                raise ProviderFailed(f"it answers with status {got.status_code}")
            body = b""
            async for part in got.aiter_bytes():
                body += part
                if len(body) > LARGEST:
                    raise ProviderFailed(f"its answer is longer than {LARGEST} bytes")
            return body
    except (httpx.HTTPError, httpx.InvalidURL) as failure:
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
