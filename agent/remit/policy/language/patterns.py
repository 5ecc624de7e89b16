"""Resource patterns, decided exactly: does a pattern cover a resource, and does it intersect it.

`*` matches any characters within one path segment, dotfiles included; `**` matches any number of whole segments.
A resource that ends in `/**` is a set: everything below that folder. Both questions are answered by a small automaton over
segments, so matching is never slow and never approximate.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Final

LONGEST: Final = 8192  # characters of a resource or pattern
KIND: Final = re.compile(r"[a-z][a-z0-9+.-]{0,31}", re.ASCII)
OTHER_WILDCARDS: Final = "?[]{}\\"  # wildcards in other tools, plain characters here: refused, because they mislead
EVERYTHING: Final = "**"
NOTHING_TOUCHED: Final = "none:"  # the resource of a call that touches nothing


class GlobError(ValueError):
    """A pattern or a resource is not valid; `fix` says what to write."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}; {fix}")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One canonical resource; with `whole`, the set of everything below the folder that `segments` name."""

    text: str
    kind: str
    segments: tuple[str, ...]
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """One resource pattern of a rule. `kind` is "" for `**`, which matches every resource of every kind."""

    text: str
    kind: str
    segments: tuple[str, ...]

    def covers(self, resource: Resource) -> bool:
        """True if the pattern matches all of `resource`: the test for an allow."""
        if self.kind != resource.kind or not self.segments:
            return not self.kind
        states = self._after(resource.segments)
        if not resource.whole:
            return len(self._steps) in states
        # A segment that no literal of the pattern matches is accepted by `*` and `**` only, and these accept any segment.
        # So everything below is covered exactly if such an unknown segment, repeated, is accepted at each depth.
        # As many depths as the pattern has steps are enough: after that, the set of states no longer changes.
        for _ in range(len(self._steps) + 1):
            states = self._closed(following for state in states if (following := self._past_unknown(state)) is not None)
            if len(self._steps) not in states:
                return False
        return True

    def intersects(self, resource: Resource) -> bool:
        """True if the pattern matches any part of `resource`: the test for a deny."""
        if self.kind != resource.kind or not self.segments:
            return not self.kind
        states = self._after(resource.segments)
        if not resource.whole:
            return len(self._steps) in states
        return any(state < len(self._steps) for state in states)  # each further step matches some segment

    def matches(self, segments: Iterable[str]) -> bool:
        """True if the pattern matches these segments of one resource."""
        return len(self._steps) in self._after(segments)

    @cached_property
    def _steps(self) -> tuple[tuple[str, ...] | None, ...]:
        """The states of the automaton, one for each segment: its texts between `*`, or None for `**`.

        A final `**` needs at least one segment, so it is followed by a `*`.
        """
        steps = [None if segment == "**" else tuple(segment.split("*")) for segment in self.segments]
        return (*steps, ("", "")) if steps[-1] is None else tuple(steps)

    def _after(self, segments: Iterable[str]) -> frozenset[int]:
        """The states in which the automaton may be after reading `segments`."""
        states = self._closed((0,))
        for segment in segments:
            states = self._closed(
                following for state in states if (following := self._past(state, segment)) is not None
            )
        return states

    def _past(self, state: int, segment: str) -> int | None:
        if state == len(self._steps):
            return None
        pieces = self._steps[state]
        if pieces is None:
            return state
        return state + 1 if segment_matches(pieces, segment) else None

    def _past_unknown(self, state: int) -> int | None:
        if state == len(self._steps):
            return None
        pieces = self._steps[state]
        if pieces is None:
            return state
        return state + 1 if len(pieces) > 1 and not any(pieces) else None

    def _closed(self, states: Iterable[int]) -> frozenset[int]:
        """`states`, and those reachable because `**` may match no segment."""
        reached = set(states)
        for state in range(len(self._steps)):
            if state in reached and self._steps[state] is None:
                reached.add(state + 1)
        return frozenset(reached)


def matcher(segments: tuple[str, ...]) -> Callable[[str], bool]:
    """A function that tests whether a `/`-joined text is matched by these segments of a pattern.

    It answers like `covers` for one resource. The most common forms of patterns need no automaton.
    """
    pieces = [tuple(segment.split("*")) for segment in segments]
    if len(segments) == 1 and segments != ("**",):
        return _single_segment(pieces[0])
    if "**" not in segments:
        return (
            _literal_end(ending, len(segments) - 1)
            if (ending := _literal_after(segments, "*"))
            else _each_segment(pieces)
        )
    if segments.count("**") == 1 and segments[0] == "**" and len(segments) > 1:
        return _literal_end(ending, None) if (ending := _literal_after(segments, "**")) else _last_segments(pieces[1:])
    steps = Pattern(text="", kind="any", segments=segments)
    return lambda text: steps.matches(text.split("/"))


def _single_segment(pieces: tuple[str, ...]) -> Callable[[str], bool]:
    if pieces == ("", ""):
        return lambda text: "/" not in text
    if len(pieces) != 2:
        return lambda text: "/" not in text and segment_matches(pieces, text)
    first, last = pieces
    fixed = len(first) + len(last)
    return lambda text: text.startswith(first) and text.endswith(last) and len(text) >= fixed and "/" not in text


def _literal_end(ending: str, slashes: int | None) -> Callable[[str], bool]:
    """For a literal end of a pattern, after `slashes` segments of `*`; or, with None, after one `**`, which may be empty."""
    whole = ending[1:]
    if slashes is None:
        return lambda text: text.endswith(ending) or text == whole
    return lambda text: text.endswith(ending) and text.count("/") == slashes


def _each_segment(pieces: Sequence[tuple[str, ...]]) -> Callable[[str], bool]:
    def each(text: str) -> bool:
        found = text.split("/")
        return len(found) == len(pieces) and all(map(segment_matches, pieces, found))

    return each


def _last_segments(pieces: Sequence[tuple[str, ...]]) -> Callable[[str], bool]:
    def last(text: str) -> bool:
        found = text.split("/")
        return len(found) >= len(pieces) and all(map(segment_matches, pieces, found[-len(pieces) :]))

    return last


def _literal_after(segments: tuple[str, ...], wildcard: str) -> str | None:
    """The literal end of the pattern, with a leading slash, after segments that are all `wildcard`; None if there is none."""
    first = next((index for index, segment in enumerate(segments) if segment != wildcard), len(segments))
    tail = segments[first:]
    return "/" + "/".join(tail) if first and tail and not any("*" in segment for segment in tail) else None


@lru_cache(maxsize=16_384)
def parse_pattern(text: str) -> Pattern:
    """Read the resource column of a rule.

    Raises:
        GlobError: the pattern could never match a canonical resource, or would match other resources than a reader expects.
    """
    if text == EVERYTHING:
        return Pattern(text=text, kind="", segments=())
    kind, name = _split(text, "pattern")
    if misleading := sorted(set(text) & set(OTHER_WILDCARDS)):
        raise GlobError(
            f"pattern {text!r} contains {misleading[0]!r}, which is not a wildcard here", "use only * and **"
        )
    segments = tuple(name.split("/"))
    for segment in segments:
        if "**" in segment and segment != "**":
            raise GlobError(f"** is not a whole segment in pattern {text!r}", "write ** between slashes, or a single *")
    if ("**", "**") in pairwise(segments):
        raise GlobError(f"pattern {text!r} repeats **", "write ** once")
    _check_segments(kind, name, segments, text, "pattern")
    return Pattern(text=text, kind=kind, segments=segments)


def parse_resource(text: str) -> Resource:
    """Read a canonical resource of a request.

    Raises:
        GlobError: the resource is not canonical, so no decision about it would be reliable.
    """
    kind, name = _split(text, "resource")
    whole = name == "**" or name.endswith("/**")
    name = name.removesuffix("**").removesuffix("/") if whole else name
    if forbidden := sorted(set(name) & {"*", "\\"}):
        raise GlobError(
            f"resource {text!r} contains {forbidden[0]!r}", "name one resource, or a folder followed by /**"
        )
    # `./**` and `**` are the same set. Read differently, a deny below one would not intersect the other.
    segments = () if whole and name in ("", ".") else tuple(name.split("/"))
    _check_segments(kind, name, segments, text, "resource")
    return Resource(text=text, kind=kind, segments=segments, whole=whole)


def _split(text: str, what: str) -> tuple[str, str]:
    kind, colon, name = text.partition(":")
    if len(text) > LONGEST:
        raise GlobError(f"{what} is {len(text)} characters long", f"write at most {LONGEST}")
    if not colon or not KIND.fullmatch(kind):
        raise GlobError(f"{what} {text!r} has no kind", "write kind:name, as file:docs/**, or ** for every resource")
    if text.isascii() and text.isprintable():
        return kind, name
    if not unicodedata.is_normalized("NFC", text):
        raise GlobError(
            f"{what} {text!r} is not in Unicode normal form C (NFC)", "type it again with composed characters"
        )
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text):
        raise GlobError(f"{what} {text!r} contains control or invisible characters", "remove them")
    return kind, name


def _check_segments(kind: str, name: str, segments: tuple[str, ...], text: str, what: str) -> None:
    """Refuse what canonical resources never contain: such a rule would never match, and such a resource would evade rules."""
    is_url = name.startswith("//")
    if name == "" and segments and kind != "none":
        raise GlobError(f"{what} {text!r} names nothing", f"write {kind}:** for every {kind}")
    if not is_url and len(segments) > 1 and "" in segments:
        raise GlobError(f"{what} {text!r} has an empty segment", "write single slashes, and folder/** for a folder")
    if is_url and "" in segments[2:-1]:
        raise GlobError(f"{what} {text!r} has an empty segment", "write single slashes after the host")
    if ".." in segments or ("." in segments and name != "."):
        raise GlobError(f"{what} {text!r} contains a . or .. segment", "write the path without it")


def segment_matches(pieces: tuple[str, ...], segment: str) -> bool:
    """True if `segment` consists of the pieces in order, with any text between them.

    Each piece is taken at its leftmost position: a later position would only leave less text for the following pieces.
    """
    if len(pieces) == 1:
        return segment == pieces[0]
    first, *middle, last = pieces
    if len(segment) < len(first) + len(last) or not segment.startswith(first) or not segment.endswith(last):
        return False
    start, end = len(first), len(segment) - len(last)
    for piece in middle:
        position = segment.find(piece, start, end)
        if position < 0:
            return False
        start = position + len(piece)
    return True
