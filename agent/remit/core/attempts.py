"""What one attempt used, changed, reached and was refused: the values that the sandbox and its proxy report."""

from __future__ import annotations

from typing import Literal, TypeAlias

from remit.core.calls import Access, FrozenModel

Landed: TypeAlias = Literal["landed", "not_landed", "unknown", "none"]  # "none": a read has no effect to land
SandboxLimit: TypeAlias = Literal[
    "wall", "cpu", "memory", "output", "prints", "file_size", "file_space", "open_files", "processes"
]
NetworkLimit: TypeAlias = Literal["sent", "received", "requests", "connections"]
LimitName: TypeAlias = Literal[SandboxLimit, NetworkLimit]


class ResourceUsage(FrozenModel):
    """What an attempt used. Seconds of wall and processor time, bytes."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    output_bytes: int = 0


class ReachedLimit(FrozenModel):
    """The limit that an attempt hit. `most` and `used` in `unit`; `used` None where nobody counted."""

    name: LimitName
    most: float
    used: float | None
    unit: Literal["s", "bytes", "count"]


class Change(FrozenModel):
    """One file that the broker committed for the tool. `digest` is of its content, "" where it was removed."""

    resource: str
    digest: str
    size: int


class DeniedAccess(FrozenModel):
    """Something that the sandbox refused to open, and the manifest line that would allow it."""

    access: Access
    what: str
    allow: str


AddressClass: TypeAlias = Literal[
    "public",
    "private",
    "loopback",
    "link_local",
    "metadata",  # where clouds keep a machine's credentials
    "reserved",  # of no use on the internet, or an address that hides another
    "own",  # public, and this machine's
]
EgressVerdict: TypeAlias = Literal[
    "allowed",
    "no_call",  # no call is known by its token
    "not_decided",
    "not_a_name",  # an address, or a name that is spelled oddly
    "not_public",
    "not_tls",
    "other_name",  # the tunnel, the TLS hello and the Host header do not agree
    "hidden_name",  # the TLS hello names nobody, or encrypts whom
    "malformed",  # what two readers could read differently
    "quota",
    "opaque_answer",  # it could carry a secret back, and cannot be looked into
    "not_resolved",
    "unreachable",
    "bad_certificate",
    "bad_answer",
    "idle",
    "broken",  # one side went away
]


class Connection(FrozenModel):
    """One request over the network, or one connection that was not looked into, as the egress proxy saw it.

    `address` is the class of what was dialled or refused, None where no name was resolved. `method`, `path` and `status` are
    there where it was looked into. Bytes are of this request alone.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    address: AddressClass | None = None
    method: str = ""
    path: str = ""
    status: int | None = None
    sent: int = 0
    received: int = 0
    verdict: EgressVerdict = "allowed"
    why: str = ""

    def __str__(self) -> str:
        """`GET https://host:443/path 200 public 120 B out 5120 B in`: as a person reads it."""
        what = f"{self.method} " if self.method else ""
        came = self.status if self.verdict == "allowed" else self.verdict
        parts = (came, self.address, f"{self.sent} B out", f"{self.received} B in")
        told = " ".join(str(part) for part in parts if part is not None)
        return f"{what}{self.scheme}://{self.host}:{self.port}{self.path} {told}"
