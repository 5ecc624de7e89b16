"""Support for the network tests: servers on loopback, a resolver with names for them, and two ways to reach the proxy.

`NetworkHarness` runs a tool in a real sandbox. `RunningProxy` sends bytes to the proxy directly, as a hostile tool could.
"""

from __future__ import annotations

import asyncio
import base64
import random
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

import h11

from remit.core.attempts import Connection
from remit.sandbox import Output, Profile, Sandbox, Tier
from remit.sandbox.egress import CallSession, Egress, Permit, ProxyListener
from remit.sandbox.egress.certificate_authority import CertificateAuthority
from remit.sandbox.egress.permissions import Network, parse_host
from remit.sandbox.warm import Bounds

LOOPBACK = ("127.0.0.0/8",)

_connects: list[tuple[str, int]] = []


@cache
def connects() -> list[tuple[str, int]]:
    """The address of every TCP connection that this process opens after the first call, from Python's audit events."""

    def observe(event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event == "socket.connect"
            and arguments[0].type & socket.SOCK_STREAM
            and arguments[0].family != socket.AF_UNIX
        ):
            _connects.append((str(arguments[1][0]), int(arguments[1][1])))

    sys.addaudithook(observe)
    return _connects


@dataclass(frozen=True, kw_only=True)
class ReceivedRequest:
    """One request as a server received it."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    name: str  # the server name of the ClientHello, "" without TLS


@dataclass(frozen=True, kw_only=True)
class Response:
    """A response. `raw`, if given, is sent as it is instead."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b"ok"
    raw: bytes | None = None


Answer = Callable[[ReceivedRequest], Response]


@cache
def authority() -> CertificateAuthority:
    """The authority that signs the certificates of the test servers."""
    return CertificateAuthority()


@cache
def trust() -> ssl.SSLContext:
    """TLS settings that accept the certificates of the test servers."""
    return ssl.create_default_context(cadata=authority().certificate)


class Server:
    """An HTTP server on a loopback address, with a thread for each connection. `name`: it uses TLS as the host `name`."""

    def __init__(
        self, answer: Answer | None = None, *, name: str = "", address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.requests: list[ReceivedRequest] = []
        self.raw = bytearray()  # every byte that arrived, after decryption
        self.accepted = 0
        self._answer = answer or (lambda _: Response())
        self._context = authority().context(name) if name else None
        self._listener = socket.create_server((address, port))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def open(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.accepted += 1
                self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        names: list[str] = []
        try:
            if self._context is not None:
                self._context.sni_callback = lambda _, name, __: names.append(name or "")
                wrapped: socket.socket = self._context.wrap_socket(connection, server_side=True)
            else:
                wrapped = connection
            self._open.add(wrapped)
            with suppress(OSError, h11.RemoteProtocolError, h11.LocalProtocolError):
                self._exchange(wrapped, names)
            self._open.discard(wrapped)
            wrapped.close()
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def _exchange(self, connection: socket.socket, names: list[str]) -> None:
        peer = h11.Connection(h11.SERVER)
        while True:
            request: h11.Request | None = None
            body = b""
            while True:
                event = peer.next_event()
                if event is h11.NEED_DATA:
                    data = connection.recv(65536)
                    self.raw += data
                    peer.receive_data(data)
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    break
                else:
                    return
            assert request is not None
            headers = {key.decode(): value.decode("latin-1") for key, value in request.headers}
            received = ReceivedRequest(
                method=request.method.decode(),
                target=request.target.decode(),
                headers=headers,
                body=body,
                name=names[-1] if names else "",
            )
            self.requests.append(received)
            response = self._answer(received)
            if response.raw is not None:
                connection.sendall(response.raw)
                return
            given = [*response.headers]
            if not any(key.lower() in ("content-length", "transfer-encoding") for key, _ in given):
                given.append(("content-length", str(len(response.body))))
            data = peer.send(h11.Response(status_code=response.status, headers=given)) or b""
            if received.method != "HEAD":
                data += peer.send(h11.Data(data=response.body)) or b""
            connection.sendall(data + (peer.send(h11.EndOfMessage()) or b""))
            if peer.our_state is not h11.DONE:
                return
            peer.start_next_cycle()


@dataclass
class FakeResolver:
    """A resolver with fixed answers.

    `answers`: for each name, its answers in turn; the last one is repeated. `otherwise`: the answer for every other name;
    empty: it does not resolve. `asked`: the names that were looked up.
    """

    answers: dict[str, list[Sequence[str]]] = field(default_factory=dict[str, list[Sequence[str]]])
    otherwise: Sequence[str] = ()
    asked: list[str] = field(default_factory=list[str])

    async def resolve(self, name: str, port: int) -> Sequence[str]:
        self.asked.append(name)
        left = self.answers.get(name)
        if left is None:
            if not self.otherwise:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return self.otherwise
        return left.pop(0) if len(left) > 1 else left[0]


def names(**of: str) -> FakeResolver:
    """A resolver with one answer for each name: in `names(api="127.0.0.1")`, api.test has that address."""
    return FakeResolver({f"{name}.test": [[address]] for name, address in of.items()})


def network(*hosts: str, **more: Any) -> Network:
    """A network of these lines of `hosts`, which may dial loopback addresses."""
    return Network(hosts=tuple(map(parse_host, hosts)), **{"ranges": LOOPBACK, **more})


# -- without a sandbox -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RawResponse:
    """The bytes that came back on a connection."""

    data: bytes

    @property
    def status(self) -> int:
        return int(self.data.split(b" ", 2)[1]) if self.data.startswith(b"HTTP/1.") else 0

    @property
    def text(self) -> str:
        return self.data.partition(b"\r\n\r\n")[2].decode("utf-8", "replace").strip()


class RunningProxy:
    """The proxy with a listener on this machine's loopback, and the session of one call."""

    def __init__(self, egress: Egress, listener: ProxyListener, call_session: CallSession, port: int) -> None:
        self.egress = egress
        self.listener = listener
        self.call_session = call_session
        self.port = port
        self.authorization = b"Basic " + base64.b64encode(f"call:{call_session.token}".encode())

    @property
    def connections(self) -> Sequence[Connection]:
        return self.call_session.ended

    def head(self, line: str | bytes, *fields: str | bytes, token: bool = True) -> bytes:
        """The head of a request: its line, `fields` and the token of the call. No Host unless given."""
        lines = [line if isinstance(line, bytes) else line.encode("latin-1")]
        lines += [field if isinstance(field, bytes) else field.encode("latin-1") for field in fields]
        if token:
            lines.append(b"Proxy-Authorization: " + self.authorization)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    async def send(self, data: bytes, *, end: bool = True) -> RawResponse:
        """Send `data` and return all that comes back. `end`: close the sending side after it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            with suppress(ConnectionError):
                await writer.drain()
                if end:
                    writer.write_eof()
            received = b""
            with suppress(ConnectionError):
                async with asyncio.timeout(20):
                    received = await reader.read()
            return RawResponse(data=received)
        finally:
            writer.close()

    async def get(self, url: str, *fields: str) -> RawResponse:
        """A plain GET of a well-formed URL, through the proxy."""
        host = url.split("://", 1)[1].partition("/")[0]
        return await self.send(self.head(f"GET {url} HTTP/1.1", f"Host: {host}", "Connection: close", *fields))

    async def tunnel(self, place: str) -> tuple[RawResponse, socket.socket | None]:
        """CONNECT: the response, and a blocking socket if the tunnel was established."""

        def connect() -> tuple[RawResponse, socket.socket | None]:
            connection = socket.create_connection(("127.0.0.1", self.port), 20)
            connection.sendall(self.head(f"CONNECT {place} HTTP/1.1", f"Host: {place}"))
            data = b""
            while b"\r\n\r\n" not in data and (more := connection.recv(65536)):
                data += more
            if RawResponse(data=data).status != 200:
                while more := connection.recv(65536):
                    data += more
                connection.close()
                return RawResponse(data=data), None
            return RawResponse(data=data), connection

        return await asyncio.to_thread(connect)

    async def secure(
        self, place: str, data: bytes, *, name: str | None = None, context: ssl.SSLContext | None = None
    ) -> RawResponse:
        """CONNECT, TLS with the server name `name`, and the response to `data`. Trusts the proxy's own authority."""
        response, connection = await self.tunnel(place)
        if connection is None:
            return response
        trusting = context or ssl.create_default_context(cadata=self.egress.authority.certificate)

        def exchange(connection: socket.socket) -> RawResponse:
            received = b""
            hostname = name or place.partition(":")[0]
            with connection, suppress(OSError), trusting.wrap_socket(connection, server_hostname=hostname) as inner:
                inner.sendall(data)
                while more := inner.recv(65536):
                    received += more
            return RawResponse(data=received)

        return await asyncio.to_thread(exchange, connection)


@asynccontextmanager
async def running_proxy(
    network: Network, resolver: FakeResolver, permit: Permit | None = None, *, idle: float = 20.0
) -> AsyncIterator[RunningProxy]:
    """The proxy, until the end of the block. Then every connection of the call is closed."""
    egress = Egress(resolver=resolver, trust=trust(), idle=idle)
    server = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = server.getsockname()[1]
    listener = egress.open(server)
    call_session = listener.admit(network, permit or Permit())
    try:
        yield RunningProxy(egress, listener, call_session, port)
    finally:
        await listener.dismiss(call_session)
        await asyncio.to_thread(egress.close)


async def fuzz(count: int, *, seed: int) -> tuple[list[bytes], list[str]]:
    """Send mutants of a valid request. Returns those that were forwarded as another request, and unexpected responses."""
    dice = random.Random(seed)
    passed: list[bytes] = []
    crashed: list[str] = []
    with Server() as server:
        place = f"api.test:{server.port}"
        for start in range(0, count, 200):
            async with running_proxy(network(f"POST {place}/v1/a"), names(api="127.0.0.1"), idle=2) as proxy:
                good = proxy.head(f"POST http://{place}/v1/a HTTP/1.1", f"Host: {place}", "Content-Length: 3", "X: y")
                for _ in range(min(200, count - start)):
                    mutant = mutate(good + b"abc", dice)
                    before = len(server.requests)
                    reply = await proxy.send(mutant)
                    for received in server.requests[before:]:
                        if (received.method, received.target, received.headers.get("host")) != ("POST", "/v1/a", place):
                            passed.append(mutant)
                    if reply.data and reply.status not in (200, 400, 403, 407):
                        crashed.append(repr((mutant, reply.data)))
            crashed += [repr(entry) for entry in proxy.connections if entry.verdict == "broken"]
    return passed, crashed


def mutate(data: bytes, dice: random.Random) -> bytes:
    """One to three small changes, mostly to the framing of a message."""
    tokens = (b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n ", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 9\r\n", b"Host: x\r\n", b"\xff", b"@127.0.0.1", b"//", b"%2e", b"..")  # fmt: skip
    for _ in range(dice.randrange(1, 4)):
        data = data or b"\r\n"
        at = dice.randrange(len(data))
        match dice.randrange(4):
            case 0:
                data = data[:at] + dice.choice(tokens) + data[at:]
            case 1:
                data = data[:at] + data[at + dice.randrange(1, 8) :]
            case 2:
                data = data[:at] + bytes([dice.randrange(256)]) + data[at + 1 :]
            case _:
                data = data[: max(1, at)]
    return data


# -- in a sandbox ------------------------------------------------------------------------------------------------------

PROGRAM = '''
"""Runs the code of the test, so that one warm process serves all tests."""
import base64, errno, json, os, socket, ssl, struct
from typing import Any
import httpx

def tried(attempt):
    try:
        return {"reached": repr(attempt())}
    except OSError as failure:
        return {"held": errno.errorcode.get(failure.errno, str(failure))}

def act(code: str) -> Any:
    space = dict(globals())
    exec(code, space)
    return space["result"]
'''


class NetworkHarness:
    """A tool in a real sandbox that runs the Python code of a test, and a proxy that resolves the names of the tests."""

    def __init__(self, base: Path, tier: Tier = "full") -> None:
        self.tier = tier
        self.names = FakeResolver()
        self.egress = Egress(resolver=self.names, trust=trust(), idle=20)
        self.sandbox = Sandbox(accept=(tier,), egress=self.egress, bounds=Bounds(min_ready=1, max_tools=2))
        self._base = base
        self.bare = base / "bare"  # the same tool without network and HTTP library
        for folder in ("tool", "work", "bare"):
            (base / folder).mkdir()
        (base / "tool" / "main.py").write_text(PROGRAM)
        (self.bare / "main.py").write_text(PROGRAM.replace("import httpx\n", ""))

    async def run(
        self,
        program: str,
        network: Network | None,
        permit: Permit | None = None,
        variables: Mapping[str, str] | None = None,
        **given: Any,
    ) -> Output:
        """The value of `result` after `program` ran in the sandbox."""
        profile = Profile(
            **{
                "tool": "tool",
                "action": "act",
                "source": "python",
                "code": self._base / "tool",
                "root": self._base / "work",
                "wall": 20.0,
                "cpu": 10.0,
                "network": network,
                **given,
            }
        )
        return await self.sandbox.run(profile, {"code": program}, declared={}, permit=permit, variables=variables)
