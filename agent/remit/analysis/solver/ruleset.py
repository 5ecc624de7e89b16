"""A rule set as the solver reads it: which rows apply to a subject and an action, and what they mean there."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

from remit.core import Context, Request, Rule, Verdict, action_matches
from remit.policy import Policy
from remit.policy.language import (
    NO_ENTITIES,
    Entities,
    Pattern,
    RoleLink,
    RuleRow,
    Rules,
    Vocabulary,
    closures,
    parse_pattern,
    parse_resource,
    read_rules,
)


class RuleKey(NamedTuple):
    """What a row means once its subject and action match. Rows with equal keys are interchangeable."""

    effect: Literal["allow", "deny", "within"]  # "within": a pattern of the ceiling
    pattern: str
    condition: str


class Ceiling(Protocol):
    """An upper bound: what the manifests of a subject's tools reach, whatever the rules allow."""

    def patterns(self, subject: str, action: str) -> frozenset[str]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class RuleSet:
    """Rules with a label for reports. `vocabulary` is None where it is unknown which actions exist."""

    label: str
    rows: tuple[RuleRow, ...]
    links: tuple[RoleLink, ...]
    vocabulary: Vocabulary | None = None
    ceiling: Ceiling | None = None
    entities: Entities = NO_ENTITIES
    _names_cache: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    _keys_cache: dict[tuple[frozenset[str], str], frozenset[RuleKey]] = field(
        default_factory=dict[tuple[frozenset[str], str], frozenset[RuleKey]]
    )

    @cached_property
    def policy(self) -> Policy:
        """The same rules as a policy that decides requests."""
        return Policy(Rules(rows=self.rows, links=self.links, entities=self.entities), self.vocabulary)

    @cached_property
    def roles(self) -> Mapping[str, frozenset[str]]:
        """The roles of every member, including roles of roles."""
        return closures(self.links)

    @cached_property
    def by_subject(self) -> Mapping[str, Mapping[str, frozenset[RuleKey]]]:
        """The keys of the rows, by subject column and action column."""
        found: defaultdict[str, defaultdict[str, set[RuleKey]]] = defaultdict(lambda: defaultdict(set))
        for key, rows in self._by_key.items():
            for row in rows:
                found[row.subject][row.action].add(key)
        return {
            subject: {action: frozenset(keys) for action, keys in columns.items()} for subject, columns in found.items()
        }

    @cached_property
    def _by_key(self) -> Mapping[RuleKey, list[RuleRow]]:
        found: defaultdict[RuleKey, list[RuleRow]] = defaultdict(list)
        for row in self.rows:
            found[RuleKey(row.rule.effect, row.pattern.text, row.condition.text)].append(row)
        return found

    @cached_property
    def patterns(self) -> Mapping[str, Pattern]:
        return {row.pattern.text: row.pattern for row in self.rows}

    @cached_property
    def subjects(self) -> frozenset[str]:
        """Every agent and user that a rule or a role link names."""
        named = {row.subject for row in self.rows} | {link.member for link in self.links}
        return frozenset(name for name in named if not name.startswith("role:"))

    def denies_of(self, kind: str) -> Sequence[RuleRow]:
        """The rows that deny something of that kind of resource; those for every kind come last."""
        return [*self._denies.get(kind, ()), *self._denies.get("", ())]

    @cached_property
    def _denies(self) -> Mapping[str, list[RuleRow]]:
        found: defaultdict[str, list[RuleRow]] = defaultdict(list)
        for row in self.rows:
            if row.rule.effect == "deny":
                found[row.pattern.kind].append(row)
        return found

    @staticmethod
    def key(row: RuleRow) -> RuleKey:
        return RuleKey(row.rule.effect, row.pattern.text, row.condition.text)

    def names_of(self, subject: str) -> frozenset[str]:
        """The subject itself and its roles, as far as some rule has them in its subject column."""
        if subject not in self._names_cache:
            every = (subject, *self.roles.get(subject, ()))
            self._names_cache[subject] = frozenset(name for name in every if name in self.by_subject)
        return self._names_cache[subject]

    def keys_for(self, names: frozenset[str], action: str) -> frozenset[RuleKey]:
        """The keys of all rows that apply to `action` for a subject with these names."""
        place = (names, action)
        if place not in self._keys_cache:
            columns = (action, f"{action.partition('.')[0]}.*", "*")
            found: set[RuleKey] = set()
            for name in names:
                by_column = self.by_subject[name]
                for column in columns:
                    if column in by_column:
                        found |= by_column[column]
            self._keys_cache[place] = frozenset(found)
        return self._keys_cache[place]

    def ceiling_keys(self, subject: str, action: str) -> frozenset[RuleKey]:
        """The patterns of the ceiling as keys; empty where there is no ceiling."""
        if self.ceiling is None:
            return frozenset()
        return frozenset(RuleKey("within", text, "True") for text in self.ceiling.patterns(subject, action))

    def rules_of(self, subject: str, action: str, keys: Iterable[RuleKey]) -> tuple[Rule, ...]:
        """The rules behind `keys` for that subject and action, in the order of the rows."""
        names = self.names_of(subject)
        return tuple(
            row.rule
            for row in sorted((row for key in keys for row in self._by_key.get(key, ())), key=lambda row: row.number)
            if row.subject in names and action_matches(action, row.action)
        )

    def approvers(self, role: str) -> frozenset[str]:
        """The users who have the role and may therefore approve."""
        return frozenset(
            member
            for member, roles in self.roles.items()
            if role in roles and member.startswith("user:") and member != "user:none"
        )

    def verdict(self, subject: str, action: str, resource: str, context: Context) -> Verdict:
        """The verdict of the policy itself for one subject and one resource, within the ceiling."""
        if self.ceiling is not None:
            named = parse_resource(resource)
            reach = self.ceiling.patterns(subject, action)
            if not any(parse_pattern(text).covers(named) for text in reach):
                return "deny"
        request = Request(subjects=(subject,), action=action, resources=(resource,), context=context)
        return self.policy.decide(request).verdict


def read_rule_set(label: str, files: Mapping[str, bytes], vocabulary: Vocabulary | None = None) -> RuleSet:
    """Read the rules in `files` as strictly as for a run, except that any action name is accepted.

    Raises:
        WorkspaceError: with every problem of every file.
    """
    with without_garbage_collection():
        rules = read_rules(files)
    return RuleSet(label=label, rows=rules.rows, links=rules.links, vocabulary=vocabulary, entities=rules.entities)


@contextmanager
def without_garbage_collection() -> Generator[None]:
    """Suspend garbage collection: the solver makes no reference cycles, and collecting large policies takes long."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
