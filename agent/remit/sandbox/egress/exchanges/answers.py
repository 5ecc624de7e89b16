"""The answers of a test case: the proxy gives them to a tool in place of the network.

A request is parsed, decided, counted and given its secrets as ever; then the first row that fits it answers. Nothing is
resolved or dialled, so a request without a row is an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from remit.core import AddressClass
from remit.core.parsing import DEFAULT_PORT, Url
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.permissions import Host, NetworkError, parse_host
from remit.sandbox.egress.responses import reason_of

NetworkFailure: TypeAlias = Literal["not_resolved", "unreachable", "bad_certificate", "bad_answer", "idle", "broken"]

EXAMPLE: Final = '"GET https://api.example.com/items/*"'
MOST_UNANSWERED: Final = 20  # requests without a row that are kept by name
_REQUEST: Final = re.compile(r"([A-Z]{3,7}) (https?)://([^\s/?#:]+)(?::([1-9][0-9]{0,4}))?(/[^\s?#]*)(?:\?([^\s#]*))?")
_ANY: Final = "*"


@dataclass(frozen=True, kw_only=True)
class RequestPattern:
    """The requests that a row answers. `query` None: any query; else its pairs in any order, where `*` is any value."""

    text: str
    scheme: str
    host: Host
    query: tuple[tuple[str, str], ...] | None

    def covers(self, method: str, url: Url) -> bool:
        """True if the row is about a request with this method and canonical URL."""
        parts = urlsplit(url.address)
        port = parts.port or DEFAULT_PORT[parts.scheme]
        return (
            parts.scheme == self.scheme
            and self.host.covers(parts.hostname or "", port)
            and self.host.allows(method, parts.path)
            and (self.query is None or _same_query(self.query, parts.query))
        )


def parse_request(text: str) -> RequestPattern:
    """Read a method and the pattern of a URL, such as "GET https://api.example.com/items/*?page=1".

    Patterns of hosts and paths are those of a line of `hosts`. Raises NetworkError.
    """
    found = _REQUEST.fullmatch(text)
    if found is None:
        raise NetworkError(f"is {text!r}, which is not a method and a URL with a path", f"write {EXAMPLE}")
    method, scheme, name, port, path, query = found.groups()
    host = parse_host(f"{method} {name}:{port or DEFAULT_PORT[scheme]}{path}")
    pairs = None if query is None else tuple(sorted(parse_qsl(query, keep_blank_values=True)))
    return RequestPattern(text=text, scheme=scheme, host=host, query=pairs)


def _same_query(expected: Sequence[tuple[str, str]], query: str) -> bool:
    given = sorted(parse_qsl(query, keep_blank_values=True))
    if [name for name, _ in given] != [name for name, _ in expected]:
        return False
    return all(value in (_ANY, other) for (_, value), (_, other) in zip(expected, given, strict=True))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one row answers.

    `times`: how often, None for any number. `fails`: in place of a response, the failure of a network. `accepts`: True
    if the row is about a request with this body.
    """

    request: RequestPattern
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    times: int | None = None
    fails: NetworkFailure | None = None
    accepts: Callable[[bytes], bool] = lambda _: True

    def response(self, *, without_body: bool) -> bytes:
        """The response as a server sends it (RFC 9112), with one Content-Length."""
        lines = [b"HTTP/1.1 %d %s" % (self.status, reason_of(self.status))]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in self.headers]
        has_body = self.status >= 200 and self.status not in (204, 304)
        lines += [b"content-length: %d" % len(self.body)] if has_body else []
        return b"\r\n".join(lines) + b"\r\n\r\n" + (self.body if has_body and not without_body else b"")


@dataclass(kw_only=True)
class Answers:
    """The answers of one case, and what became of them. `unanswered`: the requests without a row."""

    rows: Sequence[Answer] = ()
    unanswered: list[str] = field(default_factory=list[str])
    _given: Counter[int] = field(default_factory=Counter[int])

    def connection(self, method: str, url: Url, body: bytes) -> AnsweredConnection:
        """A connection that the answer to this request arrives on.

        Raises:
            Blocked: no row answers it, or the row is the failure of a network.
        """
        for number, row in enumerate(self.rows):
            is_left = row.times is None or self._given[number] < row.times
            if is_left and row.request.covers(method, url) and row.accepts(body):
                self._given[number] += 1
                if row.fails is not None:
                    raise Blocked(row.fails, f"the case has this request fail: {row.fails}")
                return AnsweredConnection(row.response(without_body=method == "HEAD"))
        if len(self.unanswered) < MOST_UNANSWERED:
            self.unanswered.append(f"{method} {url.address}")
        raise Blocked("unreachable", f"no row of the case answers {method} {url.address}")

    @property
    def unused(self) -> Sequence[str]:
        """The rows that answered no request, or fewer than their `times`."""
        return tuple(row.request.text for number, row in enumerate(self.rows) if self._given[number] < (row.times or 1))


class AnsweredConnection:
    """In place of a connection to a server: takes what is sent, and has one response to read."""

    kind: AddressClass | None = None  # no address was dialled

    def __init__(self, response: bytes) -> None:
        self._response = response

    async def send(self, data: bytes) -> None:
        """The request was read before it was written for a server."""

    async def receive(self) -> bytes:
        response, self._response = self._response, b""
        return response

    def is_quiet(self) -> bool:
        return False  # one response only: the next request has a connection of its own

    def close(self) -> None:
        self._response = b""
