"""The rows that requests lack: for each subject and resource that no rule allows, the narrowest row that would.

A request that a rule denies stays denied, and so does one that a condition limits: a row beside it would undo what it limits.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from remit.analysis.case_text import case_yaml
from remit.analysis.reach import NO_RESOURCE, Reach
from remit.analysis.solver.conditions import atoms_of
from remit.analysis.solver.ruleset import RuleSet, read_rule_set
from remit.core import Context, Request, Rule, UsageError, action_matches
from remit.policy import Case
from remit.policy.language import ROLE, GlobError, Pattern, parse_pattern, parse_resource

RULES: Final = "policies/rules.csv"
CASES: Final = "policies/cases.yaml"
MOST_EXACT: Final = 3  # resources that get a row each; for more, one pattern stands for all of them

_ODD: Final = re.compile(r"[^A-Za-z0-9._:/@+-]+", re.ASCII)  # what not every reader of a CSV file reads alike


def pairs_without_rule(rule_set: RuleSet, request: Request) -> Iterator[tuple[str, str]]:
    """The subjects and resources of the request that no rule allows. The scope of its run is no subject that rules can name."""
    for subject in request.subjects[:2]:
        for resource in request.resources or (NO_RESOURCE,):
            alone = request.model_copy(update={"subjects": (subject,), "resources": (resource,)})
            decision = rule_set.policy.decide(alone)
            if decision.verdict == "deny" and decision.reason == "no_rule_allows":
                yield subject, resource


def rules_that_fail(rule_set: RuleSet, request: Request) -> tuple[Rule, ...]:
    """The rules that would allow the request under other facts: what they limit, no draft may undo."""
    found: dict[tuple[str, int], Rule] = {}
    for subject, resource in pairs_without_rule(rule_set, request):
        names, named = {subject, *rule_set.roles.get(subject, ())}, parse_resource(resource)
        for row in rule_set.rows:
            applies = row.rule.effect == "allow" and row.subject in names and action_matches(request.action, row.action)
            if applies and row.pattern.covers(named):
                found[row.rule.file, row.rule.line] = row.rule
    return tuple(found.values())


def chosen_approver(rule_set: RuleSet, asking: Collection[str], role: str = "") -> str:
    """The role that a new rule asks for approval: `role`, or else one that another user has, first those that rules ask already.

    The users in `asking` do not count, because nobody may approve a call of their own.

    Raises:
        UsageError: `role` is none, or there is no such role.
    """
    if role:
        if not ROLE.fullmatch(role):
            raise UsageError(f"{role!r} is not a role: write role:<name>")
        return role
    asked = Counter(atom.role for row in rule_set.rows for atom in atoms_of(row.condition.text) if atom.role)
    every = {role for roles in rule_set.roles.values() for role in roles}
    able = [role for role in every if rule_set.approvers(role) - {*asking}]
    if not able:
        what = (
            f"the action cannot be undone, and no user but {', '.join(sorted(asking))} has a role that could approve it"
        )
        raise UsageError(f"{what}: write g, user:<name>, role:<name> in {RULES} for a person who may")
    return min(able, key=lambda role: (-asked[role], len(rule_set.approvers(role)), role))


def missing_rows(
    rule_set: RuleSet, reach: Mapping[str, Reach], requests: Sequence[Request], *, approver: str = ""
) -> dict[str, list[Request]]:
    """The rows and role links that the requests lack, each with the requests that need it.

    Several users get one role. With an `approver`, a row for an action that cannot be undone asks that role.
    """
    needs: defaultdict[tuple[str, str, str], dict[str, list[Request]]] = defaultdict(dict)
    for request in requests:
        condition = f"approved('{approver}')" if approver and request.context.effect == "once" else "True"
        for subject, resource in pairs_without_rule(rule_set, request):
            needs[request.action, subject, condition].setdefault(resource, []).append(request)
    resources: defaultdict[str, set[str]] = defaultdict(set)
    for (action, _, _), found in needs.items():
        resources[action].update(found)
    patterns = {
        action: patterns_for(found, reach[action].patterns if action in reach else ())
        for action, found in resources.items()
    }
    role_of = _shared_role((subject for _, subject, _ in needs), requests)
    rows: defaultdict[str, dict[int, Request]] = defaultdict(dict)
    for (action, subject, condition), found in needs.items():
        for resource, asked in sorted(found.items()):
            if (pattern := patterns[action].get(resource)) is not None:
                row = row_text(role_of.get(subject, subject), action, pattern, condition)
                rows[row].update((id(one), one) for one in asked)
    links = {f"g, {user}, {role}": list[Request]() for user, role in role_of.items()}
    return {**{row: list(found.values()) for row, found in rows.items()}, **links}


def row_text(subject: str, action: str, pattern: str, condition: str = "True") -> str:
    """An allow row."""
    return f"p, {subject}, {action}, {pattern}, {condition}, allow"


def _shared_role(subjects: Iterable[str], requests: Sequence[Request]) -> dict[str, str]:
    """The role that several users of an agent get together, by user; a single user gets rows of its own."""
    users = dict.fromkeys(subject for subject in subjects if subject.startswith("user:"))
    return dict.fromkeys(users, f"role:{requests[0].subjects[0].partition(':')[2]}-users") if len(users) > 1 else {}


def patterns_for(resources: Iterable[str], reach: Sequence[str]) -> dict[str, str]:
    """A pattern for each resource: itself for a few of them, else the part of the manifest's reach that they share.

    A resource that no pattern can name is left out.
    """
    parsed = [parse_pattern(text) for text in reach]
    shared: defaultdict[str | None, list[str]] = defaultdict(list)
    for resource in sorted(resources):
        shared[next((one.text for one in parsed if one.covers(parse_resource(resource))), None)].append(resource)
    chosen: dict[str, str] = {}
    for wider, found in shared.items():
        exact = {resource: text for resource in found if (text := _exact(resource)) is not None}
        if wider is None or (len(found) <= MOST_EXACT and len(exact) == len(found)):
            chosen |= exact
        else:
            chosen |= dict.fromkeys(found, narrow_pattern(parse_pattern(wider), found))
    return chosen


def _exact(resource: str) -> str | None:
    """The pattern of one resource. A character that a rule cannot hold becomes `*`. None if there is no such pattern."""
    head, folder = resource.removesuffix("/**"), "/**" if resource.endswith("/**") else ""
    text = _ODD.sub("*", head) + folder
    try:
        return text if parse_pattern(text).covers(parse_resource(resource)) else None
    except GlobError:
        return None


def narrow_pattern(pattern: Pattern, resources: Sequence[str]) -> str:
    """Narrow `file:…/**` to the deepest folder that contains all resources; other patterns stay unchanged."""
    if pattern.kind != "file" or not pattern.segments or pattern.segments[-1] != "**":
        return pattern.text
    folders: list[list[str]] = []
    for resource in resources:
        parts = resource.removeprefix("file:").removesuffix("/**").split("/")
        folders.append(parts if resource.endswith("**") else parts[:-1])
    common: list[str] = []
    for names in zip(*folders, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    if not common or "**" in common:
        return pattern.text
    narrower = f"file:{'/'.join(common)}/**"
    parse_pattern(narrower)
    return narrower if pattern.covers(parse_resource(narrower)) else pattern.text


def rows_text(rows: Mapping[str, Sequence[Request]]) -> str:
    """The rows as lines of a rules file, each with the note that decisions quote; "" without rows."""
    lines: list[str] = []
    for row, found in rows.items():
        if row.startswith("p,"):
            _, subject, action, pattern, *_ = row.split(", ")
            calls = f", as in {len(found)} recorded calls" if len(found) > 1 else f" on {pattern}"
            lines.append(f"# {subject.partition(':')[2]} may call {action}{calls}")
        lines.append(row)
    return "\n".join([*lines, ""]) if lines else ""


def added(before: str, lines: str) -> str:
    """The text of a file with further lines at its end, after an empty one."""
    return (before.rstrip("\n") + "\n\n" if before.strip() else "") + lines


def with_rows(rule_set: RuleSet, files: Mapping[str, bytes], lines: str) -> RuleSet:
    """The rules of `files`, those of `rule_set`, with these lines at the end of `policies/rules.csv`.

    Raises:
        WorkspaceError: a line is not a valid row, or a role that a row names has no member.
    """
    changed = {**files, RULES: added(files.get(RULES, b"").decode(), lines).encode()}
    return read_rule_set("with the draft", changed, rule_set.vocabulary)


def cases_text(rule_set: RuleSet, requests: Iterable[Request], rows: Collection[str] = ()) -> str:
    """Cases for as few of the requests, in their order, as it takes so that each rule which decides one of them has a case.

    `rows` are the drafted ones: a case names one of them, if it decides. Facts on which the decision does not depend are left out.
    """
    seen: set[tuple[str, int]] = set()
    cases: list[str] = []
    for request in requests:
        alone = request.model_copy(update={"subjects": request.subjects[:2]})
        rules = {(rule.file, rule.line) for rule in rule_set.policy.decide(alone).rules}
        if not rules <= seen:
            seen |= rules
            cases.append(case_yaml(rule_set, _without_facts(rule_set, alone), rows=rows))
    return "\n".join(cases)


def _without_facts(rule_set: RuleSet, request: Request) -> Request:
    """The request with the facts of a plain case, if they lead to the same decision."""
    agent, user = request.subjects
    case = Case(note="plain", agent=agent, user=user, action=request.action, resources=request.resources, expect="deny")
    effect = request.context.effect
    plain = [request.model_copy(update={"context": context}) for context in (Context(), case.request(effect).context)]
    decisions = [rule_set.policy.decide(one) for one in (request, *plain)]
    same = len({(one.verdict, tuple((rule.file, rule.line) for rule in one.rules)) for one in decisions}) == 1
    return plain[0] if same else request
