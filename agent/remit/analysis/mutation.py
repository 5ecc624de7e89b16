"""Mutation testing of the rules: each rule is changed in a few fixed ways, and a good table has a case that then fails.

A mutant that no case catches may still be equivalent: the comparison then proves that no request gets another verdict,
and the mutant does not count. For each other mutant, this writes a case that would catch it, ready to paste.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, product
from typing import Final, Literal, TypeAlias

from remit.analysis.case_text import case_yaml
from remit.analysis.diff.policy import compare_policies
from remit.analysis.solver.cells import cells_of
from remit.analysis.solver.conditions import atoms_of, context_of
from remit.analysis.solver.findings import PolicyDifference
from remit.analysis.solver.paths import ResourceClass, ResourceSpace
from remit.analysis.solver.ruleset import RuleKey, RuleSet
from remit.analysis.solver.segments import AnalysisLimitReached
from remit.core import Context, Decision, Request, action_matches
from remit.policy import Case, request_of
from remit.policy.language import (
    ConditionError,
    GlobError,
    Pattern,
    RoleLink,
    RuleRow,
    check_links,
    parse_condition,
    parse_pattern,
)

Operator: TypeAlias = Literal["drop", "flip", "widen", "unconditional", "negate", "swap"]
OPERATORS: Final[Mapping[Operator, str]] = {
    "drop": "rule removed",
    "flip": "allow and deny swapped",
    "widen": "last part of the pattern replaced by a wildcard",
    "unconditional": "condition removed",
    "negate": "condition negated",
    "swap": "role replaced by another one",
}
Fate: TypeAlias = Literal["killed", "equivalent", "survived"]
MAX_CASE_TEXT: Final = 500  # characters of one text in a case
MAX_REQUESTS: Final = 5000  # tried in the search for one that an agent and a user together can make


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One rule changed in one way. `by` is the note of the case that catches it.

    Where no case does, `case` is the YAML of one that would, or `why` says why there is none.
    """

    operator: Operator
    file: str
    line: int
    text: str
    fate: Fate
    by: str = ""
    case: str = ""
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class MutationScore:
    """How many of the mutants that are not equivalent are caught. `requests` would catch the others, by their place in `mutants`."""

    mutants: tuple[Mutant, ...]
    requests: Mapping[int, Request]

    @property
    def killed(self) -> int:
        return sum(mutant.fate == "killed" for mutant in self.mutants)

    @property
    def counted(self) -> int:
        return sum(mutant.fate != "equivalent" for mutant in self.mutants)

    @property
    def survivors(self) -> tuple[Mutant, ...]:
        return tuple(mutant for mutant in self.mutants if mutant.fate == "survived")

    @property
    def percent(self) -> float:
        return 100.0 * self.killed / self.counted if self.counted else 100.0


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One mutant with all of its rules."""

    operator: Operator
    file: str
    line: int
    text: str
    rule_set: RuleSet


def score_mutants(rule_set: RuleSet, cases: Sequence[Case]) -> MutationScore:
    """Run the cases on every mutant of the rules.

    A case that fails on the rules as they are catches nothing: it would fail on every mutant.
    """
    requests = [request_of(rule_set.policy, case) for case in cases]
    decided = [(case, one, rule_set.policy.decide(one)) for case, one in zip(cases, requests, strict=True)]
    mutants: list[Mutant] = []
    found: dict[int, Request] = {}
    for mutation in mutations(rule_set):
        mutant, request = _run_mutant(rule_set, mutation, decided)
        if request is not None:
            found[len(mutants)] = request
        mutants.append(mutant)
    return MutationScore(mutants=tuple(mutants), requests=found)


def _run_mutant(
    rule_set: RuleSet, mutation: Mutation, decided: Sequence[tuple[Case, Request, Decision]]
) -> tuple[Mutant, Request | None]:
    """Decide what became of one mutant: caught by a case, equivalent, or not caught; and a request that would catch it.

    The cheap steps come first: the cases, the proof that nothing differs, the witnesses of the difference, and last the
    search over requests.
    """
    mutant = Mutant(
        operator=mutation.operator, file=mutation.file, line=mutation.line, text=mutation.text, fate="killed"
    )
    for case, asked, before in decided:
        if not case.mismatch(before) and case.mismatch(mutation.rule_set.policy.decide(asked)):
            return replace(mutant, by=case.note), None
    found = compare_policies(rule_set, mutation.rule_set)
    if found.equal:
        return replace(mutant, fate="equivalent", why="proved: every request gets the same verdict"), None
    request = _request_at_witness(rule_set, mutation.rule_set, found)
    if request is None:
        if not found.unsettled and not found.approvers and not _visible_to_a_pair(rule_set, mutation.rule_set, found):
            why = "proved: no agent and user together can make a request that it changes"
            return replace(mutant, fate="equivalent", why=why), None
        request = _request_by_search(rule_set, mutation.rule_set, found)
    if request is not None:
        return replace(mutant, fate="survived", case=case_yaml(rule_set, request)), request
    return replace(mutant, fate="survived", why=_why_no_case(found)), None


def _request_at_witness(old: RuleSet, new: RuleSet, found: PolicyDifference) -> Request | None:
    """Find a request at one of the witnesses for which the two rule sets give different verdicts."""
    for finding in found.findings:
        for witness in finding.witnesses:
            for context in _without_long_texts(witness.context):
                request = _request_of_both(old, new, witness.subjects[0], finding.action, witness.resource, context)
                if request is not None:
                    return request
    return None


def _request_by_search(old: RuleSet, new: RuleSet, found: PolicyDifference) -> Request | None:
    """Search for a request with different verdicts, where there are findings or roles with other approvers."""
    places = [(finding.subject, finding.action) for finding in found.findings]
    asking = (place for change in found.approvers for place in _pairs_asking(old, change.role))
    for subject, action in chain(places, asking):
        request = _search_request(old, new, subject, action)
        if request is not None:
            return request
    return None


def _why_no_case(found: PolicyDifference) -> str:
    if found.unsettled:
        return f"not analysed: {found.unsettled[0].why}"
    if found.approvers and not found.findings:
        return f"it only changes who may approve as {found.approvers[0].role}"
    return "no request of an agent and a user was found that shows it"


# -- mutations ---------------------------------------------------------------------------------------------------------


def mutations(rule_set: RuleSet) -> Iterator[Mutation]:
    """Every mutant of the rules and role links, always in the same order."""
    roles = sorted(
        {row.subject for row in rule_set.rows if row.subject.startswith("role:")}
        | {link.role for link in rule_set.links}
    )
    for at, row in enumerate(rule_set.rows):
        for operator, other in _mutate_row(row, roles):
            kept = (*rule_set.rows[:at], *(() if other is None else (other,)), *rule_set.rows[at + 1 :])
            text = row.rule.text if other is None else other.rule.text
            yield Mutation(
                operator=operator,
                file=row.rule.file,
                line=row.rule.line,
                text=text,
                rule_set=RuleSet(
                    label="mutant",
                    rows=kept,
                    links=rule_set.links,
                    vocabulary=rule_set.vocabulary,
                    entities=rule_set.entities,
                ),
            )
    for at, link in enumerate(rule_set.links):
        for operator, other_link in _mutate_link(link, roles):
            links = (*rule_set.links[:at], *(() if other_link is None else (other_link,)), *rule_set.links[at + 1 :])
            if next(check_links(links), None) is not None:
                continue
            shown = other_link or link
            yield Mutation(
                operator=operator,
                file=link.file,
                line=link.line,
                text=f"g, {shown.member}, {shown.role}",
                rule_set=RuleSet(
                    label="mutant",
                    rows=rule_set.rows,
                    links=links,
                    vocabulary=rule_set.vocabulary,
                    entities=rule_set.entities,
                ),
            )


def _mutate_row(row: RuleRow, roles: Iterable[str]) -> Iterator[tuple[Operator, RuleRow | None]]:
    yield "drop", None
    flipped: Literal["allow", "deny"] = "deny" if row.rule.effect == "allow" else "allow"
    if (other := _edit_row(row, effect=flipped)) is not None:
        yield "flip", other
    if (wider := _widen_pattern(row.pattern)) is not None:
        yield "widen", _edit_row(row, pattern=wider)
    if row.condition.text != "True":
        yield "unconditional", _edit_row(row, condition="True")
        if (negated := _edit_row(row, condition=f"not ({row.condition.text})")) is not None:
            yield "negate", negated
    if row.subject.startswith("role:"):
        for role in roles:
            if role != row.subject:
                yield "swap", _edit_row(row, subject=role)


def _mutate_link(link: RoleLink, roles: Iterable[str]) -> Iterator[tuple[Operator, RoleLink | None]]:
    yield "drop", None
    for role in roles:
        if role not in (link.role, link.member):
            yield "swap", replace(link, role=role)


def _edit_row(
    row: RuleRow,
    *,
    subject: str = "",
    pattern: Pattern | None = None,
    condition: str = "",
    effect: Literal["allow", "deny"] | None = None,
) -> RuleRow | None:
    """The row with these fields changed; None where it would not load."""
    how = effect or row.rule.effect
    text = condition or row.condition.text
    try:
        read = parse_condition(text, effect=how)
    except ConditionError:
        return None
    who, what = subject or row.subject, pattern or row.pattern
    line = f"p, {who}, {row.action}, {what.text}, {read.text}, {how}"
    return replace(
        row, rule=row.rule.model_copy(update={"text": line, "effect": how}), subject=who, pattern=what, condition=read
    )


def _widen_pattern(pattern: Pattern) -> Pattern | None:
    """Replace the last part that is not a wildcard by one; None where the pattern is everything of its kind already."""
    kind, _, name = pattern.text.partition(":")
    if not name or kind == "none":
        return None
    parts = name.split("/")
    if kind == "file":
        kept = parts[:-1] if parts[-1] != "**" else parts[:-2]
        wider = "/".join((*kept, "**"))
    elif kind in ("http", "https"):
        kept = parts[:-1] if parts[-1] != "**" else parts[:-2]
        if len(kept) < 3:
            return None
        wider = "/".join((*kept, "**"))
    else:
        wider = "*"
    try:
        return parse_pattern(f"{kind}:{wider}") if wider != name else None
    except GlobError:
        return None


# -- the case that would catch it --------------------------------------------------------------------------------------


def _request_of_both(
    old: RuleSet, new: RuleSet, subject: str, action: str, resource: str, context: Context
) -> Request | None:
    """Find a request of an agent for a user with different verdicts; None where no partner of `subject` makes one.

    A call needs the permission of both. A change for one of them shows only with a partner who may make the call too.
    """
    mine = "agent:" if subject.startswith("agent:") else "user:"
    other = "user:" if mine == "agent:" else "agent:"
    partners = sorted(who for who in old.subjects | new.subjects if who.startswith(other))
    for partner in [*partners, f"{other}none"]:
        pair = (subject, partner) if mine == "agent:" else (partner, subject)
        request = Request(subjects=pair, action=action, resources=(resource,), context=context)
        request = new.entities.of(request)  # a call has no other properties than these
        before, after = old.policy.decide(request), new.policy.decide(request)
        if before.verdict != after.verdict and "error" not in (before.reason, after.reason):
            return request
    return None


def _pairs_asking(rule_set: RuleSet, role: str) -> Iterator[tuple[str, str]]:
    """Yield the subjects and actions whose rules ask for the approval of that role."""
    actions = sorted(rule_set.vocabulary.actions) if rule_set.vocabulary is not None else []
    for row in rule_set.rows:
        if any(atom.role == role for atom in atoms_of(row.condition.text)):
            for subject in sorted(rule_set.subjects):
                if row.subject in rule_set.names_of(subject):
                    yield from ((subject, action) for action in actions if action_matches(action, row.action))


def _without_long_texts(context: Context) -> Iterator[Context]:
    """Yield the facts without one long text, for each of them, and then unchanged.

    The request without the text often shows the same change, because a condition that cannot read a fact never allows.
    A case with thousands of characters would be hard to read.
    """
    for name, value in context.args.items():
        if isinstance(value, str) and len(value) > MAX_CASE_TEXT:
            yield context.model_copy(update={"args": {key: kept for key, kept in context.args.items() if key != name}})
    yield context


def _visible_to_a_pair(old: RuleSet, new: RuleSet, found: PolicyDifference) -> bool:
    """True if some partner may do part of what changes. Otherwise no request of an agent and a user can show it."""
    subjects = old.subjects | new.subjects
    for finding in found.findings:
        for subject in finding.subjects:
            mine, other = ("agent:", "user:") if subject.startswith("agent:") else ("user:", "agent:")
            assert subject.startswith(mine)
            before, after = _keys_of(old, subject, finding.action), _keys_of(new, subject, finding.action)
            for partner in (who for who in subjects if who.startswith(other)):
                was, now = _keys_of(old, partner, finding.action), _keys_of(new, partner, finding.action)
                allows = {key.pattern for key in was | now if key.effect == "allow"}
                denies = {key.pattern for key in was & now if key.effect == "deny" and key.condition == "True"}
                if _partner_may_act(before - after, after - before, allows, denies):
                    return True
    return False


def _keys_of(rule_set: RuleSet, subject: str, action: str) -> frozenset[RuleKey]:
    return rule_set.keys_for(rule_set.names_of(subject), action)


def _partner_may_act(
    removed: frozenset[RuleKey], added: frozenset[RuleKey], allowed: set[str], denied: set[str]
) -> bool:
    """True if the partner may act on some resource where the removed and the added rows differ."""
    patterns = sorted({key.pattern for key in removed | added} | allowed | denied)
    bits = {text: 1 << number for number, text in enumerate(patterns)}
    parsed = [parse_pattern(text) for text in patterns]
    ours = sum(bits[text] for text in {key.pattern for key in removed | added})
    partners, barred = sum(bits[text] for text in allowed), sum(bits[text] for text in denied)
    kinds = {pattern.kind for pattern in parsed} - {""} or {"file"}

    def meanings(keys: frozenset[RuleKey], item: ResourceClass) -> set[tuple[str, str]]:
        return {
            (key.effect, key.condition)
            for key in keys
            if (item.covering if key.effect == "allow" else item.overlapping) & bits[key.pattern]
        }

    try:
        return any(
            item.covering & partners
            and not item.overlapping & barred
            and meanings(removed, item) != meanings(added, item)
            for kind in kinds
            for item in ResourceSpace(kind, parsed).classes(ours)
        )
    except AnalysisLimitReached:
        return True  # unknown: never count the mutant as equivalent


def _search_request(old: RuleSet, new: RuleSet, subject: str, action: str) -> Request | None:
    """As `_request_at_witness`, over all resources and facts that rules for the action tell apart."""
    rows = [row for row in (*old.rows, *new.rows) if action_matches(action, row.action)]
    kinds = sorted({row.pattern.kind for row in rows} - {""})
    patterns = list({row.pattern.text: row.pattern for row in rows}.values())
    try:
        cells = cells_of(list(dict.fromkeys(atom for row in rows for atom in atoms_of(row.condition.text))), {})
        resources = [
            item.resource for kind in kinds for item in islice(ResourceSpace(kind, patterns).classes(-1), MAX_REQUESTS)
        ]
    except AnalysisLimitReached:
        return None
    names = list(cells.examples)
    contexts = (
        context_of(dict(zip(names, values, strict=True)))
        for values in product(*(cells.examples[name] for name in names))
    )
    for resource, context in islice(product(resources, islice(contexts, 100)), MAX_REQUESTS):
        request = _request_of_both(old, new, subject, action, resource, context)
        if request is not None:
            return request
    return None
