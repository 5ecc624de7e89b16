"""Makes a rule of what people keep approving: the narrowest row that allows the approved call, a case that pins it, and a backtest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.analysis.backtest import Backtest, backtest_rules, recorded_decisions
from remit.analysis.case_text import case_yaml
from remit.analysis.drafting.rows import row_text, with_rows
from remit.analysis.solver.ruleset import RuleSet
from remit.broker.approvals import narrowest_condition
from remit.core import Call, Json, Request, UsageError
from remit.core.events import ApprovalGranted, CallDecided, Recorded
from remit.policy.language import RuleRow

_PLAIN: Final = re.compile(
    r"[A-Za-z0-9 ._:/@+-]*", re.ASCII
)  # a text that every CSV reader reads alike inside of quotes


@dataclass(frozen=True, kw_only=True)
class ApprovedRule:
    """Lines to add to `policies/rules.csv`, a row to add to `policies/cases.yaml`, and what the rules with them would have decided."""

    rules: str
    case: str
    backtest: Backtest


def rule_from_approval(
    rule_set: RuleSet,
    files: Mapping[str, bytes],
    records: Sequence[Recorded],
    place: tuple[int, int],
    runs: Iterable[Sequence[Recorded]],
) -> ApprovedRule:
    """The rule that would have allowed the approved call at that step and index without asking, and nothing wider of its action.

    `files` are those of `rule_set`, `records` the run of the call, and `runs` what the rule is tried on.

    Raises:
        UsageError: nobody approved the call, its inputs are not recorded, or no single rule can replace the approval.
    """
    decided, approvers = _approved(records, place)
    found = [one for one in recorded_decisions(records, rule_set)[0] if (one.step, one.index, one.round) == (*place, 0)]
    if not found or found[0].redacted:
        raise UsageError("the inputs of the call are not recorded completely: write the rule by hand")
    request = _without_approvals(found[0].request)
    asking = [row for row in rule_set.rows if row.condition.thresholds and row.rule.text in decided.texts]
    note = f"# {decided.call.action} without asking: approved by {', '.join(approvers)} in run {records[0].run[:8]}"
    rows = dict.fromkeys(line for row in asking for line in _rows(row, decided.call, decided.facts))
    text = "\n".join([note, *rows, ""])
    changed = with_rows(rule_set, files, text)
    if not rows or changed.policy.decide(request).verdict != "allow":
        raise UsageError(
            "no single rule replaces this approval, because another rule denies the call: write it by hand"
        )
    return ApprovedRule(rules=text, case=case_yaml(changed, request), backtest=backtest_rules(runs, changed))


@dataclass(frozen=True, kw_only=True)
class _Approved:
    call: Call
    texts: frozenset[str]
    facts: Mapping[str, Json]


def _approved(records: Sequence[Recorded], place: tuple[int, int]) -> tuple[_Approved, list[str]]:
    of_call = [
        item.event for item in records if item.event is not None and (item.event.step, item.event.index) == place
    ]
    asked = next(
        (
            event
            for event in of_call
            if isinstance(event, CallDecided) and event.decision is not None and event.decision.verdict == "ask"
        ),
        None,
    )
    approvers = list(dict.fromkeys(event.approver for event in of_call if isinstance(event, ApprovalGranted)))
    if asked is None or asked.call is None or asked.decision is None or not approvers:
        raise UsageError(
            f"nobody approved a call {place[0]}.{place[1]} of this run: `remit trace show` shows its calls"
        )
    texts = frozenset(rule.text for rule in asked.decision.rules)
    return _Approved(call=asked.call, texts=texts, facts=asked.decision.facts), approvers


def _rows(row: RuleRow, call: Call, facts: Mapping[str, Json]) -> Iterator[str]:
    """A row for each resource of the call: for the agent alone, or for the user of the run where the asking row is about people."""
    subject = row.subject if row.subject.startswith("agent:") else call.subjects.user
    condition = " and ".join(part for part in [narrowest_condition(call.arguments), *_facts(row, facts)] if part)
    for resource in dict.fromkeys(touch.resource for touch in call.touches):
        yield row_text(subject, call.action, resource, condition or "True")


def _facts(row: RuleRow, facts: Mapping[str, Json]) -> Iterator[str]:
    """The facts that the asking row reads, as they were: what was approved was approved under these."""
    for name in row.condition.reads:
        value = facts.get(name)
        if name.startswith("approv") or name == "time" or (name.startswith("args.") and not isinstance(value, str)):
            continue  # numbers and truth values of arguments are bounded already
        match value:
            case bool():
                yield name if value else f"not {name}"
            case int() | float():
                yield f"{name} <= {value}"
            case list():
                points = dict.fromkeys(point.value for point in row.condition.change_points if point.fact == name)
                yield from (f"{point!r} {'in' if point in value else 'not in'} {name}" for point in points)
            case str() if _PLAIN.fullmatch(value):
                yield f"{name} == '{value}'"
            case _:
                raise UsageError(f"the value of {name} cannot be written in a rule: write the rule by hand")


def _without_approvals(request: Request) -> Request:
    return request.model_copy(update={"context": request.context.model_copy(update={"approvals": {}})})
