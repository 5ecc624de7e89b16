"""Which of many values a text repeats, found in one pass over the text however many they are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

BEGINNING: Final = 5  # characters of a value by which it is looked up; a shorter value is not looked for
LONGEST: Final = 320  # characters of a value that are compared: who repeats all of it repeats these


class Values:
    """Values that are looked for in texts."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = sorted({value[:LONGEST] for value in values if len(value) >= BEGINNING})
        self._beginnings = {value[:BEGINNING] for value in self._values}
        self._shorter = [*_shorter(self._values)]

    def found(self, text: str) -> Iterator[str]:
        """Those that stand in the text, some of them several times."""
        for at in range(len(text) - BEGINNING + 1 if self._values else 0):
            if text[at : at + BEGINNING] not in self._beginnings:
                continue
            here = text[at : at + LONGEST]
            # What begins this place is the last value that is sorted before it, or begins that value too.
            place = bisect_right(self._values, here) - 1
            while place >= 0:
                if here.startswith(self._values[place]):
                    yield self._values[place]
                place = self._shorter[place]


def _shorter(values: list[str]) -> Iterator[int]:
    """For each of the sorted values the place of the longest other one that it begins with; -1 for none."""
    open_: list[int] = []
    for place, value in enumerate(values):
        while open_ and not value.startswith(values[open_[-1]]):
            open_.pop()
        yield open_[-1] if open_ else -1
        open_.append(place)
