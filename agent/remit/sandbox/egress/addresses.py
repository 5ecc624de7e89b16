"""From a name to the address that is dialled: resolved once, every answer judged, and only a judged one dialled.

Ranges are those of the IANA special-purpose registries (RFC 6890 and its updates), written out here because what Python
calls global differs between its versions.
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
_MOST_ANSWERS: Final = 16
_GRANTABLE: Final = ("private", "loopback")

# The first that holds the address names its class. What is in none of them is public.
_CLASSES: Final[tuple[tuple[AddressClass, tuple[str, ...]], ...]] = (
    (
        "metadata",  # where clouds keep the machine's credentials: AWS, Azure, GCP, Alibaba, Oracle
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
_ISATAP: Final = (0x00005EFE, 0x02005EFE)  # RFC 5214: the upper half of an interface identifier that embeds IPv4


class Resolver(Protocol):
    """Answers a name with addresses, each as text; the tests' own seam."""

    async def resolve(self, name: str, port: int) -> Sequence[str]: ...


@dataclass(frozen=True, kw_only=True)
class Target:
    """An address that was judged and may be dialled."""

    address: Address
    port: int
    kind: AddressClass


class SystemResolver:
    """This machine's resolver, in threads of its own: one that hangs holds up nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(8, "remit-resolve")

    async def resolve(self, name: str, port: int) -> Sequence[str]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, name, port)
        return list(dict.fromkeys(found))


def _look_up(name: str, port: int) -> list[str]:
    answers = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for _, _, _, _, address in answers]


def classify(address: Address) -> AddressClass:
    """What kind of place an address is; one that embeds another in itself is never better than that one."""
    kind = _class_of(address)
    return "own" if kind == "public" and _is_own(address) else kind


@lru_cache(maxsize=4096)
def _class_of(address: Address) -> AddressClass:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return "reserved"  # no honest answer spells an IPv4 address so
        if address in _NAT64:
            inner = _class_of(IPv4Address(int(address) & 0xFFFFFFFF))
            return "public" if inner == "public" else "reserved"
        if int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
            return "reserved"
    for kind, one in _RANGES:
        if address in one:
            return kind
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return "reserved"
    return "public"


async def find(name: str, port: int, resolver: Resolver, ranges: Iterable[str]) -> list[Target]:
    """Where a name leads, asked once.

    Raises:
        Blocked: it cannot be resolved, or one of the answers is not public and lies in none of `ranges`: then the others
            are not trusted either.
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
            raise Blocked("not_resolved", f"the name {name!r} resolves to what is no address") from failure
        kind = classify(address)
        if kind != "public" and not (kind in _GRANTABLE and any(address in one for one in granted)):
            raise Blocked("not_public", f"{name!r} is a {_WORDS[kind]} host", kind=kind)
        targets.append(Target(address=address, port=port, kind=kind))
    if not targets:
        raise Blocked("not_resolved", f"the name {name!r} has no address")
    return targets


async def dial(name: str, targets: Sequence[Target]) -> tuple[socket.socket, Target]:
    """A connection to the first target that takes one, and which that was; the socket does not block.

    Raises:
        Blocked: none does.
    """
    loop = asyncio.get_running_loop()
    last = ""
    with suppress(TimeoutError):
        async with asyncio.timeout(DIAL_SECONDS):
            for target in targets:
                connection = socket.socket(_family(target.address), socket.SOCK_STREAM)
                try:
                    connection.setblocking(False)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    await loop.sock_connect(connection, (str(target.address), target.port))
                    _check_peer(connection, target)
                except OSError as failure:
                    connection.close()
                    last = f": {failure.strerror}" if failure.errno != errno.EINPROGRESS else ""
                except BaseException:
                    connection.close()
                    raise
                else:
                    return connection, target
    raise Blocked("unreachable", f"no connection to {name!r}{last}")


def _check_peer(connection: socket.socket, target: Target) -> None:
    """INVARIANT: what is connected is what was judged."""
    if ip_address(connection.getpeername()[0].partition("%")[0]) != target.address:
        raise OSError(errno.ECONNABORTED, "connected elsewhere")


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6


def _is_own(address: Address) -> bool:
    """Whether a public address is this machine's own: its services trust what comes from it. No packet is sent."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
            return ip_address(probe.getsockname()[0].partition("%")[0]) == address
        except OSError:  # no way there; dialling will say so
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
