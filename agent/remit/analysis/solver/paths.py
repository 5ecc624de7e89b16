"""All resources of one kind, as far as some patterns can tell them apart.

The patterns are merged into one automaton that reads a resource segment by segment. A state is the set of places that
the patterns may be in after the segments so far. A breadth-first walk over the states takes from `segments` one
segment of each sort that the patterns tell apart, so it meets every combination of patterns with a shortest example.

Each place holds one example of a resource (or of a set, everything below a folder) and the patterns that bear on it:
those that cover it, for allows; those that touch any of it, for denies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from remit.analysis.solver.segments import ANY, Pieces, TooMany, parts
from remit.policy.language import Pattern, segment_matches

MOST_PLACES: Final = 50_000  # of one subject and action
URLS: Final = ("http", "https")


@dataclass(frozen=True)
class Place:
    """One example, and as bits the patterns that cover it whole, and those that meet any of it."""

    resource: str
    covered: int
    met: int


@dataclass(eq=False)
class _Node:
    """A place in the patterns, after some of their segments. Patterns are bits.

    `loops`: a `**` may still take segments here. `ends` are the patterns that end here, `below` those that go on, and
    `mask` both.
    """

    loops: bool = False
    literal: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    wild: dict[Pieces, _Node] = field(default_factory=dict[Pieces, "_Node"])
    deep: _Node | None = None
    ends: int = 0
    mask: int = 0
    below: int = 0


class Space:
    """The patterns of one kind, merged into one automaton."""

    def __init__(self, kind: str, patterns: Sequence[Pattern]) -> None:
        self.kind: Final = kind
        self._root = _Node()
        self._everything = 0
        self._longest = 0
        for number, pattern in enumerate(patterns):
            bit = 1 << number
            if not pattern.segments:
                self._everything |= bit
            elif pattern.kind == kind:
                self._add(pattern.segments, bit)

    def places(self, wanted: int) -> Iterator[Place]:
        """Every place that a pattern of `wanted` bears on, shortest example first, each kind of place once.

        Raises:
            TooMany: there are more places than are looked at.
        """
        wanted_everywhere = bool(wanted & self._everything)
        start = self._closed((self._root,))
        queue: deque[tuple[tuple[_Node, ...], tuple[str, ...]]] = deque([(start, ())])
        seen = {frozenset(map(id, start))}
        told: set[tuple[int, int, bool]] = set()
        while queue:
            nodes, path = queue.popleft()
            for place in (*self._single(nodes, path), *self._whole(nodes, path, wanted)):
                key = (place.covered, place.met, place.resource.endswith("/**") or place.resource == "file:**")
                if key not in told and (place.covered | place.met) & wanted:
                    told.add(key)
                    yield place
            for segment, following in self._steps(nodes, path):
                alive = 0
                for node in following:
                    alive |= node.mask
                key_of = frozenset(map(id, following))
                # Without a wanted pattern ahead nothing further down can differ; `**` is ahead wherever anything is.
                ahead = alive if wanted_everywhere else alive & wanted
                if (ahead or (wanted_everywhere and self._further(path))) and self._new(
                    key_of, seen, len(path), segment
                ):
                    queue.append((following, (*path, segment)))
            if len(seen) > MOST_PLACES:
                raise TooMany("patterns meet in more places than are looked at")

    def _new(self, key: frozenset[int], seen: set[frozenset[int]], depth: int, segment: str) -> bool:
        # INVARIANT: in kinds whose grammar depends on depth, a state is one of its depth.
        if self.kind != "file":
            key = key | {-1 - min(depth, 3)}
        if segment in ("", "."):  # after which nothing may come, unlike after a name that the same patterns match
            key = key | {-9}
        if key in seen:
            return False
        seen.add(key)
        return True

    def _further(self, path: tuple[str, ...]) -> bool:
        return len(path) < (4 if self.kind in URLS else 1)

    def _add(self, segments: tuple[str, ...], bit: int) -> None:
        steps: list[Pieces | None] = [None if one == "**" else tuple(one.split("*")) for one in segments]
        if steps[-1] is None:
            steps.append(ANY)  # a closing `**` needs at least one segment
        self._longest = max(self._longest, len(steps))
        node = self._root
        node.mask |= bit
        for step in steps:
            node.below |= bit
            if step is None:
                node.deep = node.deep or _Node(loops=True)
                node = node.deep
            elif len(step) == 1:
                node = node.literal.setdefault(step[0], _Node())
            else:
                node = node.wild.setdefault(step, _Node())
            node.mask |= bit
        node.ends |= bit

    def _closed(self, nodes: Sequence[_Node]) -> tuple[_Node, ...]:
        """`nodes` and what they reach by letting `**` stand for no segment."""
        reached = dict.fromkeys(nodes)
        for node in nodes:
            while node.deep is not None:
                node = node.deep
                reached[node] = None
        return tuple(reached)

    def _steps(self, nodes: tuple[_Node, ...], path: tuple[str, ...]) -> Iterator[tuple[str, tuple[_Node, ...]]]:
        """The segments that may follow `path` in a name of this kind, each with the state that it leads to."""
        if self.kind in URLS:
            return self._url_steps(nodes, path)
        if self.kind == "file":
            return self._file_steps(nodes, path)
        if self.kind == "none":
            return self._steps_by(nodes, [""] if len(path) < 2 else [])
        return self._steps_to_names(nodes, self.kind) if not path else iter(())  # other names have one segment

    def _url_steps(self, nodes: tuple[_Node, ...], path: tuple[str, ...]) -> Iterator[tuple[str, tuple[_Node, ...]]]:
        """`https://host/path` is read as the segments "", "", the host, and those of the path, which may end in ""."""
        if len(path) < 2:
            yield from self._steps_by(nodes, [""])
        elif len(path) == 2:
            yield from self._steps_to_names(nodes, "host")
        elif path[-1] != "":
            yield from self._steps_by(nodes, [""])
            yield from self._steps_to_names(nodes, self.kind)

    def _file_steps(self, nodes: tuple[_Node, ...], path: tuple[str, ...]) -> Iterator[tuple[str, tuple[_Node, ...]]]:
        """Any number of names; or "." alone, which is the working folder itself."""
        if path == (".",):
            return
        yield from self._steps_to_names(nodes, self.kind)
        if not path:
            yield from self._steps_by(nodes, ["."])

    def _steps_by(self, nodes: tuple[_Node, ...], segments: Iterable[str]) -> Iterator[tuple[str, tuple[_Node, ...]]]:
        """Steps by segments that the grammar asks for."""
        wild = _wildcards(nodes)
        for segment in segments:
            yield segment, self._after(nodes, segment, wild)

    def _steps_to_names(self, nodes: tuple[_Node, ...], kind: str) -> Iterator[tuple[str, tuple[_Node, ...]]]:
        """Steps by one name of each sort that the patterns tell apart here."""
        literals = frozenset(word for node in nodes for word in node.literal)
        for part in parts(kind, literals - {"", "."}, _wildcards(nodes)):
            yield part.segment, self._after(nodes, part.segment, part.matched)

    def _after(self, nodes: tuple[_Node, ...], segment: str, wild: frozenset[Pieces]) -> tuple[_Node, ...]:
        reached: list[_Node] = []
        special = segment in ("", ".")
        for node in nodes:
            if node.loops:
                reached.append(node)
            if (following := node.literal.get(segment)) is not None:
                reached.append(following)
            for pieces, following in node.wild.items():
                if pieces == ANY or (pieces in wild and (not special or segment_matches(pieces, segment))):
                    reached.append(following)
        return self._closed(tuple(dict.fromkeys(reached)))

    def _single(self, nodes: tuple[_Node, ...], path: tuple[str, ...]) -> Iterator[Place]:
        if not path or (self.kind in URLS and len(path) < 4):
            return
        if self.kind == "none" and len(path) != 1:
            return
        ends = self._everything
        for node in nodes:
            ends |= node.ends
        yield Place(f"{self.kind}:{'/'.join(path)}", ends, ends)

    def _whole(self, nodes: tuple[_Node, ...], path: tuple[str, ...], wanted: int) -> Iterator[Place]:
        """The set of everything below; only folders of files are ever asked for as a set."""
        if self.kind != "file" or path == (".",):
            return
        met = 0
        for node in nodes:
            met |= node.below
        if not (met | self._everything) & wanted:
            return
        covered, seen, current = -1, set[frozenset[int]](), nodes
        for _ in range(self._longest + 1):
            current = self._after_unknown(current)
            ends = 0
            for node in current:
                ends |= node.ends
            covered &= ends
            key = frozenset(map(id, current))
            if not covered or key in seen:
                break
            seen.add(key)
        covered = max(covered, 0)
        yield Place(f"file:{'/'.join((*path, '**'))}", covered | self._everything, met | self._everything)

    def _after_unknown(self, nodes: tuple[_Node, ...]) -> tuple[_Node, ...]:
        """After a segment that no author thought of: `*` and `**` take it, and nothing else does."""
        reached = [node for node in nodes if node.loops]
        reached += [following for node in nodes if (following := node.wild.get(ANY)) is not None]
        return self._closed(tuple(dict.fromkeys(reached)))


def _wildcards(nodes: Iterable[_Node]) -> frozenset[Pieces]:
    """The segments with `*` that some pattern may take next."""
    return frozenset(one for node in nodes for one in node.wild)
