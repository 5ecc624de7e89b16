"""What an agent did, decided under the rules of now: what they ask and refuse, and the smallest rules that would let it pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from remit.analysis.backtest import recorded_decisions
from remit.analysis.cases import run_cases
from remit.analysis.drafting.rows import CASES, cases_text, missing_rows, rows_text, rules_that_fail, with_rows
from remit.analysis.outside_rules import refused_outside_rules
from remit.analysis.reach import reach_of
from remit.analysis.solver.ruleset import RuleSet
from remit.core import Decision, Failed, Request, Rule
from remit.core.events import CallDecided, Recorded
from remit.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class ActionWork:
    """The recorded calls of one action. `let_through` were carried out only because that was not enforced.

    `allowed`, `asked` and `refused` are what the rules of now decide; `refused` has also those refused before a decision.
    """

    action: str
    calls: int
    let_through: int
    allowed: int
    asked: int
    refused: int


@dataclass(frozen=True, kw_only=True)
class SuggestedRules:
    """Lines to add to `policies/rules.csv` and to `policies/cases.yaml`, "" if no rule is missing.

    `missing` counts the calls that lack each row. `still_refused` are calls that are refused with them too, and `broken` the notes
    of cases that do not hold with them.
    """

    rules: str
    cases: str
    missing: Mapping[str, int]
    still_refused: int
    broken: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ObservedWork:
    """The recorded work of an agent. The maps count calls: by deciding rule, or by action and code before a decision.

    `outside_rules` says what else refused calls, as recorded. `skipped` counts decisions that cannot be made again, by reason.
    """

    runs: int
    calls: int
    actions: tuple[ActionWork, ...]
    asked_by: Mapping[str, int]
    refused_by: Mapping[str, int]
    refused_before: Mapping[str, int]
    outside_rules: Mapping[str, int]
    skipped: Mapping[str, int]
    suggested: SuggestedRules

    def lacking(self, action: str) -> int:
        """The calls of that action that are refused because a rule is missing."""
        return sum(count for row, count in self.suggested.missing.items() if row.split(", ")[2] == action)


def observed_work(
    rule_set: RuleSet,
    files: Mapping[str, bytes],
    workspace: Workspace,
    runs: Iterable[Sequence[Recorded]],
    *,
    cases: str = "",
) -> ObservedWork:
    """Decide every recorded call of those runs again. `files` are those of `rule_set`; `cases` is the text of their table of cases."""
    counted = _Counted()
    for records in runs:
        counted.add(records, rule_set)
        counted.outside_rules.update(refused_outside_rules(records, workspace))
    return ObservedWork(
        runs=counted.runs,
        calls=sum(counted.calls.values()),
        actions=tuple(counted.actions()),
        asked_by=_by_count(counted.asked_by),
        refused_by=_by_count(counted.refused_by),
        refused_before=_by_count(counted.refused_before),
        outside_rules=_by_count(counted.outside_rules),
        skipped=_by_count(counted.skipped),
        suggested=_suggest(
            rule_set, files, cases, missing_rows(rule_set, reach_of(workspace), counted.lacking), counted.lacking
        ),
    )


class _Counted:
    """Counts the calls of runs, one run after the other."""

    def __init__(self) -> None:
        self.runs = 0
        self.calls, self.let_through = Counter[str](), Counter[str]()
        self.verdicts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.asked_by, self.refused_by = Counter[str](), Counter[str]()
        self.refused_before, self.outside_rules, self.skipped = Counter[str](), Counter[str](), Counter[str]()
        self.lacking: list[Request] = []

    def add(self, records: Sequence[Recorded], rule_set: RuleSet) -> None:
        self.runs += 1
        for recorded in records:
            if isinstance(event := recorded.event, CallDecided) and event.round == 0:
                self._count(event)
        found, missing = recorded_decisions(records, rule_set)
        missing.pop("refused before it was a call", None)  # counted by its code
        self.skipped += missing
        for one in found:
            if one.round == 0:
                self._decide(one.request, rule_set)

    def _count(self, event: CallDecided) -> None:
        action = event.proposed.action if event.call is None else event.call.action
        self.calls[action] += 1
        self.let_through[action] += event.let_through
        if isinstance(event.refusal, Failed):
            self.refused_before[f"{action}: {event.refusal.error.code}"] += 1
            self.verdicts[action]["deny"] += 1

    def _decide(self, request: Request, rule_set: RuleSet) -> None:
        decision = rule_set.policy.decide(request)
        self.verdicts[request.action][decision.verdict] += 1
        if decision.verdict == "ask":
            self.asked_by[_rules(decision)] += 1
        elif decision.verdict == "deny":
            near = rules_that_fail(rule_set, request) if decision.reason == "no_rule_allows" else ()
            if decision.reason == "no_rule_allows" and not near:
                self.lacking.append(request)
            else:
                self.refused_by["; ".join(map(_rule, near)) or _rules(decision)] += 1

    def actions(self) -> Iterator[ActionWork]:
        for action, calls in sorted(self.calls.items()):
            verdicts = self.verdicts[action]
            yield ActionWork(
                action=action,
                calls=calls,
                let_through=self.let_through[action],
                allowed=verdicts["allow"],
                asked=verdicts["ask"],
                refused=verdicts["deny"],
            )


def _rules(decision: Decision) -> str:
    return "; ".join(map(_rule, decision.rules)) or decision.message


def _rule(rule: Rule) -> str:
    return f"{rule.file}:{rule.line} {rule.note or rule.text}"


def _by_count(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _suggest(
    rule_set: RuleSet,
    files: Mapping[str, bytes],
    cases: str,
    needed: Mapping[str, Sequence[Request]],
    lacking: Sequence[Request],
) -> SuggestedRules:
    if not needed:
        return SuggestedRules(rules="", cases="", missing={}, still_refused=len(lacking), broken=())
    rules = rows_text(needed)
    after = with_rows(rule_set, files, rules)
    still = [request for request in lacking if after.policy.decide(request).verdict == "deny"]
    results = run_cases(after.policy, cases, CASES) if cases.strip() else ()
    return SuggestedRules(
        rules=rules,
        cases=cases_text(after, (request for found in needed.values() for request in found[:1]), needed),
        missing={row: len(found) for row, found in needed.items() if row.startswith("p,")},
        still_refused=len(still),
        broken=tuple(f"{result.note}: {result.message}" for result in results if not result.passed),
    )
