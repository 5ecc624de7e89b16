"""Patterns of files: `*` within a segment of a name, `**` across segments."""

from __future__ import annotations

import re
from collections.abc import Iterable


def covered(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns covers the file, or all of the set when the name ends in `/**`."""
    path = name.split("/")
    if path[-1] == "**":
        return any(_covers_set(pattern.split("/"), path[:-1]) for pattern in patterns)
    return any(_matches(pattern.split("/"), path) for pattern in patterns)


def _covers_set(pattern: list[str], folder: list[str]) -> bool:
    """Everything below a folder is covered by a pattern that ends in `**` and whose front matches the folder or one above."""
    return pattern[-1] == "**" and any(_matches(pattern[:-1], folder[:size]) for size in range(1, len(folder) + 1))


def _matches(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        # At the end, `**` is everything below and never the folder itself.
        first = 1 if len(pattern) == 1 else 0
        return any(_matches(pattern[1:], path[size:]) for size in range(first, len(path) + 1))
    return bool(path) and _segment_matches(pattern[0], path[0]) and _matches(pattern[1:], path[1:])


def _segment_matches(pattern: str, segment: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), segment, re.DOTALL) is not None
