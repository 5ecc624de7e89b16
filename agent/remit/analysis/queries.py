"""Queries about the rules without a call: which subjects may call an action, and which actions a subject may call.

No facts are known here, so conditions are shown as they are written and never evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from remit.core import Context, Request, Rule, action_matches
from remit.policy import Policy
from remit.policy.language import GlobError, RuleRow, parse_resource

Standing: TypeAlias = Literal[
    "allowed",  # for all facts
    "conditional",  # if a condition holds, or unless one holds
    "asks",  # only after approval
    "never",
]

_MOST_RULES: Final = 10  # that a text names


@dataclass(frozen=True, kw_only=True)
class RequiredApprovers:
    """A role whose approval is needed, and the users who could give it."""

    role: str
    people: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """What one subject may do. One of the conditions `only_if` must hold, and none of `unless`."""

    subject: str
    standing: Standing
    only_if: tuple[str, ...]
    unless: tuple[str, ...]
    asks: tuple[RequiredApprovers, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True)
class Permission:
    """What one rule lets a subject do, or forbids. `named` is the subject or role that the rule names."""

    action: str
    resource: str
    standing: Standing
    condition: str
    named: str
    asks: tuple[RequiredApprovers, ...]
    rule: Rule
    denied_by: Rule | None = None


def find_holders(policy: Policy, action: str, resource: str) -> tuple[Holder, ...]:
    """List for every subject of the rules whether it may call one action on one resource, or on a set of resources.

    A call needs the permission of two subjects, the agent and its user. Each is listed by itself.

    Raises:
        GlobError: the resource is not canonical.
    """
    subjects = tuple(sorted(policy.subjects))
    request = Request(subjects=subjects, action=action, resources=(resource,), context=Context())
    return tuple(_standing(policy, pair.subject, pair.allows, pair.denies) for pair in policy.pairs(request))


def _standing(policy: Policy, subject: str, allows: Sequence[RuleRow], denies: Sequence[RuleRow]) -> Holder:
    """Decide what one subject may do, by the rows that match. Rows with the condition False never apply."""
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
    """List what the rules let a subject do and what they forbid, including the rules of its roles.

    The order is by action, then by resource.
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
    """True if the deny row denies all that the allow row allows; False also where that is not easy to decide."""
    if not action_matches(allow.action, deny.action):
        return False
    if not deny.pattern.kind or deny.pattern == allow.pattern:
        return True
    try:
        return deny.pattern.covers(parse_resource(allow.pattern.text))
    except GlobError:
        return False  # wildcards in the middle; the lint of `policy check` decides this case exactly


def _approvers(policy: Policy, subject: str, rows: Iterable[RuleRow]) -> tuple[RequiredApprovers, ...]:
    roles = dict.fromkeys(role for row in rows for role in row.condition.thresholds)
    return tuple(
        RequiredApprovers(role=role, people=tuple(sorted(policy.approvers(role, asking=(subject,))))) for role in roles
    )


def _rules(rows: Iterable[RuleRow]) -> tuple[Rule, ...]:
    return tuple(row.rule for row in rows)


def standing_text(holder: Holder) -> str:
    """What the subject may do, under which conditions or with whose approval."""
    conditions = [text for text in holder.only_if if not _only_asks(text, holder.asks)]
    only_if = f" if {' or '.join(conditions)}" if conditions else ""
    unless = f" unless {' or '.join(holder.unless)}" if holder.unless else ""
    words = {
        "allowed": "allowed",
        "conditional": "allowed",
        "asks": f"with approval of {_asks(holder.asks)}",
        "never": "never",
    }
    return f"{words[holder.standing]}{only_if}{unless}"


def ability_text(permission: Permission) -> str:
    """What the rule lets the subject do; "never" with the rule that denies it."""
    condition = (
        f" if {permission.condition}"
        if permission.condition and not _only_asks(permission.condition, permission.asks)
        else ""
    )
    if permission.denied_by is not None:
        return f"never: denied by {rules_text((permission.denied_by,))}"
    if permission.rule.effect == "deny":
        return f"never{condition}"
    return (
        f"with approval of {_asks(permission.asks)}{condition}"
        if permission.standing == "asks"
        else f"allowed{condition}"
    )


def _only_asks(condition: str, asks: Iterable[RequiredApprovers]) -> bool:
    """True if the condition only asks for approval."""
    return condition in {f"approved('{one.role}')" for one in asks}


def _asks(asks: Iterable[RequiredApprovers]) -> str:
    return ", ".join(f"{one.role} ({people_text(one.people)})" for one in asks)


def people_text(people: Sequence[str]) -> str:
    """The names of people who could approve."""
    return ", ".join(people) or "no other user has this role"


def rules_text(rules: Iterable[Rule]) -> str:
    """The places of rules below policies/; of many, the first ones."""
    every = [f"{rule.file.removeprefix('policies/')}:{rule.line}" for rule in rules]
    more = f" and {len(every) - _MOST_RULES} more" if len(every) > _MOST_RULES else ""
    return " ".join(every[:_MOST_RULES]) + more
