"""Names that a rule may say: environments, labels, agents, users and roles that some file declares.

A misspelled name makes a deny dead, or a condition such as `'untrsted' not in labels` always true. So it is an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, NamedTuple, Protocol

from remit.core import BREAK_GLASS, Problem, Rule
from remit.policy.language.conditions import Condition
from remit.policy.language.roles import RoleLink

LABELS: Final = frozenset({"untrusted", "private"})  # there in every workspace, whatever its tools return
CARRIED: Final = frozenset({"link", "address", "account"})
NOBODY: Final = "user:none"


@dataclass(frozen=True, kw_only=True)
class DeclaredNames:
    """What the files of a workspace declare, agents and users as subjects. `users` None: every account is one, so any is."""

    envs: frozenset[str]
    labels: frozenset[str]
    agents: frozenset[str]
    users: frozenset[str] | None


class Speaks(Protocol):
    """A `p` row, as far as its names go."""

    @property
    def rule(self) -> Rule: ...
    @property
    def subject(self) -> str: ...
    @property
    def condition(self) -> Condition: ...


class _Named(NamedTuple):
    """One name in one row: what it is a name of, those that are declared, and how to declare it."""

    file: str
    line: int
    kind: str
    name: str
    known: Collection[str]
    declare: str


def check_names(rows: Iterable[Speaks], links: Iterable[RoleLink], declared: DeclaredNames) -> Iterator[Problem]:
    """Every name that no file declares, once for each row."""
    links = tuple(links)
    roles = frozenset({BREAK_GLASS, *(link.role for link in links)})
    for link in links:
        yield from _undeclared((_subject(link.file, link.line, link.member, declared, roles),))
    for row in rows:
        file, line = row.rule.file, row.rule.line
        asked = (_subject(file, line, role, declared, roles) for role in row.condition.thresholds)
        yield from _undeclared((_subject(file, line, row.subject, declared, roles), *asked, *_facts(row, declared)))


def _undeclared(names: Iterable[_Named]) -> Iterator[Problem]:
    for one in dict.fromkeys(names):
        if one.name not in one.known:
            near = get_close_matches(one.name, one.known, n=1)
            fix = f"write {near[0]}, or {one.declare}" if near else one.declare
            yield Problem(file=one.file, line=one.line, what=f"no file declares the {one.kind} {one.name!r}", fix=fix)


def _subject(file: str, line: int, name: str, declared: DeclaredNames, roles: frozenset[str]) -> _Named:
    kind, _, plain = name.partition(":")
    if kind == "agent":
        return _Named(file, line, kind, name, declared.agents, f"write agent/{plain}/agent.toml")
    if kind == "role":
        return _Named(file, line, kind, name, roles, f"write g, user:<name>, {name}")
    users = frozenset({name}) if declared.users is None else declared.users | {NOBODY}
    return _Named(file, line, kind, name, users, f'add "{name}" to users in remit.toml')


def _facts(row: Speaks, declared: DeclaredNames) -> Iterator[_Named]:
    file, line = row.rule.file, row.rule.line
    for turn in row.condition.turns:
        if not isinstance(turn.value, str):
            continue
        if turn.fact == "env":
            declare = f'add "{turn.value}" to envs in remit.toml'
            yield _Named(file, line, "environment", turn.value, declared.envs, declare)
        elif turn.fact in ("labels", "contains"):
            known = declared.labels | LABELS
            known = known | CARRIED if turn.fact == "contains" else known
            declare = "have a manifest return it, or policies/labels.toml put it on something"
            yield _Named(file, line, "label", turn.value, known, declare)
