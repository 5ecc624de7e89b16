"""Server-side request forgery: no name, spelling or answer of a resolver leads to a host that is not public."""

from __future__ import annotations

import errno
import re
import socket
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adversarial.attack_list import abuse
from remit.sandbox.egress import Permit, addresses
from remit.sandbox.egress.addresses import address_class
from remit.sandbox.egress.permissions import Network, UrlPermission, parse_host
from support import CORPORA
from support.http_servers import FakeResolver, Response, Server, connects, names, network, running_proxy

# Spellings of 127.0.0.1, 169.254.169.254 and 10.0.0.1, and URLs whose host parsers do not agree on.
OWN = [
    "\n127.0.0.1",
    "127.1",
    "127.0.1",
    "127.00.0.1",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "0x7F000001",
    "2130706433",
    "017700000001",
    "127.0.0.1.",
    "127.1.\n0",
    "0.0.0.0",
    "0x0",
    "00",
    "127.0.0.1%00.api.test",
    "127.0.0.1%2eapi.test",
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "0251.0376.0251.0376\n[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::169.254.169.254]\n[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[::1%25lo]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]\nlocalhost",
    "LOCALHOST",
    "localhost.",
    "localhost.localdomain",
    "ip6-localhost",
    "ⓛocalhost",
    "ｌocalhost",
    "loc\xadalhost",
    "127。0。0。1",
    "１２７.0.0.1\n①②⑦.0.0.1",
    "⑯⑨。②⑤④。⑯⑨｡②⑤④",
    "127.0.0.1.nip.io",
    "api.test@127.0.0.1",
    "api.test:80@127.0.0.1",
    "127.0.0.1#@api.test",
    "127.0.0.1?@api.test\n127.0.0.1\\@api.test",
    "api.test\\@127.0.0.1",
    "api.test\\.127.0.0.1",
    "api.test%40127.0.0.1",
    "api.test%2f@127.0.0.1",
    "127.0.0.1%23.api.test\n127.0.0.1:80:80",
    "127.0.0.1:0",
    "127.0.0.1:-1",
    "127.0.0.1:00080",
    "127.0.0.1:65536",
    "metadata.google.internal",
    "instance-data",
    "10.0.0.1\nxn--ls8h.test:80",
    "xn--.test",
    "api.test\t127.0.0.1",
    "api.test\r\nHost:127.0.0.1",
    "api.test\x00.127.0.0.1",
    "api..test",
    ".api.test",
    "-api.test",
    "api_.test\n",
]
SPELLINGS = sorted({word for line in OWN for word in line.strip("\n").split("\n") if word})


def urls() -> list[str]:
    """The corpus, if it is installed, and each of these spellings as a host."""
    path = CORPORA / "ssrf_urls.txt"
    outside = path.read_text().splitlines() if path.exists() else []
    return [*filter(None, outside), *(f"{scheme}://{word}/" for word in SPELLINGS for scheme in ("http", "https"))]


def raw_host(url: str) -> str:
    """The text between the scheme and the first slash."""
    return re.split(r"[/?#]", url.partition("://")[2] or url.partition(":")[2], maxsplit=1)[0]


def every_port() -> Network:
    """Any name, at every port in these URLs."""
    ports = {80, 443} | {int(port) for url in urls() for port in re.findall(r":([1-9][0-9]{0,4})\b", url)}
    return Network(hosts=tuple(parse_host(f"**:{port}") for port in ports if port < 65536))


@abuse(76, 77)
async def test_no_spelling_of_an_internal_host_is_reached() -> None:
    """76, 77, B5: every URL of the corpus and of the list, as a request and as a tunnel. Every name resolves to an internal host."""
    seen = connects()
    inside = ["127.0.0.1", "169.254.169.254", "10.0.0.1"]
    tried, everything, verdicts = urls(), every_port(), set[str]()
    for start in range(0, len(tried), 100):  # below the limit of requests per call
        resolver = FakeResolver()
        async with running_proxy(everything, resolver) as proxy:
            before = len(seen)
            for number, url in enumerate(tried[start : start + 100]):
                (answer,) = resolver.otherwise = inside[number % 3 : number % 3 + 1]
                host = raw_host(url).encode()
                plain = await proxy.send(proxy.head(b"GET " + url.encode() + b" HTTP/1.1", b"Host: " + host))
                place = host if re.search(rb":\d+$", host) else host + b":443"
                tunnel = await proxy.send(proxy.head(b"CONNECT " + place + b" HTTP/1.1", b"Host: " + place))
                assert {plain.status, tunnel.status} <= {400, 403}, (url, plain.data, tunnel.data)
                assert answer in url or answer not in plain.text + tunnel.text
            # The only connections are those of the test to the proxy.
            assert {place for place in seen[before:] if place != ("127.0.0.1", proxy.port)} == set()
        verdicts |= {entry.verdict for entry in proxy.connections}
    assert verdicts == {"not_public", "not_a_name", "malformed"}


@abuse(77)
async def test_every_accepted_spelling_dials_the_decided_host() -> None:
    """B5: with any text around the decided name, the proxy connects to the decided host or not at all."""
    seen = connects()
    with Server(address="127.0.0.2") as decided, Server(address="127.0.0.1", port=decided.port) as internal:
        resolver = FakeResolver({"api.test": [["127.0.0.2"]]}, otherwise=["127.0.0.1"])
        port = decided.port
        words = [word.replace(":80", f":{port}") for word in SPELLINGS] + [raw_host(url) for url in urls()]
        tricks = [
            *(f"http://api.test@{word}/" for word in words),
            *(f"http://{word}@api.test/" for word in words),
            *(f"http://api.test:{port}\\{word}/" for word in words),
            *(
                f"http://api.test:{port}{end}"
                for end in ("/", "/a?b", "/%C3%A9", "", "//x", "/../x", "#x", "/.", "/%2e%2e/x")
            ),
            *(f"http://{name}:{port}/" for name in ("API.test", "api.test.", "api.TEST", "ａpi.test", "xn--api.test")),
        ]
        accepted, dialled = 0, set[tuple[str, int]]()
        for start in range(0, len(tricks), 200):
            async with running_proxy(network(f"api.test:{port}"), resolver) as proxy:
                before = len(seen)
                for url in tricks[start : start + 200]:
                    fields = (f"Host: api.test:{port}", "Connection: close")
                    reply = await proxy.send(proxy.head(b"GET " + url.encode() + b" HTTP/1.1", *fields))
                    accepted += reply.status == 200
                dialled |= {place for place in seen[before:] if place != ("127.0.0.1", proxy.port)}
        assert dialled == {("127.0.0.2", port)}
        assert internal.accepted == 0
        assert [received.target for received in decided.requests] == ["/", "/a?b", "/%C3%A9", "/"]
        assert {received.headers["host"] for received in decided.requests} == {f"api.test:{port}"}
        assert accepted == 4


@abuse(78)
@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"), ("127.255.255.254", "loopback"), ("::1", "loopback"),
        ("10.1.2.3", "private"), ("172.16.0.1", "private"), ("172.31.255.255", "private"), ("192.168.1.1", "private"),
        ("100.64.0.1", "private"), ("fc00::1", "private"), ("fd12:3456::1", "private"), ("fec0::1", "private"),
        ("169.254.1.1", "link_local"), ("fe80::1", "link_local"), ("fe80::1%1", "link_local"),
        ("169.254.169.254", "metadata"), ("169.254.170.2", "metadata"), ("fd00:ec2::254", "metadata"),
        ("168.63.129.16", "metadata"), ("100.100.100.200", "metadata"), ("192.0.0.192", "metadata"),
        ("0.0.0.0", "reserved"), ("0.1.2.3", "reserved"), ("224.0.0.1", "reserved"), ("255.255.255.255", "reserved"),
        ("240.0.0.1", "reserved"), ("192.0.2.1", "reserved"), ("198.18.0.1", "reserved"), ("203.0.113.9", "reserved"),
        ("::", "reserved"), ("::ffff:8.8.8.8", "reserved"), ("::ffff:127.0.0.1", "reserved"), ("::8.8.8.8", "reserved"),
        ("64:ff9b::7f00:1", "reserved"), ("64:ff9b::a9fe:a9fe", "reserved"), ("64:ff9b:1::808:808", "reserved"),
        ("2002:7f00:1::", "reserved"), ("2001:0:7f00:1::", "reserved"), ("2001:db8::1", "reserved"), ("ff02::1", "reserved"),
        ("2600::5efe:7f00:1", "reserved"), ("2600::200:5efe:a00:1", "reserved"), ("3fff::1", "reserved"), ("5f00::1", "reserved"),
        ("8.8.8.8", "public"), ("2606:4700:4700::1111", "public"), ("64:ff9b::808:808", "public"), ("172.32.0.1", "public"),
    ],
)  # fmt: skip
def test_each_address_has_its_class(address: str, kind: str) -> None:
    """78, B4: an IPv4 address inside an IPv6 address never gives it a better class."""
    assert address_class(ip_address(address)) == kind


@settings(deadline=None, max_examples=300)
@given(st.ip_addresses())
def test_an_address_that_python_calls_private_is_never_public(address: object) -> None:
    parsed = ip_address(str(address))
    if not parsed.is_global or parsed.is_multicast:
        assert address_class(parsed) != "public"


@abuse(73, 78)
@pytest.mark.parametrize("kind", ["10.0.0.7", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "0.0.0.0"])
async def test_a_name_with_an_internal_address_is_refused_and_only_its_class_is_named(kind: str) -> None:
    """B4, 73: as the only answer, and beside a public one. A CNAME to an internal host is the same case."""
    seen = connects()
    for answers in ([kind], ["127.0.0.2", kind], [kind, "127.0.0.2"]):
        async with running_proxy(
            network("api.test:80", "api.test:443"), FakeResolver({"api.test": [answers]})
        ) as proxy:
            before = len(seen)
            plain, tunnel = await proxy.get("http://api.test/"), await proxy.tunnel("api.test:443")
            assert set(seen[before:]) <= {("127.0.0.1", proxy.port)}
        assert (plain.status, tunnel[0].status) == (403, 403)
        assert re.fullmatch(r"blocked by policy, do not retry: 'api.test' is a [a-z-]+ host", plain.text)
        assert kind not in plain.text
        assert [entry.verdict for entry in proxy.connections] == ["not_public"] * 2
        assert {entry.address for entry in proxy.connections} == {str(address_class(ip_address(kind)))}


@abuse(78)
async def test_a_name_whose_address_changes_is_checked_again_before_it_is_dialled() -> None:
    """78, B3: one look-up for each connection. The second answer is internal and refused."""
    with Server(address="127.0.0.2") as decided, Server(address="127.0.0.1", port=decided.port) as internal:
        resolver = FakeResolver({"api.test": [["127.0.0.2"], ["127.0.0.1"]]})
        allowed = network(f"api.test:{decided.port}", ranges=("127.0.0.2/32",))
        async with running_proxy(allowed, resolver) as proxy:
            first = await proxy.get(f"http://api.test:{decided.port}/")
            second = await proxy.get(f"http://api.test:{decided.port}/")
        assert (first.status, second.status) == (200, 403)
        assert (len(decided.requests), internal.accepted, resolver.asked) == (1, 0, ["api.test"] * 2)


@abuse(85)
async def test_a_redirect_to_an_internal_host_is_refused() -> None:
    """B8, 85: the tool may follow it; the proxy decides each hop by itself."""
    located = iter(urls())
    with Server(
        lambda _: Response(status=302, headers=[("location", next(located).encode().decode("latin-1"))])
    ) as server:
        async with running_proxy(network(f"api.test:{server.port}"), names(api="127.0.0.1")) as proxy:
            for _ in range(5):
                reply = await proxy.get(f"http://api.test:{server.port}/")
                target = re.search(rb"(?i)location: (\S+)", reply.data)
                assert target is not None
                assert (await proxy.send(proxy.head(b"GET " + target[1] + b" HTTP/1.1", b"Host: x"))).status in (
                    400,
                    403,
                )
        assert server.accepted == 5


async def test_a_redirect_is_decided_again_and_followed_only_where_policy_allows_it() -> None:
    """The decision named one URL. A redirect within `at_most` of the manifest is decided again; one outside is refused."""
    asked: list[str] = []

    def decide(url: str) -> bool:
        asked.append(url)
        return url.endswith("/moved")

    with Server() as server:
        port = server.port
        decided = Network(
            urls=(UrlPermission(scheme="http", name="api.test", port=port, path="/a", methods=("GET",)),),
            at_most=(parse_host(f"*.test:{port}"),),
            methods=("GET",),
            ranges=("127.0.0.0/8",),
        )
        async with running_proxy(decided, names(api="127.0.0.1", other="127.0.0.1"), Permit(decide=decide)) as proxy:
            for url, status in (
                (f"http://api.test:{port}/a", 200),
                (f"http://other.test:{port}/moved", 200),
                (f"http://other.test:{port}/secret", 403),
                (f"http://api.test:{port}/secret", 403),
                ("http://elsewhere.test:80/moved", 403),
            ):
                assert (await proxy.get(url)).status == status, url
            post = await proxy.send(
                proxy.head(
                    f"POST http://other.test:{port}/moved HTTP/1.1", f"Host: other.test:{port}", "Content-Length: 0"
                )
            )
            assert post.status == 403
    base = f"http://other.test:{port}"
    assert asked == [f"{base}/moved", f"{base}/secret", f"http://api.test:{port}/secret"]


async def test_an_empty_list_of_hosts_reaches_nothing() -> None:
    """B2: an empty list allows nothing."""
    async with running_proxy(Network(), FakeResolver(otherwise=["127.0.0.1"])) as proxy:
        assert (await proxy.get("http://api.test/")).status == 403
        answer, connection = await proxy.tunnel("api.test:443")
        if connection is not None:
            connection.close()
        assert answer.status == 403
    assert {entry.verdict for entry in proxy.connections} == {"not_decided"}


@pytest.mark.parametrize("machine", ["with IPv6", "without IPv6"])
async def test_a_server_that_accepts_at_its_second_address_is_reached(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names have IPv6 addresses at which nothing listens, also for a kernel that makes no such sockets."""

    def without_ipv6(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return socket.socket(family, kind)

    with Server() as server:
        allowed = network(f"api.test:{server.port}", ranges=("127.0.0.0/8", "::1/128"))
        async with running_proxy(allowed, FakeResolver({"api.test": [["::1", "127.0.0.1"]]})) as proxy:
            if machine == "without IPv6":
                monkeypatch.setattr(addresses, "socket", SimpleNamespace(**{**vars(socket), "socket": without_ipv6}))
            assert (await proxy.get(f"http://api.test:{server.port}/")).status == 200
