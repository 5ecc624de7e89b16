"""The value that the result of `tools/call` is for Remit: `content`, a list of blocks, and `structured`, if the tool has a schema for it.

Bytes of images, sounds and files are kept beside the result, by digest, as those of LangChain tools are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Final, cast

from remit.broker.mcp.messages import NotMcp
from remit.core import ContentObject, Json
from remit.core.parsing import digest_bytes

MOST_BLOCKS: Final = 1_000
LARGEST_CONTENT: Final = 8 * 1024**2  # bytes of all images, sounds and files of one result
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text",),
    "image": ("data", "mimeType"),
    "audio": ("data", "mimeType"),
    "resource_link": ("uri", "name", "title", "description", "mimeType", "size"),
    "resource": ("resource",),
}
_RESOURCE: Final = ("uri", "mimeType", "text", "blob")


def value_of(result: Mapping[str, Json]) -> tuple[dict[str, Json], tuple[ContentObject, ...]]:
    """The value of a result, and the bytes that it names. Of each block, what the protocol defines is kept, without annotations.

    Raises:
        NotMcp: it is no result of a tool, or has bytes that are no base64, or too many of them.
    """
    blocks = result.get("content", [])
    if not isinstance(blocks, list) or len(cast("Sequence[Json]", blocks)) > MOST_BLOCKS:
        raise NotMcp("a result whose content is no list of blocks, or is too long")
    found: dict[str, ContentObject] = {}
    value: dict[str, Json] = {"content": [_block(block, found) for block in cast("Sequence[Json]", blocks)]}
    if isinstance(result.get("structuredContent"), dict):
        value["structured"] = result["structuredContent"]
    if sum(item.size for item in found.values()) > LARGEST_CONTENT:
        raise NotMcp(f"more than {LARGEST_CONTENT} bytes of images, sounds and files")
    return value, tuple(found.values())


def resource_of(result: Mapping[str, Json]) -> tuple[dict[str, Json], tuple[ContentObject, ...]]:
    """The value of a result of `resources/read`, as that of a tool that embeds these resources. Raises as `value_of`."""
    contents = result.get("contents")
    if not isinstance(contents, list):
        raise NotMcp("a resource without 'contents'")
    return value_of({"content": [{"type": "resource", "resource": item} for item in cast("Sequence[Json]", contents)]})


def text_of(value: Mapping[str, Json]) -> str:
    """The texts of a value, for a message."""
    blocks = cast("list[dict[str, Json]]", value["content"])
    return "\n".join(str(block["text"]) for block in blocks if block["type"] == "text")


def _block(block: Json, found: dict[str, ContentObject]) -> dict[str, Json]:
    fields = cast("dict[str, Json]", block) if isinstance(block, dict) else {}
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise NotMcp("a block of content of an unknown type")
    kept = {name: fields[name] for name in _FIELDS[kind] if name in fields}
    if kind == "resource":
        inner = fields.get("resource")
        if not isinstance(inner, dict):
            raise NotMcp("an embedded resource without its content")
        given = cast("dict[str, Json]", inner)
        kept = {"resource": _named({name: given[name] for name in _RESOURCE if name in given}, "blob", found)}
    elif not all(isinstance(kept.get(name), str) for name in _FIELDS[kind][:1]):
        raise NotMcp(f"a block of type {kind!r} without {_FIELDS[kind][0]!r}")
    return {"type": kind, **_named(kept, "data", found)}


def _named(fields: dict[str, Json], key: str, found: dict[str, ContentObject]) -> dict[str, Json]:
    """The fields with the digest of their bytes in place of the bytes themselves."""
    data, media_type = fields.get(key), fields.get("mimeType")
    if not isinstance(data, str):
        return fields
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError as failure:
        raise NotMcp("bytes that are no base64") from failure
    if base64.b64encode(content).decode() != data:
        raise NotMcp("bytes that are no base64")
    kind = media_type[:100] if isinstance(media_type, str) else ""
    item = ContentObject(digest=digest_bytes(content), media_type=kind, size=len(content), data=data)
    found[item.digest] = item
    return {**fields, key: {"object": item.digest, "bytes": item.size}}


def output_schema(tool: Mapping[str, Json]) -> dict[str, Json]:
    """The JSON Schema of such a value, for a tool as its server lists it."""
    properties: dict[str, Json] = {"content": {"type": "array", "items": {"type": "object", "required": ["type"]}}}
    given = tool.get("outputSchema")
    if isinstance(given, dict):
        properties["structured"] = _moved(cast("dict[str, Json]", given), "#/properties/structured")
    required = ["content", "structured"] if isinstance(given, dict) else ["content"]
    if not isinstance(given, dict):
        properties["structured"] = {"type": "object"}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _moved(schema: Json, to: str) -> Json:
    """The schema with its references to its own parts, which now lie below `to`."""
    if isinstance(schema, dict):
        fields = cast("dict[str, Json]", schema)
        return {
            key: f"{to}{value[1:]}"
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else _moved(value, to)
            for key, value in fields.items()
            if key not in ("$schema", "$id")
        }
    if isinstance(schema, list):
        return [_moved(item, to) for item in cast("Sequence[Json]", schema)]
    return schema
