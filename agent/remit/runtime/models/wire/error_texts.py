"""Finds the words of a provider in the body of an error: JSON of any known shape, plain text, or a web page."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from remit.core import Json
from remit.runtime.models.wire.event_stream import is_array, is_object, read_json

ERROR_BYTES: Final = 64 << 10  # of the body of an error that are read
_TEXT: Final = 4096  # characters of a text or page that are looked at
_DEEPEST: Final = 6
_MOST_ITEMS: Final = 5  # of a list of errors
_MESSAGES: Final = ("message", "msg", "error_description", "errorMessage", "error_msg", "status_msg", "reason", "title")
_INNER: Final = ("error", "errors", "detail", "details", "base_resp", "response", "body")
_CODES: Final = ("code", "type", "status", "error_code", "statusCode", "status_code")
_SCRIPT = re.compile(r"<(?:script|style)\b[^>]*>.*?</(?:script|style)>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


@dataclass(frozen=True, kw_only=True)
class ProviderWords:
    """What an error says. `codes` are its codes and types in lower case, `status` is the HTTP status in it, None without one.

    `value` is the whole error, None if it is not JSON. `page` is True for a web page.
    """

    message: str
    codes: frozenset[str] = frozenset()
    status: int | None = None
    value: Json = None
    page: bool = False


def words_in(body: bytes) -> ProviderWords:
    """What the body of an error says. The message is "" for an empty body."""
    try:
        return words_of(read_json(body[:ERROR_BYTES]))
    except ValueError:
        text = body[: 4 * _TEXT].decode("utf-8", "replace")[:_TEXT].strip()
        page = text[:1] == "<"
        # An error in a stream that was refused as a whole: `data: {"error": …}`.
        _, marker, data = text.rpartition("data:")
        if marker and data.strip().startswith("{"):
            return words_in(data.strip().encode())
        return ProviderWords(message=_page_text(text) if page else text, page=page)


def words_of(value: Json) -> ProviderWords:
    """What an error says that is a JSON value."""
    codes: set[str] = set()
    statuses: list[int] = []
    parts: list[str] = []
    for part in _messages(value, codes, statuses, _DEEPEST):
        if part and not any(part in earlier for earlier in parts):
            parts.append(part)
    message = ": ".join(parts[:_MOST_ITEMS])
    return ProviderWords(
        message=message, codes=frozenset(codes), status=statuses[-1] if statuses else None, value=value
    )


def is_error(value: Mapping[str, Any], event: str) -> bool:
    """True if a document of an answer that began as a success is an error."""
    if value.get("error") or event == "error":
        return True
    if value.get("choices"):
        return False
    known = value.get("object") == "error" or value.get("type") == "error"
    return known or (any(value.get(name) for name in ("detail", "errors", "message", "msg", "base_resp")))


def _messages(value: Json, codes: set[str], statuses: list[int], depth: int) -> Iterator[str]:
    """The messages in a value, from the outer to the inner ones. Collects the codes on the way."""
    if depth == 0:
        return
    if isinstance(value, str):
        yield from _text_messages(value, codes, statuses, depth)
    elif is_array(value):
        for item in value[:_MOST_ITEMS]:
            yield from _messages(item, codes, statuses, depth - 1)
    elif is_object(value):
        _collect_codes(value, codes, statuses)
        place = value.get("loc")
        where = ".".join(str(part) for part in place[:8]) if is_array(place) else ""
        message = next((text for name in _MESSAGES if isinstance(text := value.get(name), str) and text.strip()), "")
        if message:
            for text in _text_messages(message, codes, statuses, depth):
                yield f"{where}: {text}" if where else text
        for name in _INNER:
            if name in value:
                yield from _messages(value[name], codes, statuses, depth - 1)
        metadata = value.get("metadata")  # OpenRouter: the words of the provider behind it
        if is_object(metadata) and "raw" in metadata:
            yield from _messages(metadata["raw"], codes, statuses, depth - 1)


def _text_messages(text: str, codes: set[str], statuses: list[int], depth: int) -> Iterator[str]:
    """The text; if it is itself JSON of an error, the messages in that."""
    text = text.strip()[:_TEXT]
    if text[:1] in ("{", "["):
        try:
            yield from _messages(read_json(text.encode("utf-8", "replace")), codes, statuses, depth - 1)
        except ValueError:
            yield text
    else:
        yield _page_text(text) if text[:1] == "<" else text


def _collect_codes(value: Mapping[str, Any], codes: set[str], statuses: list[int]) -> None:
    for name in _CODES:
        code = value.get(name)
        if isinstance(code, str) and code:
            codes.add(code.lower()[:64])
            code = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else None
        if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599:
            statuses.append(code)


def _page_text(page: str) -> str:
    """The words of a web page."""
    page = page[:_TEXT]
    return " ".join(html.unescape(_TAG.sub(" ", _SCRIPT.sub(" ", page))).split())
