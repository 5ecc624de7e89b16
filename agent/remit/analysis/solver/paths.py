"""Equivalence classes of resources: which resources of one kind some patterns can tell apart, with one example each.

The patterns are merged into one nondeterministic automaton that reads a resource segment by segment. A state of the
walk is the set of nodes that the patterns may be in after the segments read so far (subset construction). From each
state there is one transition for each class of segments that the patterns at these nodes tell apart (see `segments`).
Resources with the same set of nodes match the same patterns, and so do all their continuations. Breadth-first search
over the states therefore meets every combination of patterns that some resource has, with a shortest example.

The walk follows the grammar of the kind, because a witness must be a canonical resource: a URL has a host as third
segment; a file, a document and a store have any number of names, and any other kind has exactly one. It visits only
states from which a relevant pattern can still match. It is complete unless it exceeds `MAX_STATES` states; then it
raises `AnalysisLimitReached`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from remit.analysis.solver.segments import ANY, AnalysisLimitReached, Pieces, segment_classes
from remit.core.parsing import SLASHED
from remit.policy.language import Pattern, segment_matches

MAX_STATES: Final = 50_000  # of one walk: one subject, one action, one kind of resource
URLS: Final = ("http", "https")


@dataclass(frozen=True)
class ResourceClass:
    """Resources that the same patterns match: one example, and the patterns as bits.

    The example is one resource, or the set of everything below a folder (`file:docs/**`). `covering` are the patterns
    that match all of it: an allow needs that. `overlapping` are those that match any of it: for a deny that is enough.
    For one resource both are the same.
    """

    resource: str
    covering: int
    overlapping: int


@dataclass(eq=False)
class _Node:
    """A position in the merged patterns. Sets of patterns are bits.

    `loops`: this is the node of a `**`, which may read any number of segments. `deep` leads to such a node without
    reading a segment. `ends` are the patterns that end here, `below` those that continue, `reaches` both.
    """

    loops: bool = False
    literal: dict[str, _Node] = field(default_factory=dict[str, "_Node"])
    wild: dict[Pieces, _Node] = field(default_factory=dict[Pieces, "_Node"])
    deep: _Node | None = None
    ends: int = 0
    reaches: int = 0
    below: int = 0


class ResourceSpace:
    """The patterns of one kind of resource, merged into one automaton. Pattern n is bit n."""

    def __init__(self, kind: str, patterns: Sequence[Pattern]) -> None:
        self.kind: Final = kind
        self._root = _Node()
        self._everything = 0  # the patterns `**`, which match every resource of every kind and need no nodes
        self._longest = 0
        for number, pattern in enumerate(patterns):
            bit = 1 << number
            if not pattern.segments:
                self._everything |= bit
            elif pattern.kind == kind:
                self._add(pattern.segments, bit)

    def classes(self, relevant: int) -> Iterator[ResourceClass]:
        """Yield every class that a pattern of the bits `relevant` matches, shortest example first.

        Raises:
            AnalysisLimitReached: the walk exceeds `MAX_STATES` states.
        """
        everything_is_relevant = bool(relevant & self._everything)
        start = self._closure((self._root,))
        queue: deque[tuple[tuple[_Node, ...], tuple[str, ...]]] = deque([(start, ())])
        visited = {frozenset(map(id, start))}
        yielded: set[tuple[int, int, bool]] = set()
        while queue:
            nodes, path = queue.popleft()
            for item in (*self._resource_at(nodes, path), *self._folder_at(nodes, path, relevant)):
                # A set and a single resource with the same patterns are different classes: the policy treats them
                # differently (an allow must cover a whole set).
                is_set = item.resource.endswith("/**") or item.resource == "file:**"
                key = (item.covering, item.overlapping, is_set)
                if key not in yielded and (item.covering | item.overlapping) & relevant:
                    yielded.add(key)
                    yield item
            for segment, successors in self._transitions(nodes, path):
                alive = 0
                for node in successors:
                    alive |= node.reaches
                # Prune: where no relevant pattern is alive, nothing further down can differ. `**` has no node; it stays
                # alive wherever another pattern does, and for the first segments, so that each shape of name occurs.
                ahead = alive if everything_is_relevant else alive & relevant
                if (ahead or (everything_is_relevant and self._is_short(path))) and self._mark_visited(
                    frozenset(map(id, successors)), visited, len(path), segment
                ):
                    queue.append((successors, (*path, segment)))
            if len(visited) > MAX_STATES:
                raise AnalysisLimitReached("the patterns overlap in too many ways to analyse")

    def _mark_visited(self, state: frozenset[int], visited: set[frozenset[int]], depth: int, segment: str) -> bool:
        """Add the state to `visited`; return False if it was there already."""
        # INVARIANT: what may follow is part of a state. In kinds whose grammar depends on the depth, so is the depth.
        # Negative numbers cannot be the id of a node.
        if self.kind != "file" and self.kind not in SLASHED:
            state = state | {-1 - min(depth, 3)}
        if segment in (
            "",
            ".",
        ):  # nothing may follow these, but something may follow a name that the same patterns match
            state = state | {-9}
        if state in visited:
            return False
        visited.add(state)
        return True

    def _is_short(self, path: tuple[str, ...]) -> bool:
        return len(path) < (4 if self.kind in URLS else 1)

    def _add(self, segments: tuple[str, ...], bit: int) -> None:
        """Insert one pattern; patterns with the same beginning share nodes, as in a trie."""
        steps: list[Pieces | None] = [None if text == "**" else tuple(text.split("*")) for text in segments]
        if steps[-1] is None:
            steps.append(ANY)  # a closing `**` needs at least one segment
        self._longest = max(self._longest, len(steps))
        node = self._root
        node.reaches |= bit
        for step in steps:
            node.below |= bit
            if step is None:
                node.deep = node.deep or _Node(loops=True)
                node = node.deep
            elif len(step) == 1:
                node = node.literal.setdefault(step[0], _Node())
            else:
                node = node.wild.setdefault(step, _Node())
            node.reaches |= bit
        node.ends |= bit

    def _closure(self, nodes: Sequence[_Node]) -> tuple[_Node, ...]:
        """Add the nodes that are reached without reading a segment, because `**` may match none."""
        reached = dict.fromkeys(nodes)
        for node in nodes:
            while node.deep is not None:
                node = node.deep
                reached[node] = None
        return tuple(reached)

    def _transitions(self, nodes: tuple[_Node, ...], path: tuple[str, ...]) -> Iterator[tuple[str, tuple[_Node, ...]]]:
        """Yield one segment of each class that may follow `path` in a name of this kind, with its successor state."""
        if self.kind in URLS:
            return self._url_transitions(nodes, path)
        if self.kind == "file":
            return self._file_transitions(nodes, path)
        if self.kind == "none":
            return self._by_segments(nodes, [""] if len(path) < 2 else [])
        if path and self.kind not in SLASHED:
            return iter(())  # other names have one segment
        return self._by_names(nodes, self.kind)

    def _url_transitions(
        self, nodes: tuple[_Node, ...], path: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[_Node, ...]]]:
        """Split `https://host/path` into the segments "", "", the host, and those of the path, which may end in ""."""
        if len(path) < 2:
            yield from self._by_segments(nodes, [""])
        elif len(path) == 2:
            yield from self._by_names(nodes, "host")
        elif path[-1] != "":
            yield from self._by_segments(nodes, [""])
            yield from self._by_names(nodes, self.kind)

    def _file_transitions(
        self, nodes: tuple[_Node, ...], path: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[_Node, ...]]]:
        """Allow any number of names; or "." alone, which is the working folder itself."""
        if path == (".",):
            return
        yield from self._by_names(nodes, self.kind)
        if not path:
            yield from self._by_segments(nodes, ["."])

    def _by_segments(
        self, nodes: tuple[_Node, ...], segments: Iterable[str]
    ) -> Iterator[tuple[str, tuple[_Node, ...]]]:
        """Transitions by fixed segments that the grammar of the kind requires."""
        wild = _wildcards(nodes)
        for segment in segments:
            yield segment, self._successors(nodes, segment, wild)

    def _by_names(self, nodes: tuple[_Node, ...], kind: str) -> Iterator[tuple[str, tuple[_Node, ...]]]:
        """Transitions by one name of each class that the patterns at these nodes tell apart."""
        literals = frozenset(word for node in nodes for word in node.literal)
        for item in segment_classes(kind, literals - {"", "."}, _wildcards(nodes)):
            yield item.segment, self._successors(nodes, item.segment, item.matched)

    def _successors(self, nodes: tuple[_Node, ...], segment: str, matched: frozenset[Pieces]) -> tuple[_Node, ...]:
        """The state after `segment`, which the wildcards `matched` match."""
        reached: list[_Node] = []
        fixed = segment in ("", ".")  # for these, `matched` holds every wildcard at the nodes, so each is tested here
        for node in nodes:
            if node.loops:
                reached.append(node)
            if (successor := node.literal.get(segment)) is not None:
                reached.append(successor)
            for pieces, successor in node.wild.items():
                if pieces == ANY or (pieces in matched and (not fixed or segment_matches(pieces, segment))):
                    reached.append(successor)
        return self._closure(tuple(dict.fromkeys(reached)))

    def _resource_at(self, nodes: tuple[_Node, ...], path: tuple[str, ...]) -> Iterator[ResourceClass]:
        """The single resource that `path` spells, if it is a whole name of this kind."""
        if not path or (self.kind in URLS and len(path) < 4):
            return
        if self.kind == "none" and len(path) != 1:
            return
        ends = self._everything
        for node in nodes:
            ends |= node.ends
        yield ResourceClass(f"{self.kind}:{'/'.join(path)}", ends, ends)

    def _folder_at(self, nodes: tuple[_Node, ...], path: tuple[str, ...], relevant: int) -> Iterator[ResourceClass]:
        """The set of everything below `path`. Calls ask only for folders of files as a set."""
        if self.kind != "file" or path == (".",):
            return
        overlapping = 0
        for node in nodes:
            overlapping |= node.below
        if not (overlapping | self._everything) & relevant:
            return
        # A pattern covers the set if it matches below it at every depth, whatever the names are. A name that no pattern
        # contains stands for all names: what matches it matches any. So the loop reads such names until the state repeats.
        covering, visited, current = -1, set[frozenset[int]](), nodes
        for _ in range(self._longest + 1):
            current = self._successors_of_unknown(current)
            ends = 0
            for node in current:
                ends |= node.ends
            covering &= ends
            key = frozenset(map(id, current))
            if not covering or key in visited:
                break
            visited.add(key)
        covering = max(covering, 0)
        yield ResourceClass(
            f"file:{'/'.join((*path, '**'))}", covering | self._everything, overlapping | self._everything
        )

    def _successors_of_unknown(self, nodes: tuple[_Node, ...]) -> tuple[_Node, ...]:
        """The state after a name that no pattern contains: only `*` and `**` match it."""
        reached = [node for node in nodes if node.loops]
        reached += [successor for node in nodes if (successor := node.wild.get(ANY)) is not None]
        return self._closure(tuple(dict.fromkeys(reached)))


def _wildcards(nodes: Iterable[_Node]) -> frozenset[Pieces]:
    """The segments with `*` that some pattern may read next."""
    return frozenset(pieces for node in nodes for pieces in node.wild)
