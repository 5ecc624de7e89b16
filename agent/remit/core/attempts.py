"""What one attempt used, changed and tried to reach, as the sandbox and its egress proxy report it.

An attempt is one execution of a tool for a call. A call with retries has several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, cast, get_args

from pydantic import ValidationError

from remit.core.calls import Access, Error, FrozenModel, Json

# What is known of the effect of an attempt. "unknown": it may have happened; "none": the action only reads.
Landed: TypeAlias = Literal["landed", "not_landed", "unknown", "none"]
# Why a call was refused when its arguments were decoded, before an attempt: `details.reason` of `invalid_arguments`.
Undecoded: TypeAlias = Literal[
    "refused_by_validator",  # the types of the tool do not accept them
    "changed_by_validator",  # a validator of the tool changes an argument that the call is decided by
    "not_decoded",  # decoding took too long, or its process ended; `details.cause` is the code
]
UNDECODED: Final[frozenset[str]] = frozenset(get_args(Undecoded))
SandboxLimit: TypeAlias = Literal[
    "wall", "cpu", "memory", "output", "prints", "file_size", "file_space", "open_files", "processes"
]
NetworkLimit: TypeAlias = Literal["sent", "received", "requests", "connections"]
LimitName: TypeAlias = Literal[SandboxLimit, NetworkLimit]


class ResourceUsage(FrozenModel):
    """Records what an attempt used: wall-clock and processor time in seconds, peak memory and the size of its output in bytes."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    output_bytes: int = 0


class ReachedLimit(FrozenModel):
    """Records the limit that ended an attempt. `most` and `used` are in `unit`; `used` is None if it was not measured."""

    name: LimitName
    most: float
    used: float | None
    unit: Literal["s", "bytes", "count"]

    def __str__(self) -> str:
        """`memory: 96 MiB allowed, 14 MiB used`."""
        used = "" if self.used is None else f", {self.amount(self.used)} used"
        return f"{self.name}: {self.amount(self.most)} allowed{used}"

    def amount(self, value: float) -> str:
        """The value with its unit, as a person reads it: `96 MiB`, `1.5 s`, `64`."""
        if self.unit != "bytes":
            return f"{value:.15g}{' s' if self.unit == 's' else ''}"
        return f"{value / 2**20:.4g} MiB" if value >= 2**20 else f"{value:.15g} bytes"


class CodeLine(FrozenModel):
    """Records one line of a tool's own code: the path below the folder of the tool, and the number of the line, from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        """`main.py:12`."""
        return f"{self.file}:{self.line}"


class SchemaMismatch(FrozenModel):
    """Records where a value does not match its schema: a JSON pointer with `*` for names that the schema does not have, and the keyword."""

    pointer: str
    keyword: str

    def __str__(self) -> str:
        """`/lines: type`."""
        return f"{self.pointer or 'the whole value'}: {self.keyword}"


class Change(FrozenModel):
    """Records one file that the broker wrote or removed for the tool.

    `resource` is its canonical name, `file:reports/a.md`; `digest` is that of the new content, "" for a removed file; `size` is
    in bytes.
    """

    resource: str
    digest: str
    size: int


class ContentObject(FrozenModel):
    """Records the bytes of an image or a file in a result, which names them by their digest.

    `data` is base64, "" if the bytes contain a known secret; `size` is the number of bytes. `media_type` is that of the tool, ""
    without one.
    """

    digest: str
    media_type: str = ""
    size: int
    data: str


class DeniedAccess(FrozenModel):
    """Records something that the tool tried to open and that the sandbox denied.

    `what` is the path, the host with its port, or the store; `allow` is the line of the manifest that would allow it.
    """

    access: Access
    what: str
    allow: str


AddressClass: TypeAlias = Literal[
    "public",
    "private",
    "loopback",
    "link_local",
    "metadata",  # the address at which clouds give a machine its credentials
    "reserved",  # not used on the internet, or an address that contains another one
    "own",  # a public address of this machine
]
EgressVerdict: TypeAlias = Literal[
    "allowed",
    "no_call",  # the token belongs to no running call
    "not_decided",  # policy did not decide on this URL or host
    "not_a_name",  # an address, or a host name that is not in its canonical spelling
    "not_public",  # the name resolves to an address that the manifest does not allow
    "not_tls",
    "other_name",  # the tunnel, the TLS ClientHello and the Host header name different hosts
    "hidden_name",  # the TLS ClientHello has no server name, or an encrypted one
    "malformed",  # two HTTP parsers could read it differently
    "quota",  # a limit of requests, connections or bytes is reached
    "opaque_answer",  # the response could contain a secret, and the proxy cannot read it
    "not_resolved",
    "unreachable",
    "bad_certificate",
    "bad_answer",
    "idle",
    "broken",  # one side closed the connection
]


class Connection(FrozenModel):
    """Records one HTTP request, or one connection that the egress proxy did not decrypt.

    `address` is the class of the address that was connected to or refused, None if no name was resolved. `method`, `path` and
    `status` are empty for a connection that was not decrypted. `sent` and `received` are bytes of this request. `verdict` is
    "allowed" or the reason of a refusal, and `why` says more in one line: for an allowed request, which secret was not sent.
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
        outcome = self.status if self.verdict == "allowed" else self.verdict
        parts = (outcome, self.address, f"{self.sent} B out", f"{self.received} B in")
        details = " ".join(str(part) for part in parts if part is not None)
        note = f"; {self.why}" if self.why and self.verdict == "allowed" else ""
        return f"{what}{self.scheme}://{self.host}:{self.port}{self.path} {details}{note}"


def failure_place(error: Error) -> str:
    """Where a call failed, from the details of its error: lines of the tool, a place in JSON, or a limit; "" if it is not known."""
    details = error.details
    try:
        if "frames" in details:
            frames = cast("Sequence[Json]", details["frames"])
            return " > ".join(str(CodeLine.model_validate(frame)) for frame in frames)
        if "mismatch" in details:
            return str(SchemaMismatch.model_validate(details["mismatch"]))
        return str(ReachedLimit.model_validate(details["limit"])) if isinstance(details.get("limit"), dict) else ""
    except (ValidationError, TypeError):  # the details of another version, or of an edited file
        return ""
