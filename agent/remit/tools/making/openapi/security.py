"""The security schemes of an OpenAPI document: those by which the proxy can add a secret to a request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from remit.core import Json
from remit.tools.making.openapi.document import Document, Unfit
from remit.tools.making.texts import name_of, one_line

_HEADER: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Secret:
    """A secret that the proxy adds as a header. `scheme`: its name in the document; `value`: with `{NAME}` for the secret."""

    scheme: str
    header: str
    value: str


def secrets_of(document: Document, tool: str) -> tuple[tuple[str, Secret], ...]:
    """The secrets of the tool by name, one for each header: of the schemes that the document itself or an operation requires."""
    found: dict[str, Secret] = {}
    for scheme in _required(document):
        secret = _secret(document, scheme)
        if secret is not None:
            found.setdefault(secret.header.lower(), secret)
    several = len(found) > 1
    return tuple(
        (name, Secret(scheme=item.scheme, header=item.header, value=item.value.replace("NAME", name)))
        for item in found.values()
        for name in [name_of(f"{tool}_{item.scheme}" if several else tool, prefix="secret")]
    )


def unsupported_schemes(document: Document, operation: Mapping[str, Json]) -> str:
    """Why no secret fits the operation; "" if one does, or if it needs none."""
    choices = operation.get("security", document.root.get("security"))
    if not isinstance(choices, list) or not choices:
        return ""
    every = [
        cast("Mapping[str, Json]", choice) for choice in cast("Sequence[Json]", choices) if isinstance(choice, dict)
    ]
    if any(all(_secret(document, scheme) is not None for scheme in choice) for choice in every):
        return ""
    named = sorted({one_line(scheme, 60) for choice in every for scheme in choice})
    return f"its security scheme {', '.join(named)} is none that the proxy can add as a header"


def _required(document: Document) -> dict[str, None]:
    names: dict[str, None] = {}
    paths = document.root.get("paths", {})
    items = cast("Mapping[str, Json]", paths).values() if isinstance(paths, dict) else ()
    tables = [document.root]
    for item in items:
        if isinstance(item, dict):
            inner = cast("Mapping[str, Json]", item)
            tables += [cast("Mapping[str, Json]", node) for node in inner.values() if isinstance(node, dict)]
    for table in tables:
        choices = table.get("security")
        for choice in cast("Sequence[Json]", choices) if isinstance(choices, list) else ():
            names.update(dict.fromkeys(cast("Mapping[str, Json]", choice)) if isinstance(choice, dict) else {})
    return names


def _secret(document: Document, scheme: str) -> Secret | None:
    """The header of a scheme; None for one in the query, in a cookie, or of the connection."""
    try:
        components = document.table(document.root.get("components", {}))
        node = document.table(document.table(components.get("securitySchemes", {})).get(scheme))
    except Unfit:
        return None
    kind, name = node.get("type"), str(node.get("scheme", "")).lower()
    if kind == "apiKey" and node.get("in") == "header" and _HEADER.fullmatch(str(node.get("name"))):
        return Secret(scheme=scheme, header=str(node["name"]), value="{NAME}")
    if kind == "http" and name == "basic":
        return Secret(scheme=scheme, header="Authorization", value="Basic {base64(NAME)}")
    if kind in ("oauth2", "openIdConnect") or (kind == "http" and name == "bearer"):
        return Secret(scheme=scheme, header="Authorization", value="Bearer {NAME}")
    return None
