"""Which documents the rules permit. The broker sends the patterns of the rules; the tool applies them before it counts anything."""

import re
from collections.abc import Callable, Mapping
from typing import Literal

from typing_extensions import TypedDict

KIND = "document"
MOST_GLOBS = 50


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
        deny = [pattern for pattern in self._deny if _may_match(pattern, collection)]
        if not self._allow or any(_is_every(pattern, collection) for pattern in deny):
            return "none"
        return "all" if not deny and self._all_allowed(collection) else "some"

    def _all_allowed(self, collection: str) -> bool:
        return bool(self._allow) and all(any(_is_every(one, collection) for one in each) for each in self._allow)

    def suspects(self, collection: str) -> list[str]:
        """Patterns of SQLite's GLOB that match every document of the collection which is not permitted, and may match others."""
        deny = [pattern for pattern in self._deny if _may_match(pattern, collection)]
        if len(deny) > MOST_GLOBS or not self._all_allowed(collection):
            return ["*"]
        return [_glob(pattern) for pattern in deny]

    def within(self, collection: str) -> Callable[[str], bool]:
        """A function that returns True for a permitted document of that collection."""
        if not self._allow:
            return lambda _: False
        deny = _matcher([pattern for pattern in self._deny if _may_match(pattern, collection)])
        allow = [_matcher([one for one in each if _may_match(one, collection)]) for each in self._allow]
        return lambda document: all(each(document) for each in allow) and not deny(document)


def _is_every(pattern: str, collection: str) -> bool:
    return pattern in ("**", f"{KIND}:**", f"{KIND}:{collection}/**")


def _glob(pattern: str) -> str:
    """A GLOB that matches whatever the pattern matches: its `*` is any text, also none, and its other signs are escaped."""
    wild = re.sub(r"\*\*/|\*+", "*", pattern.removeprefix(f"{KIND}:"))
    return re.sub(r"[\[?]", r"[\g<0>]", wild)


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
