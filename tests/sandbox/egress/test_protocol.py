"""What the proxy reads of a tool and of a server: once, strictly, and written anew; the rest passes unopened or not at all."""

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
from support.http_servers import Names, Said, Server, authority, fuzz, gate, names, network, trust

# -- tunnels -----------------------------------------------------------------------------------------------------------


async def test_a_tunnel_passes_unopened_to_the_host_that_its_hello_names() -> None:
    """The twin of 79 and 80: the server's own certificate is what the tool sees."""
    with Server(lambda heard: Said(body=b"hello"), name="api.test") as server:
        place = f"api.test:{server.port}"
        async with gate(network(place), names(api="127.0.0.1")) as proxy:
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
        ("hello of nobody", "hidden_name"),
        ("hello with ech", "hidden_name"),
    ],
)
async def test_what_is_no_tls_to_that_host_goes_no_further(first: bytes | str, verdict: str) -> None:
    """79, 80: passed on or looked into, the connection ends at its first bytes, and none of them is sent on."""
    with Server() as server:
        place = f"api.test:{server.port}"
        for line in (place, f"GET {place}"):
            async with gate(network(line), names(api="127.0.0.1"), idle=2) as proxy:
                _, wire = await proxy.tunnel(place)
                assert wire is not None
                with wire:
                    wire.settimeout(20)
                    wire.sendall(first if isinstance(first, bytes) else hello(first))
                    if verdict != "allowed":
                        wire.shutdown(socket.SHUT_WR)
                        assert await asyncio.to_thread(wire.recv, 4096) in (b"",)
            assert verdict in [one.verdict for one in proxy.connections] or verdict == "allowed"
        if verdict != "allowed":
            assert bytes(server.raw) == b""


def hello(kind: str) -> bytes:
    """A ClientHello, as OpenSSL writes one; with the name, without one, or with the mark of an encrypted one."""
    name = {"hello of nobody": None, "hello with ech": "api.test"}.get(kind, kind.removeprefix("hello of "))
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


def test_a_hello_is_read_alike_however_it_is_cut() -> None:
    """In records of one byte, and never before it is whole; no cut of it crashes."""
    whole = hello("hello of api.test")
    body = whole[5:]
    records = b"".join(b"\x16\x03\x01\x00\x01" + body[at : at + 1] for at in range(len(body)))
    for data in (whole, records):
        assert [ClientHelloReader().take(data[:size]) for size in range(0, len(data), 7)] == [None] * len(
            range(0, len(data), 7)
        )
        found = ClientHelloReader().take(data)
        assert found is not None
        assert (found.name, found.hidden) == ("api.test", False)


def test_no_bytes_make_reading_a_hello_fail_otherwise() -> None:
    dice = random.Random(7)
    whole = hello("hello of api.test")
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        with suppress(Blocked):
            ClientHelloReader().take(bytes(data[: dice.randrange(len(data) + 1)]))


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
async def test_a_tunnel_stands_only_for_the_call_and_the_host_that_were_decided(
    line: str, fields: list[str], token: bool, status: int
) -> None:
    """81, B11: no token of a call, no network."""
    with Server(name="api.test") as server:
        port = str(server.port)
        async with gate(network(f"api.test:{port}"), names(api="127.0.0.1", other="127.0.0.1")) as proxy:
            said = proxy.head(line.replace("PORT", port), *(one.replace("PORT", port) for one in fields), token=token)
            reply = await proxy.say(said)
    assert reply.status == status, reply.data
    assert status == 200 or reply.text.startswith("blocked by policy, do not retry: ")


async def test_a_tunnel_inside_a_tunnel_is_decided_by_the_same_rules() -> None:
    """B7: a CONNECT under TLS is no way around."""
    with Server(name="api.test") as server:
        place = f"api.test:{server.port}"
        async with gate(network(f"GET {place}"), names(api="127.0.0.1")) as proxy:
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
async def test_no_smuggled_request_reaches_the_server_and_a_plain_one_does() -> None:
    """83, 82, 81: two lengths, folded fields, bad chunks, other paths: none is passed on, not even in part."""
    with Server(name="api.test") as server:
        place = f"api.test:{server.port}"
        refused: list[bytes] = []
        for start in range(0, len(SMUGGLED), 100):
            async with gate(network(f"POST {place}/v1/**"), names(api="127.0.0.1"), idle=1) as proxy:
                for request in SMUGGLED[start : start + 100]:
                    reply = await proxy.secure(place, request.replace(b"PLACE", place.encode()))
                    assert reply.status in (0, 400, 403, 504), (request, reply.data)
                    refused.append(request)
        assert (len(refused), server.accepted, bytes(server.raw)) == (len(SMUGGLED), 0, b"")
        async with gate(network(f"POST {place}/v1/**"), names(api="127.0.0.1")) as proxy:
            request = GOOD.replace(b"PLACE", place.encode()).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            assert (await proxy.secure(place, request)).status == 200
    (heard,) = server.heard
    assert (heard.target, heard.body) == ("/v1/a", b"abc")


@abuse(83)
async def test_what_follows_a_request_unasked_is_never_a_second_one() -> None:
    """83: a pipelined request, or the rest that a wrong length leaves, is dropped with its connection."""
    with Server() as server:
        place = f"api.test:{server.port}"
        async with gate(network(place), names(api="127.0.0.1")) as proxy:
            first = proxy.head(f"POST http://{place}/a HTTP/1.1", f"Host: {place}", "Content-Length: 3")
            reply = await proxy.say(first + b"abc" + proxy.head(f"GET http://{place}/b HTTP/1.1", f"Host: {place}"))
    assert reply.data.count(b"HTTP/1.1 200") == 1
    assert [heard.target for heard in server.heard] == ["/a"]


async def test_only_what_belongs_to_the_message_is_passed_on() -> None:
    """Hop-by-hop fields, the call's token and the framing stay here; chunks become one length; the host is written anew."""
    with Server(
        lambda heard: Said(
            headers=[("Connection", "X-Own"), ("X-Own", "1"), ("X-Kept", "2"), ("Proxy-Status", "remit")]
        )
    ) as server:
        place = f"api.test:{server.port}"
        async with gate(network(place), names(api="127.0.0.1")) as proxy:
            fields = (
                f"Host: API.TEST:{server.port}",
                "Connection: close, X-Own",
                "X-Own: 1",
                "X-Kept: 2",
                "TE: trailers",
                "Upgrade: h2c",
            )
            said = proxy.head(f"POST http://{place}/a HTTP/1.1", *fields, "Transfer-Encoding: chunked")
            reply = await proxy.say(said + b"2;ext=1\r\nab\r\n1\r\nc\r\n0\r\nX-Trailer: 1\r\n\r\n", end=False)
    (heard,) = server.heard
    assert heard.headers == {"host": place, "x-kept": "2", "content-length": "3"}
    assert heard.body == b"abc"
    head = reply.data.lower()
    assert (b"x-kept: 2" in head, b"x-own" in head, b"proxy-status" in head) == (True, False, False)


async def test_malformed_requests_crash_nothing_and_pass_nothing() -> None:
    """A slice of it: `make bench-egress` sends ten thousand. Every one differs from a good one where it counts."""
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
async def test_an_answer_that_two_readers_could_read_differently_is_none(raw: bytes) -> None:
    with Server(lambda heard: Said(raw=raw)) as server:
        place = f"api.test:{server.port}"
        async with gate(network(place), names(api="127.0.0.1")) as proxy:
            reply = await proxy.get(f"http://{place}/")
    assert reply.status in (403, 502), reply.data
    assert [one.verdict for one in proxy.connections] == ["bad_answer"]


async def test_an_answer_that_is_cut_reaches_the_tool_cut_and_not_as_whole() -> None:
    with Server(lambda heard: Said(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")) as server:
        place = f"api.test:{server.port}"
        async with gate(network(place), names(api="127.0.0.1")) as proxy:
            reply = await proxy.get(f"http://{place}/")
    assert (reply.status, reply.text) == (200, "abc")
    assert [one.verdict for one in proxy.connections] == ["bad_answer"]


async def test_a_server_is_asked_for_its_certificate_where_its_connection_is_looked_into() -> None:
    """The twin is every other test under TLS: one whose name or authority is wrong gets no request."""
    with Server(name="other.test") as server:
        place = f"api.test:{server.port}"
        async with gate(network(f"GET {place}"), names(api="127.0.0.1")) as proxy:
            reply = await proxy.secure(place, f"GET / HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
    assert (reply.status, server.heard) == (502, [])
    assert [one.verdict for one in proxy.connections] == ["bad_certificate"]


async def test_a_connection_is_used_again_and_one_that_the_server_closed_is_not() -> None:
    """Keep-alive on both sides; what a server says unasked is no answer to the next request."""
    extra = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    for answer, connections in ((Said(), 1), (Said(raw=extra), 3)):
        with Server(lambda heard, answer=answer: answer) as server:
            place = f"api.test:{server.port}"
            async with gate(network(place), names(api="127.0.0.1")) as proxy:
                wire = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", proxy.port), 20)
                with wire:
                    for _ in range(3):
                        wire.sendall(proxy.head(f"GET http://{place}/ HTTP/1.1", f"Host: {place}"))
                        data = b""
                        while not data.endswith(b"ok"):
                            data += await asyncio.to_thread(wire.recv, 4096)
                        assert b"evil" not in data
            assert server.accepted == connections


# -- quotas ------------------------------------------------------------------------------------------------------------


async def test_a_call_sends_and_receives_no_more_than_its_manifest_says() -> None:
    with Server(lambda heard: Said(body=b"x" * 5000)) as server:
        place = f"api.test:{server.port}"
        async with gate(network(place, sent=2000, received=7000), names(api="127.0.0.1")) as proxy:
            small = await proxy.get(f"http://{place}/")
            post = proxy.head(f"POST http://{place}/ HTTP/1.1", f"Host: {place}", "Content-Length: 5000")
            large = await proxy.say(post + b"x" * 5000)
            second = await proxy.get(f"http://{place}/")
    assert (small.status, len(small.text)) == (200, 5000)
    assert (large.status, [heard.method for heard in server.heard]) == (403, ["GET", "GET"])
    assert len(second.text) < 5000
    assert [one.verdict for one in proxy.connections] == ["allowed", "quota", "quota"]


async def test_a_call_makes_no_more_requests_and_opens_no_more_connections_than_it_may() -> None:
    with Server() as server:
        place = f"api.test:{server.port}"
        async with gate(network(place, sent=1 << 26), names(api="127.0.0.1")) as proxy:
            wires = [await proxy.tunnel(place) for _ in range(MOST_AT_ONCE)]
            assert {reply.status for reply, _ in wires} == {200}
            assert (await proxy.get(f"http://{place}/")).status == 403
            for _, wire in wires:
                assert wire is not None
                wire.close()
        async with gate(network(place, sent=1 << 26), names(api="127.0.0.1")) as proxy:
            proxy.call_session._begun = MOST_REQUESTS - 1  # pyright: ignore[reportPrivateUsage] - 255 requests would say the same
            statuses = [(await proxy.get(f"http://{place}/")).status for _ in range(3)]
    assert statuses == [200, 403, 403]
    assert [one.verdict for one in proxy.connections] == ["allowed", "quota"]


async def test_silence_ends_a_connection_on_either_side() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, Server(name="api.test") as server:
        place = f"api.test:{silent.getsockname()[1]}"
        async with gate(network(place, f"api.test:{server.port}"), names(api="127.0.0.1"), idle=0.3) as proxy:
            reply = await proxy.get(f"http://{place}/")
            assert (reply.status, reply.text) == (504, "nothing came for 0.3 s")
            _, wire = await proxy.tunnel(f"api.test:{server.port}")
            assert wire is not None
            wire.settimeout(20)
            assert await asyncio.to_thread(wire.recv, 1) == b""
            wire.close()


async def test_a_call_that_is_over_leaves_nothing_half_open() -> None:
    """Neither the tool nor the server has closed its end, and the sandbox goes on with its next call."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"api.test:{silent.getsockname()[1]}"
        async with gate(network(place), names(api="127.0.0.1"), idle=60) as proxy:
            tunnels = [await proxy.tunnel(place) for _ in range(3)]
            ends = [silent.accept()[0] for _ in range(3)] + [wire for _, wire in tunnels if wire is not None]
            await proxy.door.dismiss(proxy.call_session)
            assert [await asyncio.to_thread(closed, end) for end in ends] == [True] * 6


def closed(end: socket.socket) -> bool:
    """Whether the other side ends it in a moment; here it is closed anyway."""
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
async def test_a_secret_goes_to_its_own_host_under_tls_and_the_tool_never_holds_it() -> None:
    """84, H2, 85: whatever the tool sends in that header; another host and plain HTTP get the stand-in or nothing."""
    rendered = "Basic Ym90QGV4YW1wbGUuY29tOkNBTkFSWS83ZjNhKzkxYzQ/ZDI="
    with Server(name="api.test") as server:
        decided, permit = jira(server.port)
        resolver = names(api="127.0.0.1", other="127.0.0.1")
        async with gate(decided, resolver, permit) as proxy:
            stand_in = proxy.call_session.environment["JIRA_TOKEN"]
            assert not any(text in str(proxy.call_session.environment) for text in spellings(SECRET))
            place = f"api.test:{server.port}"
            for fields in ((), (f"Authorization: Bearer {stand_in}",), ("authorization: Basic b3duOm93bg==",)):
                assert (await proxy.secure(place, request(place, *fields, f"X-Key: {stand_in}"))).status == 200
    assert {heard.headers["authorization"] for heard in server.heard} == {rendered}
    assert {heard.headers["x-key"] for heard in server.heard} == {stand_in}
    with Server(name="other.test") as other, Server() as plain:
        credential = decided.credentials[0].model_copy(update={"port": plain.port})
        lines = (f"GET other.test:{other.port}", f"api.test:{plain.port}")
        async with gate(network(*lines, credentials=(credential,)), resolver, permit) as proxy:
            place = f"other.test:{other.port}"
            assert (await proxy.secure(place, request(place, f"Authorization: {stand_in}"))).status == 200
            assert (await proxy.get(f"http://api.test:{plain.port}/", f"Authorization: {stand_in}")).status == 200
    assert [heard.headers["authorization"] for heard in (*other.heard, *plain.heard)] == [stand_in] * 2


def pieces(data: bytes, size: int) -> bytes:
    """Chunked, in chunks of that size: a secret is cut wherever it can be."""
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


ECHO = "".join(f"<{one}>" for one in sorted(spellings(SECRET))) + "plain text stays"


@abuse(86)
@pytest.mark.parametrize(
    "answer",
    [
        Said(body=ECHO.encode()),
        Said(status=500, headers=[("content-type", "text/html")], body=f"<h1>{ECHO}</h1>".encode()),
        Said(
            status=302,
            headers=[("location", f"https://other.test/?t={SECRET}"), ("x-echo", SECRET)],
            body=b"plain text stays",
        ),
        *(
            Said(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces(ECHO.encode(), size))
            for size in (1, 2, 3, 7, 11, 64)
        ),
        Said(headers=[("content-encoding", "gzip"), ("etag", "x")], body=gzip.compress(ECHO.encode())),
        Said(headers=[("content-encoding", "deflate")], body=zlib.compress(ECHO.encode())),
        Said(
            raw=b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
            + pieces(gzip.compress(ECHO.encode()), 5)
        ),
        Said(raw=b"HTTP/1.0 200 OK\r\n\r\n" + ECHO.encode()),
    ],
)
async def test_a_secret_that_is_echoed_is_struck_out_wherever_it_is(answer: Said) -> None:
    """86, H3: header, error page, redirect, chunk boundaries, compression; in every spelling that is known."""
    with Server(lambda heard: answer, name="api.test") as server:
        decided, permit = jira(server.port)
        async with gate(decided, names(api="127.0.0.1"), permit) as proxy:
            place = f"api.test:{server.port}"
            reply = await proxy.secure(place, request(place, "Accept-Encoding: gzip", "Range: bytes=0-3"))
    body = dechunked(reply.data)
    assert server.heard[0].headers["accept-encoding"] == "identity"
    assert "range" not in server.heard[0].headers
    assert [text for text in spellings(SECRET) if text.encode() in reply.data or text.encode() in body] == []
    assert b"plain text stays" in body
    assert b"**********" in reply.data


def dechunked(data: bytes) -> bytes:
    head, _, body = data.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return body
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        found, body = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return found


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
async def test_an_answer_that_cannot_be_looked_into_does_not_come_back(
    headers: list[tuple[str, str]], body: bytes
) -> None:
    with Server(lambda heard: Said(headers=headers, body=body), name="api.test") as server:
        decided, permit = jira(server.port)
        async with gate(decided, names(api="127.0.0.1"), permit) as proxy:
            place = f"api.test:{server.port}"
            reply = await proxy.secure(place, request(place))
    assert body not in reply.data
    assert proxy.connections[-1].verdict in ("opaque_answer", "bad_answer")


def test_striking_out_changes_no_length_and_nothing_else() -> None:
    """In pieces of every size, against the whole at once."""
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


def test_every_spelling_of_a_secret_is_redacted_from_what_is_recorded() -> None:
    redactor = Redactor("run", [SECRET])
    clean = redactor.text(ECHO)
    assert "plain text stays" in clean
    assert [text for text in spellings(SECRET) if text in clean] == []


async def test_the_tests_own_authority_is_none_of_the_proxys() -> None:
    """What a tool trusts is the proxy alone where everything is looked into, and this machine too where not."""
    with Server(name="api.test") as server:
        decided, permit = jira(server.port)
        async with gate(decided, Names(), permit) as proxy:
            looked_into = decided.model_copy(update={"hosts": decided.hosts[:1]})
            assert proxy.egress.roots(looked_into) == proxy.egress.authority.certificate
            assert authority().certificate in proxy.egress.roots(decided)
