"""Questions to the rules without a call: who may do this, and what may that subject do.

No fact is known here, so a condition is shown as it is written and never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from remit.core import Context, Request, Rule, action_matches
from remit.policy import Policy
from remit.policy.language import GlobError, RuleRow, parse_resource

Standing: TypeAlias = Literal[
    "allowed",  # whatever the facts
    "conditional",  # if some condition holds, or unless one does
    "asks",  # only after people approve
    "never",
]


@dataclass(frozen=True, kw_only=True)
class RequiredApprovers:
    """A role that must approve, and the people who could."""

    role: str
    people: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """One subject and what it may do. `only_if`: one of these must hold; `unless`: none of these may."""

    subject: str
    standing: Standing
    only_if: tuple[str, ...]
    unless: tuple[str, ...]
    asks: tuple[RequiredApprovers, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True)
class Permission:
    """One thing that a subject may do, or may not. `named` is the subject or role that the rule names."""

    action: str
    resource: str
    standing: Standing
    condition: str
    named: str
    asks: tuple[RequiredApprovers, ...]
    rule: Rule
    denied_by: Rule | None = None


def find_holders(policy: Policy, action: str, resource: str) -> tuple[Holder, ...]:
    """How every subject that the rules know stands to one action on one resource, or on a set of them.

    A call needs it of two subjects, the agent and its user: each is shown by itself.

    Raises:
        GlobError: the resource is not canonical.
    """
    subjects = tuple(sorted(policy.subjects))
    request = Request(subjects=subjects, action=action, resources=(resource,), context=Context())
    return tuple(_standing(policy, pair.subject, pair.allows, pair.denies) for pair in policy.pairs(request))


def _standing(policy: Policy, subject: str, allows: Sequence[RuleRow], denies: Sequence[RuleRow]) -> Holder:
    """What one subject may do, by the rows that match: those whose condition is False say nothing."""
    allows, denies = _not_false(allows), _not_false(denies)
    always = [row for row in denies if row.condition.constant]
    if always or not allows:
        return Holder(subject=subject, standing="never", only_if=(), unless=(), asks=(), rules=_rules(always))
    free = [row for row in allows if row.condition.constant]
    must_ask = [row for row in denies if row.condition.thresholds]
    standing: Standing = "allowed"
    if must_ask or all(row.condition.thresholds for row in allows):
        standing = "asks"
    elif denies or not free:
        standing = "conditional"
    # With an allow that always holds, the conditions of the other allows do not matter.
    limited = () if free else allows
    return Holder(
        subject=subject,
        standing=standing,
        only_if=_conditions(limited),
        unless=_conditions(denies),
        asks=_approvers(policy, subject, [*limited, *must_ask]),
        rules=_rules([*(free or allows), *denies]),
    )


def _not_false(rows: Iterable[RuleRow]) -> list[RuleRow]:
    return [row for row in rows if row.condition.constant is not False]


def _conditions(rows: Iterable[RuleRow]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.condition.text for row in rows))


def list_permissions(policy: Policy, subject: str) -> tuple[Permission, ...]:
    """Everything that the rules let a subject do, through its roles too, and what they forbid it.

    The order is that of actions, then resources.
    """
    names = {subject, *policy.roles_of(subject)}
    rows = [row for row in policy.rows if row.subject in names and row.condition.constant is not False]
    always = [row for row in rows if row.rule.effect == "deny" and row.condition.constant]
    found: list[Permission] = []
    for row in sorted(rows, key=lambda row: (row.action, row.pattern.text, row.number)):
        by = None if row.rule.effect == "deny" else next((deny for deny in always if _covers(deny, row)), None)
        standing: Standing = "allowed"
        if by is not None or row.rule.effect == "deny":
            standing = "never" if by is not None or row.condition.constant else "conditional"
        elif row.condition.constant is None:
            standing = "asks" if row.condition.thresholds else "conditional"
        found.append(
            Permission(
                action=row.action,
                resource=row.pattern.text,
                standing=standing,
                condition="" if row.condition.constant else row.condition.text,
                named=row.subject,
                asks=_approvers(policy, subject, [row]),
                rule=row.rule,
                denied_by=None if by is None else by.rule,
            )
        )
    return tuple(found)


def _covers(deny: RuleRow, allow: RuleRow) -> bool:
    """Whether everything that one row allows is denied by the other; False where that is not plain to see."""
    if not action_matches(allow.action, deny.action):
        return False
    if not deny.pattern.kind or deny.pattern == allow.pattern:
        return True
    try:
        return deny.pattern.covers(parse_resource(allow.pattern.text))
    except GlobError:
        return False  # wildcards in the middle: a subset perhaps, and the lint of `policy check` says so exactly


def _approvers(policy: Policy, subject: str, rows: Iterable[RuleRow]) -> tuple[RequiredApprovers, ...]:
    roles = dict.fromkeys(role for row in rows for role in row.condition.thresholds)
    return tuple(
        RequiredApprovers(role=role, people=tuple(sorted(policy.approvers(role, asking=(subject,))))) for role in roles
    )


def _rules(rows: Iterable[RuleRow]) -> tuple[Rule, ...]:
    return tuple(row.rule for row in rows)
