"""HTTP requests with httpx. Policy decides on the URL before a call starts; the proxy enforces the decision.

httpx finds the proxy by the usual variables.
"""

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import httpx
from pydantic import Field
from typing_extensions import TypedDict

LARGEST_TEXT = 64 * 1024  # bytes of a response that is returned, not saved
MOST_REDIRECTS = 5
TRUST = ssl.create_default_context()  # made once, not in every call

Headers = Annotated[dict[str, str], Field(max_length=50)]
Body = Annotated[str, Field(max_length=512 * 1024)]


class Unreachable(Exception):
    """There was no response. A request that changes something may have had its effect."""


class TooLarge(Exception):
    """The response is larger than a result may be."""


class BadHeader(Exception):
    """A header is not valid, or the caller may not set it."""


class Blocked(Exception):
    """The proxy refused the request."""


class Answer(TypedDict):
    url: str
    status: int
    headers: dict[str, str]
    text: str


class Saved(TypedDict):
    url: str
    status: int
    headers: dict[str, str]
    path: str
    bytes: int


def get(url: str, headers: Headers | None = None) -> Answer:
    """Get a URL; redirects are followed if policy allows them."""
    with _request("GET", url, headers, follow=True) as response:
        return _result(response, _read(response))


def download(url: str, path: str, headers: Headers | None = None) -> Saved:
    """Get a URL and save the response, with any status, as the file `path` below downloads/."""
    with _request("GET", url, headers, follow=True) as response, open(path, "wb") as file:
        size = sum(map(file.write, response.iter_bytes()))
        saved = _result(response, b"")
    return {"url": saved["url"], "status": saved["status"], "headers": saved["headers"], "path": path, "bytes": size}


def head(url: str, headers: Headers | None = None) -> Answer:
    """Get the headers of a URL."""
    with _request("HEAD", url, headers, follow=True) as response:
        return _result(response, b"")


def post(url: str, body: Body, content_type: str = "application/json", headers: Headers | None = None) -> Answer:
    """Post a text to a URL; a redirect is returned, not followed."""
    return _send("POST", url, body, content_type, headers)


def put(url: str, body: Body, content_type: str = "application/json", headers: Headers | None = None) -> Answer:
    """Put a text at a URL; a redirect is returned, not followed."""
    return _send("PUT", url, body, content_type, headers)


def delete(url: str, headers: Headers | None = None) -> Answer:
    """Delete the resource at a URL; a redirect is returned, not followed."""
    with _request("DELETE", url, headers) as response:
        return _result(response, _read(response))


def _send(method: str, url: str, body: str, content_type: str, headers: dict[str, str] | None) -> Answer:
    with _request(method, url, {"content-type": content_type, **(headers or {})}, body=body) as response:
        return _result(response, _read(response))


@contextmanager
def _request(
    method: str, url: str, headers: dict[str, str] | None, *, body: str | None = None, follow: bool = False
) -> Generator[httpx.Response]:
    """Send a request; the response, after redirects, with its body still to be read."""
    content = None if body is None else body.encode()
    with httpx.Client(verify=TRUST, timeout=None, follow_redirects=follow, max_redirects=MOST_REDIRECTS) as client:
        try:
            with client.stream(method, url, headers=headers, content=content) as response:
                if response.headers.get("proxy-status", "").startswith("remit;"):
                    _refused(response)
                yield response
        except httpx.ProxyError as error:
            raise Blocked(str(error)) from error
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError) as error:
            raise BadHeader(f"the request is not valid: {error}") from error
        except httpx.HTTPError as error:  # no timeout here: the broker ends the call at its time limit
            raise Unreachable(f"{type(error).__name__}: {error}") from error


def _refused(response: httpx.Response) -> None:
    text = response.read().decode(errors="replace").strip()
    if response.status_code in (502, 504):  # a failure of the network, not a refusal by policy
        raise Unreachable(text)
    raise Blocked(text)


def _read(response: httpx.Response) -> bytes:
    data = bytearray()
    for piece in response.iter_bytes():
        data += piece
        if len(data) > LARGEST_TEXT:
            raise TooLarge(f"the response has more than {LARGEST_TEXT} bytes; use http.download, or request less")
    return bytes(data)


def _result(response: httpx.Response, data: bytes) -> Answer:
    return {
        "url": str(response.url),
        "status": response.status_code,
        "headers": dict(response.headers),
        "text": data.decode(response.charset_encoding or "utf-8", errors="replace"),
    }
