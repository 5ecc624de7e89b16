"""Mutation testing of the rules: every rule is changed in a few fixed ways, and each time some case should fail.

A mutant that changes no decision at all is proved to be equivalent by the diff, and does not count. For each other
mutant that no case notices, this writes the case that would, ready to paste.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, product
from typing import Final, Literal, TypeAlias

from remit.analysis.diff.policy import difference
from remit.analysis.diff.witnesses import facts_of, facts_text
from remit.analysis.solver.cells import cells_of
from remit.analysis.solver.conditions import atoms_of, context_of
from remit.analysis.solver.findings import PolicyDifference
from remit.analysis.solver.paths import Place, Space
from remit.analysis.solver.ruleset import Key, RuleSet
from remit.analysis.solver.segments import TooMany
from remit.core import Context, Decision, Json, Request, action_matches
from remit.policy import Case
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
    "drop": "the row removed",
    "flip": "allow and deny exchanged",
    "widen": "the last part of the pattern opened",
    "unconditional": "the condition dropped",
    "negate": "the condition turned round",
    "swap": "another role in place of the one named",
}
Fate: TypeAlias = Literal["killed", "equivalent", "survived"]
LONGEST: Final = 500  # characters of one text in a case
MOST_REQUESTS: Final = 5000  # that are tried to find one that shows a difference through both subjects


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One rule changed in one way. `by` is the note of the case that fails.

    Where no case fails, `case` is the YAML of one that would.
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
class Score:
    """How many of the mutants that matter are noticed."""

    mutants: tuple[Mutant, ...]

    @property
    def killed(self) -> int:
        return sum(one.fate == "killed" for one in self.mutants)

    @property
    def counted(self) -> int:
        return sum(one.fate != "equivalent" for one in self.mutants)

    @property
    def survivors(self) -> tuple[Mutant, ...]:
        return tuple(one for one in self.mutants if one.fate == "survived")

    @property
    def percent(self) -> float:
        return 100.0 * self.killed / self.counted if self.counted else 100.0


@dataclass(frozen=True, kw_only=True)
class _Mutation:
    operator: Operator
    file: str
    line: int
    text: str
    side: RuleSet


def score(side: RuleSet, cases: Sequence[Case]) -> Score:
    """Change every rule in every way, and see which case notices.

    The cases must hold for the rules as they are; a case that fails already would notice everything.
    """
    decided = [(case, side.policy.decide(case.request())) for case in cases]
    return Score(mutants=tuple(_tried(side, mutation, decided) for mutation in _mutations(side)))


def _tried(side: RuleSet, mutation: _Mutation, decided: Sequence[tuple[Case, Decision]]) -> Mutant:
    """Whether some case fails on the mutant; if none does, whether some request is decided otherwise by it.

    The cheap answers come first: the cases, the proof that nothing differs, the witnesses of the difference, and last
    the search over requests.
    """
    mutant = Mutant(
        operator=mutation.operator, file=mutation.file, line=mutation.line, text=mutation.text, fate="killed"
    )
    for case, before in decided:
        if not case.mismatch(before) and case.mismatch(mutation.side.policy.decide(case.request())):
            return replace(mutant, by=case.note)
    found = difference(side, mutation.side)
    if found.equal:
        return replace(mutant, fate="equivalent", why="no request is decided otherwise, proved")
    request = _at_witness(side, mutation.side, found)
    if request is None:
        if not found.unsettled and not found.approvers and not _seen_through_both(side, mutation.side, found):
            why = "no agent and user together may ask for what it changes, proved"
            return replace(mutant, fate="equivalent", why=why)
        request = _at_search(side, mutation.side, found)
    if request is not None:
        return replace(mutant, fate="survived", case=_case(side, request))
    return replace(mutant, fate="survived", why=_why_no_case(found))


def _at_witness(old: RuleSet, new: RuleSet, found: PolicyDifference) -> Request | None:
    """A request at one of the difference's own witnesses that the two sides decide otherwise."""
    for one in found.findings:
        for witness in one.witnesses:
            for context in _shorter(witness.context):
                request = _through_both(old, new, witness.subjects[0], one.action, witness.resource, context)
                if request is not None:
                    return request
    return None


def _at_search(old: RuleSet, new: RuleSet, found: PolicyDifference) -> Request | None:
    """A request that the two sides decide otherwise, searched where findings, or roles with other approvers, are."""
    places = [(one.subject, one.action) for one in found.findings]
    asking = (place for one in found.approvers for place in _asking(old, one.role))
    for subject, action in chain(places, asking):
        request = _searched(old, new, subject, action)
        if request is not None:
            return request
    return None


def _why_no_case(found: PolicyDifference) -> str:
    if found.unsettled:
        return f"not analysed: {found.unsettled[0].why}"
    if found.approvers and not found.findings:
        return f"{found.approvers[0].role} would be approved by other people"
    return "no agent and user together were found to show it"


# -- mutations ---------------------------------------------------------------------------------------------------------


def _mutations(side: RuleSet) -> Iterator[_Mutation]:
    roles = sorted(
        {row.subject for row in side.rows if row.subject.startswith("role:")} | {link.role for link in side.links}
    )
    for at, row in enumerate(side.rows):
        for operator, other in _rows(row, roles):
            kept = (*side.rows[:at], *(() if other is None else (other,)), *side.rows[at + 1 :])
            text = row.rule.text if other is None else other.rule.text
            yield _Mutation(
                operator=operator,
                file=row.rule.file,
                line=row.rule.line,
                text=text,
                side=RuleSet(label="mutant", rows=kept, links=side.links, vocabulary=side.vocabulary),
            )
    for at, link in enumerate(side.links):
        for operator, other_link in _links(link, roles):
            links = (*side.links[:at], *(() if other_link is None else (other_link,)), *side.links[at + 1 :])
            if next(check_links(links), None) is not None:
                continue
            shown = other_link or link
            yield _Mutation(
                operator=operator,
                file=link.file,
                line=link.line,
                text=f"g, {shown.member}, {shown.role}",
                side=RuleSet(label="mutant", rows=side.rows, links=links, vocabulary=side.vocabulary),
            )


def _rows(row: RuleRow, roles: Iterable[str]) -> Iterator[tuple[Operator, RuleRow | None]]:
    yield "drop", None
    flipped: Literal["allow", "deny"] = "deny" if row.rule.effect == "allow" else "allow"
    if (other := _changed(row, effect=flipped)) is not None:
        yield "flip", other
    if (wider := _wider(row.pattern)) is not None:
        yield "widen", _changed(row, pattern=wider)
    if row.condition.text != "True":
        yield "unconditional", _changed(row, condition="True")
        if (negated := _changed(row, condition=f"not ({row.condition.text})")) is not None:
            yield "negate", negated
    if row.subject.startswith("role:"):
        for role in roles:
            if role != row.subject:
                yield "swap", _changed(row, subject=role)


def _links(link: RoleLink, roles: Iterable[str]) -> Iterator[tuple[Operator, RoleLink | None]]:
    yield "drop", None
    for role in roles:
        if role not in (link.role, link.member):
            yield "swap", replace(link, role=role)


def _changed(
    row: RuleRow,
    *,
    subject: str = "",
    pattern: Pattern | None = None,
    condition: str = "",
    effect: Literal["allow", "deny"] | None = None,
) -> RuleRow | None:
    """The row with that changed; None where it would not load."""
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


def _wider(pattern: Pattern) -> Pattern | None:
    """The pattern with its last part that is not a wildcard opened; None where it is everything of its kind."""
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


# -- the case that would notice ----------------------------------------------------------------------------------------


def _through_both(
    old: RuleSet, new: RuleSet, subject: str, action: str, resource: str, context: Context
) -> Request | None:
    """The request by an agent for a user that the two sides decide otherwise; None where no partner shows it."""
    mine = "agent:" if subject.startswith("agent:") else "user:"
    other = "user:" if mine == "agent:" else "agent:"
    partners = sorted(who for who in old.subjects | new.subjects if who.startswith(other))
    for partner in [*partners, f"{other}none"]:
        pair = (subject, partner) if mine == "agent:" else (partner, subject)
        request = Request(subjects=pair, action=action, resources=(resource,), context=context)
        before, after = old.policy.decide(request), new.policy.decide(request)
        if before.verdict != after.verdict and "error" not in (before.reason, after.reason):
            return request
    return None


def _asking(side: RuleSet, role: str) -> Iterator[tuple[str, str]]:
    """The agents and actions whose rules ask that role."""
    actions = sorted(side.vocabulary.actions) if side.vocabulary is not None else []
    for row in side.rows:
        if any(atom.role == role for atom in atoms_of(row.condition.text)):
            for subject in sorted(side.subjects):
                if row.subject in side.names(subject):
                    yield from ((subject, action) for action in actions if action_matches(action, row.action))


def _shorter(context: Context) -> Iterator[Context]:
    """The facts without one long text, for each of them, and then as they are.

    The request without the text often shows the same: a condition that cannot read a fact never allows.
    """
    for name, value in context.args.items():
        if isinstance(value, str) and len(value) > LONGEST:
            yield context.model_copy(update={"args": {one: of for one, of in context.args.items() if one != name}})
    yield context


def _seen_through_both(old: RuleSet, new: RuleSet, found: PolicyDifference) -> bool:
    """Whether some partner may do something of what changes; without one, no request of agent and user can show it."""
    subjects = old.subjects | new.subjects
    for one in found.findings:
        for subject in one.subjects:
            mine, other = ("agent:", "user:") if subject.startswith("agent:") else ("user:", "agent:")
            assert subject.startswith(mine)
            before, after = _keys(old, subject, one.action), _keys(new, subject, one.action)
            for partner in (who for who in subjects if who.startswith(other)):
                was, now = _keys(old, partner, one.action), _keys(new, partner, one.action)
                allows = {key.pattern for key in was | now if key.effect == "allow"}
                denies = {key.pattern for key in was & now if key.effect == "deny" and key.condition == "True"}
                if _overlap(before - after, after - before, allows, denies):
                    return True
    return False


def _keys(side: RuleSet, subject: str, action: str) -> frozenset[Key]:
    return side.keys(side.names(subject), action)


def _overlap(removed: frozenset[Key], added: frozenset[Key], allowed: set[str], denied: set[str]) -> bool:
    """Whether the partner may do anything where the removed rows do not say what the added ones say."""
    patterns = sorted({key.pattern for key in removed | added} | allowed | denied)
    bits = {text: 1 << number for number, text in enumerate(patterns)}
    parsed = [parse_pattern(text) for text in patterns]
    ours = sum(bits[text] for text in {key.pattern for key in removed | added})
    partners, barred = sum(bits[text] for text in allowed), sum(bits[text] for text in denied)
    kinds = {pattern.kind for pattern in parsed} - {""} or {"file"}

    def says(keys: frozenset[Key], place: Place) -> set[tuple[str, str]]:
        return {
            (key.effect, key.condition)
            for key in keys
            if (place.covered if key.effect == "allow" else place.met) & bits[key.pattern]
        }

    try:
        return any(
            place.covered & partners and not place.met & barred and says(removed, place) != says(added, place)
            for kind in kinds
            for place in Space(kind, parsed).places(ours)
        )
    except TooMany:
        return True


def _searched(old: RuleSet, new: RuleSet, subject: str, action: str) -> Request | None:
    """The same, over all resources and facts that rules for the action tell apart."""
    rows = [row for row in (*old.rows, *new.rows) if action_matches(action, row.action)]
    kinds = sorted({row.pattern.kind for row in rows} - {""})
    patterns = list({row.pattern.text: row.pattern for row in rows}.values())
    try:
        cells = cells_of(list(dict.fromkeys(atom for row in rows for atom in atoms_of(row.condition.text))), {})
        resources = [
            place.resource for kind in kinds for place in islice(Space(kind, patterns).places(-1), MOST_REQUESTS)
        ]
    except TooMany:
        return None
    dims = list(cells.examples)
    contexts = (
        context_of(dict(zip(dims, values, strict=True))) for values in product(*(cells.examples[dim] for dim in dims))
    )
    for resource, context in islice(product(resources, islice(contexts, 100)), MOST_REQUESTS):
        request = _through_both(old, new, subject, action, resource, context)
        if request is not None:
            return request
    return None


def _case(side: RuleSet, request: Request) -> str:
    """A row of the table that pins what the rules say of `request` now."""
    decision = side.policy.decide(request)
    agent, user = request.subjects
    facts = facts_text(request.context)
    said = f"{request.action} on {', '.join(request.resources)} is {_SAID[decision.verdict]} to {agent} for {user}"
    lines = [
        f"- note: {_quoted(said + (f', with {facts}' if facts else ''))}",
        f"  agent: {agent}",
        f"  user: {user}",
        f"  action: {request.action}",
        f"  resources: [{', '.join(_quoted(one) for one in request.resources)}]",
    ]
    lines += [f"  {name}: {_yaml(value)}" for name, value in facts_of(request.context).items()]
    lines.append(f"  expect: {decision.verdict}")
    if decision.rules:
        first = decision.rules[0]
        lines.append(f"  rule: {_quoted(first.note or first.text)}")
    if decision.missing:
        lines.append(f"  missing: {_yaml({one.role: one.count for one in decision.missing})}")
    return "\n".join(lines) + "\n"


_SAID: Final = {"allow": "allowed", "ask": "asked", "deny": "denied"}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _yaml(value: Json) -> str:
    """One line of YAML: JSON is YAML too."""
    return json.dumps(value, ensure_ascii=False)
