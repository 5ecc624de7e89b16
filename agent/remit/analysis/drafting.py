"""Drafts rules for recorded calls that no rule allows: the narrowest rows that let them pass, and how many calls they cover.

A call that a rule denies stays denied: the draft never works against a deny.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.analysis.approved_rule import RULES
from remit.analysis.backtest import RecordedDecision
from remit.analysis.mutation import case_yaml
from remit.analysis.reach import reach_of
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.analysis.suggestion import narrow_pattern
from remit.core import Decision, Request, UsageError
from remit.policy.language import ROLE, parse_pattern, parse_resource
from remit.workspace import Workspace

MOST_EXACT: Final = 3  # resources that get a row each; for more, one pattern stands for all of them
NO_RESOURCE: Final = "none:"


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
    if not ROLE.fullmatch(approver):
        raise UsageError(f"{approver!r} is not a role: write role:<name>")
    decided = [(one.request, rule_set.policy.decide(one.request)) for one in recorded]
    unmentioned = [request for request, decision in decided if _unmentioned(decision)]
    needed, reach = _needed(rule_set, unmentioned, approver), reach_of(workspace)
    lines = [
        line
        for (subject, action, condition), resources in sorted(needed.items())
        for line in _rows(subject, action, condition, resources, reach[action].patterns if action in reach else ())
    ]
    text = "\n".join(lines) + "\n" if lines else ""
    changed = {**files, RULES: files.get(RULES, b"").rstrip(b"\n") + b"\n" + text.encode()}
    after = read_rule_set("with the draft", changed, rule_set.vocabulary)
    return Draft(
        rules=text,
        cases="".join(case_yaml(after, request) for request in _examples(after, unmentioned)),
        before=_coverage(decision for _, decision in decided),
        after=_coverage(after.policy.decide(request) for request, _ in decided),
    )


def _needed(
    rule_set: RuleSet, requests: Iterable[Request], approver: str
) -> Mapping[tuple[str, str, str], Mapping[str, None]]:
    """The resources that have no rule, by subject, action and the condition that a row for them gets."""
    needed: defaultdict[tuple[str, str, str], dict[str, None]] = defaultdict(dict)
    for request in requests:
        condition = f"approved('{approver}')" if request.context.effect == "once" else "True"
        for subject in request.subjects:
            for resource in request.resources or (NO_RESOURCE,):
                one = request.model_copy(update={"subjects": (subject,), "resources": (resource,)})
                if _unmentioned(rule_set.policy.decide(one)):
                    needed[subject, request.action, condition][resource] = None
    return needed


def _rows(
    subject: str, action: str, condition: str, resources: Iterable[str], patterns: Sequence[str]
) -> Iterable[str]:
    """One row for each resource, or for each pattern of the manifest that many of them share, narrowed to their folder."""
    by_pattern: defaultdict[str, list[str]] = defaultdict(list)
    for resource in resources:
        covering = (text for text in patterns if parse_pattern(text).covers(parse_resource(resource)))
        by_pattern[next(covering, resource)].append(resource)
    for pattern, found in sorted(by_pattern.items()):
        wide = len(found) > MOST_EXACT
        for chosen in [narrow_pattern(parse_pattern(pattern), found)] if wide else sorted(found):
            yield f"# Recorded calls used {f'{len(found)} resources of this pattern' if wide else 'this resource'}"
            yield f"p, {subject}, {action}, {chosen}, {condition}, allow"


def _examples(rule_set: RuleSet, requests: Iterable[Request]) -> Iterator[Request]:
    """As few requests as it takes in their order so that each rule which decides one of them has a case."""
    seen: set[tuple[str, int]] = set()
    for request in requests:
        rules = {(rule.file, rule.line) for rule in rule_set.policy.decide(request).rules}
        if not rules <= seen:
            seen |= rules
            yield request


def _unmentioned(decision: Decision) -> bool:
    return decision.verdict == "deny" and decision.reason == "no_rule_allows"


def _coverage(decisions: Iterable[Decision]) -> DraftCoverage:
    found = list(decisions)
    allowed, asks = (sum(one.verdict == verdict for one in found) for verdict in ("allow", "ask"))
    unmentioned = sum(map(_unmentioned, found))
    return DraftCoverage(
        allowed=allowed, asks=asks, denied=len(found) - allowed - asks - unmentioned, unmentioned=unmentioned
    )
