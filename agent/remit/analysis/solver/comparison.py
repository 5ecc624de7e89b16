"""Compare two rule sets exactly: for which resources, and under which facts, do their verdicts differ?

The requests are divided step by step until each part has finitely many cases:

1. Subjects and actions to which the same rows apply, on both sides, form one group. Groups with equal rows on both
   sides cannot differ and are skipped.
2. Within a group, `paths` enumerates the classes of resources that the patterns of the rows tell apart. Only patterns of
   changed rows, and of rows that may overlap with them, take part: nothing can differ elsewhere.
3. For one class of resources the applying rows are known, and only their conditions are left. `search` looks for facts
   under which the conditions of the two sides give different verdicts.

The result is complete: what a step cannot decide is returned as unsettled, never as equal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from remit.analysis.solver.cells import EFFECT
from remit.analysis.solver.conditions import atoms_of, context_of
from remit.analysis.solver.findings import RANK
from remit.analysis.solver.paths import ResourceSpace
from remit.analysis.solver.ruleset import RuleKey, RuleSet
from remit.analysis.solver.search import DecideSide, FactValues, Question, VerdictChange, solve
from remit.analysis.solver.segments import AnalysisLimitReached
from remit.core import Context, Verdict, action_matches
from remit.policy.language import EVERYTHING, Pattern, parse_pattern, read_condition

OTHER_KIND: Final = "thing"  # stands for every kind of resource that no rule names


@dataclass(frozen=True)
class RequestGroup:
    """An equivalence class of subjects and actions: the same rows apply to them, on either side.

    `subject` is set only where a row asks for approvals. Then each subject is a group of its own, because nobody may
    approve their own request.
    """

    old: frozenset[RuleKey]
    new: frozenset[RuleKey]
    types: tuple[tuple[str, str], ...]
    subject: str = ""


@dataclass(frozen=True)
class WitnessedChange:
    """One change of a verdict: the resource and the facts that show it, and the rows that may cause it."""

    change: VerdictChange
    resource: str
    values: FactValues
    removed: frozenset[RuleKey]
    added: frozenset[RuleKey]


@dataclass(frozen=True, kw_only=True)
class _RelevantRows:
    """The rows that matter for one kind of resource. Each pattern is a bit; `changed` are those of changed rows."""

    space: ResourceSpace
    by_bit: Mapping[int, list[RuleKey]]
    changed: int


class Comparison:
    """Two rule sets, with what all questions about them share."""

    def __init__(self, old: RuleSet, new: RuleSet) -> None:
        self.old: Final = old
        self.new: Final = new
        self._patterns: Final[dict[str, Pattern]] = {**old.patterns, **new.patterns}
        self.actions: Final = _all_actions(old, new)
        self._types: dict[str, tuple[tuple[str, str], ...]] = {}
        self._groups: dict[tuple[frozenset[str], frozenset[str], str], RequestGroup | None] = {}
        self._asks_approval: dict[frozenset[RuleKey], bool] = {}
        self._row_matters: dict[tuple[frozenset[RuleKey], RuleKey, tuple[tuple[str, str], ...]], bool | None] = {}
        kinds = {pattern.kind for pattern in self._patterns.values()} - {""}
        self._kinds: Final = tuple(sorted({*kinds, "file", "none", OTHER_KIND}))
        self._has_ceiling: Final = (old.ceiling is not None, new.ceiling is not None)

    def affected(self) -> Iterator[tuple[str, str]]:
        """Yield every subject and action to which other rows may apply on the new side than on the old one."""
        old, new = self.old.by_subject, self.new.by_subject
        # For each name of a subject column: the action columns whose rows changed.
        changed_columns: dict[str, frozenset[str]] = {}
        for name in {*old, *new}:
            before, after = old.get(name, {}), new.get(name, {})
            changed = frozenset(column for column in {*before, *after} if before.get(column) != after.get(column))
            if changed:
                changed_columns[name] = changed
        for subject in sorted(self.old.subjects | self.new.subjects):
            had, has = self.old.names_of(subject), self.new.names_of(subject)
            columns = {column for name in had & has if name in changed_columns for column in changed_columns[name]}
            # A role that the subject lost or gained brings all its rows, changed or not.
            columns |= {column for name in had - has for column in old[name]}
            columns |= {column for name in has - had for column in new[name]}
            actions = dict.fromkeys(self._actions_of(frozenset(columns)))
            if self.old.ceiling is not None or self.new.ceiling is not None:
                for action in self.actions:
                    if self.old.ceiling_keys(subject, action) != self.new.ceiling_keys(subject, action):
                        actions[action] = None
            for action in actions:
                yield subject, action

    def _actions_of(self, columns: frozenset[str]) -> Iterable[str]:
        """The actions that some of the action columns match."""
        if not columns:
            return ()
        if "*" in columns:
            return self.actions
        return [action for action in self.actions if action in columns or f"{action.partition('.')[0]}.*" in columns]

    def group_of(self, subject: str, action: str) -> RequestGroup | None:
        """The group of that subject and action; None where the same rows apply on both sides."""
        place = (self.old.names_of(subject), self.new.names_of(subject), action)
        if place not in self._groups:
            old, new = self.old.keys_for(place[0], action), self.new.keys_for(place[1], action)
            self._groups[place] = None if old == new else RequestGroup(old, new, self.argument_types(action))
        group = self._groups[place]
        # The ceiling depends on the subject itself and not on its names, so it is left out of the cached group.
        before, after = self.old.ceiling_keys(subject, action), self.new.ceiling_keys(subject, action)
        if before or after:
            for key in before | after:
                self._patterns.setdefault(key.pattern, parse_pattern(key.pattern))
            old, new = self.old.keys_for(place[0], action) | before, self.new.keys_for(place[1], action) | after
            group = None if old == new else RequestGroup(old, new, self.argument_types(action))
        if group is not None and (self._ask_approval(group.old) or self._ask_approval(group.new)):
            return replace(group, subject=subject)
        return group

    def _ask_approval(self, keys: frozenset[RuleKey]) -> bool:
        if keys not in self._asks_approval:
            # `approved` and `approvals` both contain it; a condition that only quotes the word costs time, no more.
            self._asks_approval[keys] = any("appro" in key.condition or "confirmed" in key.condition for key in keys)
        return self._asks_approval[keys]

    def argument_types(self, action: str) -> tuple[tuple[str, str], ...]:
        """The JSON types of the action's arguments, and its effect, as far as all sides that know the action agree."""
        if action not in self._types:
            schemas = [
                side.vocabulary.actions[action]
                for side in (self.old, self.new)
                if side.vocabulary is not None and action in side.vocabulary.actions
            ]
            # A type that the sides do not agree on is left out. That is safe: an argument without a type gets examples
            # of every type.
            known = [schema for schema in schemas if schema is not None]
            agreed = {} if len(known) != len(schemas) or not known else dict(known[0])
            for schema in known[1:]:
                agreed = {name: kind for name, kind in agreed.items() if schema.get(name) == kind}
            effects = {side.vocabulary.effect(action) for side in (self.old, self.new) if side.vocabulary is not None}
            if len(effects) == 1:
                agreed[EFFECT] = effects.pop()
            self._types[action] = tuple(sorted(agreed.items()))
        return self._types[action]

    def row_matters(self, keys: frozenset[RuleKey], key: RuleKey, subject: str, action: str) -> bool | None:
        """Say if some request gets another verdict from `keys` without `key`; None where that is unsettled."""
        if key not in keys:
            return False
        # The answer depends only on the rows and the argument types. So it is shared by all subjects and actions that
        # have the same ones, and a policy with thousands of subjects asks few questions.
        place = (keys, key, self.argument_types(action))
        if place not in self._row_matters:
            for item in keys:
                self._patterns.setdefault(item.pattern, parse_pattern(item.pattern))
            group = RequestGroup(keys, keys - {key}, self.argument_types(action))
            changes, unsettled = self.compare(group, subject, action, alone=True)
            self._row_matters[place] = True if changes else None if unsettled else False
        return self._row_matters[place]

    def compare(
        self, group: RequestGroup, subject: str, action: str, *, alone: bool = False
    ) -> tuple[list[WitnessedChange], list[tuple[str, str]]]:
        """Find every change of one group, and what is unsettled, each with an example of a resource.

        `subject` and `action` stand for the whole group. With `alone`, the rows of the group are the whole policy, and
        who may approve does not matter.
        """
        changed_keys = group.old ^ group.new
        kinds = {self._patterns[key.pattern].kind for key in changed_keys}
        found: list[WitnessedChange] = []
        unsettled: list[tuple[str, str]] = []
        # Per change and cause one witness is enough: the plainest.
        position_of: dict[tuple[VerdictChange, frozenset[RuleKey], frozenset[RuleKey]], int] = {}
        # A changed `**` matches resources of every kind, so then all kinds are compared, with one for unnamed kinds.
        for kind in self._kinds if "" in kinds else sorted(kinds):
            try:
                for item, resource, why in self._changes(group, changed_keys, kind, subject, action, alone):
                    if item is None:
                        unsettled.append((resource, why))
                    elif (cause := (item.change, item.removed, item.added)) not in position_of:
                        position_of[cause] = len(found)
                        found.append(item)
                    elif witness_complexity(item) < witness_complexity(found[position_of[cause]]):
                        found[position_of[cause]] = item
            except AnalysisLimitReached as reason:
                unsettled.append((f"{kind}:**", str(reason)))
        return found, unsettled

    def _changes(
        self,
        group: RequestGroup,
        changed_keys: frozenset[RuleKey],
        kind: str,
        subject: str,
        action: str,
        alone: bool,
    ) -> Iterator[tuple[WitnessedChange | None, str, str]]:
        """Yield every change on resources of one kind, with the resource and "".

        Where it is unsettled: None, the resource and the reason.
        """
        relevant = self._relevant_rows(group, changed_keys, kind)
        types = dict(group.types)
        asked: set[tuple[frozenset[RuleKey], frozenset[RuleKey], bool]] = set()
        for item in relevant.space.classes(relevant.changed):
            applying = frozenset(_applying_rows(relevant.by_bit, item.covering, item.overlapping))
            old, new = applying & group.old, applying & group.new
            # A set of files, or the working folder itself, is a poor witness. The same question about one file within it
            # is asked again, for a better one.
            poor = item.resource.endswith("**") or item.resource == "file:."
            # The resource matters only by the rows that apply to it: with the same rows the answer is the same.
            if old == new or (old, new, poor) in asked or (old, new, False) in asked:
                continue
            asked.add((old, new, poor))
            if alone:
                solution = solve(_build_question(old, new), types, _decide_by_rows(old, new))
            else:
                question = _build_question(
                    _rows_within_ceiling(old, self._has_ceiling[0]), _rows_within_ceiling(new, self._has_ceiling[1])
                )
                solution = solve(question, types, self._decide_by_policy(subject, action, item.resource))
            for change, values in solution.changes.items():
                yield _attribute_to_rows(change, item.resource, values, old - new, new - old), item.resource, ""
            for why in dict.fromkeys(solution.unsettled):
                yield None, item.resource, why

    def _relevant_rows(self, group: RequestGroup, changed_keys: frozenset[RuleKey], kind: str) -> _RelevantRows:
        """Select the rows that matter for resources of one kind: those that changed, and those that may overlap them.

        A row whose literal prefix differs from that of every changed row has no resource in common with them. Without
        it, the automaton stays small, and one edit among thousands of rows costs little.
        """
        moving = [key for key in changed_keys if self._patterns[key.pattern].kind in (kind, "")]
        prefixes = [_literal_prefix(self._patterns[key.pattern]) for key in moving]
        beside = [
            key
            for key in group.old & group.new
            if self._patterns[key.pattern].kind in (kind, "")
            and any(_may_overlap(_literal_prefix(self._patterns[key.pattern]), prefix) for prefix in prefixes)
        ]
        texts = list(dict.fromkeys(key.pattern for key in (*moving, *beside)))
        bits = {text: 1 << number for number, text in enumerate(texts)}
        by_bit: dict[int, list[RuleKey]] = defaultdict(list)
        for key in (*moving, *beside):
            by_bit[bits[key.pattern]].append(key)
        changed = 0
        for key in moving:
            changed |= bits[key.pattern]
        space = ResourceSpace(kind, [self._patterns[text] for text in texts])
        return _RelevantRows(space=space, by_bit=by_bit, changed=changed)

    def _decide_by_policy(self, subject: str, action: str, resource: str) -> DecideSide:
        def decide(values: FactValues, is_new: bool) -> Verdict:
            side = self.new if is_new else self.old
            return side.verdict(subject, action, resource, context_of(values))

        return decide


def _decide_by_rows(old: frozenset[RuleKey], new: frozenset[RuleKey]) -> DecideSide:
    """Decide by those rows alone: allowed if rows apply and all of them allow."""

    def decide(values: FactValues, is_new: bool) -> Verdict:
        context = context_of(values)
        holding = {key.effect for key in (new if is_new else old) if _holds(key, context)}
        return "allow" if holding == {"allow"} else "deny"

    return decide


def _rows_within_ceiling(keys: frozenset[RuleKey], has_ceiling: bool) -> frozenset[RuleKey]:
    """Return the rows that decide on one side: none where that side has a ceiling and the resource is beyond it."""
    if has_ceiling and not any(key.effect == "within" for key in keys):
        return frozenset()
    return keys


def _applying_rows(by_bit: Mapping[int, list[RuleKey]], covering: int, overlapping: int) -> Iterator[RuleKey]:
    """Yield the rows that apply: an allow must cover all of the resource, a deny applies if it overlaps any of it."""
    for bit, keys in by_bit.items():
        if overlapping & bit or covering & bit:
            for key in keys:
                if (overlapping if key.effect == "deny" else covering) & bit:  # "within" works like an allow
                    yield key


def _build_question(old: frozenset[RuleKey], new: frozenset[RuleKey]) -> Question:
    """Sort the conditions into those that both sides share and those of one side, for each effect."""
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


def _attribute_to_rows(
    change: VerdictChange, resource: str, values: FactValues, removed: frozenset[RuleKey], added: frozenset[RuleKey]
) -> WitnessedChange:
    """Build the change, with those of the differing rows that may cause it.

    More becomes possible by an allow that came or a deny that went, less by the opposite. Of these rows, the ones whose
    condition holds at the witness count, and those that ask for approvals, because a witness may lack these.
    """
    wider = RANK[change[1]] > RANK[change[0]]
    context = context_of(values)

    def may_cause(key: RuleKey, *, on_new: bool) -> bool:
        if (key.effect != "deny") is not (on_new is wider):
            return False
        return _holds(key, context) or any(atom.role for atom in atoms_of(key.condition))

    return WitnessedChange(
        change,
        resource,
        values,
        frozenset(key for key in removed if may_cause(key, on_new=False)),
        frozenset(key for key in added if may_cause(key, on_new=True)),
    )


def _holds(key: RuleKey, context: Context) -> bool:
    if key.condition == "True":
        return True
    return read_condition(key.condition, "deny" if key.effect == "deny" else "allow").holds(context)


def _all_actions(old: RuleSet, new: RuleSet) -> tuple[str, ...]:
    """List every action.

    Where the tools are unknown: the actions that rules name, and for each tool one that stands for its other actions.
    """
    vocabularies = [side.vocabulary for side in (old, new) if side.vocabulary is not None]
    if vocabularies:
        return tuple(sorted({action for one in vocabularies for action in one.actions}))
    named = {row.action for side in (old, new) for row in side.rows}
    exact = {action for action in named if "*" not in action}
    tools = {action.partition(".")[0] for action in named} - {"*"}
    others = {f"{tool}.other" for tool in tools} | {"other.other"}
    return tuple(sorted(exact | {one for one in others if any(action_matches(one, column) for column in named)}))


def _literal_prefix(pattern: Pattern) -> tuple[str, ...] | None:
    """The segments before the first wildcard; None for `**`, which matches every resource."""
    if pattern.text == EVERYTHING:
        return None
    prefix: list[str] = []
    for segment in pattern.segments:
        if "*" in segment:
            break
        prefix.append(segment)
    return tuple(prefix)


def _may_overlap(first: tuple[str, ...] | None, second: tuple[str, ...] | None) -> bool:
    """False if patterns with these literal prefixes cannot have a resource in common."""
    if first is None or second is None:
        return True
    return all(a == b for a, b in zip(first, second, strict=False))


def witness_complexity(item: WitnessedChange) -> tuple[bool, bool, int, int]:
    """A sort key: one resource is plainer than a set, few facts are plainer than many."""
    return item.resource.endswith("**"), item.resource == "file:.", len(item.values), len(item.resource)
