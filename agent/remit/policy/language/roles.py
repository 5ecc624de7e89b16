"""Roles: who has which, through `g` rows; plain inheritance, no cycles, at most nine links deep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from remit.core import Problem

DEEPEST: Final = 9  # Casbin's role manager follows nine links and then silently says no


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
    """Role cycles, and chains that are deeper than Casbin follows; each at the link that closes or overstretches it."""
    depth: dict[str, int] = defaultdict(int)  # links on the longest chain from a name upwards
    above: dict[str, set[str]] = defaultdict(set)
    below: dict[str, set[str]] = defaultdict(set)
    for link in links:
        if link.member == link.role or link.member in _reached(link.role, above):
            what = f"{link.member} would have {link.role} and the other way round"
            yield Problem(
                file=link.file, line=link.line, what=what, fix="remove one of the g rows that make the circle"
            )
            continue
        above[link.member].add(link.role)
        below[link.role].add(link.member)
        if not _deepen(link.member, depth[link.role] + 1, depth, below):
            what = f"a chain of roles through {link.role} is more than {DEEPEST} links deep"
            yield Problem(file=link.file, line=link.line, what=what, fix="give the roles more directly")
            above[link.member].discard(link.role)
            below[link.role].discard(link.member)


def closures(links: Iterable[RoleLink]) -> dict[str, frozenset[str]]:
    """For every member, the roles it has, itself not included."""
    above: dict[str, set[str]] = defaultdict(set)
    for link in links:
        above[link.member].add(link.role)
    return {member: frozenset(_reached(member, above)) for member in tuple(above)}


def _reached(name: str, above: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        for role in above.get(waiting.pop(), ()):
            if role not in reached:
                reached.add(role)
                waiting.append(role)
    return reached


def _deepen(name: str, at_least: int, depth: dict[str, int], below: Mapping[str, set[str]]) -> bool:
    """Carry a longer chain down to all members; False, and nothing carried, where it would be too deep."""
    deeper: dict[str, int] = {}
    waiting = [(name, at_least)]
    while waiting:
        one, reach = waiting.pop()
        if reach <= max(depth[one], deeper.get(one, 0)):
            continue
        if reach > DEEPEST:
            return False
        deeper[one] = reach
        waiting.extend((member, reach + 1) for member in below.get(one, ()))
    depth.update(deeper)
    return True
