"""Finds which of many values a text repeats, in one pass over the text however many values there are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

BEGINNING: Final = 5  # characters of a value that index it; a shorter value is not searched for
LONGEST: Final = 320  # characters of a value that are compared; a text with the whole value contains these too


class Values:
    """Values to search for in texts."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = sorted({value[:LONGEST] for value in values if len(value) >= BEGINNING})
        self._beginnings = {value[:BEGINNING] for value in self._values}
        self._shorter = [*_shorter(self._values)]

    def find_in(self, text: str) -> Iterator[str]:
        """The values that occur in the text; a value can be yielded several times."""
        for at in range(len(text) - BEGINNING + 1 if self._values else 0):
            if text[at : at + BEGINNING] not in self._beginnings:
                continue
            here = text[at : at + LONGEST]
            # A value that `here` starts with sorts before `here`. It is the last such value, or a prefix of that one.
            place = bisect_right(self._values, here) - 1
            while place >= 0:
                if here.startswith(self._values[place]):
                    yield self._values[place]
                place = self._shorter[place]


def _shorter(values: list[str]) -> Iterator[int]:
    """For each sorted value the index of the longest other value that is a prefix of it; -1 if there is none."""
    open_: list[int] = []
    for place, value in enumerate(values):
        while open_ and not value.startswith(values[open_[-1]]):
            open_.pop()
        yield open_[-1] if open_ else -1
        open_.append(place)
