"""Where a quote stands in the text of its source: literally, except for white space."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from remit.guardrails.grounding.numbers import Number

SHORTEST_QUOTE: Final = 12  # bytes: "in 30 days" alone says too little
MOST_PLACES: Final = 20  # of one quote in one text that are looked at


def single_spaced(text: str) -> str:
    """The text with each sequence of white space, line ends included, as one space, and none at its ends."""
    return " ".join(text.split())


def place_of(quote: str, text: str, numbers: Sequence[Number]) -> tuple[int, int] | None:
    """Where the quote begins and ends in the text; None if it is not there. Both are single-spaced; `numbers` are those of the text.

    A quote that begins or ends inside of a word, or inside of a number with its unit, is not there: `500 EUR` is no quote of
    `1 500 EUR`, and `within 30` none of `within 30 days`.
    """
    starts = [number.start for number in numbers]
    begin = -1
    for _ in range(MOST_PLACES):
        if (begin := text.find(quote, begin + 1)) < 0:
            return None
        end = begin + len(quote)
        if not any(_inside_word(text, edge) or _inside_number(edge, numbers, starts) for edge in (begin, end)):
            return begin, end
    return None


def _inside_word(text: str, edge: int) -> bool:
    return 0 < edge < len(text) and all(
        character.isalnum() or character == "_" for character in text[edge - 1 : edge + 1]
    )


def _inside_number(edge: int, numbers: Sequence[Number], starts: Sequence[int]) -> bool:
    before = bisect_right(starts, edge) - 1
    return before >= 0 and numbers[before].start < edge < numbers[before].end
