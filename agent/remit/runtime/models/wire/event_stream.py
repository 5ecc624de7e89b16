"""Reads the body of a provider's answer: server-sent events, one JSON document, or one JSON document a line.

What the body is follows from its first bytes, because servers ignore `stream` and send wrong content types. Reading takes time
in proportion to the body, and is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeGuard

from remit.core import Json

BODY_BYTES: Final = 256 << 20  # of one body; each token of a stream may take hundreds of bytes
DOCUMENT_BYTES: Final = 16 << 20  # of one event, or of a body that is no stream
MOST_VALUES: Final = 100_000  # in one event, or in a body of one document a line
MOST_DIGITS: Final = 400  # of one number; Python's conversion takes quadratic time
_SNIFFED: Final = 8  # bytes that show whether the body is a stream
_FIELD = re.compile(rb"(?:data|event|id|retry)?[ \t]*:")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class TooLong(Exception):
    """The body exceeds a bound."""


class NotJson(Exception):
    """A part of the body is not JSON. `text` is that part."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)


class RepeatedMembers(dict[str, Json]):
    """A JSON object in which a key stands twice. `pairs` are all of its members, in their order."""

    def __init__(self, pairs: list[tuple[str, Json]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


@dataclass(frozen=True, kw_only=True)
class Document:
    """One JSON document of a body. `event` is the name of its server-sent event, "" without one."""

    value: Json
    event: str = ""


class BodyReader:
    """Divides a body into its documents while it arrives.

    `streamed` is True if the body is a stream of server-sent events. `done` is True after its end marker `[DONE]`: nothing after it
    is read. `kept` is how many bytes wait for the end of their document.
    """

    def __init__(self) -> None:
        self.done = False
        self._kind: Literal["unknown", "events", "document"] = "unknown"
        self._size = self._unread = self._unfinished = 0  # bytes of the body, of `_fragments`, of `_data`
        self._fragments: list[bytes] = []  # of a line, or of the whole document
        self._data: list[bytes] = []  # the data lines of the event
        self._event = ""
        self._after_return = False

    @property
    def kept(self) -> int:
        return self._unread + self._unfinished

    @property
    def streamed(self) -> bool:
        return self._kind == "events"

    def feed(self, data: bytes) -> Iterator[Document]:
        """The documents that `data` completes.

        Raises:
            NotJson: an event is not JSON.
            TooLong: the body, one event or the document exceeds its bound.
        """
        self._size += len(data)
        if self._size > BODY_BYTES:
            raise TooLong
        self._keep(data)
        if self._kind == "unknown":
            self._sniff(final=False)
        if self._kind == "events" and not self.done:
            yield from self._lines()

    def close(self) -> Iterator[Document]:
        """The documents at the end of the body. Raises as `feed` does."""
        if self._kind == "unknown":
            self._sniff(final=True)
        if self._kind == "events":
            yield from () if self.done else self._lines()
            line = b"".join(self._fragments)
            if not self.done:
                yield from self._line(line)
                yield from self._dispatch()
            return
        text = b"".join(self._fragments)
        if text.strip():
            yield from (Document(value=value) for value in _values([text, *text.splitlines()]))

    def _keep(self, data: bytes) -> None:
        self._fragments.append(data)
        self._unread += len(data)
        if self.kept > DOCUMENT_BYTES:
            raise TooLong

    def _sniff(self, *, final: bool) -> None:
        start = b"".join(self._fragments).removeprefix(_BYTE_ORDER_MARK).lstrip()
        self._fragments = [start]
        if not final and len(start) < _SNIFFED:
            return
        self._kind = "events" if _FIELD.match(start) else "document"

    def _lines(self) -> Iterator[Document]:
        data = self._fragments[-1]
        if self._after_return and data.startswith(b"\n"):  # the second half of a line end
            data = self._fragments[-1] = data[1:]
        if not data:
            return
        self._after_return = data.endswith(b"\r")
        if b"\n" not in data and b"\r" not in data:
            return
        *lines, rest = _LINE_END.split(b"".join(self._fragments))
        self._fragments, self._unread = [rest], len(rest)
        for line in lines:
            yield from self._line(line)
            if self.done:
                return

    def _line(self, line: bytes) -> Iterator[Document]:
        if not line:
            yield from self._dispatch()
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name.strip():
            case b"data":
                self._data.append(value)
                self._unfinished += len(value) + 1
            case b"event":
                self._event = value.decode("utf-8", "replace").strip()[:64]
            case _:
                pass  # a comment, an id, a time to reconnect, or an unknown field

    def _dispatch(self) -> Iterator[Document]:
        lines, event = self._data, self._event
        self._data, self._event, self._unfinished = [], "", 0
        if lines and lines[-1].strip() == b"[DONE]":
            self.done = True
            lines = lines[:-1]
        if any(line.strip() for line in lines):
            candidates = lines if len(lines) == 1 else [b"\n".join(lines), *lines]
            yield from (Document(value=value, event=event) for value in _values(candidates))


def read_json(text: bytes) -> Json:
    """The value of a JSON text. An object with a repeated key is a `RepeatedMembers`. Raises ValueError if it is not JSON."""
    try:
        return json.loads(text.decode("utf-8", "replace"), object_pairs_hook=_object, parse_int=_integer)
    except (RecursionError, MemoryError) as failure:
        raise ValueError("it is nested too deeply, or too large") from failure


def written(value: Json) -> str:
    """The value as JSON text, with repeated keys. Raises RecursionError if it is nested too deeply."""
    if isinstance(value, RepeatedMembers):
        return "{" + ",".join([f"{written(key)}:{written(item)}" for key, item in value.pairs]) + "}"
    if is_object(value):
        return "{" + ",".join([f"{written(key)}:{written(item)}" for key, item in value.items()]) + "}"
    if is_array(value):
        return "[" + ",".join([written(item) for item in value]) + "]"
    return json.dumps(value, ensure_ascii=False)


def is_object(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _values(candidates: list[bytes]) -> list[Json]:
    """The value of the first text or, if that is not JSON, of each other one: some servers put several values into one event."""
    try:
        return [read_json(candidates[0])]
    except ValueError as failure:
        try:
            rest = (
                [read_json(line) for line in candidates[1:] if line.strip()] if len(candidates) <= MOST_VALUES else []
            )
        except ValueError:
            rest = []
        if len(rest) > 1:
            return rest
        raise NotJson(candidates[0].decode("utf-8", "replace")) from failure


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    return value if len(value) == len(pairs) else RepeatedMembers(pairs)


def _integer(digits: str) -> int:
    return int(digits[:MOST_DIGITS])  # a longer one is out of range anyway
