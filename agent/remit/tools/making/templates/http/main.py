"""One typed function for each action, with its name. This file never imports remit.

The proxy of the sandbox adds the secret to each request; this code never has it.
"""

import ssl
from typing import Annotated, Any

import httpx
from pydantic import Field

BASE = "https://api.example.com/v1/items"
TRUST = ssl.create_default_context()  # made once, not in every call

Id = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$")]


class NotFound(Exception):
    """The service has no such item."""


class Rejected(Exception):
    """The service does not accept the request."""


class Unavailable(Exception):
    """The service does not answer now."""


def get(id: Id) -> dict[str, Any]:
    """Read one item."""
    return _request("GET", id)


def rename(id: Id, name: Annotated[str, Field(min_length=1, max_length=200)]) -> dict[str, Any]:
    """Give one item another name."""
    return _request("POST", id, {"name": name})


def _request(method: str, id: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        response = httpx.request(method, f"{BASE}/{id}", json=body, verify=TRUST, timeout=15)
    except httpx.TransportError as error:
        raise Unavailable(str(error)) from error
    if response.status_code == 404:
        raise NotFound(f"there is no item {id!r}")
    if response.status_code == 429 or response.status_code >= 500:
        raise Unavailable(f"status {response.status_code}")
    if response.is_error:
        raise Rejected(f"status {response.status_code}: {response.text[:500]}")
    answer: dict[str, Any] = response.json()
    return answer
