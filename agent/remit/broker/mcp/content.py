"""The value that the result of `tools/call` is for Remit: `content`, a list of blocks, and `structured`, if the tool has a schema for it.

Bytes of images, sounds and files are kept beside the result, by digest, as those of LangChain tools are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from remit.broker.mcp.messages import NotMcp
from remit.core import Json

MOST_BLOCKS: Final = 1_000
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text",),
    "image": ("data", "mimeType"),
    "audio": ("data", "mimeType"),
    "resource_link": ("uri", "name", "title", "description", "mimeType", "size"),
    "resource": ("resource",),
}
_RESOURCE: Final = ("uri", "mimeType", "text", "blob")


def value_of(result: Mapping[str, Json]) -> dict[str, Json]:
    """The value of a result. Of each block, what the protocol defines is kept, without annotations.

    Raises:
        NotMcp: it is no result of a tool.
    """
    blocks = result.get("content", [])
    if not isinstance(blocks, list) or len(cast("Sequence[Json]", blocks)) > MOST_BLOCKS:
        raise NotMcp("a result whose content is no list of blocks, or is too long")
    value: dict[str, Json] = {"content": [_block(block) for block in cast("Sequence[Json]", blocks)]}
    if isinstance(result.get("structuredContent"), dict):
        value["structured"] = result["structuredContent"]
    return value


def text_of(value: Mapping[str, Json]) -> str:
    """The texts of a value, for a message."""
    blocks = cast("list[dict[str, Json]]", value["content"])
    return "\n".join(str(block["text"]) for block in blocks if block["type"] == "text")


def _block(block: Json) -> dict[str, Json]:
    fields = cast("dict[str, Json]", block) if isinstance(block, dict) else {}
    kind = fields.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise NotMcp("a block of content of an unknown type")
    kept = {name: fields[name] for name in _FIELDS[kind] if name in fields}
    if kind == "resource":
        inner = fields.get("resource")
        if not isinstance(inner, dict):
            raise NotMcp("an embedded resource without its content")
        kept = {"resource": {name: inner[name] for name in _RESOURCE if name in inner}}
    elif not all(isinstance(kept.get(name), str) for name in _FIELDS[kind][:1]):
        raise NotMcp(f"a block of type {kind!r} without {_FIELDS[kind][0]!r}")
    return {"type": kind, **kept}


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
