"""What a call may reach over the network: as the manifest names it, and as the decision narrows it.

A line of `hosts`: `[METHODS ]NAME:PORT[/PATH]`, as in "api.example.com:443" or "GET,POST *.example.com:443/v1/**".
`*` stands for one label of a name or for a run within a segment of a path, `**` for any number of them.
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
# The ranges that a manifest may grant: RFC 1918 and 6598, RFC 4193, and loopback. Link-local addresses and whatever else
# is not public are never granted: that is where clouds keep the credentials of the machine.
_GRANTABLE: Final = tuple(
    map(
        ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "::1", "fc00::/7")
    )
)


class NetworkError(ValueError):
    """A manifest names what cannot be reached; `fix` says what to write."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(what)


class Host(FrozenModel):
    """One line of `hosts`. `methods` and `path` None: whatever they are; then nothing needs to look into the connection."""

    name: str
    port: int
    methods: tuple[str, ...] | None = None
    path: str | None = None

    @property
    def whole(self) -> bool:
        return self.methods is None and self.path is None

    def covers(self, name: str, port: int) -> bool:
        """Whether the line is about that host; `name` is canonical and no address."""
        return port == self.port and _labels_match(self.name.split(".")[::-1], name.split(".")[::-1])

    def allows(self, method: str, path: str) -> bool:
        """Whether the request may be made of a host that the line covers. Who may GET may HEAD."""
        if self.methods is not None and method not in self.methods and not (method == "HEAD" and "GET" in self.methods):
            return False
        return self.path is None or covered([self.path.removeprefix("/")], path.removeprefix("/"))


class UrlPermission(FrozenModel):
    """One URL that a decision names, with the methods that the action may use; the query is not part of it."""

    scheme: str
    name: str
    port: int
    path: str
    methods: tuple[str, ...]


class Credential(FrozenModel):
    """A secret that the proxy puts on the wire at one host: `header` gets `template` with the secret in it.

    `env` names the variable in which the tool holds a stand-in for it, "" for none.
    """

    secret: str
    name: str
    port: int
    header: str
    template: str
    env: str = ""

    def render(self, value: str) -> str:
        """The header's value, with the secret in it."""
        encoded = base64.b64encode(value.encode()).decode()
        return _TEMPLATE.sub(lambda found: encoded if found[1] else value, self.template)


class Exposed(FrozenModel):
    """A secret that cannot go by the proxy: the tool itself gets it, in the variable `env`."""

    secret: str
    env: str


class Network(FrozenModel):
    """Everything that one call may reach. Empty: nothing.

    `hosts` every call of the tool has; `urls` are this call's. `at_most` bounds the URLs that it may be redirected to, each
    decided again. `ranges` are ranges that are not public and may be dialled all the same. `sent` and `received` are bytes
    of all of a call's connections. `key_header` is the header that carries the call's idempotency key.
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

    def allows(self, scheme: str, name: str, port: int, method: str, path: str) -> bool:
        """Whether that request may be made, by what is known of the call without asking again."""
        return any(line.covers(name, port) and line.allows(method, path) for line in self.hosts) or any(
            (url.scheme, url.name, url.port, url.path) == (scheme, name, port, path) and method in url.methods
            for url in self.urls
        )

    def opaque(self, name: str, port: int) -> bool:
        """Whether a connection to that host may pass without being looked into."""
        return any(line.whole and line.covers(name, port) for line in self.hosts) and not self.credentials_at(
            name, port
        )

    def knows(self, name: str, port: int) -> bool:
        """Whether some request to that host may be made."""
        return any(line.covers(name, port) for line in self.hosts) or any(
            (url.name, url.port) == (name, port) for url in self.urls
        )

    def may_ask(self, name: str, port: int, method: str) -> bool:
        """Whether a URL of that host that the decision did not name may be decided after all."""
        return method in self.methods and any(line.covers(name, port) for line in self.at_most)

    def credentials_at(self, name: str, port: int) -> tuple[Credential, ...]:
        return tuple(one for one in self.credentials if (one.name, one.port) == (name, port))

    @property
    def sees_all(self) -> bool:
        """Whether every connection is looked into, so that the tool needs to trust the proxy's authority alone."""
        return all(
            not line.whole or any(line.covers(one.name, one.port) for one in self.credentials) for line in self.hosts
        )


def parse_host(text: str) -> Host:
    """One line of `hosts`; raises `NetworkError`."""
    found = _LINE.fullmatch(text)
    if found is None or int(found[3]) > 65535:
        raise NetworkError(f"is {text!r}, which is no host and port", f"write {SHAPE}")
    methods = tuple(found[1].split(",")) if found[1] else None
    for method in methods or ():
        if method not in METHODS:
            raise NetworkError(f"is {text!r}, with the unknown method {method!r}", f"write one of {', '.join(METHODS)}")
    _check_name(text, found[2])
    if found[4] is not None:
        _check_path(text, found[4])
    return Host(name=found[2], port=int(found[3]), methods=methods, path=found[4])


def parse_range(text: str) -> str:
    """One range of `ranges`; raises `NetworkError`."""
    try:
        network = ip_network(text)
    except ValueError:
        raise NetworkError(f"is {text!r}, which is no range of addresses", 'write "10.20.0.0/16"') from None
    if not any(type(network) is type(each) and network.subnet_of(each) for each in _GRANTABLE):  # type: ignore[arg-type]
        known = ", ".join(map(str, _GRANTABLE))
        raise NetworkError(f"is {text!r}, which cannot be granted", f"write a range within {known}")
    return str(network)


def parse_credential(secret: str, host: str, header: str, template: str, env: str = "") -> Credential:
    """One entry of `secrets`; raises `NetworkError`."""
    line = parse_host(host)
    if not line.whole or "*" in line.name:
        raise NetworkError(f"is at {host!r}, which is not one host", 'write host = "api.example.com:443"')
    if _HEADER.fullmatch(header) is None or header.lower() in _FRAMING or header.lower().startswith("proxy-"):
        raise NetworkError(f"has the header {header!r}, which cannot carry it", 'write header = "Authorization"')
    found = [one or other for one, other in _TEMPLATE.findall(template)]
    plain = _TEMPLATE.sub("", template)
    if found != [secret] or not plain.isascii() or not plain.isprintable() or set("{}") & set(plain):
        fix = f'write value = "Bearer {{{secret}}}" or "Basic {{base64({secret})}}"'
        raise NetworkError(f"has the value {template!r}, which does not hold {secret!r} once", fix)
    return Credential(secret=secret, name=line.name, port=line.port, header=header, template=template, env=env)


def url_of(resource: str, methods: Iterable[str]) -> UrlPermission:
    """The URL of a canonical resource."""
    parts = urlsplit(resource)
    assert parts.hostname is not None  # canonical
    port = parts.port or DEFAULT_PORT[parts.scheme]
    return UrlPermission(scheme=parts.scheme, name=parts.hostname, port=port, path=parts.path, methods=tuple(methods))


def urls_of(touches: Iterable[ResourceAccess], methods: Iterable[str]) -> tuple[UrlPermission, ...]:
    """The URLs among what a call touches."""
    methods = tuple(methods)
    return tuple(url_of(touch.resource, methods) for touch in touches if touch.kind in SCHEMES)


def is_address(host: str) -> bool:
    """Whether a canonical host is an address and not a name."""
    return host.startswith("[") or ":" in host or host.rpartition(".")[2].isdigit()


def _check_name(text: str, name: str) -> None:
    plain = name
    if name == "**":
        plain = "name"
    elif name.startswith(("*.", "**.")):
        plain = name.partition(".")[2]
    try:
        fine = canonical_host("host", plain) == plain and not is_address(plain)
    except Refusal:
        fine = False
    if not fine:
        fix = f"write a name in lower case, no address: {SHAPE}"
        raise NetworkError(f"is {text!r}, whose host is no name", fix)


def _check_path(text: str, path: str) -> None:
    plain = "https://name" + "/".join("x" if part == "**" else part.replace("*", "x") for part in path.split("/"))
    try:
        fine = canonical_url("https", plain).address == plain
    except Refusal:
        fine = False
    if not fine or any(part != "**" and "**" in part for part in path.split("/")):
        raise NetworkError(f"is {text!r}, whose path is no canonical pattern", f"write {SHAPE}")


def _labels_match(pattern: list[str], labels: list[str]) -> bool:
    """From the right; `**` stands only at the left end and needs at least one label."""
    if pattern[-1] == "**":
        return len(labels) >= len(pattern) and labels[: len(pattern) - 1] == pattern[:-1]
    if len(pattern) != len(labels):
        return False
    return all(one in ("*", other) for one, other in zip(pattern, labels, strict=True))
