"""One side of a comparison: its rules, ready to be asked which of them bear on a subject and an action."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

from remit.core import Context, Request, Rule, Verdict, action_matches
from remit.policy import Policy
from remit.policy.language import (
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


class Key(NamedTuple):
    """What a row means for a subject and an action that it is for."""

    effect: Literal["allow", "deny", "within"]  # "within": what the tool's manifest reaches at all
    pattern: str
    condition: str


class Ceiling(Protocol):
    """What a subject's tools reach at all, whatever the rules say."""

    def patterns(self, subject: str, action: str) -> frozenset[str]: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class RuleSet:
    """Rules under a name that people know them by. `vocabulary` is None where nobody knows which actions there are."""

    label: str
    rows: tuple[RuleRow, ...]
    links: tuple[RoleLink, ...]
    vocabulary: Vocabulary | None = None
    ceiling: Ceiling | None = None
    _names: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    _gathered: dict[tuple[frozenset[str], str], frozenset[Key]] = field(
        default_factory=dict[tuple[frozenset[str], str], frozenset[Key]]
    )

    @cached_property
    def policy(self) -> Policy:
        """The same rules, ready to decide."""
        return Policy(Rules(rows=self.rows, links=self.links), self.vocabulary)

    @cached_property
    def roles(self) -> Mapping[str, frozenset[str]]:
        """The roles of every member, through other roles too."""
        return closures(self.links)

    @cached_property
    def by_subject(self) -> Mapping[str, Mapping[str, frozenset[Key]]]:
        """What the rows of each subject column mean, by action column."""
        found: defaultdict[str, defaultdict[str, set[Key]]] = defaultdict(lambda: defaultdict(set))
        for key, rows in self._by_key.items():
            for row in rows:
                found[row.subject][row.action].add(key)
        return {
            subject: {action: frozenset(keys) for action, keys in columns.items()} for subject, columns in found.items()
        }

    @cached_property
    def _by_key(self) -> Mapping[Key, list[RuleRow]]:
        found: defaultdict[Key, list[RuleRow]] = defaultdict(list)
        for row in self.rows:
            found[Key(row.rule.effect, row.pattern.text, row.condition.text)].append(row)
        return found

    @cached_property
    def patterns(self) -> Mapping[str, Pattern]:
        return {row.pattern.text: row.pattern for row in self.rows}

    @cached_property
    def subjects(self) -> frozenset[str]:
        """Every agent and user that rules or roles name."""
        named = {row.subject for row in self.rows} | {link.member for link in self.links}
        return frozenset(name for name in named if not name.startswith("role:"))

    @staticmethod
    def key(row: RuleRow) -> Key:
        return Key(row.rule.effect, row.pattern.text, row.condition.text)

    def names(self, subject: str) -> frozenset[str]:
        """The subject and those of its roles that some rule is for."""
        if subject not in self._names:
            every = (subject, *self.roles.get(subject, ()))
            self._names[subject] = frozenset(name for name in every if name in self.by_subject)
        return self._names[subject]

    def keys(self, names: frozenset[str], action: str) -> frozenset[Key]:
        """What bears on `action` for whoever goes by `names`."""
        place = (names, action)
        if place not in self._gathered:
            columns = (action, f"{action.partition('.')[0]}.*", "*")
            found: set[Key] = set()
            for name in names:
                by_column = self.by_subject[name]
                for column in columns:
                    if column in by_column:
                        found |= by_column[column]
            self._gathered[place] = frozenset(found)
        return self._gathered[place]

    def reached(self, subject: str, action: str) -> frozenset[Key]:
        """What the tools reach; empty where no ceiling is given."""
        if self.ceiling is None:
            return frozenset()
        return frozenset(Key("within", text, "True") for text in self.ceiling.patterns(subject, action))

    def rules_of(self, subject: str, action: str, keys: Iterable[Key]) -> tuple[Rule, ...]:
        """The rows behind `keys` for that subject and action, in their order."""
        names = self.names(subject)
        return tuple(
            row.rule
            for row in sorted((row for key in keys for row in self._by_key.get(key, ())), key=lambda row: row.number)
            if row.subject in names and action_matches(action, row.action)
        )

    def people(self, role: str) -> frozenset[str]:
        """The users who may approve in a role."""
        return frozenset(
            member
            for member, roles in self.roles.items()
            if role in roles and member.startswith("user:") and member != "user:none"
        )

    def verdict(self, subject: str, action: str, resource: str, context: Context) -> Verdict:
        """What the policy itself decides for one subject and one resource, within what its tools reach."""
        if self.ceiling is not None:
            named = parse_resource(resource)
            reach = self.ceiling.patterns(subject, action)
            if not any(parse_pattern(text).covers(named) for text in reach):
                return "deny"
        request = Request(subjects=(subject,), action=action, resources=(resource,), context=context)
        return self.policy.decide(request).verdict


def read_rule_set(label: str, files: Mapping[str, bytes], vocabulary: Vocabulary | None = None) -> RuleSet:
    """The rules in `files`, read as strictly as for a run, but for which actions exist.

    Raises:
        WorkspaceError: with every problem of every file.
    """
    with uncollected():
        rules = read_rules(files)
    return RuleSet(label=label, rows=rules.rows, links=rules.links, vocabulary=vocabulary)


@contextmanager
def uncollected() -> Generator[None]:
    """No garbage collection meanwhile: nothing here is in cycles, and large policies would be walked again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
