"""The canonical spelling of hosts and URLs.

Stricter than https://url.spec.whatwg.org on purpose: what browsers repair (tabs, backslashes, unusual spellings of IP
addresses, user names, dot segments, unnecessary escapes) is refused, because other readers repair it differently. In a path:

    /a/b  /a/  /.well-known/x  /v1..2  /a%3Bb   accepted: all servers read them alike
    /a//b                                        refused: many servers merge the slashes
    /a/../b  /a/./b  /...  /%20../b              refused: some servers resolve them, others do not (Windows drops spaces and dots)
    /a;x=1/b  /..;/b  /;/b                       refused: servlet containers cut a part at ';' before they resolve it
                                                 (RFC 3986 section 3.3); write a ';' that belongs to a name as %3B
    /a%2Fb  /a%5Cb  /%2E%2E/b  /a%252Fb          refused: one reader decodes them once, another twice or never
    /%EF%BC%8E%EF%BC%8E/b  /a%EF%BC%8Fb          refused: wide dots and slashes, which some servers replace by plain ones
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NoReturn
from urllib.parse import unquote

import idna

from remit.core.errors import Refusal

LONGEST_URL: Final = 8192  # characters
LONGEST_HOST: Final = 253  # characters, RFC 1035 section 2.3.4
DEFAULT_PORT: Final = {"http": 80, "https": 443}
SCHEMES: Final = ("https", "http")
URL_KINDS: Final = ("url", *SCHEMES)  # kinds of resources that are reached by a URL
SERVER_KIND: Final = "mcp"  # the kind of a server that runs elsewhere, which gets the arguments of its calls

_URL = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/?#@\\%<>^|\"`{}]+)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?"
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # "ends in a number", URL standard section 3.5
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()+,;=:@")
_PLAIN_PART: Final = _PLAIN - {";"}
_PLAIN_QUERY: Final = (_PLAIN | frozenset("/?*[]|^`{}\\")) - {"'"}
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_ESCAPES = re.compile(r"(?:%[0-9A-F]{2})+")


@dataclass(frozen=True, kw_only=True)
class Url:
    """A canonical URL. `resource` is the URL without its query, on which policy decides; `address` is what the tool receives."""

    resource: str
    address: str


def canonical_url(scheme: str, value: str) -> Url:
    """The canonical URL. Raises Refusal `invalid_arguments` for any other text."""
    found = _URL.fullmatch(value) if len(value) <= LONGEST_URL else None
    if found is None:
        _refuse(scheme, "not_a_url", f"write {scheme}://host/path, without user name or fragment")
    if found["scheme"].lower() != scheme:
        _refuse(scheme, "other_scheme", f"write {scheme}://host/path")
    host = canonical_host(scheme, found["host"])
    port = int(found["port"] or DEFAULT_PORT[scheme])
    if port > 65535:
        _refuse(scheme, "port", "a port is a number from 1 to 65535")
    shown = "" if port == DEFAULT_PORT[scheme] else f":{port}"
    resource = f"{scheme}://{host}{shown}{_path(scheme, found['path'] or '/')}"
    query = found["query"]
    return Url(resource=resource, address=resource if query is None else f"{resource}?{_query(scheme, query[1:])}")


def canonical_host(kind: str, value: str) -> str:
    """A lower-case ASCII host name, a dotted IPv4 address or a bracketed IPv6 address.

    Raises Refusal `invalid_arguments` for any other text.
    """
    if len(value) > LONGEST_HOST:
        _refuse(kind, "not_a_host", f"a host name has at most {LONGEST_HOST} characters")
    if value.startswith("["):
        return _ipv6(kind, value)
    name = value.lower()
    if not value.isascii():
        name = _punycode(kind, name)
    labels = name.split(".")
    if len(name) > LONGEST_HOST or any(_LABEL.fullmatch(label) is None for label in labels):
        _refuse(kind, "not_a_host", "write one host name, without a dot at its end")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4(kind, name)
    if any(label[2:4] == "--" for label in labels):
        _check_punycode(kind, name)
    return name


def _ipv4(kind: str, name: str) -> str:
    try:
        return str(IPv4Address(name))  # four decimal numbers without leading zeros, since Python 3.9.5
    except AddressValueError:
        _refuse(kind, "odd_address", "write an IPv4 address as four plain decimal numbers")


def _ipv6(kind: str, value: str) -> str:
    try:
        address = IPv6Address(value[1:-1])
    except AddressValueError:
        _refuse(kind, "odd_address", "write an IPv6 address in its shortest form")
    if (
        address.ipv4_mapped is not None or value != f"[{address.compressed}]"
    ):  # a mapped address is another spelling of an IPv4 address
        _refuse(kind, "odd_address", "write an IPv6 address in its shortest form, and an IPv4 address as such")
    return value


def _punycode(kind: str, name: str) -> str:
    """The ASCII form of an international name (IDNA 2008).

    Names that would first be mapped to other characters (wide letters and dots, soft hyphens) are refused.
    """
    try:
        written = idna.encode(name).decode()
        if idna.decode(written) == name:
            return written
    except (idna.IDNAError, UnicodeError):
        pass
    _refuse(kind, "not_a_host", "write the plain characters of one host name")


def _check_punycode(kind: str, name: str) -> None:
    try:
        if idna.encode(idna.decode(name)).decode() == name:
            return
    except (idna.IDNAError, UnicodeError):
        pass
    _refuse(kind, "not_a_host", "write one host name")


def _path(kind: str, path: str) -> str:
    if "//" in path:
        _refuse(kind, "dot_segment", "write the path without '.', '..' and empty parts")
    return "/".join(_part(kind, part) for part in path.split("/"))


def _part(kind: str, part: str) -> str:
    """One part of a path, which every server reads as exactly this part."""
    written = _escaped(kind, part, _PLAIN_PART)
    if ";" in part:
        _refuse(
            kind,
            "path_parameter",
            "remove ';' and the rest of the part, or write it as %3B if it belongs to the name",
        )
    seen = unicodedata.normalize("NFKC", unquote(written))
    if "/" in seen or "\\" in seen:
        _refuse(kind, "lookalike", "write it without characters that look like a slash")
    name = seen.partition(";")[0].strip()
    if seen and not name.strip("."):  # only the last part may be empty: it ends the path with a slash
        _refuse(kind, "dot_segment", "write the path without '.', '..' and empty parts")
    return written


def _query(kind: str, query: str) -> str:
    return _escaped(kind, query, _PLAIN_QUERY, needless=True)


def _escaped(kind: str, text: str, plain: frozenset[str], *, needless: bool = False) -> str:
    """The text with upper-case escapes for exactly those bytes that need one.

    With `needless`, unnecessary escapes are kept: no rule reads a query. In a path they would be a second spelling.
    """
    written: list[str] = []
    at = 0
    while at < len(text):
        character = text[at]
        if character == "%":
            if (escape := _ESCAPE.match(text, at)) is None:
                _refuse(kind, "percent_escape", "write an escape as % and two hex digits")
            written.append(escape.group().upper())
            at = escape.end()
            continue
        if character in plain or character == ";":
            written.append(character)
        elif character.isascii() or unicodedata.category(character)[0] in "CZ":
            _refuse(kind, "character", 'write spaces, controls and <>"`{}|\\^*[] as escapes')
        else:
            written.append("".join(f"%{byte:02X}" for byte in character.encode()))
        at += 1
    if not needless:
        _check_escapes(kind, "".join(written), plain)
    return "".join(written)


def _check_escapes(kind: str, text: str, plain: frozenset[str]) -> None:
    """Refuse escapes of characters that need none, and escapes that are not readable text."""
    for run in _ESCAPES.finditer(text):
        try:
            decoded = bytes.fromhex(run.group().replace("%", "")).decode()
        except UnicodeDecodeError:
            _refuse(kind, "percent_escape", "write the escapes of UTF-8 bytes")
        if not unicodedata.is_normalized("NFC", decoded):
            _refuse(kind, "not_normalised", "write it in Unicode form NFC")
        for character in decoded:
            hidden = character != " " and unicodedata.category(character)[0] in "CZ"
            if hidden or character in "/\\%" or character in plain:
                _refuse(
                    kind,
                    "percent_escape",
                    "write plain characters as themselves, and no slash, control or % as an escape",
                )


def _refuse(kind: str, problem: str, fix: str) -> NoReturn:
    raise Refusal("invalid_arguments", f"not the name of one {kind}: {fix}", details={"kind": kind, "problem": problem})
