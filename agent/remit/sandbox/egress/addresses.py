"""Resolves a name, checks every address, and connects to a checked one.

A name is resolved once per connection. The address that was checked is the address that is dialled, so a second answer
of the resolver (DNS rebinding) has no effect.

The ranges are those of the IANA special-purpose registries (RFC 6890 and its updates). They are written out here
because Python's `is_global` differs between versions, and was wrong for some of them (CVE-2024-4032).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Protocol, TypeAlias

from remit.core import AddressClass
from remit.sandbox.egress.errors import Blocked

Address: TypeAlias = IPv4Address | IPv6Address
Range: TypeAlias = IPv4Network | IPv6Network

RESOLVE_SECONDS: Final = 5.0
DIAL_SECONDS: Final = 10.0
_MOST_ANSWERS: Final = 16  # addresses of one name that are looked at
_GRANTABLE: Final = ("private", "loopback")

# The first entry that contains the address gives its class. An address in none of them is public. `metadata` comes
# first, because its addresses also lie in link-local, private and shared ranges, which a manifest might otherwise
# grant.
_CLASSES: Final[tuple[tuple[AddressClass, tuple[str, ...]], ...]] = (
    (
        # Instance metadata services, which give out the machine's credentials: AWS EC2, ECS and EKS, Azure, GCP,
        # Alibaba, Oracle.
        "metadata",
        (
            *("169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
            *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
        ),
    ),
    ("loopback", ("127.0.0.0/8", "::1")),
    ("link_local", ("169.254.0.0/16", "fe80::/10")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")),
    (
        "reserved",
        (
            *("0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
            *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            *("64:ff9b:1::/48", "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
        ),
    ),
)
_RANGES: Final[tuple[tuple[AddressClass, Range], ...]] = tuple(
    (kind, ip_network(text)) for kind, texts in _CLASSES for text in texts
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
# RFC 5214 section 6.1: the upper half of an interface identifier that embeds an IPv4 address.
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


class Resolver(Protocol):
    """Resolves a name to addresses, each as text. Tests use their own."""

    async def resolve(self, name: str, port: int) -> Sequence[str]: ...


@dataclass(frozen=True, kw_only=True)
class Target:
    """An address that was checked and may be dialled."""

    address: Address
    port: int
    kind: AddressClass


class SystemResolver:
    """This machine's resolver. It has threads of its own, so that a slow answer delays nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(8, "remit-resolve")

    async def resolve(self, name: str, port: int) -> Sequence[str]:
        answers = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, name, port)
        return list(dict.fromkeys(answers))


def _look_up(name: str, port: int) -> list[str]:
    answers = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for _, _, _, _, address in answers]


def address_class(address: Address) -> AddressClass:
    """The class of an address. An IPv6 address that embeds an IPv4 address never has a better class than that one."""
    kind = _class_of(address)
    return "own" if kind == "public" and _is_own(address) else kind


@lru_cache(maxsize=4096)
def _class_of(address: Address) -> AddressClass:
    if isinstance(address, IPv6Address):
        # RFC 4291 section 2.5.5.2: the kernel dials the IPv4 address inside. A resolver has A records for that.
        if address.ipv4_mapped is not None:
            return "reserved"
        if address in _NAT64:  # RFC 6052: a gateway forwards to the IPv4 address in the last 32 bits
            inner = _class_of(IPv4Address(int(address) & 0xFFFFFFFF))
            return "public" if inner == "public" else "reserved"
        if int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
            return "reserved"
    for kind, addresses in _RANGES:
        if address in addresses:
            return kind
    # IANA assigns global addresses from 2000::/3 only, so the rest of IPv6 is not public.
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return "reserved"
    return "public"


async def resolve_targets(name: str, port: int, resolver: Resolver, ranges: Iterable[str]) -> list[Target]:
    """Resolve a name, once, and check every address.

    Args:
        name: a canonical host name.
        port: for the targets.
        resolver: asked once.
        ranges: private or loopback ranges that the manifest grants, in CIDR notation. Other classes are never granted.

    Raises:
        Blocked: `not_resolved`; or `not_public` if any address is neither public nor granted. A name with a public and
            an internal address is refused as a whole: its owner could let connections to the public one fail.
    """
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            answers = await resolver.resolve(name, port)
    except (OSError, UnicodeError, TimeoutError) as failure:
        raise Blocked("not_resolved", f"the name {name!r} cannot be resolved") from failure
    granted = [ip_network(text) for text in ranges]
    targets: list[Target] = []
    for text in answers[:_MOST_ANSWERS]:
        try:
            address = ip_address(text)
        except ValueError as failure:
            raise Blocked("not_resolved", f"the name {name!r} resolves to an invalid address") from failure
        kind = address_class(address)
        if kind != "public" and not (kind in _GRANTABLE and any(address in addresses for addresses in granted)):
            # The class is named and the address is not: a tool must not map the network by asking for names.
            raise Blocked("not_public", f"{name!r} is a {_WORDS[kind]} host", kind=kind)
        targets.append(Target(address=address, port=port, kind=kind))
    if not targets:
        raise Blocked("not_resolved", f"the name {name!r} has no address")
    return targets


async def dial(name: str, targets: Sequence[Target]) -> tuple[socket.socket, Target]:
    """Connect to the first target that accepts. Returns a non-blocking socket, which the caller closes, and the target.

    Raises:
        Blocked: `unreachable`: no target accepted within `DIAL_SECONDS`.
    """
    last = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(DIAL_SECONDS):
            for target in targets:
                try:
                    return await _connected(target), target
                except OSError as failure:  # also of a kernel without IPv6
                    last = f": {failure.strerror}" if failure.errno != errno.EINPROGRESS else ""
    raise Blocked("unreachable", f"no connection to {name!r}{last}")


async def _connected(target: Target) -> socket.socket:
    connection = socket.socket(_family(target.address), socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, (str(target.address), target.port))
        _check_peer(connection, target)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_peer(connection: socket.socket, target: Target) -> None:
    """INVARIANT: the peer is the address that was checked; nothing may have resolved the name again."""
    if ip_address(connection.getpeername()[0].partition("%")[0]) != target.address:
        raise OSError(errno.ECONNABORTED, "connected elsewhere")


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6


def _is_own(address: Address) -> bool:
    """True if a public address belongs to this machine, whose services may trust connections from itself.

    Connecting a UDP socket sends no packet; it makes the kernel choose a source address. For an own address that is the
    address itself.
    """
    with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))  # any port will do; 9 is discard
            return ip_address(probe.getsockname()[0].partition("%")[0]) == address
        except OSError:  # no route; dialling reports it
            return False


_WORDS: Final[dict[AddressClass, str]] = {
    "public": "public",
    "private": "private",
    "loopback": "loopback",
    "link_local": "link-local",
    "metadata": "metadata",
    "reserved": "reserved",
    "own": "local",
}
