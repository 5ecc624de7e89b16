"""A cache of results by text, bounded by the total size of the texts and not by their number."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_T = TypeVar("_T")


class Remembered(Generic[_T]):
    """Caches a function of one text. The cached texts have at most `most` characters in total; the least recently used go first.

    A text that is longer than `most` is never cached.
    """

    def __init__(self, function: Callable[[str], _T], *, most: int) -> None:
        self.held = 0  # characters
        self._function = function
        self._most: Final = most
        self._known: OrderedDict[str, _T] = OrderedDict()
        self._lock = threading.Lock()  # sanitizers run in several threads

    def __call__(self, text: str) -> _T:
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
                return self._known[text]
        result = self._function(text)  # outside of the lock, because it can take long
        if len(text) <= self._most:
            with self._lock:
                self._keep(text, result)
        return result

    def _keep(self, text: str, result: _T) -> None:
        if text not in self._known:
            self.held += _size(text)
        self._known[text] = result
        while self.held > self._most and len(self._known) > 1:
            dropped, _ = self._known.popitem(last=False)
            self.held -= _size(dropped)


def _size(text: str) -> int:
    return len(text) + 64  # an entry itself needs memory too
