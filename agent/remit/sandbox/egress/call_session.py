"""The state of one call at the proxy: what it may reach, what it has used of its limits, and a record of its requests.

The session, not the connection, is the unit of permission. A sandbox that stays warm serves many calls, each with its
own decision; so every connection proves which call it belongs to, by a token and by its source address.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from remit.core import AddressClass, Connection, EgressVerdict, NetworkLimit, ReachedLimit
from remit.guardrails import spellings
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.exchanges.answers import Answers
from remit.sandbox.egress.exchanges.log import ExchangeLog
from remit.sandbox.egress.permissions import Network
from remit.sandbox.egress.response_scrubber import Scrubber

MOST_REQUESTS: Final = 256  # per call; also the size of its record
MOST_AT_ONCE: Final = 32  # open connections per call
IDLE_SECONDS: Final = 30.0

Decide: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, kw_only=True)
class Permit:
    """What the proxy needs for one call, besides its `Network`.

    `values`: the values of its secrets, by name. `decide`: True if a URL that the decision did not name may be
    requested; it is called on the call's own event loop, and None allows no such URL. `key`: the call's idempotency
    key. `exchanges`: the answers of a test case, which come in place of the network; or a log of what the network answers.
    """

    values: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    decide: Decide | None = None
    key: str = ""
    exchanges: Answers | ExchangeLog | None = None


class SessionEntry:
    """Collects what happens to one request; `end` writes it to the record as a `Connection`."""

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
        """Note why the request was refused; the first reason stays."""
        if self.verdict == "allowed":
            self.verdict, self.why = blocked.verdict, blocked.why
            self.address = blocked.kind or self.address

    def drop(self) -> None:
        """Leave this entry out of the record."""
        self._ended = None

    def end(self) -> None:
        """Write the entry to the record, once."""
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


def proxy_variables(network: Network, token: str, port: int) -> dict[str, str]:
    """The variables by which HTTP libraries find the proxy, and the placeholders of the secrets."""
    proxy = f"http://call:{token}@127.0.0.1:{port}"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    # Libraries disagree on the case of these names, so both are set. An empty NO_PROXY overrides one that is inherited.
    variables = {name: proxy for upper in names for name in (upper, upper.lower())}
    variables |= {"NO_PROXY": "", "no_proxy": ""}
    return variables | {item.env: f"remit-secret-{item.secret}" for item in network.credentials if item.env}


class CallSession:
    """One call at the proxy. Everything except `environment` is used on the proxy's event loop only."""

    def __init__(
        self,
        network: Network,
        permit: Permit,
        port: int,
        idle: float,
        loop: asyncio.AbstractEventLoop,
        source: str = "",
    ) -> None:
        self.source = source  # the address of the call's connections, "" if its sandbox serves no other call
        self.token = secrets.token_hex(16)
        self.users = 1  # calls that share the session
        self.network = network
        self.answers = permit.exchanges if isinstance(permit.exchanges, Answers) else None
        self.log = permit.exchanges if isinstance(permit.exchanges, ExchangeLog) else None
        self.idle = idle
        self.tasks: set[asyncio.Task[None]] = set()
        self.scrubber: Scrubber | None = None
        self.limit: ReachedLimit | None = None  # the first limit that the call reached
        self._permit = permit
        self._port = port
        self._loop = loop
        self._begun = 0
        self._sent = self._received = 0
        self._ended: list[Connection] = []
        self._taken = 0  # of them
        self._decided: dict[str, bool] = {}
        used = [(item, permit.values[item.secret]) for item in network.credentials if item.secret in permit.values]
        if used:
            # The rendered header too: a server that echoes headers returns "Basic " + base64, which does not contain
            # the value.
            known = {
                needle
                for credential, value in used
                for text in (value, credential.render(value))
                for needle in spellings(text)
            }
            self.scrubber = Scrubber(known)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which HTTP libraries find the proxy, and the placeholders of the tool's secrets."""
        return proxy_variables(self.network, self.token, self._port)

    def accepts(self, address: str) -> bool:
        """True if a connection from `address` belongs to this call.

        The token alone is not enough: a call that learns the token of another one could use it. The source address is
        chosen by the supervisor, not by the tool.
        """
        return self.source in ("", address)

    # ── what the call may do ─────────────────────────────────────────────────────────────────────────────────────────

    async def check(self, scheme: str, name: str, port: int, method: str, path: str, url: str) -> None:
        """Check one request.

        Raises:
            Blocked: `not_decided`.
        """
        if self.network.allows(scheme, name, port, method, path):
            return
        if self.network.may_ask(name, port, method) and self._permit.decide is not None and await self._decide(url):
            return
        what = f"{method} of that URL at {name!r}" if self.network.knows(name, port) else f"the host {name!r}"
        raise Blocked("not_decided", f"{what} is not allowed for this call")

    def may_tunnel(self, name: str, port: int) -> None:
        """Check a CONNECT: some request to that host must be possible. Each request inside is checked again.

        Raises:
            Blocked: `not_decided`.
        """
        may_be_decided = self._permit.decide is not None and any(
            line.covers(name, port) for line in self.network.at_most
        )
        if not may_be_decided and not self.network.knows(name, port):
            raise Blocked("not_decided", f"the host {name!r} is not allowed for this call")

    def opaque(self, name: str, port: int) -> bool:
        """True if TLS to that host passes through unopened. A test case answers requests, and a log keeps them: both need it opened."""
        return self._permit.exchanges is None and self.network.opaque(name, port)

    async def _decide(self, url: str) -> bool:
        """Ask the broker about a URL, once per call; the answer may not change while the call runs."""
        decide = self._permit.decide
        assert decide is not None
        if url not in self._decided:

            async def ask() -> bool:
                return decide(url)

            self._decided[url] = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(), self._loop))
        return self._decided[url]

    def headers(self, scheme: str, name: str, port: int) -> list[tuple[bytes, bytes]]:
        """The headers that the proxy adds to a request: the call's idempotency key and the secrets of that host."""
        added: list[tuple[bytes, bytes]] = []
        if self.network.key_header and self._permit.key:
            added.append((self.network.key_header.encode(), self._permit.key.encode()))
        # INVARIANT: a secret leaves only under TLS, to the one host of its credential. Plain HTTP would show it.
        if scheme == "https":
            added += [
                (item.header.encode(), item.render(self._permit.values[item.secret]).encode())
                for item in self.network.credentials_at(name, port)
            ]
        # A response that echoes a secret is scrubbed, and one in an unknown compression is refused. So ask for none.
        if self.scrubber is not None or self.log is not None:
            added.append((b"accept-encoding", b"identity"))
        return added

    def unsent(self, scheme: str, name: str, port: int) -> str:
        """Why a secret for a host of that name is not sent with a request; "" if none is missing."""
        for item in self.network.credentials:
            if item.name == name and item.port != port:
                return f"secret {item.secret!r} was not sent: it is for port {item.port} of that host"
            if (item.name, item.port) == (name, port) and scheme != "https":
                return f"secret {item.secret!r} was not sent: this is plain HTTP, and a secret is sent only under TLS"
        return ""

    def refused_secret(self, name: str, port: int) -> str:
        """What the tool's author may look for after a 401 or 403: which secrets were sent, and where the others belong."""
        if sent := self.network.credentials_at(name, port):
            return "; ".join(f"secret {item.secret!r} was sent, as {item.header}" for item in sent)
        return "; ".join(
            f"secret {item.secret!r} was not sent: it is for {item.name}:{item.port}"
            for item in self.network.credentials
        )

    # ── what the call has used ───────────────────────────────────────────────────────────────────────────────────────

    def spend_sent(self, size: int, entry: SessionEntry) -> None:
        """Count `size` bytes before they are sent. Raises Blocked `quota` over the limit."""
        self._sent += size
        entry.sent += size
        if self._sent > self.network.sent:
            raise self.over("sent", self.network.sent, self._sent, "bytes")

    def spend_received(self, size: int, entry: SessionEntry | None) -> None:
        """Count `size` bytes before the tool gets them. Raises Blocked `quota` over the limit."""
        self._received += size
        if entry is not None:
            entry.received += size
        if self._received > self.network.received:
            raise self.over("received", self.network.received, self._received, "bytes")

    @property
    def left_to_send(self) -> int:
        return max(0, self.network.sent - self._sent)

    def over(self, name: NetworkLimit, most: int, used: int, unit: Literal["bytes", "count"]) -> Blocked:
        """The refusal for a limit that the call has reached; `limit` keeps the first one."""
        self.limit = self.limit or ReachedLimit(name=name, most=most, used=used, unit=unit)
        what = "bytes " if unit == "bytes" else ""
        return Blocked("quota", f"the call is over its limit of {most} {what}{name}")

    def join(self, task: asyncio.Task[None]) -> None:
        """Add a connection, served by `task`. Raises Blocked `quota` if the call has too many open."""
        if len(self.tasks) >= MOST_AT_ONCE:
            raise self.over("connections", MOST_AT_ONCE, len(self.tasks) + 1, "count")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def begin(self, scheme: Literal["http", "https"], host: str, port: int) -> SessionEntry:
        """Begin the entry of a request. Raises Blocked `quota` if the call has made too many."""
        self._begun += 1
        entry = SessionEntry(scheme, host, port, self._ended.append)
        if self._begun > MOST_REQUESTS:
            blocked = self.over("requests", MOST_REQUESTS, self._begun, "count")
            if self._begun == MOST_REQUESTS + 1:  # the record shows the first refusal only, so that its size is bounded
                entry.block(blocked)
                entry.end()
            raise blocked
        return entry

    @property
    def ended(self) -> Sequence[Connection]:
        """The record so far."""
        return tuple(self._ended)

    def take_ended(self) -> Sequence[Connection]:
        """The record since the last call of this method."""
        ended = self.ended[self._taken :]
        self._taken += len(ended)
        return ended

    async def finish(self) -> None:
        """Close every connection of the call."""
        tasks = tuple(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
