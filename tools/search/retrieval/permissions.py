"""Which documents the rules permit. The broker sends the patterns of the rules; the tool applies them before it counts anything."""

import re
from collections.abc import Callable, Mapping
from typing import Literal

from typing_extensions import TypedDict

KIND = "document"


class Patterns(TypedDict):
    """What the rules say of one kind of resource: `allow` for each subject, `deny` for all of them."""

    allow: list[list[str]]
    deny: list[str]


class Permissions:
    """What the patterns permit. Without patterns nothing is permitted."""

    def __init__(self, patterns: Mapping[str, Patterns]) -> None:
        own = patterns.get(KIND, Patterns(allow=[], deny=[]))
        self._allow, self._deny = own["allow"], own["deny"]

    def permits(self, document: str) -> bool:
        """True if a pattern of each subject allows the document and none denies it."""
        return self.within(document.partition("/")[0])(document)

    def whole(self, collection: str) -> Literal["all", "none", "some"]:
        """Whether all documents that a collection can have are permitted, none, or only some."""
        every = ("**", f"{KIND}:**", f"{KIND}:{collection}/**")
        deny = [pattern for pattern in self._deny if _may_match(pattern, collection)]
        if not self._allow or any(pattern in every for pattern in deny):
            return "none"
        return "all" if not deny and all(any(one in every for one in each) for each in self._allow) else "some"

    def within(self, collection: str) -> Callable[[str], bool]:
        """A function that returns True for a permitted document of that collection."""
        if not self._allow:
            return lambda _: False
        deny = _matcher([pattern for pattern in self._deny if _may_match(pattern, collection)])
        allow = [_matcher([one for one in each if _may_match(one, collection)]) for each in self._allow]
        return lambda document: all(each(document) for each in allow) and not deny(document)


def _may_match(pattern: str, collection: str) -> bool:
    """False if the pattern begins with the name of another collection."""
    first = pattern.removeprefix(f"{KIND}:").partition("/")[0]
    return "*" in first or first == collection


def _matcher(patterns: list[str]) -> Callable[[str], bool]:
    if not patterns:
        return lambda _: False
    match = re.compile("|".join(map(_expression, patterns))).fullmatch
    return lambda document: match(document) is not None


def _expression(pattern: str) -> str:
    """A pattern of a rule as a regular expression: `*` is within a segment, `**` any number of segments, at least one at the end."""
    if pattern == "**":
        return ".+"
    parts: list[str] = []
    segments = pattern.removeprefix(f"{KIND}:").split("/")
    for segment in segments[:-1]:
        parts.append("(?:[^/]+/)*" if segment == "**" else f"{_segment(segment)}/")
    last = segments[-1]
    return "".join(parts) + ("[^/]+(?:/[^/]+)*" if last == "**" else _segment(last))


def _segment(segment: str) -> str:
    return "[^/]*".join(re.escape(piece) for piece in segment.split("*"))
