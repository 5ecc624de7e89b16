"""One subject and one resource: which rows match, and which approvals would change a denial to an allow.

A further approval never removes an allow. So a first test supposes every possible approval: if even these do not allow the
call, no search is needed. Otherwise the counts of approvals at which some condition changes are combined, cheapest combination
first, and the first combination that is enough is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final

from remit.core import BREAK_GLASS, Context, Escalation, MissingApproval
from remit.policy.language.asking import Asking
from remit.policy.language.loader import RuleRow

# Combinations of approvals. Beyond this number, all possible approvals are reduced until none can be left out.
MOST_TRIED: Final = 4096


@dataclass(frozen=True, slots=True)
class Pair:
    """A subject, a resource, and the rows that match both and the action, regardless of their conditions.

    `denying` are the rows of `denies` whose conditions hold.
    """

    subject: str
    resource: str
    allows: Sequence[RuleRow]
    denies: Sequence[RuleRow]
    denying: Sequence[RuleRow]

    def allowed(self, context: Context) -> bool:
        """True if some row allows and none denies."""
        return not any(row.condition.holds(context) for row in self.denies) and any(
            row.condition.holds(context) for row in self.allows
        )


@dataclass(frozen=True, kw_only=True)
class PossibleApprovals:
    """Which approvals would change a denial to an allow.

    `missing` are the fewest; empty if no approvals are enough, or too few people can give them. `unavailable` are, in the
    second case, the roles whose approvals would help. With `break_glass`, one approval in `role:break-glass` would do
    instead of those in `missing`, and so would one in a role of `escalations` once its time has come. `expires_s` is how long
    people have to answer, in seconds, None if no rule says it.
    """

    missing: tuple[MissingApproval, ...] = ()
    unavailable: tuple[str, ...] = ()
    break_glass: bool = False
    escalations: tuple[Escalation, ...] = ()
    expires_s: int | None = None


NONE_POSSIBLE: Final = PossibleApprovals()


def find_approvals(
    pairs: Sequence[Pair], context: Context, people: Callable[[str], frozenset[str]]
) -> PossibleApprovals:
    """The fewest further approvals that allow every pair. `people` returns who may approve in a role.

    The search is exact, because rules in which an approval could remove an allow do not load.
    """
    # Most denials ask for no approval at all, and a denial is on the path of every refused call.
    if not any(row.condition.thresholds for pair in pairs for row in (*pair.allows, *pair.denies)):
        return NONE_POSSIBLE
    given = context.approvals
    levels = _levels(pairs, given)
    if not levels or not _is_enough(pairs, context, {role: max(counts) for role, counts in levels.items()}):
        return NONE_POSSIBLE
    reachable = {
        role: [count for count in counts if count <= max(given.get(role, 0), len(people(role)))]
        for role, counts in levels.items()
    }
    asking = [row.asking for pair in pairs for row in (*pair.allows, *pair.denies) if row.asking is not None]
    for counts in _cheapest_first(reachable, given, frozenset(item.role for one in asking for item in one.later)):
        # People are assigned last: that is a matching problem, and few combinations get this far.
        if _is_enough(pairs, context, counts) and _people_suffice({**given, **counts}, given, people):
            if prod(map(len, reachable.values())) > MOST_TRIED:
                counts = _reduce(pairs, context, counts, reachable)
            return _possible(pairs, context, counts, reachable, asking)
    return PossibleApprovals(unavailable=tuple(levels))


def _possible(
    pairs: Sequence[Pair],
    context: Context,
    counts: Mapping[str, int],
    reachable: Mapping[str, Sequence[int]],
    asking: Sequence[Asking],
) -> PossibleApprovals:
    """The approvals that lead to `counts`, and each role in which one approval alone would do too."""
    given = context.approvals
    further = {role: count - given.get(role, 0) for role, count in counts.items()}

    def is_alone_enough(role: str) -> bool:
        one = given.get(role, 0) + 1
        return one in reachable.get(role, ()) and _is_enough(pairs, context, {role: one})

    after: dict[str, int] = {}  # if rules differ, the longest time counts
    for item in (item for one in asking for item in one.later):
        after[item.role] = max(after.get(item.role, 0), item.after_s)
    return PossibleApprovals(
        missing=tuple(MissingApproval(role=role, count=count) for role, count in further.items() if count),
        break_glass=is_alone_enough(BREAK_GLASS),
        escalations=tuple(
            Escalation(role=role, after_s=after[role])
            for role in sorted(after)
            if not further.get(role) and is_alone_enough(role)
        ),
        expires_s=min((one.expires_s for one in asking), default=None),
    )


def _levels(pairs: Iterable[Pair], given: Mapping[str, int]) -> dict[str, list[int]]:
    """For each role, its count of approvals so far and the larger counts at which some condition may change."""
    levels: dict[str, set[int]] = {}
    for pair in pairs:
        for row in (*pair.allows, *pair.denies):
            for role, counts in row.condition.thresholds.items():
                now = given.get(role, 0)
                levels.setdefault(role, {now}).update(count for count in counts if count > now)
    # `_reduce` goes through the roles in this order, so break-glass comes first: it is left out if possible.
    return {role: sorted(levels[role]) for role in sorted(levels, key=lambda role: (role != BREAK_GLASS, role))}


def _is_enough(pairs: Iterable[Pair], context: Context, approvals: Mapping[str, int]) -> bool:
    # Both subjects and every resource must be allowed, so one pair that stays denied is enough to stop.
    supposed = context.model_copy(update={"approvals": {**context.approvals, **approvals}})
    return all(pair.allowed(supposed) for pair in pairs)


def _cheapest_first(
    levels: Mapping[str, Sequence[int]], given: Mapping[str, int], later: frozenset[str]
) -> Iterator[dict[str, int]]:
    """Counts of approvals by role, cheapest first: without break-glass, without roles that are asked `later`, then fewest people,
    fewest roles, names of roles.

    With more than MOST_TRIED combinations, only the one with all possible approvals.
    """
    if prod(map(len, levels.values())) > MOST_TRIED:
        yield {role: counts[-1] for role, counts in levels.items()}
        return

    def cost(combination: dict[str, int]) -> tuple[bool, bool, int, int, list[int]]:
        further = {role: count - given.get(role, 0) for role, count in combination.items()}
        people, roles = sum(further.values()), sum(map(bool, further.values()))
        asks_later = any(further.get(role, 0) > 0 for role in later)
        return further.get(BREAK_GLASS, 0) > 0, asks_later, people, roles, [-count for count in further.values()]

    yield from sorted((dict(zip(levels, counts, strict=True)) for counts in product(*levels.values())), key=cost)


def _reduce(
    pairs: Iterable[Pair], context: Context, sufficient: dict[str, int], levels: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Reduce a sufficient set of approvals, role by role, until none can be left out."""
    for role, counts in levels.items():
        sufficient[role] = next(count for count in counts if _is_enough(pairs, context, {**sufficient, role: count}))
    return sufficient


def _people_suffice(
    counts: Mapping[str, int], given: Mapping[str, int], people: Callable[[str], frozenset[str]]
) -> bool:
    """True if distinct people can give all approvals: nobody approves twice, whatever roles they have.

    This is a bipartite matching of places to people by augmenting paths: a place takes a free person, or one whose present
    place can be given to a different person.
    """
    # Approvals that were given before occupy people too. Only those who still have the role are counted.
    places = [
        role
        for role, count in counts.items()
        for _ in range(count - given.get(role, 0) + min(given.get(role, 0), len(people(role))))
    ]
    place_of: dict[str, int] = {}  # person → place
    # Places and people are few (approvals of one call), so the simple search by augmenting paths is fast enough.

    def assign(place: int, tried: set[str]) -> bool:
        for person in sorted(people(places[place]) - tried):
            tried.add(person)
            if person not in place_of or assign(place_of[person], tried):
                place_of[person] = place
                return True
        return False

    return all(assign(place, set()) for place in range(len(places)))
