"""How the proxy reads tunnels, requests and responses: strictly, and with its own limits; and how it handles secrets."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import ssl
import zlib
from collections.abc import Sequence
from contextlib import suppress

import pytest

from adversarial.attack_list import abuse
from remit.guardrails.encodings import spellings
from remit.guardrails.redaction import Redactor
from remit.sandbox.egress import Permit
from remit.sandbox.egress.call_session import MOST_AT_ONCE, MOST_REQUESTS
from remit.sandbox.egress.client_hello import ClientHelloReader
from remit.sandbox.egress.errors import Blocked
from remit.sandbox.egress.permissions import Network, parse_credential
from remit.sandbox.egress.response_scrubber import Scrubber
from support.http_servers import FakeResolver, Response, Server, authority, fuzz, names, network, running_proxy, trust

# -- tunnels -----------------------------------------------------------------------------------------------------------


async def test_a_tunnel_passes_through_unopened_to_the_host_of_its_client_hello() -> None:
    """The allowed counterpart of 79 and 80: the tool sees the server's own certificate."""
    with Server(lambda _: Response(body=b"hello"), name="api.test") as server:
        place = f"api.test:{server.port}"
        async with running_proxy(network(place), names(api="127.0.0.1")) as proxy:
            request = f"GET /a HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode()
            reply = await proxy.secure(place, request, context=trust())
    assert (reply.status, reply.text) == (200, "hello")
    (entry,) = proxy.connections
    assert (entry.method, entry.path, entry.status, entry.verdict) == ("", "", None, "allowed")
    assert (entry.address, entry.host, entry.scheme) == ("loopback", "api.test", "https")
    assert entry.sent > len(request)
    assert entry.received > len(reply.data)


@abuse(79, 80)
@pytest.mark.parametrize(
    ("first", "verdict"),
    [
        (b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n", "not_tls"),
        (b"SSH-2.0-OpenSSH\r\n", "not_tls"),
        (b"\x00" * 64, "not_tls"),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", "not_tls"),
        (b"\x16\x03\x01\xff\xff" + b"\x01" * 10, "not_tls"),
        (b"", "not_tls"),
        ("hello of other.test", "other_name"),
        ("hello of API.test", "allowed"),
        ("hello without name", "hidden_name"),
        ("hello with ech", "hidden_name"),
    ],
)
async def test_a_tunnel_without_tls_for_its_host_is_closed(first: bytes | str, verdict: str) -> None:
    """79, 80: opened or not, the connection ends at its first bytes, and the server receives none of them."""
    with Server() as server:
        place = f"api.test:{server.port}"
        for line in (place, f"GET {place}"):
            async with running_proxy(network(line), names(api="127.0.0.1"), idle=2) as proxy:
                _, connection = await proxy.tunnel(place)
                assert connection is not None
                with connection:
                    connection.settimeout(20)
                    connection.sendall(first if isinstance(first, bytes) else hello(first))
                    if verdict != "allowed":
                        connection.shutdown(socket.SHUT_WR)
                        assert await asyncio.to_thread(connection.recv, 4096) in (b"",)
            assert verdict in [entry.verdict for entry in proxy.connections] or verdict == "allowed"
        if verdict != "allowed":
            assert bytes(server.raw) == b""


def hello(kind: str) -> bytes:
    """A ClientHello as OpenSSL writes it: with a name, without one, or with an extra extension for an encrypted name."""
    name = {"hello without name": None, "hello with ech": "api.test"}.get(kind, kind.removeprefix("hello of "))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    data = outgoing.read()
    if kind != "hello with ech":
        return data
    body = bytearray(data[9:])  # record and handshake header
    at = 34
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    extensions = bytes(body[at + 2 :]) + b"\xfe\x0d\x00\x01\x00"
    body[at:] = len(extensions).to_bytes(2, "big") + extensions
    return b"\x16\x03\x01" + (len(body) + 4).to_bytes(2, "big") + b"\x01" + len(body).to_bytes(3, "big") + bytes(body)


def test_a_client_hello_is_read_the_same_in_any_pieces() -> None:
    """In records of one byte too; an incomplete one has no result and no error."""
    whole = hello("hello of api.test")
    body = whole[5:]
    records = b"".join(b"\x16\x03\x01\x00\x01" + body[at : at + 1] for at in range(len(body)))
    for data in (whole, records):
        assert [ClientHelloReader().feed(data[:size]) for size in range(0, len(data), 7)] == [None] * len(
            range(0, len(data), 7)
        )
        result = ClientHelloReader().feed(data)
        assert result is not None
        assert (result.name, result.hidden) == ("api.test", False)


def test_random_bytes_in_a_client_hello_raise_blocked_only() -> None:
    dice = random.Random(7)
    whole = hello("hello of api.test")
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        with suppress(Blocked):
            ClientHelloReader().feed(bytes(data[: dice.randrange(len(data) + 1)]))


@abuse(81)
@pytest.mark.parametrize(
    ("line", "fields", "token", "status"),
    [
        ("CONNECT api.test:PORT HTTP/1.1", ["Host: other.test:PORT"], True, 403),
        ("CONNECT api.test:PORT HTTP/1.1", ["Host: api.test:PORT"], False, 407),
        ("CONNECT api.test:PORT HTTP/1.1", ["Host: api.test:PORT", "Proxy-Authorization: Basic Y2FsbDp4"], False, 407),
        ("CONNECT api.test:PORT HTTP/1.1", ["Host: api.test:PORT", "Content-Length: 3"], True, 400),
        ("CONNECT other.test:PORT HTTP/1.1", ["Host: other.test:PORT"], True, 403),
        ("CONNECT api.test:1 HTTP/1.1", ["Host: api.test:1"], True, 403),
        ("CONNECT api.test HTTP/1.1", ["Host: api.test"], True, 403),
        ("CONNECT api.test:PORT HTTP/1.0", [], True, 200),
        ("CONNECT api.test:PORT HTTP/1.1", ["Host: api.test:PORT"], True, 200),
    ],
)
async def test_a_tunnel_is_established_only_for_the_decided_call_and_host(
    line: str, fields: list[str], token: bool, status: int
) -> None:
    """81, B11: without the token of a call there is no network."""
    with Server(name="api.test") as server:
        port = str(server.port)
        async with running_proxy(network(f"api.test:{port}"), names(api="127.0.0.1", other="127.0.0.1")) as proxy:
            head = proxy.head(
                line.replace("PORT", port), *(field.replace("PORT", port) for field in fields), token=token
            )
            reply = await proxy.send(head)
    assert reply.status == status, reply.data
    assert status == 200 or reply.text.startswith("blocked by policy, do not retry: ")


async def test_a_tunnel_inside_a_tunnel_is_refused() -> None:
    """B7: a CONNECT inside opened TLS is malformed."""
    with Server(name="api.test") as server:
        place = f"api.test:{server.port}"
        async with running_proxy(network(f"GET {place}"), names(api="127.0.0.1")) as proxy:
            reply = await proxy.secure(place, b"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n")
    assert reply.status == 400
    assert server.accepted == 0


# -- requests ----------------------------------------------------------------------------------------------------------

GOOD = b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc"
SMUGGLED: Sequence[bytes] = (
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3, 3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: +3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 0x3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: -3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length : 3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 30\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\n X: folded\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nX: a\r\n\tfolded\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nX\0: a\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nX: a\0b\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\nHost: PLACE\nContent-Length: 3\n\nabc",
    b"POST /v1/a HTTP/1.0\r\nHost: PLACE\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nHost: other.test\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a HTTP/2.0\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"POST  /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"post /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"TRACE /v1/a HTTP/1.1\r\nHost: PLACE\r\n\r\n",
    b"POST https://other.test/v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/../v2 HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1//a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/%61 HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/%2e%2e/v2 HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a%2fb HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1\\a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a#x HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nTransfer-Encoding: chunked\r\n\r\n3 \x00\r\nabc\r\n0\r\n\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nX: " + b"a" * 40000 + b"\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\n" + b"X: a\r\n" * 200 + b"Content-Length: 3\r\n\r\nabc",
    b"\r\n\r\n" + b"POST /v1/a HTTP/1.1\r\nHost: PLACE\r\nContent-Length: 3\r\n\r\nabc",
    b"\xff\xfe\x00",
)


@abuse(81, 82, 83)
async def test_no_smuggled_request_reaches_the_server_and_a_valid_one_does() -> None:
    """83, 82, 81: two lengths, folded fields, bad chunks, other paths: none is forwarded, not even in part."""
    with Server(name="api.test") as server:
        place = f"api.test:{server.port}"
        refused: list[bytes] = []
        for start in range(0, len(SMUGGLED), 100):
            async with running_proxy(network(f"POST {place}/v1/**"), names(api="127.0.0.1"), idle=1) as proxy:
                for request in SMUGGLED[start : start + 100]:
                    reply = await proxy.secure(place, request.replace(b"PLACE", place.encode()))
                    assert reply.status in (0, 400, 403, 504), (request, reply.data)
                    refused.append(request)
        assert (len(refused), server.accepted, bytes(server.raw)) == (len(SMUGGLED), 0, b"")
        async with running_proxy(network(f"POST {place}/v1/**"), names(api="127.0.0.1")) as proxy:
            request = GOOD.replace(b"PLACE", place.encode()).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            assert (await proxy.secure(place, request)).status == 200
    (received,) = server.requests
    assert (received.target, received.body) == ("/v1/a", b"abc")


@abuse(83)
async def test_a_pipelined_request_is_dropped_with_its_connection() -> None:
    """83: it may also be the rest that a wrong length leaves."""
    with Server() as server:
        place = f"api.test:{server.port}"
        async with running_proxy(network(place), names(api="127.0.0.1")) as proxy:
            first = proxy.head(f"POST http://{place}/a HTTP/1.1", f"Host: {place}", "Content-Length: 3")
            reply = await proxy.send(first + b"abc" + proxy.head(f"GET http://{place}/b HTTP/1.1", f"Host: {place}"))
    assert reply.data.count(b"HTTP/1.1 200") == 1
    assert [received.target for received in server.requests] == ["/a"]


async def test_hop_by_hop_fields_and_the_token_are_not_forwarded() -> None:
    """The proxy also writes its own Host and Content-Length."""
    with Server(
        lambda _: Response(
            headers=[("Connection", "X-Own"), ("X-Own", "1"), ("X-Kept", "2"), ("Proxy-Status", "remit")]
        )
    ) as server:
        place = f"api.test:{server.port}"
        async with running_proxy(network(place), names(api="127.0.0.1")) as proxy:
            fields = (
                f"Host: API.TEST:{server.port}",
                "Connection: close, X-Own",
                "X-Own: 1",
                "X-Kept: 2",
                "TE: trailers",
                "Upgrade: h2c",
            )
            request = proxy.head(f"POST http://{place}/a HTTP/1.1", *fields, "Transfer-Encoding: chunked")
            reply = await proxy.send(request + b"2;ext=1\r\nab\r\n1\r\nc\r\n0\r\nX-Trailer: 1\r\n\r\n", end=False)
    (received,) = server.requests
    assert received.headers == {"host": place, "x-kept": "2", "content-length": "3"}
    assert received.body == b"abc"
    head = reply.data.lower()
    assert (b"x-kept: 2" in head, b"x-own" in head, b"proxy-status" in head) == (True, False, False)


async def test_malformed_requests_are_not_forwarded_and_crash_nothing() -> None:
    """A small part: `make bench-egress` sends ten thousand."""
    assert await fuzz(1000, seed=11) == ([], [])


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"garbage",
        b"",
    ],
)
async def test_an_ambiguous_response_is_refused(raw: bytes) -> None:
    with Server(lambda _: Response(raw=raw)) as server:
        place = f"api.test:{server.port}"
        async with running_proxy(network(place), names(api="127.0.0.1")) as proxy:
            reply = await proxy.get(f"http://{place}/")
    assert reply.status in (403, 502), reply.data
    assert [entry.verdict for entry in proxy.connections] == ["bad_answer"]


async def test_an_incomplete_response_reaches_the_tool_as_incomplete() -> None:
    with Server(lambda _: Response(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")) as server:
        place = f"api.test:{server.port}"
        async with running_proxy(network(place), names(api="127.0.0.1")) as proxy:
            reply = await proxy.get(f"http://{place}/")
    assert (reply.status, reply.text) == (200, "abc")
    assert [entry.verdict for entry in proxy.connections] == ["bad_answer"]


async def test_a_server_with_a_wrong_certificate_gets_no_request() -> None:
    """Here the name in it is wrong. The allowed counterpart is every other test under TLS."""
    with Server(name="other.test") as server:
        place = f"api.test:{server.port}"
        async with running_proxy(network(f"GET {place}"), names(api="127.0.0.1")) as proxy:
            reply = await proxy.secure(place, f"GET / HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
    assert (reply.status, server.requests) == (502, [])
    assert [entry.verdict for entry in proxy.connections] == ["bad_certificate"]


async def test_an_idle_connection_is_used_again_and_a_closed_one_is_not() -> None:
    """Keep-alive on both sides. Bytes that a server sends without a request are not the response to the next one."""
    extra = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    for answer, connections in ((Response(), 1), (Response(raw=extra), 3)):
        with Server(lambda _, answer=answer: answer) as server:
            place = f"api.test:{server.port}"
            async with running_proxy(network(place), names(api="127.0.0.1")) as proxy:
                connection = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", proxy.port), 20)
                with connection:
                    for _ in range(3):
                        connection.sendall(proxy.head(f"GET http://{place}/ HTTP/1.1", f"Host: {place}"))
                        data = b""
                        while not data.endswith(b"ok"):
                            data += await asyncio.to_thread(connection.recv, 4096)
                        assert b"evil" not in data
            assert server.accepted == connections


# -- quotas ------------------------------------------------------------------------------------------------------------


async def test_a_call_sends_and_receives_at_most_its_limits() -> None:
    with Server(lambda _: Response(body=b"x" * 5000)) as server:
        place = f"api.test:{server.port}"
        async with running_proxy(network(place, sent=2000, received=7000), names(api="127.0.0.1")) as proxy:
            small = await proxy.get(f"http://{place}/")
            post = proxy.head(f"POST http://{place}/ HTTP/1.1", f"Host: {place}", "Content-Length: 5000")
            large = await proxy.send(post + b"x" * 5000)
            second = await proxy.get(f"http://{place}/")
    assert (small.status, len(small.text)) == (200, 5000)
    assert (large.status, [received.method for received in server.requests]) == (403, ["GET", "GET"])
    assert len(second.text) < 5000
    assert [entry.verdict for entry in proxy.connections] == ["allowed", "quota", "quota"]


async def test_a_call_has_a_limit_of_requests_and_of_open_connections() -> None:
    with Server() as server:
        place = f"api.test:{server.port}"
        async with running_proxy(network(place, sent=1 << 26), names(api="127.0.0.1")) as proxy:
            tunnels = [await proxy.tunnel(place) for _ in range(MOST_AT_ONCE)]
            assert {reply.status for reply, _ in tunnels} == {200}
            assert (await proxy.get(f"http://{place}/")).status == 403
            for _, connection in tunnels:
                assert connection is not None
                connection.close()
        async with running_proxy(network(place, sent=1 << 26), names(api="127.0.0.1")) as proxy:
            proxy.call_session._begun = MOST_REQUESTS - 1  # pyright: ignore[reportPrivateUsage] - 255 requests would say the same
            statuses = [(await proxy.get(f"http://{place}/")).status for _ in range(3)]
    assert statuses == [200, 403, 403]
    assert [entry.verdict for entry in proxy.connections] == ["allowed", "quota"]


async def test_silence_ends_a_connection_on_either_side() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, Server(name="api.test") as server:
        place = f"api.test:{silent.getsockname()[1]}"
        async with running_proxy(network(place, f"api.test:{server.port}"), names(api="127.0.0.1"), idle=0.3) as proxy:
            reply = await proxy.get(f"http://{place}/")
            assert (reply.status, reply.text) == (504, "no data arrived for 0.3 s")
            _, connection = await proxy.tunnel(f"api.test:{server.port}")
            assert connection is not None
            connection.settimeout(20)
            assert await asyncio.to_thread(connection.recv, 1) == b""
            connection.close()


async def test_the_end_of_a_call_closes_its_connections() -> None:
    """Neither the tool nor the server has closed its end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"api.test:{silent.getsockname()[1]}"
        async with running_proxy(network(place), names(api="127.0.0.1"), idle=60) as proxy:
            tunnels = [await proxy.tunnel(place) for _ in range(3)]
            ends = [silent.accept()[0] for _ in range(3)] + [
                connection for _, connection in tunnels if connection is not None
            ]
            await proxy.listener.dismiss(proxy.call_session)
            assert [await asyncio.to_thread(closed, end) for end in ends] == [True] * 6


def closed(end: socket.socket) -> bool:
    """True if the other side closes the connection within five seconds. This side is closed afterwards."""
    with end:
        end.settimeout(5)
        try:
            return end.recv(4096) == b""
        except TimeoutError:
            return False


# -- secrets -----------------------------------------------------------------------------------------------------------

SECRET = "bot@example.com:CANARY/7f3a+91c4?d2"  # as a user name and a token


def jira(port: int) -> tuple[Network, Permit]:
    credential = parse_credential("jira", f"api.test:{port}", "Authorization", "Basic {base64(jira)}", "JIRA_TOKEN")
    return network(f"api.test:{port}", f"other.test:{port}", credentials=(credential,)), Permit(values={"jira": SECRET})


def request(place: str, *fields: str, target: str = "/") -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {place}", "Connection: close", *fields, "", ""]).encode()


@abuse(84, 85)
async def test_a_secret_goes_to_its_own_host_under_tls_and_never_to_the_tool() -> None:
    """84, H2, 85: the tool's own value of the header is replaced. Another host and plain HTTP get the placeholder."""
    rendered = "Basic Ym90QGV4YW1wbGUuY29tOkNBTkFSWS83ZjNhKzkxYzQ/ZDI="
    with Server(name="api.test") as server:
        decided, permit = jira(server.port)
        resolver = names(api="127.0.0.1", other="127.0.0.1")
        async with running_proxy(decided, resolver, permit) as proxy:
            placeholder = proxy.call_session.environment["JIRA_TOKEN"]
            assert not any(text in str(proxy.call_session.environment) for text in spellings(SECRET))
            place = f"api.test:{server.port}"
            for fields in ((), (f"Authorization: Bearer {placeholder}",), ("authorization: Basic b3duOm93bg==",)):
                assert (await proxy.secure(place, request(place, *fields, f"X-Key: {placeholder}"))).status == 200
    assert {received.headers["authorization"] for received in server.requests} == {rendered}
    assert {received.headers["x-key"] for received in server.requests} == {placeholder}
    with Server(name="other.test") as other, Server() as plain:
        credential = decided.credentials[0].model_copy(update={"port": plain.port})
        lines = (f"GET other.test:{other.port}", f"api.test:{plain.port}")
        async with running_proxy(network(*lines, credentials=(credential,)), resolver, permit) as proxy:
            place = f"other.test:{other.port}"
            assert (await proxy.secure(place, request(place, f"Authorization: {placeholder}"))).status == 200
            assert (await proxy.get(f"http://api.test:{plain.port}/", f"Authorization: {placeholder}")).status == 200
    assert [received.headers["authorization"] for received in (*other.requests, *plain.requests)] == [placeholder] * 2


def pieces(data: bytes, size: int) -> bytes:
    """`data` in chunks of `size` bytes, so that a chunk boundary falls inside the secret."""
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


ECHO = "".join(f"<{spelling}>" for spelling in sorted(spellings(SECRET))) + "plain text stays"


@abuse(86)
@pytest.mark.parametrize(
    "answer",
    [
        Response(body=ECHO.encode()),
        Response(status=500, headers=[("content-type", "text/html")], body=f"<h1>{ECHO}</h1>".encode()),
        Response(
            status=302,
            headers=[("location", f"https://other.test/?t={SECRET}"), ("x-echo", SECRET)],
            body=b"plain text stays",
        ),
        *(
            Response(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces(ECHO.encode(), size))
            for size in (1, 2, 3, 7, 11, 64)
        ),
        Response(headers=[("content-encoding", "gzip"), ("etag", "x")], body=gzip.compress(ECHO.encode())),
        Response(headers=[("content-encoding", "deflate")], body=zlib.compress(ECHO.encode())),
        Response(
            raw=b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
            + pieces(gzip.compress(ECHO.encode()), 5)
        ),
        Response(raw=b"HTTP/1.0 200 OK\r\n\r\n" + ECHO.encode()),
    ],
)
async def test_an_echoed_secret_is_removed_from_every_part_of_a_response(answer: Response) -> None:
    """86, H3: header, error page, redirect, chunk boundaries, compression, in every known spelling."""
    with Server(lambda _: answer, name="api.test") as server:
        decided, permit = jira(server.port)
        async with running_proxy(decided, names(api="127.0.0.1"), permit) as proxy:
            place = f"api.test:{server.port}"
            reply = await proxy.secure(place, request(place, "Accept-Encoding: gzip", "Range: bytes=0-3"))
    body = dechunked(reply.data)
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert "range" not in server.requests[0].headers
    assert [text for text in spellings(SECRET) if text.encode() in reply.data or text.encode() in body] == []
    assert b"plain text stays" in body
    assert b"**********" in reply.data


def dechunked(data: bytes) -> bytes:
    head, _, body = data.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return body
    result = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        result, body = result + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return result


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([("content-encoding", "br")], b"\x0b\x02\x80abc\x03"),
        ([("content-encoding", "gzip, gzip")], gzip.compress(gzip.compress(b"x"))),
        ([("content-encoding", "zstd")], b"(\xb5/\xfd"),
        ([("content-encoding", "gzip")], b"not gzip at all"),
    ],
    ids=["br", "twice", "zstd", "broken"],
)
async def test_a_response_in_an_unknown_encoding_is_refused(headers: list[tuple[str, str]], body: bytes) -> None:
    with Server(lambda _: Response(headers=headers, body=body), name="api.test") as server:
        decided, permit = jira(server.port)
        async with running_proxy(decided, names(api="127.0.0.1"), permit) as proxy:
            place = f"api.test:{server.port}"
            reply = await proxy.secure(place, request(place))
    assert body not in reply.data
    assert proxy.connections[-1].verdict in ("opaque_answer", "bad_answer")


def test_the_scrubber_changes_secrets_only_and_keeps_the_length() -> None:
    """In pieces of every size, compared with the whole at once."""
    dice = random.Random(3)
    scrubber = Scrubber(spellings(SECRET))
    text = "".join(
        dice.choice([*sorted(spellings(SECRET)), "plain ", SECRET[:9], SECRET[3:]]) for _ in range(60)
    ).encode()
    whole = scrubber.clean(text)
    assert len(whole) == len(text)
    for size in range(1, 40):
        done = tail = b""
        for at in range(0, len(text), size):
            data = scrubber.clean(tail + text[at : at + size])
            held = scrubber.held(data)
            done, tail = done + data[: len(data) - held], data[len(data) - held :]
        assert scrubber.clean(done + scrubber.clean(tail)) == whole


def test_every_spelling_of_a_secret_is_redacted_in_a_record() -> None:
    redactor = Redactor("run", [SECRET])
    clean = redactor.text(ECHO)
    assert "plain text stays" in clean
    assert [text for text in spellings(SECRET) if text in clean] == []


async def test_a_tool_trusts_only_the_authorities_that_it_needs() -> None:
    """The proxy's own if all TLS is opened, else this machine's too."""
    with Server(name="api.test") as server:
        decided, permit = jira(server.port)
        async with running_proxy(decided, FakeResolver(), permit) as proxy:
            opened = decided.model_copy(update={"hosts": decided.hosts[:1]})
            assert proxy.egress.roots(opened) == proxy.egress.authority.certificate
            assert authority().certificate in proxy.egress.roots(decided)
