"""The header fields of a request over HTTP, which repeat what its body says, so that a gateway need not read the body.

https://modelcontextprotocol.io/specification/2026-07-28/basic/transports and SEP-2243
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Final

from remit.broker.mcp.messages import members
from remit.core import Json

MODERN: Final = "2026-07-28"
_MARK: Final = "x-mcp-header"
_NAMED: Final[Mapping[str, str]] = {"tools/call": "name", "resources/read": "uri"}
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_PLAIN: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_TYPES: Final = ("string", "integer", "boolean")
_MOST_DEEP: Final = 32


class WrongField(Exception):
    """A tool asks for header fields that the protocol does not allow."""


def header_fields(
    version: str, method: str, params: Mapping[str, Json], schema: Mapping[str, Json] | None = None
) -> dict[str, str]:
    """The fields of one request; `schema` is the input schema of the tool that it calls."""
    if not version:  # nothing is agreed yet
        return {}
    fields = {"MCP-Protocol-Version": version}
    if version != MODERN:
        return fields
    fields["Mcp-Method"] = method
    name = params.get(_NAMED.get(method, ""))
    if isinstance(name, str):
        fields["Mcp-Name"] = _encoded(name)
    if schema is not None:
        for path, field in mirrored(schema).items():
            value: Json = params.get("arguments")
            for key in path:
                value = members(value).get(key)
            if isinstance(value, (str, int)):
                text = str(value).lower() if isinstance(value, bool) else str(value)
                fields[f"Mcp-Param-{field}"] = _encoded(text)
    return fields


def mirrored(schema: Mapping[str, Json]) -> dict[tuple[str, ...], str]:
    """The paths of the arguments that are repeated in a field, each with the name of that.

    Raises:
        WrongField: a field has no valid name, or one of another field, or stands where its argument is not always found.
    """
    found: dict[tuple[str, ...], str] = {}
    for path, position in _positions(schema, (), 0):
        if _MARK not in position:
            continue
        name = position[_MARK]
        if not path or not isinstance(name, str) or not _TOKEN.fullmatch(name) or position.get("type") not in _TYPES:
            raise WrongField(f"the field of argument {'.'.join(path or ())!r} is not allowed")
        if name.lower() in {other.lower() for other in found.values()}:
            raise WrongField(f"two arguments with the field {name!r}")
        found[path] = name
    return found


def _positions(
    schema: Json, path: tuple[str, ...] | None, deep: int
) -> Iterator[tuple[tuple[str, ...] | None, Mapping[str, Json]]]:
    """Each schema within the schema, with the path of its argument; None where that depends on more than names."""
    if deep > _MOST_DEEP:
        raise WrongField("its schema is nested too deeply")
    if isinstance(schema, list):
        for item in schema:  # pyright: ignore[reportUnknownVariableType]
            yield from _positions(item, None, deep + 1)
    if not isinstance(schema, dict):
        return
    yield path, members(schema)
    for key, value in members(schema).items():
        if key == "properties":
            for name, described in members(value).items():
                yield from _positions(described, None if path is None else (*path, name), deep + 1)
        elif key not in ("default", "examples", "const", "enum", _MARK):
            yield from _positions(value, None, deep + 1)


def _encoded(value: str) -> str:
    """The value as a field may have it: as it is, or as base64 between marks."""
    if _PLAIN.fullmatch(value) and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="
