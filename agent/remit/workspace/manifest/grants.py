"""The lines of tool.toml that would let an action reach what its sandbox refused: the narrowest items, each with its list and table.

A file needs two lines: `touches` of the action names it, so that rules decide on it, and `[at_most]` has it.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from remit.core import Access, Connection, DeniedAccess, Json, Refusal
from remit.core.parsing import SCHEMES, URL_KINDS, canonical, canonical_url, covered
from remit.sandbox.egress import NetworkError, is_address, parse_host, url_permission
from remit.workspace.manifest.manifest import Action, Manifest
from remit.workspace.manifest.touches import Template, TouchError, check_pattern, parse_touch

Use: TypeAlias = Literal["read", "write", "connect", "start", "variable"]

NOTHING: Final = "nothing: a tool reaches only its working folder"
_STORE: Final = re.compile(r"stores/([^/]+)(?:/.*)?", re.DOTALL)
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")


class GrantLine(NamedTuple):
    """One item to add to a list of tool.toml."""

    table: tuple[str, ...]
    key: str
    item: str

    def __str__(self) -> str:
        return f'add "{self.item}" to {self.key} in [{".".join(self.table)}]'


def grant_lines(manifest: Manifest, action: Action, use: Use, what: str) -> tuple[GrantLine, ...]:
    """The lines that the manifest lacks for this use; empty if no manifest can grant it.

    `what` is a path relative to the working folder, a line of `hosts` ("GET api.example.com:443/items"), the name of a program, or
    that of a variable.
    """
    match use:
        case "read" | "write":
            return _file_lines(manifest, action, use, what)
        case "connect":
            return _host_lines(manifest, what)
        case "start":
            named = what not in manifest.programs and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", what)
            return (GrantLine(("always",), "programs", what),) if named else ()
        case "variable":
            known = what in manifest.env or not _VARIABLE.fullmatch(what)
            return () if known else (GrantLine(("always",), "env", what),)


def _file_lines(manifest: Manifest, action: Action, access: Access, name: str) -> tuple[GrantLine, ...]:
    if (store := _STORE.fullmatch(name)) is not None:
        touch, most, allowed = f"{access} store:{store[1]}", ("stores", store[1]), store[1] in manifest.stores
    else:
        patterns = manifest.write if access == "write" else manifest.read
        touch, most, allowed = f"{access} file:{name}", (access, name), covered(patterns, name)
    try:
        template = parse_touch(touch)
        if template.form != "constant":
            return ()
        if template.kind == "file":
            check_pattern(name)
    except TouchError:
        return ()
    lines = [] if template in action.templates else [GrantLine(("actions", action.name), "touches", touch)]
    return (*lines, *(() if allowed else (GrantLine(("at_most",), *most),)))


def _host_lines(manifest: Manifest, line: str) -> tuple[GrantLine, ...]:
    try:
        parse_host(line)
    except NetworkError:
        return ()
    return () if line in manifest.hosts else (GrantLine(("always",), "hosts", line),)


def grant_text(manifest: Manifest, action: Action, use: Use, what: str) -> str:
    """What to write into tool.toml so that this use is granted: for a person."""
    if lines := grant_lines(manifest, action, use, what):
        return "; ".join(map(str, lines))
    return _UNNAMED.get(use, NOTHING)


_UNNAMED: Final[dict[Use, str]] = {
    "connect": 'add the host and its port to hosts in [always]: "api.example.com:443"',
    "start": "add the name of the program to programs in [always]",
}


def network_line(connection: Connection) -> str:
    """The line that lets the proxy connect to a host of this machine or network, or trust it; "" if none of them is missing.

    The record names no address, so a person has to name the range.
    """
    if connection.verdict == "not_public" and connection.address == "loopback":
        return 'ranges = ["127.0.0.0/8", "::1/128"]'
    if connection.verdict == "not_public" and connection.address == "private":
        return 'ranges = ["10.0.0.0/8"], with the range of its address'
    if connection.verdict == "bad_certificate":
        return f'ca = {{ "{connection.host}:{connection.port}" = "ca.pem" }}, with the authority in a file beside tool.toml'
    return ""


def lines_for(manifest: Manifest, action: Action, denied: DeniedAccess) -> tuple[GrantLine, ...]:
    """The lines for what a sandbox refused, as it reported it: the tool's own process wrote the report, so it is only a hint."""
    return grant_lines(manifest, action, *_use_of(denied))


def with_grant_text(manifest: Manifest, action: Action, denied: DeniedAccess) -> DeniedAccess:
    """The refused access with the lines of this manifest that would allow it."""
    use, what = _use_of(denied)
    nothing = denied.allow.startswith("nothing")
    return denied.model_copy(update={"allow": NOTHING if nothing else grant_text(manifest, action, use, what)})


def _use_of(denied: DeniedAccess) -> tuple[Use, str]:
    """The use, and what was used as `grant_lines` reads it. For hosts and programs, `allow` has the item: it is narrower than `what`."""
    found = re.search(r'"([^"]+)"', denied.allow)
    item = found[1] if found else denied.what
    if denied.access != "use":
        return denied.access, denied.what
    return ("start" if "programs" in denied.allow else "connect"), item


def ceiling_lines(manifest: Manifest, action: Action, access: str, argument: str, value: Json) -> tuple[GrantLine, ...]:
    """The items that `[at_most]` lacks for a resource that this argument names; empty if no manifest can have it."""
    texts = [value] if isinstance(value, str) else cast("list[object]", value) if isinstance(value, list) else []
    lines: dict[GrantLine, None] = {}
    for template in action.templates:
        if (template.argument, template.access) != (argument, access) or template.path:
            continue
        for text in texts:
            if isinstance(text, str) and (line := _ceiling_line(manifest, action, template, text)) is not None:
                lines[line] = None
    return tuple(lines)


def _ceiling_line(manifest: Manifest, action: Action, template: Template, text: str) -> GrantLine | None:
    try:
        if template.kind == "file":
            name = canonical("file", text) + ("/**" if template.form == "set" else "")
            check_pattern(name)
            patterns = manifest.write if template.access == "write" else manifest.read
            return None if covered(patterns, name) else GrantLine(("at_most",), template.access, name)
        if template.kind in URL_KINDS:
            scheme = text.partition(":")[0].lower() if template.kind == "url" else template.kind
            url = url_permission(canonical_url(scheme if scheme in SCHEMES else "https", text).resource, ())
            methods = f"{','.join(action.methods)} " if action.methods else ""
            line = f"{methods}{url.name}:{url.port}{url.path if methods else ''}"
            parse_host(line)
            return None if is_address(url.name) else GrantLine(("at_most",), "hosts", line)
    except (Refusal, TouchError, NetworkError):
        return None
    return None
