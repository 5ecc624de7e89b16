"""One subject and one action on two sides: on which resources, and under which facts, does the answer differ?

Subjects and actions on which the same rows bear form a group, and each group is compared once. Within a group,
`paths` walks over the resources that the patterns tell apart, and `search` looks for facts under which the rows there
decide differently. Only the patterns of rows that changed, and those that may meet them, take part: nothing can
differ elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from remit.analysis.solver.cells import EFFECT
from remit.analysis.solver.conditions import atoms_of, context_of
from remit.analysis.solver.findings import RANK
from remit.analysis.solver.paths import Space
from remit.analysis.solver.ruleset import Key, RuleSet
from remit.analysis.solver.search import Answered, Change, ProposedCall, Question, Values, ask
from remit.analysis.solver.segments import TooMany
from remit.core import Context, Verdict, action_matches
from remit.policy.language import EVERYTHING, Pattern, parse_pattern, read_condition

OTHER_KIND: Final = "thing"  # stands for every kind of resource that no rule names


@dataclass(frozen=True)
class Group:
    """Subjects and actions on which the same rules bear, on both sides."""

    old: frozenset[Key]
    new: frozenset[Key]
    types: tuple[tuple[str, str], ...]
    who: str = ""  # the subject, where approvals are asked: nobody approves their own request


@dataclass(frozen=True)
class Seen:
    change: Change
    resource: str
    values: Values
    removed: frozenset[Key]
    added: frozenset[Key]


@dataclass(frozen=True, kw_only=True)
class _Merged:
    """The patterns of some rows, merged; each pattern is a bit. `wanted` are those of rows that changed."""

    space: Space
    by_bit: Mapping[int, list[Key]]
    wanted: int


class Comparing:
    """Two sides, and what is common to all questions about them."""

    def __init__(self, old: RuleSet, new: RuleSet) -> None:
        self.old: Final = old
        self.new: Final = new
        self._patterns: Final[dict[str, Pattern]] = {**old.patterns, **new.patterns}
        self.actions: Final = _actions(old, new)
        self._types: dict[str, tuple[tuple[str, str], ...]] = {}
        self._groups: dict[tuple[frozenset[str], frozenset[str], str], Group | None] = {}
        self._asks: dict[frozenset[Key], bool] = {}
        self._mattering: dict[tuple[frozenset[Key], Key, tuple[tuple[str, str], ...]], bool | None] = {}
        kinds = {pattern.kind for pattern in self._patterns.values()} - {""}
        self._kinds: Final = tuple(sorted({*kinds, "file", "none", OTHER_KIND}))
        self._limited: Final = (old.ceiling is not None, new.ceiling is not None)

    def affected(self) -> Iterator[tuple[str, str]]:
        """The subjects and actions on which other rules may bear than before."""
        old, new = self.old.by_subject, self.new.by_subject
        columns: dict[str, frozenset[str]] = {}
        for name in {*old, *new}:
            before, after = old.get(name, {}), new.get(name, {})
            changed = frozenset(one for one in {*before, *after} if before.get(one) != after.get(one))
            if changed:
                columns[name] = changed
        for subject in sorted(self.old.subjects | self.new.subjects):
            had, has = self.old.names(subject), self.new.names(subject)
            moved = {one for name in had & has if name in columns for one in columns[name]}
            moved |= {one for name in had - has for one in old[name]}
            moved |= {one for name in has - had for one in new[name]}
            actions = dict.fromkeys(self._expanded(frozenset(moved)))
            if self.old.ceiling is not None or self.new.ceiling is not None:
                for action in self.actions:
                    if self.old.reached(subject, action) != self.new.reached(subject, action):
                        actions[action] = None
            for action in actions:
                yield subject, action

    def _expanded(self, columns: frozenset[str]) -> Iterable[str]:
        if not columns:
            return ()
        if "*" in columns:
            return self.actions
        return [action for action in self.actions if action in columns or f"{action.partition('.')[0]}.*" in columns]

    def group(self, subject: str, action: str) -> Group | None:
        """What bears on that subject and action; None where it is the same on both sides."""
        place = (self.old.names(subject), self.new.names(subject), action)
        if place not in self._groups:
            old, new = self.old.keys(place[0], action), self.new.keys(place[1], action)
            self._groups[place] = None if old == new else Group(old, new, self.types(action))
        group = self._groups[place]
        before, after = self.old.reached(subject, action), self.new.reached(subject, action)
        if before or after:
            for key in before | after:
                self._patterns.setdefault(key.pattern, parse_pattern(key.pattern))
            old, new = self.old.keys(place[0], action) | before, self.new.keys(place[1], action) | after
            group = None if old == new else Group(old, new, self.types(action))
        if group is not None and (self._asking(group.old) or self._asking(group.new)):
            return replace(group, who=subject)
        return group

    def _asking(self, keys: frozenset[Key]) -> bool:
        if keys not in self._asks:
            self._asks[keys] = any("appro" in key.condition for key in keys)
        return self._asks[keys]

    def types(self, action: str) -> tuple[tuple[str, str], ...]:
        """The JSON types of the action's arguments, and its effect, where every side that knows them agrees."""
        if action not in self._types:
            schemas = [
                side.vocabulary.actions[action]
                for side in (self.old, self.new)
                if side.vocabulary is not None and action in side.vocabulary.actions
            ]
            known = [schema for schema in schemas if schema is not None]
            agreed = {} if len(known) != len(schemas) or not known else dict(known[0])
            for other in known[1:]:
                agreed = {name: kind for name, kind in agreed.items() if other.get(name) == kind}
            effects = {side.vocabulary.effect(action) for side in (self.old, self.new) if side.vocabulary is not None}
            if len(effects) == 1:
                agreed[EFFECT] = effects.pop()
            self._types[action] = tuple(sorted(agreed.items()))
        return self._types[action]

    def matters(self, keys: frozenset[Key], key: Key, subject: str, action: str) -> bool | None:
        """Whether some request would be decided otherwise without `key`; None where that cannot be told."""
        if key not in keys:
            return False
        place = (keys, key, self.types(action))
        if place not in self._mattering:
            for one in keys:
                self._patterns.setdefault(one.pattern, parse_pattern(one.pattern))
            group = Group(keys, keys - {key}, self.types(action))
            changes, unsettled = self.compare(group, subject, action, alone=True)
            self._mattering[place] = True if changes else None if unsettled else False
        return self._mattering[place]

    def compare(
        self, group: Group, subject: str, action: str, *, alone: bool = False
    ) -> tuple[list[Seen], list[tuple[str, str]]]:
        """Every change of one group, and what could not be settled, each with an example of a resource.

        With `alone`, the rows of the group are all there is, and who may approve does not matter.
        """
        changed = group.old ^ group.new
        kinds = {self._patterns[key.pattern].kind for key in changed}
        seen: list[Seen] = []
        missing: list[tuple[str, str]] = []
        told: dict[tuple[Change, frozenset[Key], frozenset[Key]], int] = {}
        for kind in self._kinds if "" in kinds else sorted(kinds):
            try:
                for one, resource, why in self._changes(group, changed, kind, subject, action, alone):
                    if one is None:
                        missing.append((resource, why))
                    elif (mark := (one.change, one.removed, one.added)) not in told:
                        told[mark] = len(seen)
                        seen.append(one)
                    elif plainness(one) < plainness(seen[told[mark]]):
                        seen[told[mark]] = one
            except TooMany as reason:
                missing.append((f"{kind}:**", str(reason)))
        return seen, missing

    def _changes(
        self, group: Group, changed: frozenset[Key], kind: str, subject: str, action: str, alone: bool
    ) -> Iterator[tuple[Seen | None, str, str]]:
        """Every change on resources of one kind, each with its resource and "".

        Where it is not known, None, the resource and the reason.
        """
        merged = self._merged(group, changed, kind)
        types = dict(group.types)
        asked: set[tuple[frozenset[Key], frozenset[Key], bool]] = set()
        for place in merged.space.places(merged.wanted):
            applying = frozenset(_applying(merged.by_bit, place.covered, place.met))
            old, new = applying & group.old, applying & group.new
            # A set, or the working folder itself, is a poor example: what it shows is asked again of one thing within.
            poor = place.resource.endswith("**") or place.resource == "file:."
            if old == new or (old, new, poor) in asked or (old, new, False) in asked:
                continue
            asked.add((old, new, poor))
            if alone:
                answered = ask(_question(old, new), types, _deciding(old, new))
            else:
                question = _question(_within_ceiling(old, self._limited[0]), _within_ceiling(new, self._limited[1]))
                answered = ask(question, types, self._decide(subject, action, place.resource))
            for change, values in answered.changes.items():
                yield _laid(change, place.resource, values, old - new, new - old), place.resource, ""
            for why in _whys(answered):
                yield None, place.resource, why

    def _merged(self, group: Group, changed: frozenset[Key], kind: str) -> _Merged:
        """The rows of a group that matter for resources of one kind: those that changed, and those that may meet them.

        A row that begins otherwise than every changed row has no resource in common with them. Leaving it out keeps the
        automaton small.
        """
        moving = [key for key in changed if self._patterns[key.pattern].kind in (kind, "")]
        heads = [_head(self._patterns[key.pattern]) for key in moving]
        beside = [
            key
            for key in group.old & group.new
            if self._patterns[key.pattern].kind in (kind, "")
            and any(_meets(_head(self._patterns[key.pattern]), head) for head in heads)
        ]
        texts = list(dict.fromkeys(key.pattern for key in (*moving, *beside)))
        bits = {text: 1 << number for number, text in enumerate(texts)}
        by_bit: dict[int, list[Key]] = defaultdict(list)
        for key in (*moving, *beside):
            by_bit[bits[key.pattern]].append(key)
        wanted = 0
        for key in moving:
            wanted |= bits[key.pattern]
        return _Merged(space=Space(kind, [self._patterns[text] for text in texts]), by_bit=by_bit, wanted=wanted)

    def _decide(self, subject: str, action: str, resource: str) -> ProposedCall:
        def decide(values: Values, new: bool) -> Verdict:
            side = self.new if new else self.old
            return side.verdict(subject, action, resource, context_of(values))

        return decide


def _deciding(old: frozenset[Key], new: frozenset[Key]) -> ProposedCall:
    """Decides by those rows alone."""

    def decide(values: Values, is_new: bool) -> Verdict:
        context = context_of(values)
        holding = {key.effect for key in (new if is_new else old) if _holds(key, context)}
        return "allow" if holding == {"allow"} else "deny"

    return decide


def _within_ceiling(keys: frozenset[Key], limited: bool) -> frozenset[Key]:
    """The rows that decide on one side: none where that side has a ceiling and the place is not within it."""
    if limited and not any(key.effect == "within" for key in keys):
        return frozenset()
    return keys


def _whys(answered: Answered) -> Iterable[str]:
    return dict.fromkeys(answered.unsettled)


def _applying(by_bit: Mapping[int, list[Key]], covered: int, met: int) -> Iterator[Key]:
    """The rows that bear on a place: an allow must cover it, a deny applies where it meets any of it."""
    for bit, keys in by_bit.items():
        if met & bit or covered & bit:
            for key in keys:
                if (met if key.effect == "deny" else covered) & bit:  # "within" is a kind of allow
                    yield key


def _question(old: frozenset[Key], new: frozenset[Key]) -> Question:
    sets: dict[tuple[bool, str], set[str]] = {
        (side, effect): set[str]() for side in (False, True) for effect in ("allow", "deny", "within")
    }
    for side, keys in ((False, old), (True, new)):
        for key in keys:
            sets[side, key.effect].add(key.condition)
    allows = sets[False, "allow"] & sets[True, "allow"]
    denies = sets[False, "deny"] & sets[True, "deny"]
    return Question(
        allows=frozenset(allows),
        denies=frozenset(denies),
        old_allows=frozenset(sets[False, "allow"] - allows),
        old_denies=frozenset(sets[False, "deny"] - denies),
        new_allows=frozenset(sets[True, "allow"] - allows),
        new_denies=frozenset(sets[True, "deny"] - denies),
    )


def _laid(change: Change, resource: str, values: Values, removed: frozenset[Key], added: frozenset[Key]) -> Seen:
    """The change, with those of the differing rows that could cause it."""
    wider = RANK[change[1]] > RANK[change[0]]
    context = context_of(values)

    def matters(key: Key, *, on_new: bool) -> bool:
        if (key.effect != "deny") is not (on_new is wider):
            return False
        return _holds(key, context) or any(atom.role for atom in atoms_of(key.condition))

    return Seen(
        change,
        resource,
        values,
        frozenset(key for key in removed if matters(key, on_new=False)),
        frozenset(key for key in added if matters(key, on_new=True)),
    )


def _holds(key: Key, context: Context) -> bool:
    if key.condition == "True":
        return True
    return read_condition(key.condition, "deny" if key.effect == "deny" else "allow").holds(context)


def _actions(old: RuleSet, new: RuleSet) -> tuple[str, ...]:
    """Every action there is.

    Where the tools are not known: those that rules name, and for each tool one that stands for its other actions.
    """
    vocabularies = [side.vocabulary for side in (old, new) if side.vocabulary is not None]
    if vocabularies:
        return tuple(sorted({action for one in vocabularies for action in one.actions}))
    named = {row.action for side in (old, new) for row in side.rows}
    exact = {action for action in named if "*" not in action}
    tools = {action.partition(".")[0] for action in named} - {"*"}
    others = {f"{tool}.other" for tool in tools} | {"other.other"}
    return tuple(sorted(exact | {one for one in others if any(action_matches(one, column) for column in named)}))


def _head(pattern: Pattern) -> tuple[str, ...] | None:
    """The segments before the first wildcard; None for every resource."""
    if pattern.text == EVERYTHING:
        return None
    found: list[str] = []
    for segment in pattern.segments:
        if "*" in segment:
            break
        found.append(segment)
    return tuple(found)


def _meets(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> bool:
    """Whether patterns that begin so may have a resource in common, as far as their beginnings tell."""
    if one is None or other is None:
        return True
    return all(a == b for a, b in zip(one, other, strict=False))


def plainness(seen: Seen) -> tuple[bool, bool, int, int]:
    """A single thing is a plainer witness than a set of them, and few facts plainer than many."""
    return seen.resource.endswith("**"), seen.resource == "file:.", len(seen.values), len(seen.resource)
