"""One function for each operation of the service, with its name. This file never imports remit.

The proxy of the sandbox adds the secret to each request; this code never has it. Remit checks the arguments against the JSON
Schemas of the service before a function starts.
"""

import ssl
import urllib.parse
from typing import Annotated, Any

import httpx
from pydantic import WithJsonSchema

BASE = "https://api.example.com"
TRUST = ssl.create_default_context()  # made once, not in every call


class NotFound(Exception):
    """The service has no such thing."""


class Rejected(Exception):
    """The service does not accept the request."""


class Unavailable(Exception):
    """The service does not answer now."""


def example(id: Annotated[Any, WithJsonSchema({"type": "string"})]) -> Any:
    """Read one item."""
    return _request("GET", f"/items/{_part(id)}", {"tags": _joined(None)}, None)


def _part(value: str | int) -> str:
    """The value as one part of a path."""
    return urllib.parse.quote(str(value), safe="")


def _joined(value: Any) -> str | None:
    """The items of a list with commas between them."""
    return None if value is None else ",".join(map(str, value))


def _request(method: str, path: str, query: dict[str, Any], body: Any) -> Any:
    params = {name: value for name, value in query.items() if value is not None}
    try:
        response = httpx.request(method, BASE + path, params=params, json=body, verify=TRUST, timeout=15)
    except httpx.TransportError as error:
        raise Unavailable(str(error)) from error
    if response.status_code == 404:
        raise NotFound(f"there is nothing at {path}")
    if response.status_code == 429 or response.status_code >= 500:
        raise Unavailable(f"status {response.status_code}")
    if response.is_error:
        raise Rejected(f"status {response.status_code}: {response.text[:500]}")
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:  # the service answers with a text
        return response.text
