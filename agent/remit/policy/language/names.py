"""Names in rules: each environment, label, agent, user and role must be declared by some file of the workspace.

A misspelled name would make a deny rule useless, or a condition such as `'untrsted' not in labels` always true.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol

from remit.core import BREAK_GLASS, CONFIRMATION, Problem, Rule, near_names, one_of, spelled
from remit.policy.language.conditions import Condition
from remit.policy.language.patterns import Pattern
from remit.policy.language.roles import RoleLink

LABELS: Final = frozenset({"untrusted", "private"})  # declared in every workspace
CONTENT_KINDS: Final = frozenset({"link", "address", "account"})  # what `contains` may hold besides labels
NOBODY: Final = "user:none"
_PROPERTY: Final = re.compile(r"\b(?:subject|resource)\.([A-Za-z_][A-Za-z0-9_]*)")  # in `has(resource.status)`


@dataclass(frozen=True, kw_only=True)
class DeclaredNames:
    """What the files of a workspace declare; agents and users as subjects. `users` None: any user name is valid.

    `kinds` are the kinds of resources that some call can have, and `points` the enforcement points, whose resources have any kind.
    `properties` are those of subjects and resources that enforcement points may state, and `roles` those that tokens can give.
    """

    envs: frozenset[str]
    labels: frozenset[str]
    agents: frozenset[str]
    users: frozenset[str] | None
    kinds: frozenset[str]
    points: frozenset[str] = frozenset()
    properties: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()

    @property
    def subjects(self) -> frozenset[str]:
        """Every agent and user that is known by name."""
        return self.agents | (self.users or frozenset())

    def with_entities(self, names: Iterable[str], properties: Iterable[str]) -> DeclaredNames:
        """These names, and those that `policies/entities.jsonl` declares."""
        names = tuple(names)
        users = None if self.users is None else self.users.union(name for name in names if name.startswith("user:"))
        kinds = self.kinds.union(name.partition(":")[0] for name in names)
        return replace(self, users=users, kinds=kinds, properties=self.properties.union(properties, ("id",)))


class RowNames(Protocol):
    """The parts of a `p` row that hold names."""

    @property
    def rule(self) -> Rule: ...
    @property
    def subject(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def pattern(self) -> Pattern: ...
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
    rows, links = tuple(rows), tuple(links)
    roles = frozenset({BREAK_GLASS, *declared.roles, *(link.role for link in links)})
    misspelled = dict(_misspelled_links(rows, links, roles))
    roles |= frozenset(misspelled.values())  # one problem is enough: that of the row which misspells the role
    for link in links:
        if link.role in misspelled:
            fix = f"did you mean {misspelled[link.role]}? Rules name it, and nobody has it"
            what = f"no rule names the role {spelled(link.role)}"
            yield Problem(file=link.file, line=link.line, what=what, fix=fix)
        yield from _undeclared((_subject_use(link.file, link.line, link.member, declared, roles),))
    for row in rows:
        file, line = row.rule.file, row.rule.line
        asked = (role for role in row.condition.thresholds if role != CONFIRMATION)
        approvers = (_subject_use(file, line, role, declared, roles) for role in asked)
        subject = _subject_use(file, line, row.subject, declared, roles)
        yield from _undeclared((subject, *approvers, *_kind_use(row, declared), *_names_in_facts(row, declared)))


def _misspelled_links(
    rows: Iterable[RowNames], links: Iterable[RoleLink], declared: Collection[str]
) -> Iterator[tuple[str, str]]:
    """The roles that only g rows name and that are near a role which rules name and nobody has; each with that role."""
    links = tuple(links)
    used = {name for row in rows for name in (row.subject, *row.condition.thresholds) if name.startswith("role:")}
    used |= {link.member for link in links if link.member.startswith("role:")}
    lacking = sorted(used - {*declared})
    for role in sorted({link.role for link in links} - used):
        if near := _misspelled(role, lacking):
            yield role, near


def _misspelled(name: str, known: Iterable[str]) -> str:
    """The known name that this one misspells; "" if there is none. Their kinds are not compared: with them, short names would be alike."""
    plain = {one.partition(":")[2]: one for one in sorted(known)}
    return next((plain[near] for near in near_names(name.partition(":")[2], plain, cutoff=0.8)), "")


def _kind_use(row: RowNames, declared: DeclaredNames) -> Iterator[_NameUse]:
    kind = row.pattern.kind
    if kind and row.action.partition(".")[0] not in declared.points:
        yield _NameUse(row.rule.file, row.rule.line, "kind of resource", kind, declared.kinds, _declare_kind(kind))


def _undeclared(uses: Iterable[_NameUse]) -> Iterator[Problem]:
    for use in dict.fromkeys(uses):
        if use.name not in use.declared:
            near = near_names(use.name, use.declared)
            fix = f"did you mean {near[0]}? Or {use.declare}" if near else use.declare
            yield Problem(
                file=use.file, line=use.line, what=f"no file declares the {use.kind} {spelled(use.name)}", fix=fix
            )


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
        elif point.fact == "unidentified":
            yield _NameUse(file, line, "kind of resource", point.value, declared.kinds, _declare_kind(point.value))


def _declare_kind(kind: str) -> str:
    return f'name it in touches of a tool.toml, or add "{kind}" to kinds in remit.toml'


def undeclared_names(
    declared: DeclaredNames,
    roles: Collection[str],
    *,
    subjects: Iterable[str] = (),
    env: str | None = None,
    labels: Iterable[str] = (),
    approvers: Iterable[str] = (),
    strict: bool = True,
) -> Iterator[tuple[str, str]]:
    """What is wrong with the names in a question to the rules, each with its fix: a misspelled name is denied too.

    `roles` are those that a subject has. If not `strict`, an unknown agent or user is wrong only if it is near a known one: a case may
    show that others are denied.
    """
    people = (declared.users or frozenset()) | {NOBODY}
    for subject in subjects:
        kind = subject.partition(":")[0]
        known = declared.agents if kind == "agent" else people
        if subject in known or (kind != "agent" and declared.users is None):
            continue
        if strict or _misspelled(subject, known):
            yield f"no file declares the {kind} {spelled(subject)}", one_of(subject, known)
    if env is not None and env not in declared.envs:
        yield f"no file declares the environment {spelled(env)}", one_of(env, declared.envs)
    for label in sorted({*labels} - declared.labels - LABELS):
        yield f"no file declares the label {spelled(label)}", one_of(label, declared.labels | LABELS)
    for role in sorted({*approvers} - {BREAK_GLASS, CONFIRMATION, *roles}):
        yield f"nobody has the role {spelled(role)}", one_of(role, roles)
