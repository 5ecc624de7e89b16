"""Drafts rules for recorded calls that no rule allows: the narrowest rows that let them pass, and how many calls they cover.

A call that a rule denies stays denied: the draft never works against a deny.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from remit.analysis.backtest import RecordedDecision
from remit.analysis.drafting.rows import cases_text, chosen_approver, missing_rows, rows_text, with_rows
from remit.analysis.reach import reach_of
from remit.analysis.solver.ruleset import RuleSet
from remit.core import Decision
from remit.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class DraftCoverage:
    """What rules say of the calls: how many they allow, ask people about, deny by a rule, and do not mention."""

    allowed: int
    asks: int
    denied: int
    unmentioned: int


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Lines for `policies/rules.csv`, cases for `policies/cases.yaml`, and the coverage of the calls before and with them."""

    rules: str
    cases: str
    before: DraftCoverage
    after: DraftCoverage


def draft_rules(
    workspace: Workspace,
    rule_set: RuleSet,
    files: Mapping[str, bytes],
    recorded: Sequence[RecordedDecision],
    approver: str,
) -> Draft:
    """Draft rows for the calls that no rule of `rule_set` allows; one whose effect cannot be undone asks the role `approver`.

    `files` are those of `rule_set`.

    Raises:
        UsageError: `approver` is not a role.
        WorkspaceError: nobody has the role.
    """
    decided = [(one.request, rule_set.policy.decide(one.request)) for one in recorded]
    unmentioned = [request for request, decision in decided if _unmentioned(decision)]
    if any(request.context.effect == "once" for request in unmentioned):
        approver = chosen_approver(rule_set, {request.subjects[1] for request in unmentioned}, approver)
    rows = missing_rows(rule_set, reach_of(workspace), unmentioned, approver=approver)
    rules = rows_text(rows)
    after = with_rows(rule_set, files, rules)
    return Draft(
        rules=rules,
        cases=cases_text(after, unmentioned, rows),
        before=_coverage(decision for _, decision in decided),
        after=_coverage(after.policy.decide(request) for request, _ in decided),
    )


def _unmentioned(decision: Decision) -> bool:
    return decision.verdict == "deny" and decision.reason == "no_rule_allows"


def _coverage(decisions: Iterable[Decision]) -> DraftCoverage:
    found = list(decisions)
    allowed, asks = (sum(one.verdict == verdict for one in found) for verdict in ("allow", "ask"))
    unmentioned = sum(map(_unmentioned, found))
    return DraftCoverage(
        allowed=allowed, asks=asks, denied=len(found) - allowed - asks - unmentioned, unmentioned=unmentioned
    )
