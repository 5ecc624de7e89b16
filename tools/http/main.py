"""HTTP by httpx. What a call may ask is decided before it starts and held by the proxy, which httpx finds by itself."""

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import httpx
from pydantic import Field
from typing_extensions import TypedDict

LARGEST_TEXT = 64 * 1024  # bytes of an answer that is returned and not saved
MOST_REDIRECTS = 5
TRUST = ssl.create_default_context()  # made once, not in every call

Headers = Annotated[dict[str, str], Field(max_length=50)]
Body = Annotated[str, Field(max_length=512 * 1024)]


class Unreachable(Exception):
    """No answer came; of a request that only asks, nothing happened."""


class TooLarge(Exception):
    """The answer is larger than a result may be."""


class BadHeader(Exception):
    """A header is none, or one that is not the caller's to set."""


class Blocked(Exception):
    """The proxy did not let the request through."""


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
    """Ask for a URL; redirects are followed where policy allows them."""
    with _asked("GET", url, headers, follow=True) as answer:
        return _told(answer, _read(answer))


def download(url: str, path: str, headers: Headers | None = None) -> Saved:
    """Ask for a URL and save the answer, whatever its status, as the file `path` below downloads/."""
    with _asked("GET", url, headers, follow=True) as answer, open(path, "wb") as file:
        size = sum(map(file.write, answer.iter_bytes()))
        told = _told(answer, b"")
    return {"url": told["url"], "status": told["status"], "headers": told["headers"], "path": path, "bytes": size}


def head(url: str, headers: Headers | None = None) -> Answer:
    """Ask for the headers of a URL."""
    with _asked("HEAD", url, headers, follow=True) as answer:
        return _told(answer, b"")


def post(url: str, body: Body, content_type: str = "application/json", headers: Headers | None = None) -> Answer:
    """Send a text to a URL; a redirect is an answer like any other."""
    return _sent("POST", url, body, content_type, headers)


def put(url: str, body: Body, content_type: str = "application/json", headers: Headers | None = None) -> Answer:
    """Put a text at a URL; a redirect is an answer like any other."""
    return _sent("PUT", url, body, content_type, headers)


def delete(url: str, headers: Headers | None = None) -> Answer:
    """Delete what is at a URL; a redirect is an answer like any other."""
    with _asked("DELETE", url, headers) as answer:
        return _told(answer, _read(answer))


def _sent(method: str, url: str, body: str, content_type: str, headers: dict[str, str] | None) -> Answer:
    with _asked(method, url, {"content-type": content_type, **(headers or {})}, body=body) as answer:
        return _told(answer, _read(answer))


@contextmanager
def _asked(
    method: str, url: str, headers: dict[str, str] | None, *, body: str | None = None, follow: bool = False
) -> Generator[httpx.Response]:
    """The answer, its body still to be read; the last one of a row of redirects."""
    content = None if body is None else body.encode()
    with httpx.Client(verify=TRUST, timeout=None, follow_redirects=follow, max_redirects=MOST_REDIRECTS) as client:
        try:
            with client.stream(method, url, headers=headers, content=content) as answer:
                if answer.headers.get("proxy-status", "").startswith("remit;"):
                    _refused(answer)
                yield answer
        except httpx.ProxyError as error:
            raise Blocked(str(error)) from error
        except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeEncodeError) as error:
            raise BadHeader(f"the request cannot be written: {error}") from error
        except httpx.HTTPError as error:  # the broker ends the call at its own limit: there is no timeout here
            raise Unreachable(f"{type(error).__name__}: {error}") from error


def _refused(answer: httpx.Response) -> None:
    text = answer.read().decode(errors="replace").strip()
    if answer.status_code in (502, 504):  # the network's fault, not policy's
        raise Unreachable(text)
    raise Blocked(text)


def _read(answer: httpx.Response) -> bytes:
    data = bytearray()
    for piece in answer.iter_bytes():
        data += piece
        if len(data) > LARGEST_TEXT:
            raise TooLarge(f"the answer has more than {LARGEST_TEXT} bytes: download it, or ask for less")
    return bytes(data)


def _told(answer: httpx.Response, data: bytes) -> Answer:
    return {
        "url": str(answer.url),
        "status": answer.status_code,
        "headers": dict(answer.headers),
        "text": data.decode(answer.charset_encoding or "utf-8", errors="replace"),
    }
