"""Lint of rules that load but may not do what their author means: without effect, redundant, or wider than any tool.

"Without effect" is exact. The rule is removed, and the solver compares the rules with and without it. The rule has no
effect only if no request gets another verdict; where the solver cannot decide, the finding is "unsettled". Rules that
stock Casbin would read only in part are refused when they load, and need no lint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from remit.analysis.reach import Reach, reach_of
from remit.analysis.solver.comparison import Comparison
from remit.analysis.solver.conditions import atoms_of, context_of
from remit.analysis.solver.paths import ResourceSpace
from remit.analysis.solver.ruleset import RuleKey, RuleSet, without_garbage_collection
from remit.analysis.solver.search import FactValues, Question, Solution, solve
from remit.analysis.solver.segments import AnalysisLimitReached
from remit.core import CONFIRMATION, Finding, Verdict, matching_actions
from remit.policy.language import RuleRow, parse_pattern
from remit.workspace import Workspace

Code: TypeAlias = Literal[
    "unreachable",  # it is for a role that no agent and no user has
    "shadowed",  # an allow that deny rules always override
    "redundant",  # other rules already have the same effect
    "dead",  # a deny of what no rule allows
    "never",  # its condition can never hold
    "always",  # its condition always holds
    "nobody_to_ask",  # it asks for the approval of a role that no user has
    "wider",  # it allows more than any tool's manifest reaches
    "beyond",  # it names resources that no manifest reaches
    "unmentioned",  # an action that no rule names
    "unsettled",  # the analysis cannot decide whether it has an effect, or how far it reaches
]
_NOTES: Final[frozenset[Code]] = frozenset({"wider", "dead", "unmentioned", "unsettled"})


def lint_rules(rule_set: RuleSet, workspace: Workspace | None = None) -> tuple[Finding, ...]:
    """List all findings, in the order of the lines. Findings about manifests need a workspace."""
    with without_garbage_collection():
        conditions = [*_lint_conditions(rule_set)]
        # A row that never applies has no effect either: one finding is enough, the one that says why.
        never = frozenset((item.file, item.line) for item in conditions if item.code == "never")
        ineffective = (item for item in _lint_ineffective(rule_set) if (item.file, item.line) not in never)
        findings = [*_lint_approvers(rule_set), *_lint_shared_approvers(rule_set), *conditions, *ineffective]
        if workspace is not None:
            findings += _lint_reach(rule_set, workspace)
    findings += _lint_unmentioned(rule_set)
    return tuple(sorted(set(findings), key=lambda item: (item.file, item.line or 0, item.code, item.what)))


def _finding(row: RuleRow, code: Code, what: str, fix: str) -> Finding:
    return _leveled(code, row.rule.file, row.rule.line, what, fix)


def _leveled(code: Code, file: str, line: int | None, what: str, fix: str) -> Finding:
    """A warning is a rule without effect, or with another one than it seems. A note may be intended."""
    return Finding(level="note" if code in _NOTES else "warning", code=code, file=file, line=line, what=what, fix=fix)


# -- subjects and approvers --------------------------------------------------------------------------------------------


def _lint_approvers(rule_set: RuleSet) -> Iterator[Finding]:
    for row in rule_set.rows:
        for role in dict.fromkeys(
            atom.role for atom in atoms_of(row.condition.text) if atom.role not in ("", CONFIRMATION)
        ):
            people, least = len(rule_set.approvers(role)), min(row.condition.thresholds.get(role, (1,)))
            if not people:
                what = f"it asks for the approval of {role}, which no user has"
                yield _finding(row, "nobody_to_ask", what, f"add the row g, user:<name>, {role}, or ask another role")
            elif people < least:
                what = f"it asks for {least} approvals of {role}, which {people} {'user has' if people == 1 else 'users have'}"
                yield _finding(row, "nobody_to_ask", what, f"add the row g, user:<name>, {role}, or ask for fewer")


def _lint_shared_approvers(rule_set: RuleSet) -> Iterator[Finding]:
    """Find rows that ask several roles at once, if the roles have too few people together: one person approves a call once."""
    for row in rule_set.rows:
        asked = {role: counts for role, counts in row.condition.thresholds.items() if role != CONFIRMATION}
        least = {role: min(counts) for role, counts in sorted(asked.items())}
        if len(least) < 2 or " or " in row.condition.text or "not " in row.condition.text:
            continue
        people = {role: rule_set.approvers(role) for role in least}
        everyone = frozenset[str]().union(*people.values())
        if sum(least.values()) > len(everyone) and all(len(people[role]) >= least[role] for role in least):
            what = f"it asks for {sum(least.values())} approvals of {' and '.join(least)}, which only {', '.join(sorted(everyone))} can give"
            yield _finding(
                row,
                "nobody_to_ask",
                f"{what}, each of them once",
                "give one of the roles to another user, or ask fewer",
            )


def _why_nobody(rule_set: RuleSet, row: RuleRow) -> str:
    """Say why the row applies to nobody; "" if it applies to an agent or a user."""
    if row.subject.startswith("role:"):
        members = [who for who, roles in rule_set.roles.items() if row.subject in roles and not who.startswith("role:")]
        return "" if members else f"no agent or user has {row.subject}"
    return ""


# -- conditions --------------------------------------------------------------------------------------------------------


def _lint_conditions(rule_set: RuleSet) -> Iterator[Finding]:
    """A condition never holds if the row equals no row at all, and always if it equals the row with `True`."""
    comparison = Comparison(rule_set, rule_set)
    known: dict[tuple[str, str, tuple[tuple[str, str], ...]], tuple[Solution, Solution]] = {}
    for row in rule_set.rows:
        text = row.condition.text
        if text == "True":
            continue
        actions = matching_actions(comparison.actions, row.action)
        types = dict(comparison.argument_types(actions[0])) if len(actions) == 1 else {}
        key = (row.rule.effect, text, tuple(types.items()))  # many rows of a large policy have the same condition
        if key not in known:
            known[key] = _compare_conditions(row, None, types), _compare_conditions(row, "True", types)
        vs_nothing, vs_true = known[key]
        if not vs_nothing.changes and not vs_nothing.unsettled:
            yield _finding(
                row, "never", f"its condition {text!r} can never hold", "fix the condition, or remove the rule"
            )
        elif not vs_true.changes and not vs_true.unsettled:
            yield _finding(row, "always", f"its condition {text!r} always holds", "write True, or fix the condition")


def _compare_conditions(row: RuleRow, other: Literal["True"] | None, types: Mapping[str, str]) -> Solution:
    """Search for facts under which the row and one with the other condition (or no row at all) give other verdicts."""
    allows, condition = row.rule.effect == "allow", row.condition
    nothing, mine = frozenset[str](), frozenset({condition.text})
    others = nothing if other is None else frozenset({other})
    question = (
        Question(nothing, nothing, mine, nothing, others, nothing)
        if allows
        else Question(frozenset({"True"}), nothing, nothing, mine, nothing, others)
    )

    def decide(values: FactValues, new: bool) -> Verdict:
        holds = other is not None if new else condition.holds(context_of(values))
        return "allow" if holds is allows else "deny"

    return solve(question, types, decide)


# -- rules without effect ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _SubjectAction:
    """A subject and an action, the keys of the rows that apply to them, and the rows that each key stands for."""

    subject: str
    action: str
    keys: frozenset[RuleKey]
    rows_of: Mapping[RuleKey, list[RuleRow]]


# Where a row applies: for the keys that apply there, with the row's own key, one example of subject and action.
_Occurrences: TypeAlias = dict[tuple[frozenset[RuleKey], RuleKey], tuple[str, str]]


@dataclass
class _RowEffects:
    """What the solver found out about the rows, by their numbers."""

    needed: set[int] = field(default_factory=set[int])  # without the row, some request gets another verdict
    unsettled: set[int] = field(default_factory=set[int])
    occurrences: defaultdict[int, _Occurrences] = field(default_factory=lambda: defaultdict[int, _Occurrences](dict))


def _lint_ineffective(rule_set: RuleSet) -> Iterator[Finding]:
    """Find rows without which every request gets the same verdict. Of equal rows only the last gets a finding."""
    comparison = Comparison(rule_set, rule_set)
    effects = _row_effects(comparison, rule_set)
    alike = _group_equal_rows(rule_set.rows)
    for row in rule_set.rows:
        if row.number in effects.needed:
            continue
        if row.number in effects.unsettled:
            yield _finding(
                row, "unsettled", "the analysis cannot decide whether it has an effect", "simplify its condition"
            )
        elif why := _why_nobody(rule_set, row):
            yield _finding(row, "unreachable", why, "give the role to an agent or a user, or remove the rule")
        elif row.number in effects.occurrences and row is (same := alike[_meaning(row)])[-1]:
            yield _why_ineffective(comparison, rule_set, row, effects.occurrences[row.number], same[0])


def _row_effects(comparison: Comparison, rule_set: RuleSet) -> _RowEffects:
    """Ask the solver for every row, wherever it applies, whether it matters there.

    A row that shares its key with another one is not asked about: without it, the other still has the same effect.
    """
    effects = _RowEffects()
    for place in _subject_actions(comparison, rule_set):
        for key, rows in place.rows_of.items():
            for row in rows:
                effects.occurrences[row.number].setdefault((place.keys, key), (place.subject, place.action))
            if len(rows) == 1 and rows[0].number not in effects.needed:
                does = comparison.row_matters(place.keys, key, place.subject, place.action)
                if does is None:
                    effects.unsettled.add(rows[0].number)
                elif does:
                    effects.needed.add(rows[0].number)
    return effects


def _subject_actions(comparison: Comparison, rule_set: RuleSet) -> Iterator[_SubjectAction]:
    """Yield every subject and action to which rows apply; of subjects with the same names (itself and roles) only one."""
    by_place: defaultdict[tuple[str, str], list[RuleRow]] = defaultdict(list)
    covered: defaultdict[str, set[str]] = defaultdict(
        set
    )  # by name in a subject column, the actions that its rows cover
    for row in rule_set.rows:
        if not by_place[row.subject, row.action]:
            covered[row.subject].update(matching_actions(comparison.actions, row.action))
        by_place[row.subject, row.action].append(row)
    seen: set[tuple[frozenset[str], str]] = set()
    for subject in sorted(rule_set.subjects):
        names = rule_set.names_of(subject)
        some = {action for name in names for action in covered[name]}
        for action in comparison.actions:
            if action not in some or (names, action) in seen:
                continue
            seen.add((names, action))
            rows_of: defaultdict[RuleKey, list[RuleRow]] = defaultdict(list)
            for name in names:
                for column in dict.fromkeys((action, f"{action.partition('.')[0]}.*", "*")):
                    for row in by_place.get((name, column), ()):
                        rows_of[rule_set.key(row)].append(row)
            yield _SubjectAction(subject, action, rule_set.keys_for(names, action), rows_of)


def _why_ineffective(
    comparison: Comparison, rule_set: RuleSet, row: RuleRow, occurrences: _Occurrences, same: RuleRow
) -> Finding:
    """Say why a row has no effect. `same` is the first row that is equal to it."""
    if same is not row:
        what = f"it is a duplicate of line {same.rule.line} of {same.rule.file}"
        return _finding(row, "redundant", what, "keep one of them")
    if _matters_alone(comparison, row, occurrences):
        if row.rule.effect == "allow":
            by = _denied_by(comparison, rule_set, occurrences)
            what, fix = f"{by} it wherever it applies", "remove it, or narrow the deny rule"
            return _finding(row, "shadowed", what, fix)
        return _finding(
            row, "dead", "it has no effect: no rule allows what it denies", "keep it as a reminder, or remove it"
        )
    by = _covered_by(comparison, rule_set, row, occurrences)
    return _finding(row, "redundant", f"it is already covered by {by}", "remove it, or narrow the wider rule")


_ALLOW_ALL: Final = RuleKey("allow", "**", "True")  # a deny has an effect only where something is allowed


def _matters_alone(comparison: Comparison, row: RuleRow, occurrences: _Occurrences) -> bool:
    """True if the row would have an effect among rows of its own effect only, or if that is unsettled.

    Then rows of the other effect are the reason why it has none.
    """
    for (keys, key), (subject, action) in occurrences.items():
        alike = frozenset(item for item in keys if item.effect == key.effect)
        if row.rule.effect == "deny":
            alike |= {_ALLOW_ALL}
        if comparison.row_matters(alike, key, subject, action) is not False:
            return True
    return False


def _denied_by(comparison: Comparison, rule_set: RuleSet, occurrences: _Occurrences) -> str:
    """Name the first deny rule that alone overrides the row where it applies, or say that several do."""
    (keys, key), (subject, action) = next(iter(occurrences.items()))
    denying = [
        rule
        for other in keys
        if other.effect == "deny" and comparison.row_matters(frozenset({other, key}), key, subject, action) is False
        for rule in rule_set.rules_of(subject, action, (other,))
    ]
    first = min(denying, key=lambda rule: (rule.file, rule.line), default=None)
    return f"line {first.line} of {first.file} denies" if first is not None else "deny rules together override"


def _covered_by(comparison: Comparison, rule_set: RuleSet, row: RuleRow, occurrences: _Occurrences) -> str:
    """Name the first row that alone makes this one redundant, or say that others do it together."""
    (keys, key), (subject, action) = next(iter(occurrences.items()))
    beside = frozenset[RuleKey]() if row.rule.effect == "allow" else frozenset({_ALLOW_ALL})
    covers = [
        rule
        for other in keys - {key}
        if other.effect == key.effect and comparison.row_matters(beside | {other, key}, key, subject, action) is False
        for rule in rule_set.rules_of(subject, action, (other,))
    ]
    first = min(covers, key=lambda rule: (rule.file, rule.line), default=None)
    return f"line {first.line} of {first.file}" if first is not None else "other rules together"


def _group_equal_rows(rows: Iterable[RuleRow]) -> Mapping[tuple[str, ...], list[RuleRow]]:
    """Group rows that are equal but for their place."""
    found: defaultdict[tuple[str, ...], list[RuleRow]] = defaultdict(list)
    for row in rows:
        found[_meaning(row)].append(row)
    return found


def _meaning(row: RuleRow) -> tuple[str, ...]:
    return row.subject, row.action, row.pattern.text, row.condition.text, row.rule.effect


# -- manifests ---------------------------------------------------------------------------------------------------------


def _lint_reach(rule_set: RuleSet, workspace: Workspace) -> Iterator[Finding]:
    reach = reach_of(workspace)
    for row in rule_set.rows:
        actions = matching_actions(reach, row.action)
        if not actions or row.pattern.kind == "":
            continue
        try:
            is_reached, beyond = _compare_reach(row, [reach[action] for action in actions])
        except AnalysisLimitReached as reason:
            yield _finding(
                row, "unsettled", f"the analysis cannot decide how far it reaches: {reason}", "simplify its pattern"
            )
            continue
        if not is_reached:
            what = f"no tool manifest lets {row.action} reach {row.pattern.text}"
            found = _finding(row, "beyond", what, "remove it, or fix the pattern")
            # A row for every action is for tools to come, too.
            yield replace(found, level="note") if row.action == "*" else found
        elif beyond and row.rule.effect == "allow":
            what = f"it allows {row.action} on {beyond}, which no tool manifest reaches"
            yield _finding(row, "wider", what, "narrow it to what the tools reach, or keep it for future tools")


def _compare_reach(row: RuleRow, reaches: list[Reach]) -> tuple[bool, str]:
    """Say whether a manifest reaches any resource of the row's pattern, and give an example that none reaches."""
    patterns = [parse_pattern(text) for text in dict.fromkeys(item for reach in reaches for item in reach.patterns)]
    space = ResourceSpace(row.pattern.kind, [row.pattern, *patterns])
    is_reached, beyond = False, ""
    for item in space.classes(1):
        if not item.covering & 1 or item.resource.endswith("**"):
            continue
        if item.covering & ~1:
            is_reached = True
        elif not beyond or beyond == "file:.":
            beyond = item.resource
    return is_reached, beyond


def _lint_unmentioned(rule_set: RuleSet) -> Iterator[Finding]:
    if rule_set.vocabulary is None:
        return
    named = {row.action for row in rule_set.rows} - {"*"}
    for action in sorted(rule_set.vocabulary.actions):
        if action.startswith("remit."):
            continue  # who may do such things, rows say together: see `authorize`
        if action not in named and f"{action.partition('.')[0]}.*" not in named:
            what = f"no rule names {action}; it is denied unless a rule for * allows it"
            yield _leveled(
                "unmentioned", "policies/rules.csv", None, what, f"write a rule for {action} if an agent needs it"
            )
