"""Roles: which subject has which role, through `g` rows. Roles are inherited; no cycles, at most nine links deep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from remit.core import Problem

DEEPEST: Final = 9  # Casbin's role manager follows nine links, and silently answers no beyond


@dataclass(frozen=True, kw_only=True)
class RoleLink:
    """One `g` row: `member` has `role`."""

    file: str
    line: int
    member: str
    role: str

    @property
    def fields(self) -> tuple[str, ...]:
        return ("g", self.member, self.role)


def check_links(links: Iterable[RoleLink]) -> Iterator[Problem]:
    """Role cycles, and chains deeper than Casbin follows; each reported at the row that causes it."""
    depth: dict[str, int] = defaultdict(int)  # links on the longest chain from a name upwards
    above: dict[str, set[str]] = defaultdict(set)
    below: dict[str, set[str]] = defaultdict(set)
    for link in links:
        if link.member == link.role or link.member in _reachable(link.role, above):
            what = f"{link.member} and {link.role} inherit from each other"
            yield Problem(
                file=link.file, line=link.line, what=what, fix="remove one of the g rows that form this cycle"
            )
            continue
        above[link.member].add(link.role)
        below[link.role].add(link.member)
        if not _deepen(link.member, depth[link.role] + 1, depth, below):
            what = f"a chain of roles through {link.role} is more than {DEEPEST} links deep"
            yield Problem(file=link.file, line=link.line, what=what, fix="assign the roles more directly")
            # The row is left out, so that each further row is checked against valid chains only.
            above[link.member].discard(link.role)
            below[link.role].discard(link.member)


def closures(links: Iterable[RoleLink]) -> dict[str, frozenset[str]]:
    """For each member, all its roles, direct and inherited; the member itself is not included."""
    above: dict[str, set[str]] = defaultdict(set)
    for link in links:
        above[link.member].add(link.role)
    return {member: frozenset(_reachable(member, above)) for member in tuple(above)}


def _reachable(name: str, above: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        for role in above.get(waiting.pop(), ()):
            if role not in reached:
                reached.add(role)
                waiting.append(role)
    return reached


def _deepen(name: str, depth_now: int, depth: dict[str, int], below: Mapping[str, set[str]]) -> bool:
    """Propagate a longer chain to all members below; False, with `depth` unchanged, if one would be too deep."""
    deeper: dict[str, int] = {}
    waiting = [(name, depth_now)]
    while waiting:
        member, reach = waiting.pop()
        if reach <= max(depth[member], deeper.get(member, 0)):
            continue
        if reach > DEEPEST:
            return False
        deeper[member] = reach
        waiting.extend((lower, reach + 1) for lower in below.get(member, ()))
    depth.update(deeper)
    return True
