"""Patterns of file names: `*` matches within one segment of a path, `**` across segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def covered(patterns: Iterable[str], name: str) -> bool:
    """True if one of the patterns covers the file; for a name that ends in `/**`, all files of that set."""
    path = name.split("/")
    if path[-1] == "**":
        return any(_covers_set(pattern.split("/"), path[:-1]) for pattern in patterns)
    return any(_covers_file(pattern, name, path) for pattern in patterns)


def _covers_file(pattern: str, name: str, path: list[str]) -> bool:
    folder = pattern.removesuffix("**")
    if folder.endswith("/") and "*" not in folder:  # `folder/**`, as most are: one comparison of texts
        return name.startswith(folder)
    return [*_matched(pattern.split("/"), path)][-1]


def _covers_set(pattern: list[str], folder: list[str]) -> bool:
    """True if the pattern ends in `**` and what is before it matches the folder or one above: then it covers all below."""
    return pattern[-1] == "**" and any([*_matched(pattern[:-1], folder)][1:])


def _matched(pattern: Sequence[str], path: Sequence[str]) -> Iterator[bool]:
    """Whether the pattern matches the first 0, 1, 2 and so on segments of the path.

    All ways to match `**` are followed at the same time: with backtracking, each further `**` would multiply the work.
    """
    places = _with_skipped(pattern, {0})
    yield len(pattern) in places
    for segment in path:
        after: set[int] = set()
        for place in places - {len(pattern)}:
            if pattern[place] == "**":
                after.add(place)
                if (
                    place == len(pattern) - 1
                ):  # at the end, `**` matches everything below a folder and never the folder itself
                    after.add(place + 1)
            elif _segment_matches(pattern[place], segment):
                after.add(place + 1)
        places = _with_skipped(pattern, after)
        yield len(pattern) in places


def _with_skipped(pattern: Sequence[str], places: set[int]) -> set[int]:
    """The places in the pattern, and those after each `**` that matches no segment."""
    reached = set(places)
    for place in range(min(places, default=0), len(pattern) - 1):
        if place in reached and pattern[place] == "**":
            reached.add(place + 1)
    return reached


def _segment_matches(pattern: str, segment: str) -> bool:
    first, *middle = pattern.split("*")
    if not middle:
        return pattern == segment
    *middle, last = middle
    if not segment.startswith(first):
        return False
    at = len(first)
    for part in middle:  # the earliest match of a part leaves the most text for the other parts
        at = segment.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return len(segment) - at >= len(last) and segment.endswith(last)
