"""What a call may reach over the network: the hosts of its manifest, and the URLs of its decision.

A line of `hosts` is `[METHODS ]NAME:PORT[/PATH]`, such as "api.example.com:443" or "GET,POST *.example.com:443/v1/**".
`*` matches one label of a name, or any characters within one segment of a path. `**` matches any number of labels or
segments.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final
from urllib.parse import urlsplit

from remit.core import FrozenModel, Refusal, ResourceAccess
from remit.core.parsing import DEFAULT_PORT, SCHEMES, canonical_host, canonical_url, covered

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SHAPE: Final = '"api.example.com:443", "*.example.com:443" or "GET,POST api.example.com:443/v1/**"'

_LINE = re.compile(r"(?:([A-Z]+(?:,[A-Z]+)*) )?([^\s:/]+):([1-9][0-9]{0,4})(/\S*)?")
_TEMPLATE = re.compile(r"\{(?:base64\(([a-z][a-z0-9_]*)\)|([a-z][a-z0-9_]*))\}")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_FRAMING: Final = frozenset(
    ("host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "keep-alive", "expect")
)
# The ranges that a manifest may grant: private (RFC 1918, RFC 6598, RFC 4193) and loopback. All other special ranges
# are never granted: clouds serve the machine's credentials at link-local addresses.
_GRANTABLE: Final = tuple(
    map(
        ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "::1", "fc00::/7")
    )
)


class NetworkError(ValueError):
    """A network entry of a manifest is not valid. `what` continues the name of the entry; `fix` says what to write."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(what)


class Host(FrozenModel):
    """One line of `hosts`. `methods` None: all methods. `path` None: all paths. With both None, TLS is not opened."""

    name: str
    port: int
    methods: tuple[str, ...] | None = None
    path: str | None = None

    @property
    def whole(self) -> bool:
        """True if the line limits neither methods nor paths."""
        return self.methods is None and self.path is None

    def covers(self, name: str, port: int) -> bool:
        """True if the line is about that host. `name` is canonical and not an address."""
        return port == self.port and _labels_match(self.name.split(".")[::-1], name.split(".")[::-1])

    def allows(self, method: str, path: str) -> bool:
        """True if the line allows the request, to a host that it covers. GET includes HEAD (RFC 9110 section 9.3.2)."""
        if self.methods is not None and method not in self.methods and not (method == "HEAD" and "GET" in self.methods):
            return False
        return self.path is None or covered([self.path.removeprefix("/")], path.removeprefix("/"))


class UrlPermission(FrozenModel):
    """One URL of a decision, with the methods that the action may use. It has no query: policy decides on the path."""

    scheme: str
    name: str
    port: int
    path: str
    methods: tuple[str, ...]


class Credential(FrozenModel):
    """A secret that the proxy adds to requests to one host, as `header` with the value `template`.

    `env`: the variable in which the tool gets a placeholder for it; "" for none.
    """

    secret: str
    name: str
    port: int
    header: str
    template: str
    env: str = ""

    def render(self, value: str) -> str:
        """The value of the header, with the secret filled in."""
        encoded = base64.b64encode(value.encode()).decode()
        return _TEMPLATE.sub(lambda match: encoded if match[1] else value, self.template)


class Exposed(FrozenModel):
    """A secret that the tool itself gets, in the variable `env`, because the proxy cannot add it."""

    secret: str
    env: str


class HostAuthority(FrozenModel):
    """The certificates, in PEM, of the only authorities that one host is trusted by."""

    name: str
    port: int
    certificates: str


class Network(FrozenModel):
    """Everything that one call may reach. Empty: nothing.

    `hosts`: lines that every call of the tool has. `urls`: the URLs of this call. `at_most`: hosts to which it may be
    redirected; each such URL is decided again. `ranges`: private and loopback ranges that may be dialled. `methods`:
    for a URL that is decided again. `key_header`: the header for the call's idempotency key. `sent`, `received`: limits
    in bytes, over all connections of the call. `authorities`: those of hosts with private ones; the others have those of
    this machine.
    """

    hosts: tuple[Host, ...] = ()
    urls: tuple[UrlPermission, ...] = ()
    at_most: tuple[Host, ...] = ()
    ranges: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()
    methods: tuple[str, ...] = ()
    key_header: str = ""
    sent: int = 1 << 20
    received: int = 16 << 20
    authorities: tuple[HostAuthority, ...] = ()

    def allows(self, scheme: str, name: str, port: int, method: str, path: str) -> bool:
        """True if the request is allowed without another decision."""
        return any(line.covers(name, port) and line.allows(method, path) for line in self.hosts) or any(
            (url.scheme, url.name, url.port, url.path) == (scheme, name, port, path) and method in url.methods
            for url in self.urls
        )

    def opaque(self, name: str, port: int) -> bool:
        """True if TLS to that host passes through unopened. The tool could not check a private authority: the proxy does."""
        is_whole = any(line.whole and line.covers(name, port) for line in self.hosts)
        return is_whole and not self.credentials_at(name, port) and not self.authorities_of(name, port)

    def authorities_of(self, name: str, port: int) -> str:
        """The only certificates that sign for that host, in PEM; "": those of this machine."""
        return next((item.certificates for item in self.authorities if (item.name, item.port) == (name, port)), "")

    def knows(self, name: str, port: int) -> bool:
        """True if some request to that host is allowed."""
        return any(line.covers(name, port) for line in self.hosts) or any(
            (url.name, url.port) == (name, port) for url in self.urls
        )

    def may_ask(self, name: str, port: int, method: str) -> bool:
        """True if a further URL of that host may be decided while the call runs."""
        return method in self.methods and any(line.covers(name, port) for line in self.at_most)

    def credentials_at(self, name: str, port: int) -> tuple[Credential, ...]:
        """The credentials of exactly that host."""
        return tuple(item for item in self.credentials if (item.name, item.port) == (name, port))

    @property
    def sees_all(self) -> bool:
        """True if all TLS is opened, so that the tool needs to trust the proxy's authority only."""
        return all(
            not line.whole or any(line.covers(item.name, item.port) for item in self.credentials) for line in self.hosts
        )


def parse_host(text: str) -> Host:
    """Read one line of `hosts`; raises NetworkError."""
    match = _LINE.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise NetworkError(f"is {text!r}, which is not a host and port", f"write {SHAPE}")
    methods = tuple(match[1].split(",")) if match[1] else None
    for method in methods or ():
        if method not in METHODS:
            raise NetworkError(f"is {text!r}, with the unknown method {method!r}", f"use one of {', '.join(METHODS)}")
    _check_name(text, match[2])
    if match[4] is not None:
        _check_path(text, match[4])
    return Host(name=match[2], port=int(match[3]), methods=methods, path=match[4])


def parse_range(text: str) -> str:
    """Read one entry of `ranges`; raises NetworkError."""
    try:
        network = ip_network(text)
    except ValueError:
        raise NetworkError(f"is {text!r}, which is not a range of addresses", 'write "10.20.0.0/16"') from None
    if not any(type(network) is type(range_) and network.subnet_of(range_) for range_ in _GRANTABLE):  # type: ignore[arg-type]
        known = ", ".join(map(str, _GRANTABLE))
        raise NetworkError(f"is {text!r}, which no manifest can grant", f"write a range within {known}")
    return str(network)


def parse_credential(secret: str, host: str, header: str, template: str, env: str = "") -> Credential:
    """Read one entry of `secrets`; raises NetworkError."""
    line = parse_host(host)
    if not line.whole or "*" in line.name:
        raise NetworkError(f"is at {host!r}, which is not one host", 'write host = "api.example.com:443"')
    if _HEADER.fullmatch(header) is None or header.lower() in _FRAMING or header.lower().startswith("proxy-"):
        raise NetworkError(f"has the header {header!r}, which the proxy cannot set", 'write header = "Authorization"')
    named = [encoded or plain for encoded, plain in _TEMPLATE.findall(template)]
    plain = _TEMPLATE.sub("", template)
    if named != [secret] or not plain.isascii() or not plain.isprintable() or set("{}") & set(plain):
        fix = f'write value = "Bearer {{{secret}}}" or "Basic {{base64({secret})}}"'
        raise NetworkError(f"has the value {template!r}, which must contain {{{secret}}} once", fix)
    return Credential(secret=secret, name=line.name, port=line.port, header=header, template=template, env=env)


def url_permission(resource: str, methods: Iterable[str]) -> UrlPermission:
    """The permission for one canonical URL."""
    parts = urlsplit(resource)
    assert parts.hostname is not None  # canonical
    port = parts.port or DEFAULT_PORT[parts.scheme]
    return UrlPermission(scheme=parts.scheme, name=parts.hostname, port=port, path=parts.path, methods=tuple(methods))


def url_permissions(touches: Iterable[ResourceAccess], methods: Iterable[str]) -> tuple[UrlPermission, ...]:
    """The permissions for the URLs among the resources of a call."""
    methods = tuple(methods)
    return tuple(url_permission(touch.resource, methods) for touch in touches if touch.kind in SCHEMES)


def is_address(host: str) -> bool:
    """True if a canonical host is an address, not a name."""
    return host.startswith("[") or ":" in host or host.rpartition(".")[2].isdigit()


def _check_name(text: str, name: str) -> None:
    plain = name
    if name == "**":
        plain = "name"
    elif name.startswith(("*.", "**.")):
        plain = name.partition(".")[2]
    try:
        valid = canonical_host("host", plain) == plain and not is_address(plain)
    except Refusal:
        valid = False
    if not valid:
        fix = f"write a name in lower case, not an address: {SHAPE}"
        raise NetworkError(f"is {text!r}, whose host is not a name", fix)


def _check_path(text: str, path: str) -> None:
    plain = "https://name" + "/".join("x" if part == "**" else part.replace("*", "x") for part in path.split("/"))
    try:
        valid = canonical_url("https", plain).address == plain
    except Refusal:
        valid = False
    if not valid or any(part != "**" and "**" in part for part in path.split("/")):
        raise NetworkError(f"is {text!r}, whose path is not a canonical pattern", f"write {SHAPE}")


def _labels_match(pattern: list[str], labels: list[str]) -> bool:
    """Compares labels from the right. `**` may stand at the left end only and matches one label or more."""
    if pattern[-1] == "**":
        return len(labels) >= len(pattern) and labels[: len(pattern) - 1] == pattern[:-1]
    if len(pattern) != len(labels):
        return False
    return all(part in ("*", label) for part, label in zip(pattern, labels, strict=True))
