"""One call's way through the proxy: what it may reach, what it has used of its quotas, and what became of each request."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from remit.core import AddressClass, Connection, EgressVerdict, NetworkLimit, ReachedLimit
from remit.guardrails import spellings
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.permissions import Network
from remit.sandbox.egress.response_scrubber import Scrubber

MOST_REQUESTS: Final = 256  # of one call, and what its record holds
MOST_AT_ONCE: Final = 32  # connections of one call
IDLE_SECONDS: Final = 30.0

Decide: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, kw_only=True)
class Permit:
    """What a call brings to the proxy beside its `Network`.

    `values` are its secrets, by name. `decide` answers, on the call's own event loop, whether a URL may be asked that the
    decision did not name; None: it may not. `key` is its idempotency key.
    """

    values: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    decide: Decide | None = None
    key: str = ""


class SessionEntry:
    """What becomes of one request, until it is a `Connection`."""

    def __init__(
        self, scheme: Literal["http", "https"], host: str, port: int, ended: Callable[[Connection], None]
    ) -> None:
        self.scheme: Literal["http", "https"] = scheme
        self.host = host
        self.port = port
        self.address: AddressClass | None = None
        self.method = self.path = self.why = ""
        self.status: int | None = None
        self.sent = self.received = 0
        self.verdict: EgressVerdict = "allowed"
        self._ended: Callable[[Connection], None] | None = ended

    def block(self, blocked: Blocked) -> None:
        if self.verdict == "allowed":
            self.verdict, self.why = blocked.verdict, blocked.why
            self.address = blocked.kind or self.address

    def drop(self) -> None:
        """It is not noted."""
        self._ended = None

    def end(self) -> None:
        """Note it, once."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(
                Connection(
                    scheme=self.scheme,
                    host=self.host,
                    port=self.port,
                    address=self.address,
                    method=self.method,
                    path=self.path,
                    status=self.status,
                    sent=self.sent,
                    received=self.received,
                    verdict=self.verdict,
                    why=self.why,
                )
            )


class CallSession:
    """One call at the proxy. All of it but `environment` belongs to the proxy's own event loop."""

    def __init__(
        self,
        network: Network,
        permit: Permit,
        port: int,
        idle: float,
        loop: asyncio.AbstractEventLoop,
        source: str = "",
    ) -> None:
        self.source = source  # the address that its call's connections come from, "" where its sandbox serves no other
        self.token = secrets.token_hex(16)
        self.network = network
        self.idle = idle
        self.tasks: set[asyncio.Task[None]] = set()
        self.scrubber: Scrubber | None = None
        self.limit: ReachedLimit | None = None  # the one that it hit
        self._permit = permit
        self._port = port
        self._loop = loop
        self._begun = 0
        self._sent = self._received = 0
        self._ended: list[Connection] = []
        self._decided: dict[str, bool] = {}
        used = [(one, permit.values[one.secret]) for one in network.credentials if one.secret in permit.values]
        if used:
            known = {needle for one, value in used for text in (value, one.render(value)) for needle in spellings(text)}
            self.scrubber = Scrubber(known)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which any HTTP library finds the proxy, and the stand-ins of the tool's secrets."""
        proxy = f"http://call:{self.token}@127.0.0.1:{self._port}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        found = {name: proxy for upper in names for name in (upper, upper.lower())} | {"NO_PROXY": "", "no_proxy": ""}
        return found | {one.env: f"remit-secret-{one.secret}" for one in self.network.credentials if one.env}

    def is_of(self, address: str) -> bool:
        """Whether a connection from there is its call's own: to know the token is not enough."""
        return self.source in ("", address)

    # ── what it may ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def check(self, scheme: str, name: str, port: int, method: str, path: str, url: str) -> None:
        """Raise Blocked `not_decided` unless the request may be made."""
        if self.network.allows(scheme, name, port, method, path):
            return
        if self.network.may_ask(name, port, method) and self._permit.decide is not None and await self._decide(url):
            return
        what = f"{method} of that URL at {name!r}" if self.network.knows(name, port) else f"the host {name!r}"
        raise Blocked("not_decided", f"{what} was not decided for this call")

    def may_tunnel(self, name: str, port: int) -> None:
        """Raise Blocked `not_decided` where no request to that host can be allowed."""
        proposed_calls = self._permit.decide is not None and any(
            line.covers(name, port) for line in self.network.at_most
        )
        if not proposed_calls and not self.network.knows(name, port):
            raise Blocked("not_decided", f"the host {name!r} was not decided for this call")

    async def _decide(self, url: str) -> bool:
        decide = self._permit.decide
        assert decide is not None
        if url not in self._decided:

            async def ask() -> bool:
                return decide(url)

            self._decided[url] = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(), self._loop))
        return self._decided[url]

    def headers(self, scheme: str, name: str, port: int) -> list[tuple[bytes, bytes]]:
        """What the proxy itself puts on a request: secrets at their own host, under TLS alone, and the call's key."""
        found: list[tuple[bytes, bytes]] = []
        if self.network.key_header and self._permit.key:
            found.append((self.network.key_header.encode(), self._permit.key.encode()))
        if scheme == "https":
            found += [
                (one.header.encode(), one.render(self._permit.values[one.secret]).encode())
                for one in self.network.credentials_at(name, port)
            ]
        if (
            self.scrubber is not None
        ):  # what cannot be looked into could carry a secret back, and so could single pieces
            found.append((b"accept-encoding", b"identity"))
        return found

    # ── what it has used ─────────────────────────────────────────────────────────────────────────────────────────────

    def spend_sent(self, size: int, entry: SessionEntry) -> None:
        self._sent += size
        entry.sent += size
        if self._sent > self.network.sent:
            raise self.over("sent", self.network.sent, self._sent, "bytes")

    def spend_received(self, size: int, entry: SessionEntry | None) -> None:
        self._received += size
        if entry is not None:
            entry.received += size
        if self._received > self.network.received:
            raise self.over("received", self.network.received, self._received, "bytes")

    @property
    def left_to_send(self) -> int:
        return max(0, self.network.sent - self._sent)

    def over(self, name: NetworkLimit, most: int, used: int, unit: Literal["bytes", "count"]) -> Blocked:
        """Note that the call hit one of its limits, the first of them, and refuse."""
        self.limit = self.limit or ReachedLimit(name=name, most=most, used=used, unit=unit)
        what = "bytes " if unit == "bytes" else ""
        return Blocked("quota", f"the call has more than its {most} {what}{name}")

    def join(self, task: asyncio.Task[None]) -> None:
        """Take a connection in. Raises Blocked `quota` where the call has too many at once."""
        if len(self.tasks) >= MOST_AT_ONCE:
            raise self.over("connections", MOST_AT_ONCE, len(self.tasks) + 1, "count")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def begin(self, scheme: Literal["http", "https"], host: str, port: int) -> SessionEntry:
        """Note that a request begins. Raises Blocked `quota` where there were too many."""
        self._begun += 1
        entry = SessionEntry(scheme, host, port, self._ended.append)
        if self._begun > MOST_REQUESTS:
            blocked = self.over("requests", MOST_REQUESTS, self._begun, "count")
            if self._begun == MOST_REQUESTS + 1:
                entry.block(blocked)
                entry.end()
            raise blocked
        return entry

    @property
    def ended(self) -> Sequence[Connection]:
        """What there was so far."""
        return tuple(self._ended)

    async def finish(self) -> Sequence[Connection]:
        """End what is still open, and tell what there was."""
        tasks = tuple(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return self.ended
