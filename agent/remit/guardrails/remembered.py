"""What came of a text, remembered while there is room: bounded by the size of the texts, and not by their number."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")


class Remembered(Generic[_T]):
    """A function of a text. The texts whose results are kept hold at most `most` characters together, the latest used first.

    A text that takes all the room by itself is worked out each time.
    """

    def __init__(self, function: Callable[[str], _T], *, most: int) -> None:
        self.held = 0  # characters
        self._function = function
        self._most: Final = most
        self._known: OrderedDict[str, _T] = OrderedDict()
        self._lock = threading.Lock()  # texts are worked on in several threads

    def __call__(self, text: str) -> _T:
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
                return self._known[text]
        found = self._function(text)
        if len(text) <= self._most:
            with self._lock:
                self._keep(text, found)
        return found

    def _keep(self, text: str, found: _T) -> None:
        if text not in self._known:
            self.held += _size(text)
        self._known[text] = found
        while self.held > self._most and len(self._known) > 1:
            dropped, _ = self._known.popitem(last=False)
            self.held -= _size(dropped)


def _size(text: str) -> int:
    return len(text) + 64  # an entry takes room for itself too
