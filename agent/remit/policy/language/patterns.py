"""Patterns over resources, exactly: does a pattern cover a resource, does it touch any of it.

`*` stands for any run of characters within a segment, dotfiles included; `**` stands for any number of whole segments.
A resource that ends in `/**` is a set: everything below that folder. Both questions are answered by walking a small
automaton over segments, so no pattern can be slow and none is approximate.
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
FOREIGN: Final = "?[]{}\\"  # wildcards elsewhere, plain characters here: refused so that nobody is misled
EVERYTHING: Final = "**"
NOTHING_TOUCHED: Final = "none:"  # what a call is decided on that touches no resource


class GlobError(ValueError):
    """A pattern or a resource is not spelled as policy spells them; `fix` says what to write."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(f"{what}; {fix}")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One canonical resource, or with `whole` everything below the folder that `segments` name."""

    text: str
    kind: str
    segments: tuple[str, ...]
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """One resource pattern of a rule. `kind` is "" for `**`, which is every resource of every kind."""

    text: str
    kind: str
    segments: tuple[str, ...]

    def covers(self, resource: Resource) -> bool:
        """Whether all of `resource` lies within this pattern: what an allow needs."""
        if self.kind != resource.kind or not self.segments:
            return not self.kind
        states = self._after(resource.segments)
        if not resource.whole:
            return len(self._steps) in states
        # A segment that no author thought of is matched by `*` and `**` only, and where those accept, they accept any
        # segment. So everything below is covered exactly if that unknown segment, repeated, is accepted at each depth.
        for _ in range(len(self._steps) + 1):
            states = self._closed(following for state in states if (following := self._past_unknown(state)) is not None)
            if len(self._steps) not in states:
                return False
        return True

    def intersects(self, resource: Resource) -> bool:
        """Whether any part of `resource` lies within this pattern: what a deny needs."""
        if self.kind != resource.kind or not self.segments:
            return not self.kind
        states = self._after(resource.segments)
        if not resource.whole:
            return len(self._steps) in states
        return any(state < len(self._steps) for state in states)  # every step can be met by some segment

    def matches(self, segments: Iterable[str]) -> bool:
        """Whether the segments of one resource are matched."""
        return len(self._steps) in self._after(segments)

    @cached_property
    def _steps(self) -> tuple[tuple[str, ...] | None, ...]:
        """One step a segment: its pieces between `*`, or None for `**`; a closing `**` needs at least one segment."""
        steps = [None if segment == "**" else tuple(segment.split("*")) for segment in self.segments]
        return (*steps, ("", "")) if steps[-1] is None else tuple(steps)

    def _after(self, segments: Iterable[str]) -> frozenset[int]:
        """The steps that may come next once `segments` are read."""
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
        """`states` and what they reach by letting `**` stand for no segment."""
        reached = set(states)
        for state in range(len(self._steps)):
            if state in reached and self._steps[state] is None:
                reached.add(state + 1)
        return frozenset(reached)


def matcher(segments: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a text of segments, joined by `/`, is matched by these segments of a pattern: `covers` of one resource.

    The forms that most patterns have are answered without the automaton.
    """
    pieces = [tuple(segment.split("*")) for segment in segments]
    if len(segments) == 1 and segments != ("**",):
        return _one(pieces[0])
    if "**" not in segments:
        return _ending(ending, len(segments) - 1) if (ending := _literal_after(segments, "*")) else _each(pieces)
    if segments.count("**") == 1 and segments[0] == "**" and len(segments) > 1:
        return _ending(ending, None) if (ending := _literal_after(segments, "**")) else _last(pieces[1:])
    steps = Pattern(text="", kind="any", segments=segments)
    return lambda text: steps.matches(text.split("/"))


def _one(pieces: tuple[str, ...]) -> Callable[[str], bool]:
    if pieces == ("", ""):
        return lambda text: "/" not in text
    if len(pieces) != 2:
        return lambda text: "/" not in text and segment_matches(pieces, text)
    first, last = pieces
    fixed = len(first) + len(last)
    return lambda text: text.startswith(first) and text.endswith(last) and len(text) >= fixed and "/" not in text


def _ending(ending: str, slashes: int | None) -> Callable[[str], bool]:
    """Literal segments after a `*` for each slash, or after one `**`, which may be nothing."""
    whole = ending[1:]
    if slashes is None:
        return lambda text: text.endswith(ending) or text == whole
    return lambda text: text.endswith(ending) and text.count("/") == slashes


def _each(pieces: Sequence[tuple[str, ...]]) -> Callable[[str], bool]:
    def each(text: str) -> bool:
        found = text.split("/")
        return len(found) == len(pieces) and all(map(segment_matches, pieces, found))

    return each


def _last(pieces: Sequence[tuple[str, ...]]) -> Callable[[str], bool]:
    def last(text: str) -> bool:
        found = text.split("/")
        return len(found) >= len(pieces) and all(map(segment_matches, pieces, found[-len(pieces) :]))

    return last


def _literal_after(segments: tuple[str, ...], wildcard: str) -> str | None:
    """With its slash, what follows segments that are all `wildcard`; None where that is not literal, or is nothing."""
    first = next((at for at, segment in enumerate(segments) if segment != wildcard), len(segments))
    tail = segments[first:]
    return "/" + "/".join(tail) if first and tail and not any("*" in segment for segment in tail) else None


@lru_cache(maxsize=16_384)
def parse_pattern(text: str) -> Pattern:
    """Read the resource column of a rule.

    Raises:
        GlobError: it could never match a canonical resource, or would match others than a reader expects.
    """
    if text == EVERYTHING:
        return Pattern(text=text, kind="", segments=())
    kind, name = _split(text, "pattern")
    if misleading := sorted(set(text) & set(FOREIGN)):
        raise GlobError(f"pattern {text!r} holds {misleading[0]!r}, which means nothing here", "use only * and **")
    segments = tuple(name.split("/"))
    for segment in segments:
        if "**" in segment and segment != "**":
            raise GlobError(f"** is not a whole segment of pattern {text!r}", "write ** between slashes, or a single *")
    if ("**", "**") in pairwise(segments):
        raise GlobError(f"pattern {text!r} repeats **", "write ** once")
    _check_segments(kind, name, segments, text, "pattern")
    return Pattern(text=text, kind=kind, segments=segments)


def parse_resource(text: str) -> Resource:
    """Read a canonical resource of a request.

    Raises:
        GlobError: it is not canonical, so no decision about it would mean anything.
    """
    kind, name = _split(text, "resource")
    whole = name == "**" or name.endswith("/**")
    name = name.removesuffix("**").removesuffix("/") if whole else name
    if found := sorted(set(name) & {"*", "\\"}):
        raise GlobError(f"resource {text!r} holds {found[0]!r}", "name one resource, or a folder followed by /**")
    # `./**` and `**` are the same set; read them alike, or a deny below one would not meet the other.
    segments = () if whole and name in ("", ".") else tuple(name.split("/"))
    _check_segments(kind, name, segments, text, "resource")
    return Resource(text=text, kind=kind, segments=segments, whole=whole)


def _split(text: str, what: str) -> tuple[str, str]:
    kind, colon, name = text.partition(":")
    if len(text) > LONGEST:
        raise GlobError(f"{what} is {len(text)} characters long", f"at most {LONGEST} are read")
    if not colon or not KIND.fullmatch(kind):
        raise GlobError(f"{what} {text!r} names no kind", "write kind:name, as file:docs/**, or ** for every resource")
    if text.isascii() and text.isprintable():
        return kind, name
    if not unicodedata.is_normalized("NFC", text):
        raise GlobError(f"{what} {text!r} is not in Unicode normal form C", "retype it with composed characters")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text):
        raise GlobError(f"{what} {text!r} holds control or invisible characters", "remove them")
    return kind, name


def _check_segments(kind: str, name: str, segments: tuple[str, ...], text: str, what: str) -> None:
    """Refuse what canonical resources never hold, so that no rule is dead by spelling and no spelling slips a rule."""
    is_url = name.startswith("//")
    if name == "" and segments and kind != "none":
        raise GlobError(f"{what} {text!r} names nothing", f"write {kind}:** for every {kind}")
    if not is_url and len(segments) > 1 and "" in segments:
        raise GlobError(f"{what} {text!r} has an empty segment", "write single slashes, and folder/** for a folder")
    if is_url and "" in segments[2:-1]:
        raise GlobError(f"{what} {text!r} has an empty segment", "write single slashes after the host")
    if ".." in segments or ("." in segments and name != "."):
        raise GlobError(f"{what} {text!r} holds a . or .. segment", "write the path without it")


def segment_matches(pieces: tuple[str, ...], segment: str) -> bool:
    """Whether `segment` is the pieces in order with anything between; taking each piece leftmost loses no match."""
    if len(pieces) == 1:
        return segment == pieces[0]
    first, *middle, last = pieces
    if len(segment) < len(first) + len(last) or not segment.startswith(first) or not segment.endswith(last):
        return False
    at, end = len(first), len(segment) - len(last)
    for piece in middle:
        found = segment.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
