"""What an agent did, decided under the rules of now: what they ask and refuse, and the smallest rules that would let it pass."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from remit.analysis.backtest import recorded_decisions
from remit.analysis.cases import run_cases
from remit.analysis.mutation import case_yaml
from remit.analysis.outside_rules import refused_outside_rules
from remit.analysis.reach import NO_RESOURCE, reach_of
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core import Decision, Failed, Request, Rule, action_matches
from remit.core.events import CallDecided, Recorded
from remit.policy.language import parse_pattern, parse_resource
from remit.workspace import Workspace

RULES: Final = "policies/rules.csv"
CASES: Final = "policies/cases.yaml"
_PLAIN: Final = re.compile(
    r"[A-Za-z0-9._:/@+-]+", re.ASCII
)  # a resource that is a pattern of itself, also in a CSV file


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
        suggested=_suggest(rule_set, files, cases, _needed_rows(rule_set, workspace, counted.lacking), counted.lacking),
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
            near = _rules_that_fail(rule_set, request) if decision.reason == "no_rule_allows" else ()
            if decision.reason == "no_rule_allows" and not near:
                self.lacking.append(request)
            else:
                self.refused_by["; ".join(near) or _rules(decision)] += 1

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


def _rules_that_fail(rule_set: RuleSet, request: Request) -> tuple[str, ...]:
    """The rules whose conditions refuse the request: a new rule beside them would undo what they limit."""
    found: dict[str, None] = {}
    for subject, resource in _pairs_without_rule(rule_set, request):
        names, named = {subject, *rule_set.roles.get(subject, ())}, parse_resource(resource)
        for row in rule_set.rows:
            applies = row.rule.effect == "allow" and row.subject in names and action_matches(request.action, row.action)
            if applies and row.pattern.covers(named):
                found[_rule(row.rule)] = None
    return tuple(found)


def _rule(rule: Rule) -> str:
    return f"{rule.file}:{rule.line} {rule.note or rule.text}"


def _by_count(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


# -- the rules that are missing ----------------------------------------------------------------------------------------


def _suggest(
    rule_set: RuleSet,
    files: Mapping[str, bytes],
    cases: str,
    needed: Mapping[str, Sequence[Request]],
    lacking: Sequence[Request],
) -> SuggestedRules:
    if not needed:
        return SuggestedRules(rules="", cases="", missing={}, still_refused=len(lacking), broken=())
    rules = "\n".join(_lines(needed))
    changed = {**files, RULES: added(files.get(RULES, b"").decode(), rules).encode()}
    after = read_rule_set("suggested", changed, rule_set.vocabulary)
    still = [request for request in lacking if after.policy.decide(request).verdict == "deny"]
    first = {found[0].action: found[0] for found in needed.values() if found}
    witnesses = [request.model_copy(update={"subjects": request.subjects[:2]}) for request in first.values()]
    results = run_cases(after.policy, cases, CASES) if cases.strip() else ()
    return SuggestedRules(
        rules=rules,
        cases="\n".join(case_yaml(after, request) for request in witnesses),
        missing={row: len(found) for row, found in needed.items() if row.startswith("p,")},
        still_refused=len(still),
        broken=tuple(f"{result.note}: {result.message}" for result in results if not result.passed),
    )


def added(before: str, lines: str) -> str:
    """The text of a file with further lines at its end, after an empty one."""
    return (before.rstrip("\n") + "\n\n" if before.strip() else "") + lines


def _lines(needed: Mapping[str, Sequence[Request]]) -> Iterator[str]:
    """The rows, each with the note that decisions quote."""
    for row, found in needed.items():
        if row.startswith("p,"):
            _, subject, action, *_ = row.split(", ")
            yield f"# {subject.partition(':')[2]} may call {action}, as in {len(found)} recorded calls"
        yield row
    yield ""


def _needed_rows(rule_set: RuleSet, workspace: Workspace, lacking: Sequence[Request]) -> dict[str, list[Request]]:
    """The rows that are missing, each with the requests that need it: one for an action, an agent and all of its users."""
    reach = reach_of(workspace)
    needs: defaultdict[tuple[str, str], dict[str, list[Request]]] = defaultdict(dict)
    for request in lacking:
        for subject, resource in _pairs_without_rule(rule_set, request):
            needs[request.action, subject].setdefault(resource, []).append(request)
    patterns: dict[str, Mapping[str, str]] = {}
    for action in dict.fromkeys(action for action, _ in needs):
        resources = {resource for (other, _), found in needs.items() if other == action for resource in found}
        patterns[action] = _patterns(resources, reach[action].patterns if action in reach else ())
    role_of = _roles(needs, lacking)
    rows: defaultdict[str, list[Request]] = defaultdict(list)
    members: dict[str, None] = {}
    for (action, subject), found in needs.items():
        holder = role_of.get(subject, subject)
        if holder != subject:
            members[f"g, {subject}, {holder}"] = None
        for resource, requests in found.items():
            if resource in patterns[action]:
                rows[f"p, {holder}, {action}, {patterns[action][resource]}, True, allow"].extend(requests)
    return {
        **{row: list({id(one): one for one in found}.values()) for row, found in rows.items()},
        **{row: [] for row in members},
    }


def _pairs_without_rule(rule_set: RuleSet, request: Request) -> Iterator[tuple[str, str]]:
    """The subjects and resources of the request that no rule allows."""
    for subject in request.subjects[:2]:  # the third is the scope of the run
        for resource in request.resources or (NO_RESOURCE,):
            alone = request.model_copy(update={"subjects": (subject,), "resources": (resource,)})
            if rule_set.policy.decide(alone).reason == "no_rule_allows":
                yield subject, resource


def _patterns(resources: set[str], reach: Sequence[str]) -> dict[str, str]:
    """A pattern for each resource: itself if it is the only one, else the part of the manifest's reach that has it."""
    if len(resources) == 1 and all(map(_PLAIN.fullmatch, resources)):
        return {resource: resource for resource in resources}
    parsed = [parse_pattern(text) for text in reach]
    found = {
        resource: next((one.text for one in parsed if one.covers(parse_resource(resource))), None)
        for resource in sorted(resources)
    }
    return {resource: text for resource, text in found.items() if text is not None}


def _roles(needs: Iterable[tuple[str, str]], lacking: Sequence[Request]) -> dict[str, str]:
    """The role that several users of an agent get together, by user; a single user gets rows of its own."""
    users = dict.fromkeys(subject for _, subject in needs if subject.startswith("user:"))
    if len(users) < 2:
        return {}
    agent = lacking[0].subjects[0].partition(":")[2]
    return dict.fromkeys(users, f"role:{agent}-users")
