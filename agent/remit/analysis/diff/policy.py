"""Compares two policies: every request that is newly allowed, asked or denied, each with a witness.

Subjects with the same rules form one group. Of a group only the actions whose rules differ are compared, of these only
the resources that a differing rule matches, and only the facts on which the verdict depends. All of it is exact: what
the analysis cannot decide is listed as unsettled, and never counts as "no difference".
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
    """Compare two rule sets exactly."""
    with without_garbage_collection():
        return _compare(old, new)


def _compare(old: RuleSet, new: RuleSet) -> PolicyDifference:
    comparison = Comparison(old, new)
    groups: defaultdict[RequestGroup, list[tuple[str, str]]] = defaultdict(list)
    for subject, action in comparison.affected():
        group = comparison.group_of(subject, action)
        if group is not None:
            groups[group].append((subject, action))
    by_cause: dict[_Cause, list[tuple[str, WitnessedChange]]] = defaultdict(list)
    unsettled: list[Unsettled] = []
    for group, members in groups.items():
        # All members have the same rows, so the first one stands for the group.
        subject, action = members[0]
        changes, open_questions = comparison.compare(group, subject, action)
        by_action: defaultdict[str, list[str]] = defaultdict(list)
        for member, its_action in members:
            by_action[its_action].append(member)
        for its_action, subjects in by_action.items():
            for item in changes:
                cause = (its_action, item.change, item.removed, item.added)
                by_cause[cause].extend((who, item) for who in subjects)
            unsettled.extend(
                Unsettled(action=its_action, subjects=tuple(sorted(subjects)), resource=resource, why=why)
                for resource, why in open_questions
            )
    findings = tuple(_finding(comparison, cause, changes) for cause, changes in by_cause.items())
    return PolicyDifference(
        old=old,
        new=new,
        findings=tuple(
            sorted(findings, key=lambda item: (-RANK[item.after], item.action, item.subject, item.resource))
        ),
        approvers=tuple(_approver_changes(old, new)),
        unsettled=tuple(unsettled),
    )


def _finding(comparison: Comparison, cause: _Cause, changes: list[tuple[str, WitnessedChange]]) -> Finding:
    """Join the changes of all groups that have one cause; subjects with the same witness share it."""
    action, change, removed, added = cause
    subjects_of: defaultdict[int, list[str]] = defaultdict(list)
    by_id = {id(item): item for _, item in changes}
    for who, item in changes:
        subjects_of[id(item)].append(who)
    witnesses = sorted(
        (
            (witness_complexity(by_id[number]), Witness(
                subjects=tuple(sorted(set(subjects), key=agents_first)),
                resource=by_id[number].resource,
                context=context_of(by_id[number].values),
            ))
            for number, subjects in subjects_of.items()
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
    """Yield the roles that rules ask for approval and that other users have now."""
    roles = {
        atom.role
        for side in (old, new)
        for text in {row.condition.text for row in side.rows}
        if "appro" in text
        for atom in atoms_of(text)
        if atom.role
    }
    for role in sorted(roles):
        before, after = old.approvers(role), new.approvers(role)
        if before != after:
            yield ApproverChange(role=role, gained=tuple(sorted(after - before)), lost=tuple(sorted(before - after)))
