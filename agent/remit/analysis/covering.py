"""A small choice that meets every need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection


def minimal_cover(needs: Collection[frozenset[int]]) -> set[int]:
    """Choose numbers so that each need has one of its numbers, and no chosen one can be left out (greedy set cover)."""
    left: list[frozenset[int]] = [*needs]
    kept: set[int] = set()
    while left:
        weight: Counter[int] = Counter(number for numbers in left for number in numbers)
        best = min(weight, key=lambda number: (-weight[number], number))
        kept.add(best)
        left = [numbers for numbers in left if best not in numbers]
    # Later choices can make an early one unnecessary. Removing these makes the cover minimal, though perhaps not smallest.
    for number in sorted(kept):
        if all(numbers & kept - {number} for numbers in needs):
            kept.discard(number)
    return kept
