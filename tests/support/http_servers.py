"""What the network's tests share: servers of our own on loopback, names that lead to them, and two ways to the proxy.

`Room` runs a tool in a real sandbox; `Gate` speaks to the proxy directly, as a hostile tool could, without waiting for one.
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
from remit.sandbox import Output, Profile, Sandbox
from remit.sandbox.egress import CallSession, Egress, Permit, ProxyListener
from remit.sandbox.egress.certificate_authority import CertificateAuthority
from remit.sandbox.egress.permissions import Network, parse_host
from remit.sandbox.warm import Bounds

LOOPBACK = ("127.0.0.0/8",)

_connects: list[tuple[str, int]] = []


@cache
def connects() -> list[tuple[str, int]]:
    """Every address that this process connects a socket to from the first call on: seen where the kernel is asked."""

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event == "socket.connect"
            and arguments[0].type & socket.SOCK_STREAM
            and arguments[0].family != socket.AF_UNIX
        ):
            _connects.append((str(arguments[1][0]), int(arguments[1][1])))

    sys.addaudithook(hear)
    return _connects


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One request as a server got it."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    name: str  # of the TLS hello, "" without TLS


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer; `raw` is sent as it is in place of one."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b"ok"
    raw: bytes | None = None


Answer = Callable[[Heard], Said]


@cache
def authority() -> CertificateAuthority:
    """The one that the servers of the tests are certified by."""
    return CertificateAuthority()


@cache
def trust() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority().certificate)


class Server:
    """An HTTP server on a loopback address, a thread a connection. `name`: it speaks TLS as the host of that name."""

    def __init__(
        self, answer: Answer | None = None, *, name: str = "", address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.heard: list[Heard] = []
        self.raw = bytearray()  # every byte that came, under TLS decrypted
        self.accepted = 0
        self._answer = answer or (lambda heard: Said())
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
        for one in tuple(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    @property
    def open(self) -> int:
        """Connections that are not closed."""
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
                self._talk(wrapped, names)
            self._open.discard(wrapped)
            wrapped.close()
        except OSError:
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def _talk(self, wire: socket.socket, names: list[str]) -> None:
        peer = h11.Connection(h11.SERVER)
        while True:
            request: h11.Request | None = None
            body = b""
            while True:
                event = peer.next_event()
                if event is h11.NEED_DATA:
                    data = wire.recv(65536)
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
            heard = Heard(
                method=request.method.decode(),
                target=request.target.decode(),
                headers=headers,
                body=body,
                name=names[-1] if names else "",
            )
            self.heard.append(heard)
            said = self._answer(heard)
            if said.raw is not None:
                wire.sendall(said.raw)
                return
            given = [*said.headers]
            if not any(key.lower() in ("content-length", "transfer-encoding") for key, _ in given):
                given.append(("content-length", str(len(said.body))))
            data = peer.send(h11.Response(status_code=said.status, headers=given)) or b""
            if heard.method != "HEAD":
                data += peer.send(h11.Data(data=said.body)) or b""
            wire.sendall(data + (peer.send(h11.EndOfMessage()) or b""))
            if peer.our_state is not h11.DONE:
                return
            peer.start_next_cycle()


@dataclass
class Names:
    """A resolver: each name's answers, one after another; the last one stays. Names that are not there do not resolve."""

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


def names(**of: str) -> Names:
    """`names(api="127.0.0.1")`: api.test leads there."""
    return Names({f"{name}.test": [[address]] for name, address in of.items()})


def network(*hosts: str, **more: Any) -> Network:
    """A network of these lines of `hosts`, on loopback."""
    return Network(hosts=tuple(map(parse_host, hosts)), **{"ranges": LOOPBACK, **more})


# -- without a sandbox -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Replied:
    """What came back on a raw connection."""

    data: bytes

    @property
    def status(self) -> int:
        return int(self.data.split(b" ", 2)[1]) if self.data.startswith(b"HTTP/1.") else 0

    @property
    def text(self) -> str:
        return self.data.partition(b"\r\n\r\n")[2].decode("utf-8", "replace").strip()


class Gate:
    """The proxy with a door on this machine's own loopback, and one call's ticket at it."""

    def __init__(self, egress: Egress, door: ProxyListener, call_session: CallSession, port: int) -> None:
        self.egress = egress
        self.door = door
        self.call_session = call_session
        self.port = port
        self.authorization = b"Basic " + base64.b64encode(f"call:{call_session.token}".encode())

    @property
    def connections(self) -> Sequence[Connection]:
        return self.call_session.ended

    def head(self, line: str | bytes, *fields: str | bytes, token: bool = True) -> bytes:
        """A request's head: its line, `Host` only where given, the token of the call."""
        lines = [line if isinstance(line, bytes) else line.encode("latin-1")]
        lines += [field if isinstance(field, bytes) else field.encode("latin-1") for field in fields]
        if token:
            lines.append(b"Proxy-Authorization: " + self.authorization)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    async def say(self, data: bytes, *, end: bool = True) -> Replied:
        """Send it and hear all that comes back. `end`: say that nothing follows."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            with suppress(ConnectionError):
                await writer.drain()
                if end:
                    writer.write_eof()
            heard = b""
            with suppress(ConnectionError):
                async with asyncio.timeout(20):
                    heard = await reader.read()
            return Replied(data=heard)
        finally:
            writer.close()

    async def get(self, url: str, *fields: str) -> Replied:
        """A plain GET through the proxy, of a well-formed URL."""
        host = url.split("://", 1)[1].partition("/")[0]
        return await self.say(self.head(f"GET {url} HTTP/1.1", f"Host: {host}", "Connection: close", *fields))

    async def tunnel(self, place: str) -> tuple[Replied, socket.socket | None]:
        """CONNECT: the answer, and the blocking socket where it stands."""

        def connect() -> tuple[Replied, socket.socket | None]:
            wire = socket.create_connection(("127.0.0.1", self.port), 20)
            wire.sendall(self.head(f"CONNECT {place} HTTP/1.1", f"Host: {place}"))
            data = b""
            while b"\r\n\r\n" not in data and (more := wire.recv(65536)):
                data += more
            if Replied(data=data).status != 200:
                while more := wire.recv(65536):
                    data += more
                wire.close()
                return Replied(data=data), None
            return Replied(data=data), wire

        return await asyncio.to_thread(connect)

    async def secure(
        self, place: str, data: bytes, *, name: str | None = None, context: ssl.SSLContext | None = None
    ) -> Replied:
        """CONNECT, TLS as to `name`, and what comes back for `data`. The proxy's own authority is trusted."""
        replied, wire = await self.tunnel(place)
        if wire is None:
            return replied
        trusting = context or ssl.create_default_context(cadata=self.egress.authority.certificate)

        def talk(wire: socket.socket) -> Replied:
            heard = b""
            hostname = name or place.partition(":")[0]
            with wire, suppress(OSError), trusting.wrap_socket(wire, server_hostname=hostname) as inner:
                inner.sendall(data)
                while more := inner.recv(65536):
                    heard += more
            return Replied(data=heard)

        return await asyncio.to_thread(talk, wire)


@asynccontextmanager
async def gate(
    network: Network, resolver: Names, permit: Permit | None = None, *, idle: float = 20.0
) -> AsyncIterator[Gate]:
    """The proxy, until the end of the block; then nothing of the call is open any more."""
    egress = Egress(resolver=resolver, trust=trust(), idle=idle)
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = listener.getsockname()[1]
    door = egress.open(listener)
    call_session = door.admit(network, permit or Permit())
    try:
        yield Gate(egress, door, call_session, port)
    finally:
        await door.dismiss(call_session)
        await asyncio.to_thread(egress.close)


async def fuzz(count: int, *, seed: int) -> tuple[list[bytes], list[str]]:
    """Mutants of a good request that the proxy passed on though a strict reader would not, and unexpected answers."""
    dice = random.Random(seed)
    passed: list[bytes] = []
    crashed: list[str] = []
    with Server() as server:
        place = f"api.test:{server.port}"
        for start in range(0, count, 200):
            async with gate(network(f"POST {place}/v1/a"), names(api="127.0.0.1"), idle=2) as proxy:
                good = proxy.head(f"POST http://{place}/v1/a HTTP/1.1", f"Host: {place}", "Content-Length: 3", "X: y")
                for _ in range(min(200, count - start)):
                    mutant = mutate(good + b"abc", dice)
                    before = len(server.heard)
                    reply = await proxy.say(mutant)
                    for heard in server.heard[before:]:
                        if (heard.method, heard.target, heard.headers.get("host")) != ("POST", "/v1/a", place):
                            passed.append(mutant)
                    if reply.data and reply.status not in (200, 400, 403, 407):
                        crashed.append(repr((mutant, reply.data)))
            crashed += [repr(one) for one in proxy.connections if one.verdict == "broken"]
    return passed, crashed


def mutate(data: bytes, dice: random.Random) -> bytes:
    """One to three small changes, mostly of what frames a message."""
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

RUNS = '''
"""Runs what the test says, so that one warm process serves all tests."""
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


class Confined:
    """A tool in a real sandbox that runs the Python it is told, and a proxy that knows the tests' names."""

    def __init__(self, base: Path) -> None:
        self.names = Names()
        self.egress = Egress(resolver=self.names, trust=trust(), idle=20)
        self.sandbox = Sandbox(egress=self.egress, bounds=Bounds(min_ready=1, max_tools=2))
        self._base = base
        self.bare = base / "bare"  # the same tool, for those that have no network and so no HTTP library
        for folder in ("tool", "work", "bare"):
            (base / folder).mkdir()
        (base / "tool" / "main.py").write_text(RUNS)
        (self.bare / "main.py").write_text(RUNS.replace("import httpx\n", ""))

    async def run(
        self,
        program: str,
        network: Network | None,
        permit: Permit | None = None,
        variables: Mapping[str, str] | None = None,
        **given: Any,
    ) -> Output:
        """What `result` is after that code ran in the sandbox."""
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
