"""The images, sounds and files of a result, as content that a client shows to its model. The text of the result names them by digest."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from mcp_types import AudioContent, BlobResourceContents, ContentBlock, EmbeddedResource, ImageContent

from remit.broker import with_objects
from remit.core import ContentObject, Json
from remit.core.parsing import digest_bytes

_DATA: Final = ("base64", "data")
_TYPES: Final = ("mime_type", "media_type", "mimeType")


def contents(value: Json, objects: Iterable[ContentObject]) -> list[ContentBlock]:
    """A block for each of these objects that the value names: by its media type an image, a sound, or else a file."""
    # The result of an MCP server is an object with `content`, and that of any other tool may be a list.
    given: Json = cast("dict[str, Json]", value).get("content") if isinstance(value, dict) else value
    blocks = cast("list[Mapping[str, Any]]", with_objects(given, objects))
    return [made for block in blocks if (made := _content(_text(block, _DATA), _text(block, _TYPES))) is not None]


def _text(block: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((block[name] for name in names if isinstance(block.get(name), str)), "")


def _content(data: str, media_type: str) -> ContentBlock | None:
    if not data:  # a block with a URL: its text says all of it
        return None
    if media_type.startswith("image/"):
        return ImageContent(data=data, mime_type=media_type)
    if media_type.startswith("audio/"):
        return AudioContent(data=data, mime_type=media_type)
    kind = media_type or "application/octet-stream"
    return EmbeddedResource(resource=BlobResourceContents(uri=_uri(data), mime_type=kind, blob=data))


def _uri(data: str) -> str:
    """The name of the bytes by their digest (RFC 6920)."""
    digest = bytes.fromhex(digest_bytes(base64.b64decode(data)).removeprefix("sha256:"))
    return f"ni:///sha-256;{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
