"""Reads a stream of server-sent events. https://html.spec.whatwg.org/multipage/server-sent-events.html

Reading takes time in proportion to the stream, and keeps one event at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_ID: Final = re.compile(rb"[ -~]{0,1024}")  # it is sent back in a header
_LONGEST_PAUSE_MS: Final = 600_000
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class EventTooLong(Exception):
    """An event is longer than it may be."""


@dataclass(frozen=True, kw_only=True)
class SentEvent:
    """One event. `name` is "message" unless the server names another; `data` has no line end at its end."""

    name: str
    data: bytes


class SentEvents:
    """The events of one stream while it arrives. `last_id` and `pause_s` are what the server said last; None if it said nothing."""

    def __init__(self, longest: int) -> None:
        self.last_id: bytes | None = None
        self.pause_s: float | None = None
        self._longest = longest
        self._parts: list[bytes] = []  # of a line that has not ended
        self._size = 0  # bytes of that line
        self._data: list[bytes] = []
        self._kept = 0  # bytes of these, and one for each
        self._name = ""
        self._after_return = False
        self._first = True

    def feed(self, part: bytes) -> Iterator[SentEvent]:
        """The events that `part` completes. Raises EventTooLong."""
        if self._after_return and part.startswith(b"\n"):  # the second half of a line end
            part = part[1:]
        if not part:
            return
        self._after_return = part.endswith(b"\r")
        self._parts.append(part)
        self._size += len(part)
        if b"\n" in part or b"\r" in part:
            *lines, rest = _LINE_END.split(b"".join(self._parts))
            self._parts, self._size = [rest], len(rest)
            for line in lines:
                yield from self._line(line)
        self._check_length()

    def _check_length(self) -> None:
        if self._size + self._kept > self._longest:
            raise EventTooLong

    def _line(self, line: bytes) -> Iterator[SentEvent]:
        if self._first:
            self._first, line = False, line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            data, name = b"\n".join(self._data), self._name
            self._data, self._name, self._kept = [], "", 0
            if data:
                yield SentEvent(name=name or "message", data=data)
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._kept += len(value) + 1
            self._check_length()
        elif field == b"event":
            self._name = value[:64].decode("utf-8", "replace")
        elif field == b"id" and _ID.fullmatch(value):
            self.last_id = value
        elif field == b"retry" and value.isdigit() and len(value) <= 9:
            self.pause_s = min(int(value), _LONGEST_PAUSE_MS) / 1000
