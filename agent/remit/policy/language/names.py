"""Names in rules: each environment, label, agent, user and role must be declared by some file of the workspace.

A misspelled name would make a deny rule useless, or a condition such as `'untrsted' not in labels` always true.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final, NamedTuple, Protocol

from remit.core import BREAK_GLASS, Problem, Rule
from remit.policy.language.conditions import Condition
from remit.policy.language.roles import RoleLink

LABELS: Final = frozenset({"untrusted", "private"})  # declared in every workspace
CONTENT_KINDS: Final = frozenset({"link", "address", "account"})  # what `contains` may hold besides labels
NOBODY: Final = "user:none"
_PROPERTY: Final = re.compile(r"\b(?:subject|resource)\.([A-Za-z_][A-Za-z0-9_]*)")  # in `has(resource.status)`


@dataclass(frozen=True, kw_only=True)
class DeclaredNames:
    """What the files of a workspace declare; agents and users as subjects. `users` None: any user name is valid.

    `properties` are those of subjects and resources that enforcement points may state.
    """

    envs: frozenset[str]
    labels: frozenset[str]
    agents: frozenset[str]
    users: frozenset[str] | None
    properties: frozenset[str] = frozenset()

    def with_entities(self, names: Iterable[str], properties: Iterable[str]) -> DeclaredNames:
        """These names, and those that `policies/entities.jsonl` declares."""
        users = None if self.users is None else self.users.union(name for name in names if name.startswith("user:"))
        return replace(self, users=users, properties=self.properties.union(properties, ("id",)))


class RowNames(Protocol):
    """The parts of a `p` row that hold names."""

    @property
    def rule(self) -> Rule: ...
    @property
    def subject(self) -> str: ...
    @property
    def condition(self) -> Condition: ...


class _NameUse(NamedTuple):
    """One name in one row: what it names, which names are declared, and how to declare this one."""

    file: str
    line: int
    kind: str
    name: str
    declared: Collection[str]
    declare: str


def check_names(rows: Iterable[RowNames], links: Iterable[RoleLink], declared: DeclaredNames) -> Iterator[Problem]:
    """A problem for every name that no file declares, once for each row."""
    links = tuple(links)
    roles = frozenset({BREAK_GLASS, *(link.role for link in links)})
    for link in links:
        yield from _undeclared((_subject_use(link.file, link.line, link.member, declared, roles),))
    for row in rows:
        file, line = row.rule.file, row.rule.line
        approvers = (_subject_use(file, line, role, declared, roles) for role in row.condition.thresholds)
        subject = _subject_use(file, line, row.subject, declared, roles)
        yield from _undeclared((subject, *approvers, *_names_in_facts(row, declared)))


def _undeclared(uses: Iterable[_NameUse]) -> Iterator[Problem]:
    for use in dict.fromkeys(uses):
        if use.name not in use.declared:
            near = get_close_matches(use.name, use.declared, n=1)
            fix = f"write {near[0]}, or {use.declare}" if near else use.declare
            yield Problem(file=use.file, line=use.line, what=f"no file declares the {use.kind} {use.name!r}", fix=fix)


def _subject_use(file: str, line: int, name: str, declared: DeclaredNames, roles: frozenset[str]) -> _NameUse:
    kind, _, plain = name.partition(":")
    if kind == "agent":
        return _NameUse(file, line, kind, name, declared.agents, f"write agent/{plain}/agent.toml")
    if kind == "role":
        return _NameUse(file, line, kind, name, roles, f"write g, user:<name>, {name}")
    users = frozenset({name}) if declared.users is None else declared.users | {NOBODY}
    return _NameUse(file, line, kind, name, users, f'add "{name}" to users in remit.toml')


def _names_in_facts(row: RowNames, declared: DeclaredNames) -> Iterator[_NameUse]:
    """The environments and labels that the row's condition compares facts with, and the properties that it reads."""
    file, line = row.rule.file, row.rule.line
    for read in row.condition.reads:
        if match := _PROPERTY.search(read):
            declare = "list it for an enforcement point in remit.toml, or write it in policies/entities.jsonl"
            yield _NameUse(file, line, "property", match[1], declared.properties, declare)
    for point in row.condition.change_points:
        if not isinstance(point.value, str):
            continue
        if point.fact == "env":
            declare = f'add "{point.value}" to envs in remit.toml'
            yield _NameUse(file, line, "environment", point.value, declared.envs, declare)
        elif point.fact in ("labels", "contains"):
            known = declared.labels | LABELS
            known = known | CONTENT_KINDS if point.fact == "contains" else known
            declare = "declare it in adds_labels of a tool.toml or in policies/labels.toml"
            yield _NameUse(file, line, "label", point.value, known, declare)
