"""Patterns of files: `*` within a segment of a name, `**` across segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def covered(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns covers the file, or all of the set when the name ends in `/**`."""
    path = name.split("/")
    if path[-1] == "**":
        return any(_covers_set(pattern.split("/"), path[:-1]) for pattern in patterns)
    return any([*_matched(pattern.split("/"), path)][-1] for pattern in patterns)


def _covers_set(pattern: list[str], folder: list[str]) -> bool:
    """Everything below a folder is covered by a pattern that ends in `**` and whose front matches the folder or one above."""
    return pattern[-1] == "**" and any([*_matched(pattern[:-1], folder)][1:])


def _matched(pattern: Sequence[str], path: Sequence[str]) -> Iterator[bool]:
    """Whether the pattern matches the first 0, 1, 2 and so on segments of the path.

    All ways to read `**` are followed at once: one after the other, each more of them would multiply the work.
    """
    places = _with_skipped(pattern, {0})
    yield len(pattern) in places
    for segment in path:
        after: set[int] = set()
        for place in places - {len(pattern)}:
            if pattern[place] == "**":
                after.add(place)
                if place == len(pattern) - 1:  # at the end, `**` is everything below and never the folder itself
                    after.add(place + 1)
            elif _segment_matches(pattern[place], segment):
                after.add(place + 1)
        places = _with_skipped(pattern, after)
        yield len(pattern) in places


def _with_skipped(pattern: Sequence[str], places: set[int]) -> set[int]:
    """The places, and those behind each `**` that stands for no segment."""
    found = set(places)
    for place in range(min(places, default=0), len(pattern) - 1):
        if place in found and pattern[place] == "**":
            found.add(place + 1)
    return found


def _segment_matches(pattern: str, segment: str) -> bool:
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == segment
    *middle, last = middle
    if not segment.startswith(first):
        return False
    at = len(first)
    for part in middle:  # the first place where a part stands leaves the most for the others
        at = segment.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(segment) - at >= len(last) and segment.endswith(last)
