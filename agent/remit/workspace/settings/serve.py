"""The settings of `remit serve`: the table `[serve]` of `remit.toml`."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from remit.core import FrozenModel
from remit.core.parsing import Duration, Matching, Size, TomlTable, duration, invalid, size

LARGEST_BODY: Final = "1MiB"  # what the strict parser of JSON accepts
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"


def _body(value: str) -> str:
    if size(value) > size(LARGEST_BODY):
        raise invalid(f"is {value!r}, which is too much", f'write "{LARGEST_BODY}" or less')
    return value


Address = Annotated[
    str,
    Matching(rf"(?:{_HOST}|\[[0-9a-fA-F:.]{{2,45}}\]):[0-9]{{1,5}}", "a host and a port", 'write "127.0.0.1:8340"'),
]
Host = Annotated[str, Matching(_HOST, "the name of a host", 'write "remit.example.com", without a port')]
File = Annotated[str, Matching(r"[^\0\n]{1,4096}", "the path of a file", 'write "/etc/remit/tls.pem"')]


class ServeSettings(FrozenModel):
    """How `remit serve` listens, and its limits.

    `certificate` and `key` are files in PEM format; "" without TLS. With `behind_proxy`, a proxy in front of the service ends TLS.
    `hosts` are further names by which the service is called. Accounts of `group` use it by `remit`; "": only its own account. `body` is in bytes; `timeout`, `waiting` and
    `shutdown` are in seconds.
    """

    host: str = "127.0.0.1"
    port: int = 8340
    certificate: str = ""
    key: str = ""
    behind_proxy: bool = False
    hosts: tuple[str, ...] = ()
    group: str = ""
    body: int = 256 * 1024
    runs: int = 100
    listeners: int = 300
    connections: int = 1000
    timeout: float = 60.0
    waiting: float = 3600.0
    shutdown: float = 10.0

    @property
    def is_local(self) -> bool:
        """True if only programs of this machine reach the address."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """True for a host that only this machine reaches. A name other than `localhost` is none: its address may change."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Group = Annotated[
    str, Matching(r"[a-z_][a-z0-9_-]{0,31}", "the name of a group", "write the name of a group of this machine")
]


class ServeTable(TomlTable):
    """The service, `remit serve`. Absent: it listens on this machine only."""

    address: Address = Field(
        default="127.0.0.1:8340",
        description="Where it listens. An address that other machines reach needs `certificate` and `key`, or `behind_proxy`",
    )
    certificate: File | None = Field(default=None, description="The TLS certificate with its chain, in PEM format")
    key: File | None = Field(default=None, description="The private key of the certificate, in PEM format")
    behind_proxy: bool = Field(
        default=False, description="true: a proxy in front of it ends TLS, and nothing else reaches the address"
    )
    hosts: list[Host] = Field(
        default=[], description='Further names by which it is called, as a proxy passes them on: ["remit.example.com"]'
    )
    group: Group | None = Field(
        default=None,
        description="The group whose accounts may use it by `remit`. Absent: only the account of the service",
    )
    body: Annotated[Size, AfterValidator(_body)] = Field(
        default="256KiB", description=f"The largest body of a request, at most {LARGEST_BODY}"
    )
    runs: Annotated[int, Field(ge=1, le=10_000)] = Field(default=100, description="Runs that it drives at one time")
    listeners: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=300, description="Listeners to events at one time"
    )
    connections: Annotated[int, Field(ge=1, le=100_000)] = Field(default=1000, description="Connections at one time")
    timeout: Duration = Field(default="60s", description="The longest time of one request, without listeners to events")
    waiting: Duration = Field(
        default="1h", description="How long a run stays open for approvals and goes on by itself; then it pauses"
    )
    shutdown: Duration = Field(
        default="10s", description="How long runs may go on once the service ends; then they pause"
    )

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        """Refuse an address that other machines reach without TLS."""
        if (self.certificate is None) != (self.key is None):
            raise invalid("has only one of certificate and key", "write both, or none of them")
        host, port = _split(self.address)
        safe = is_loopback(host) or self.certificate is not None or self.behind_proxy
        if port > 65535:
            raise invalid(f"has the port {port}", "write a port from 0 to 65535")
        if not safe:
            raise invalid(
                f"has the address {host!r}, which other machines reach, and no TLS",
                "write certificate and key, or behind_proxy = true if a proxy in front of it ends TLS",
            )
        return self

    def settings(self) -> ServeSettings:
        """The settings of this table."""
        host, port = _split(self.address)
        return ServeSettings(
            host=host,
            port=port,
            certificate=self.certificate or "",
            key=self.key or "",
            behind_proxy=self.behind_proxy,
            hosts=tuple(self.hosts),
            group=self.group or "",
            body=size(self.body),
            runs=self.runs,
            listeners=self.listeners,
            connections=self.connections,
            timeout=duration(self.timeout),
            waiting=duration(self.waiting),
            shutdown=duration(self.shutdown),
        )


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() and len(port) < 6 else 0


class WorkerSettings(FrozenModel):
    """The limits of `remit worker`: runs that one worker drives at one time, and runs that may wait for workers."""

    slots: int = 8
    queue: int = 10_000


class WorkerTable(TomlTable):
    """Workers, `remit worker`, which drive the runs of `remit enqueue`."""

    slots: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=8, description="Runs that one worker drives at one time"
    )
    queue: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=10_000, description="Runs that may wait for workers; a further one is refused"
    )

    def settings(self) -> WorkerSettings:
        """The settings of this table."""
        return WorkerSettings(slots=self.slots, queue=self.queue)
