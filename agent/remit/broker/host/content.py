"""The content that a tool of LangChain returns: a text, JSON, or blocks, of which images and files are kept beside the result.

The result names their bytes by digest: `{"object": "sha256:…", "bytes": 68}` stands where the block has them. So the model of Remit's own
loop reads a short text, and the graph of a LangChain agent gets the block as the tool returned it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, cast

from remit.core import ContentObject, Json
from remit.core.events import AttemptEnded
from remit.core.parsing import digest_bytes, load_json

LARGEST_CONTENT: Final = 8 * 1024**2  # bytes of all images and files of one result

_KINDS: Final = frozenset({"image", "image_url", "audio", "input_audio", "video", "file", "document", "text-plain"})
_FIELDS: Final = frozenset({"base64", "data", "file_data"})  # those that hold base64; a URL of any field may too
_URL: Final = re.compile(r"data:([^;,]{0,100})(?:;[^;,]{0,100}){0,4};base64,")
_MEDIA_TYPES: Final = ("mime_type", "media_type")
_DEEPEST: Final = 4  # objects inside a block


@dataclass(frozen=True, kw_only=True)
class HostValue:
    """The value that a host function returns, and what the record keeps beside it."""

    value: Json
    objects: tuple[ContentObject, ...] = ()


def content_value(content: Json) -> HostValue:
    """The content of a ToolMessage: blocks with digests in place of their bytes; of a text of JSON, the object or the list that it is."""
    if _is_list(content):
        found: dict[str, ContentObject] = {}
        value = [_taken_out(block, found) if _is_block(block) else block for block in content]
        return HostValue(value=value, objects=tuple(found.values()))
    return HostValue(value=_structured(content))


def block_value(value: Json) -> HostValue:
    """The value of a function that is no LangChain tool: blocks that say what they are by `mime_type` give their bytes away, and nothing
    else is changed.
    """
    blocks = _is_list(value) and any(map(_is_standard, value))
    if not blocks:
        return HostValue(value=value)
    found: dict[str, ContentObject] = {}
    made = [_taken_out(block, found) if _is_standard(block) else block for block in value]
    return HostValue(value=made, objects=tuple(found.values()))


def _is_standard(block: Any) -> bool:
    texts = (block.get("base64"), block.get("mime_type")) if _is_block(block) else ()
    return bool(texts) and all(isinstance(text, str) for text in texts)


def _structured(content: Json) -> Json:
    """LangChain writes an object or a list as a text of JSON. Another content as it is."""
    if not isinstance(content, str) or content[:1] not in ("{", "["):
        return content
    try:
        value = load_json(content)
    except ValueError:
        return content
    return content if value is None or isinstance(value, str | int | float) else value


def with_objects(value: Json, objects: Iterable[ContentObject]) -> list[Json]:
    """The blocks of the value that have these objects, as the tool returned them."""
    known = {item.digest: item.data for item in objects if item.data}
    blocks = value if known and _is_list(value) else []
    given = [(block, _put_back(block, known)) for block in blocks if _is_block(block)]
    return [made for block, made in given if made != block]


def objects_of(get: Callable[[str], object], step: int, index: int) -> tuple[ContentObject, ...]:
    """The images and files that the result of a call names. `get` returns the event of a key of its run."""
    objects: tuple[ContentObject, ...] = ()
    number = 1
    while isinstance(ended := get(f"attempt.ended/{step}/{index}/{number}"), AttemptEnded):
        number, objects = number + 1, ended.objects
    return objects


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_block(block: Any) -> bool:
    kind = cast("dict[str, Any]", block).get("type") if isinstance(block, dict) else None
    return isinstance(kind, str) and kind in _KINDS  # a tool may write a list there, which no set can look up


def _taken_out(block: Any, found: dict[str, ContentObject], name: str = "", media_type: str = "", deep: int = 0) -> Any:
    if isinstance(block, dict) and deep < _DEEPEST:
        fields = cast("dict[str, Any]", block)
        own = next((fields[key] for key in _MEDIA_TYPES if isinstance(fields.get(key), str)), media_type)
        return {key: _taken_out(item, found, key, own, deep + 1) for key, item in fields.items()}
    made = _object_of(name, block, media_type) if isinstance(block, str) else None
    if made is None:
        return cast("Any", block)
    prefix, item = made
    found[item.digest] = item
    return {"object": item.digest, "bytes": item.size, **({"prefix": prefix} if prefix else {})}


def _object_of(name: str, text: str, media_type: str) -> tuple[str, ContentObject] | None:
    """What stands before the base64 of a text, and its bytes; None if it holds none, or is not the usual spelling of them."""
    url = _URL.match(text)
    if url is None and name not in _FIELDS:
        return None
    data = text[url.end() :] if url else text
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError:
        return None
    if base64.b64encode(content).decode() != data:
        return None
    kind = url[1] if url else media_type
    item = ContentObject(digest=digest_bytes(content), media_type=kind[:100], size=len(content), data=data)
    return (url[0] if url else ""), item


def _put_back(block: Any, known: Mapping[str, str], deep: int = 0) -> Any:
    if not isinstance(block, dict) or deep > _DEEPEST:  # no deeper than `_taken_out` puts an object
        return cast("Any", block)
    fields = cast("dict[str, Any]", block)
    data = known.get(fields["object"]) if isinstance(fields.get("object"), str) else None
    prefix = fields.get("prefix", "")
    if data is not None and isinstance(prefix, str):
        return f"{prefix}{data}"
    return {key: _put_back(item, known, deep + 1) for key, item in fields.items()}
