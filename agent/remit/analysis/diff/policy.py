"""What a change of the rules changes: every request that is newly allowed, asked or denied, with one of each as witness.

Subjects with the same rules are one; of these only the actions whose rules differ are looked at; of their resources only
those that a differing rule bears on; and of the facts only those that the answer hangs on. All of it is exact: what
could not be settled is listed as unsettled, and is never part of "no difference".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TypeAlias

from remit.analysis.solver.comparison import Comparison, RequestGroup, WitnessedChange, witness_complexity
from remit.analysis.solver.conditions import atoms_of, context_of
from remit.analysis.solver.findings import (
    RANK,
    ApproverChange,
    Finding,
    PolicyDifference,
    Unsettled,
    Witness,
    agents_first,
)
from remit.analysis.solver.ruleset import RuleKey, RuleSet, without_garbage_collection
from remit.analysis.solver.search import VerdictChange

_Cause: TypeAlias = tuple[str, VerdictChange, frozenset[RuleKey], frozenset[RuleKey]]


def compare_policies(old: RuleSet, new: RuleSet) -> PolicyDifference:
    """Compare two sides, exactly."""
    with without_garbage_collection():
        return _compare(old, new)


def _compare(old: RuleSet, new: RuleSet) -> PolicyDifference:
    comparison = Comparison(old, new)
    groups: defaultdict[RequestGroup, list[tuple[str, str]]] = defaultdict(list)
    for subject, action in comparison.affected():
        group = comparison.group_of(subject, action)
        if group is not None:
            groups[group].append((subject, action))
    found: dict[_Cause, list[tuple[str, WitnessedChange]]] = defaultdict(list)
    unsettled: list[Unsettled] = []
    for group, members in groups.items():
        subject, action = members[0]
        seen, missing = comparison.compare(group, subject, action)
        by_action: defaultdict[str, list[str]] = defaultdict(list)
        for one, its_action in members:
            by_action[its_action].append(one)
        for its_action, subjects in by_action.items():
            for shown in seen:
                cause = (its_action, shown.change, shown.removed, shown.added)
                found[cause].extend((who, shown) for who in subjects)
            unsettled.extend(
                Unsettled(action=its_action, subjects=tuple(sorted(subjects)), resource=resource, why=why)
                for resource, why in missing
            )
    findings = tuple(_finding(comparison, cause, seen) for cause, seen in found.items())
    return PolicyDifference(
        old=old,
        new=new,
        findings=tuple(sorted(findings, key=lambda one: (-RANK[one.after], one.action, one.subject, one.resource))),
        approvers=tuple(_approver_changes(old, new)),
        unsettled=tuple(unsettled),
    )


def _finding(comparison: Comparison, cause: _Cause, seen: list[tuple[str, WitnessedChange]]) -> Finding:
    action, change, removed, added = cause
    by_seen: defaultdict[int, list[str]] = defaultdict(list)
    which = {id(one): one for _, one in seen}
    for who, one in seen:
        by_seen[id(one)].append(who)
    witnesses = sorted(
        (
            (witness_complexity(which[number]), Witness(
                subjects=tuple(sorted(set(subjects), key=agents_first)),
                resource=which[number].resource,
                context=context_of(which[number].values),
            ))
            for number, subjects in by_seen.items()
        ),
        key=lambda pair: (agents_first(pair[1].subjects[0])[0], pair[0], pair[1].subjects),
    )  # fmt: skip
    first = witnesses[0][1].subjects[0]
    return Finding(
        action=action,
        before=change[0],
        after=change[1],
        witnesses=tuple(witness for _, witness in witnesses),
        removed=comparison.old.rules_of(first, action, removed) if removed else (),
        added=comparison.new.rules_of(first, action, added) if added else (),
        out_of_reach=tuple(sorted(key.pattern for key in removed if key.effect == "within")),
        in_reach=tuple(sorted(key.pattern for key in added if key.effect == "within")),
    )


def _approver_changes(old: RuleSet, new: RuleSet) -> Iterator[ApproverChange]:
    asked = {
        atom.role
        for side in (old, new)
        for text in {row.condition.text for row in side.rows}
        if "appro" in text
        for atom in atoms_of(text)
        if atom.role
    }
    for role in sorted(asked):
        before, after = old.approvers(role), new.approvers(role)
        if before != after:
            yield ApproverChange(role=role, gained=tuple(sorted(after - before)), lost=tuple(sorted(before - after)))
