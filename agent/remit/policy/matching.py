"""One subject, one resource: which rows bear on it, what they say now, and which approvals would turn a denial.

Approvals only ever help, so "everybody approved" tells at once whether any would be enough. If so, the numbers of
approvals at which some condition turns are combined, the cheapest combination first, and the first one that is enough
is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final

from remit.core import BREAK_GLASS, Context, MissingApproval
from remit.policy.language.loader import RuleRow

MOST_TRIED: Final = 4096  # combinations of approvals; beyond, a sufficient set is made smaller until nothing can go


@dataclass(frozen=True, slots=True)
class Pair:
    """A subject, a resource, and the rows that match both and the action, whatever their conditions say.

    `denying` are the denies whose conditions hold.
    """

    subject: str
    resource: str
    allows: Sequence[RuleRow]
    denies: Sequence[RuleRow]
    denying: Sequence[RuleRow]

    def allowed(self, context: Context) -> bool:
        """Some row allows and none denies."""
        return not any(row.condition.holds(context) for row in self.denies) and any(
            row.condition.holds(context) for row in self.allows
        )


@dataclass(frozen=True, kw_only=True)
class Askable:
    """What approvals could do: `missing` turns the denial; empty where it cannot be had, or no approval would help.

    `wished` are the roles whose approvals would help, but that not enough people have. With `break_glass`, one approval
    in `role:break-glass` in place of those in `missing` would do.
    """

    missing: tuple[MissingApproval, ...] = ()
    wished: tuple[str, ...] = ()
    break_glass: bool = False


NOBODY_HELPS: Final = Askable()


def askable(pairs: Sequence[Pair], context: Context, people: Callable[[str], frozenset[str]]) -> Askable:
    """The fewest further approvals that allow every pair; `people` are those who may approve in a role.

    The search is exact: rules in which an approval could take an allow away are refused when they load.
    """
    if not any(row.condition.thresholds for pair in pairs for row in (*pair.allows, *pair.denies)):
        return NOBODY_HELPS
    given = context.approvals
    levels = _levels(pairs, given)
    if not levels or not _enough(pairs, context, {role: max(counts) for role, counts in levels.items()}):
        return Askable()
    reachable = {
        role: [count for count in counts if count <= max(given.get(role, 0), len(people(role)))]
        for role, counts in levels.items()
    }
    for wanted in _cheapest_first(reachable, given):
        # People are counted last: it is a matching problem, and few combinations come this far.
        if _enough(pairs, context, wanted) and _distinct({**given, **wanted}, given, people):
            if prod(map(len, reachable.values())) > MOST_TRIED:
                wanted = _reduced(pairs, context, wanted, reachable)
            further = {role: count - given.get(role, 0) for role, count in wanted.items()}
            glass = given.get(BREAK_GLASS, 0) + 1
            return Askable(
                missing=tuple(MissingApproval(role=role, count=count) for role, count in further.items() if count),
                break_glass=glass in reachable.get(BREAK_GLASS, ()) and _enough(pairs, context, {BREAK_GLASS: glass}),
            )
    return Askable(wished=tuple(levels))


def _levels(pairs: Iterable[Pair], given: Mapping[str, int]) -> dict[str, list[int]]:
    """For each role, what it gave so far and the larger numbers of approvals at which some condition may turn."""
    levels: dict[str, set[int]] = {}
    for pair in pairs:
        for row in (*pair.allows, *pair.denies):
            for role, counts in row.condition.thresholds.items():
                now = given.get(role, 0)
                levels.setdefault(role, {now}).update(count for count in counts if count > now)
    # Emergencies first, where a sufficient set is made smaller role by role: what goes first is left out if it can be.
    return {role: sorted(levels[role]) for role in sorted(levels, key=lambda role: (role != BREAK_GLASS, role))}


def _enough(pairs: Iterable[Pair], context: Context, approvals: Mapping[str, int]) -> bool:
    supposed = context.model_copy(update={"approvals": {**context.approvals, **approvals}})
    return all(pair.allowed(supposed) for pair in pairs)


def _cheapest_first(levels: Mapping[str, Sequence[int]], given: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Numbers of approvals by role, cheapest first.

    The order is by these, one after the other: no emergency, fewest people, fewest roles, the roles' names.
    """
    if prod(map(len, levels.values())) > MOST_TRIED:
        yield {role: counts[-1] for role, counts in levels.items()}
        return

    def cost(wanted: dict[str, int]) -> tuple[bool, int, int, list[int]]:
        further = {role: count - given.get(role, 0) for role, count in wanted.items()}
        people, roles = sum(further.values()), sum(map(bool, further.values()))
        return further.get(BREAK_GLASS, 0) > 0, people, roles, [-count for count in further.values()]

    yield from sorted((dict(zip(levels, counts, strict=True)) for counts in product(*levels.values())), key=cost)


def _reduced(
    pairs: Iterable[Pair], context: Context, wanted: dict[str, int], levels: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """A sufficient set of approvals made smaller, role by role, until none can be left out."""
    for role, counts in levels.items():
        wanted[role] = next(count for count in counts if _enough(pairs, context, {**wanted, role: count}))
    return wanted


def _distinct(wanted: Mapping[str, int], given: Mapping[str, int], people: Callable[[str], frozenset[str]]) -> bool:
    """Whether distinct people can fill every place: nobody approves twice, whatever roles they have.

    A bipartite matching of places to people, by augmenting paths: who is free takes the place, and who already holds
    another place gives it up if a different person can take that one.
    """
    places = [
        role
        for role, count in wanted.items()
        for _ in range(count - given.get(role, 0) + min(given.get(role, 0), len(people(role))))
    ]
    holder: dict[str, int] = {}  # person → place

    def seat(place: int, asked: set[str]) -> bool:
        for person in sorted(people(places[place]) - asked):
            asked.add(person)
            if person not in holder or seat(holder[person], asked):
                holder[person] = place
                return True
        return False

    return all(seat(place, set()) for place in range(len(places)))
