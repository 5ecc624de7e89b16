"""Rules that load but may not do what their author thinks: dead, shadowed, redundant, wider than any tool reaches.

"Dead" is exact: the row is removed from the rules, and the solver compares the rules with and without it. The row is
dead only if no request is decided otherwise; where the solver cannot tell, the remark says so. Rules that stock
Casbin would read only in part are refused when they load, and need no lint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from remit.analysis.reach import Reach, reach_of
from remit.analysis.solver.comparison import Comparison
from remit.analysis.solver.conditions import atoms_of, context_of
from remit.analysis.solver.paths import ResourceSpace
from remit.analysis.solver.ruleset import RuleKey, RuleSet, without_garbage_collection
from remit.analysis.solver.search import FactValues, Question, Solution, solve
from remit.analysis.solver.segments import AnalysisLimitReached
from remit.core import Verdict, action_matches
from remit.policy.language import RuleRow, parse_pattern
from remit.workspace import Workspace

Code: TypeAlias = Literal[
    "unreachable",  # it is for a role that nobody has, or for nobody who exists
    "shadowed",  # an allow that denies always defeat
    "redundant",  # other rows already do all that it does
    "dead",  # a deny of what nothing allows
    "never",  # its condition can never hold
    "always",  # its condition always holds
    "nobody_to_ask",  # it asks a role that no person has
    "wider",  # it allows more than any tool's manifest reaches
    "beyond",  # it is about resources that no manifest reaches
    "unmentioned",  # an action that no rule is about
    "unsettled",  # whether it does anything, or how far it reaches, is beyond the analysis
]
Weight: TypeAlias = Literal["warning", "note"]
_NOTES: Final[frozenset[Code]] = frozenset({"wider", "dead", "unmentioned", "unsettled"})


@dataclass(frozen=True, kw_only=True)
class LintFinding:
    """One thing about one rule. A note may be intended; a warning is a rule that does nothing, or not what it says."""

    file: str
    line: int | None
    code: Code
    what: str
    fix: str

    @property
    def weight(self) -> Weight:
        return "note" if self.code in _NOTES else "warning"


def lint_rules(side: RuleSet, workspace: Workspace | None = None) -> tuple[LintFinding, ...]:
    """Everything to remark about the rules, in the order of their lines; the manifests' part needs a workspace."""
    with without_garbage_collection():
        remarks = [*_lint_approvers(side), *_lint_conditions(side), *_lint_ineffective(side)]
        if workspace is not None:
            remarks += _lint_reach(side, workspace)
    remarks += _lint_unmentioned(side)
    return tuple(sorted(set(remarks), key=lambda one: (one.file, one.line or 0, one.code, one.what)))


def _finding(row: RuleRow, code: Code, what: str, fix: str) -> LintFinding:
    return LintFinding(file=row.rule.file, line=row.rule.line, code=code, what=what, fix=fix)


# -- who ---------------------------------------------------------------------------------------------------------------


def _lint_approvers(side: RuleSet) -> Iterator[LintFinding]:
    for row in side.rows:
        for role in dict.fromkeys(atom.role for atom in atoms_of(row.condition.text) if atom.role):
            if not side.approvers(role):
                what = f"it asks {role}, which no user has, so nobody can ever approve"
                yield _finding(row, "nobody_to_ask", what, f"write g, user:<name>, {role}; or ask another role")


def _why_nobody(side: RuleSet, row: RuleRow) -> str:
    """Why the row is for nobody; "" where it is for somebody."""
    if row.subject.startswith("role:"):
        members = [who for who, roles in side.roles.items() if row.subject in roles and not who.startswith("role:")]
        return "" if members else f"nobody has {row.subject}"
    return ""


# -- conditions --------------------------------------------------------------------------------------------------------


def _lint_conditions(side: RuleSet) -> Iterator[LintFinding]:
    comparison = Comparison(side, side)
    for row in side.rows:
        text = row.condition.text
        if text == "True":
            continue
        actions = [action for action in comparison.actions if action_matches(action, row.action)]
        types = dict(comparison.argument_types(actions[0])) if len(actions) == 1 else {}
        holds, fails = _compare_conditions(row, None, types), _compare_conditions(row, "True", types)
        if not holds.changes and not holds.unsettled:
            yield _finding(
                row, "never", f"its condition {text!r} can never hold", "mend the condition, or remove the row"
            )
        elif not fails.changes and not fails.unsettled:
            yield _finding(row, "always", f"its condition {text!r} always holds", "write True, or mend the condition")


def _compare_conditions(row: RuleRow, other: Literal["True"] | None, types: Mapping[str, str]) -> Solution:
    """The facts under which the row decides otherwise than one with the other condition, or than none at all."""
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


# -- dead rules --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _SubjectAction:
    """A subject and an action on which the rules `keys` bear, with the rows that each key stands for."""

    subject: str
    action: str
    keys: frozenset[RuleKey]
    owners: Mapping[RuleKey, list[RuleRow]]


# Where a row bears on requests: by the rules there and the row's own key, one example of subject and action.
_Occurrences: TypeAlias = dict[tuple[frozenset[RuleKey], RuleKey], tuple[str, str]]


@dataclass
class _RowEffects:
    """What the solver says of the rows, by their numbers."""

    needed: set[int] = field(default_factory=set[int])  # some request is decided otherwise without the row
    unsure: set[int] = field(default_factory=set[int])
    bearing: defaultdict[int, _Occurrences] = field(default_factory=lambda: defaultdict[int, _Occurrences](dict))


def _lint_ineffective(side: RuleSet) -> Iterator[LintFinding]:
    """Rows without which every request is decided as before; of equal rows each is redundant, not both."""
    comparison = Comparison(side, side)
    effects = _row_effects(comparison, side)
    alike = _group_equal_rows(side.rows)
    for row in side.rows:
        if row.number in effects.needed:
            continue
        if row.number in effects.unsure:
            yield _finding(
                row, "unsettled", "whether it does anything is beyond this analysis", "simplify its condition"
            )
        elif why := _why_nobody(side, row):
            yield _finding(row, "unreachable", why, "give somebody the role, or remove the row")
        elif row.number in effects.bearing and row is (same := alike[_meaning(row)])[-1]:
            yield _why_ineffective(comparison, side, row, effects.bearing[row.number], same[0])


def _row_effects(comparison: Comparison, side: RuleSet) -> _RowEffects:
    """Ask the solver of every row, at every place where it bears, whether it matters there.

    A row that shares its key with another row is not asked about: without it, the other still does the same.
    """
    effects = _RowEffects()
    for place in _subject_actions(comparison, side):
        for key, rows in place.owners.items():
            for row in rows:
                effects.bearing[row.number].setdefault((place.keys, key), (place.subject, place.action))
            if len(rows) == 1 and rows[0].number not in effects.needed:
                does = comparison.row_matters(place.keys, key, place.subject, place.action)
                if does is None:
                    effects.unsure.add(rows[0].number)
                elif does:
                    effects.needed.add(rows[0].number)
    return effects


def _subject_actions(comparison: Comparison, side: RuleSet) -> Iterator[_SubjectAction]:
    """Every subject and action on which rows bear; one place where the same names (subject and roles) bear."""
    by_place: defaultdict[tuple[str, str], list[RuleRow]] = defaultdict(list)
    for row in side.rows:
        by_place[row.subject, row.action].append(row)
    seen: set[tuple[frozenset[str], str]] = set()
    for subject in sorted(side.subjects):
        names = side.names_of(subject)
        for action in comparison.actions if names else ():
            if (names, action) in seen:
                continue
            seen.add((names, action))
            owners: defaultdict[RuleKey, list[RuleRow]] = defaultdict(list)
            for name in names:
                for column in dict.fromkeys((action, f"{action.partition('.')[0]}.*", "*")):
                    for row in by_place.get((name, column), ()):
                        owners[side.key(row)].append(row)
            yield _SubjectAction(subject, action, side.keys_for(names, action), owners)


def _why_ineffective(
    comparison: Comparison, side: RuleSet, row: RuleRow, bearing: _Occurrences, same: RuleRow
) -> LintFinding:
    """Why a row makes no difference; `same` is the first that says the same."""
    if same is not row:
        what = f"it says the same as line {same.rule.line} of {same.rule.file}"
        return _finding(row, "redundant", what, "keep one of them")
    if _matters_alone(comparison, row, bearing):
        if row.rule.effect == "allow":
            what, fix = "rows that deny defeat it wherever it allows", "remove it, or narrow the denies"
            return _finding(row, "shadowed", what, fix)
        return _finding(row, "dead", "it denies only what no row allows", "keep it as a reminder, or remove it")
    by = _covered_by(comparison, side, row, bearing)
    return _finding(
        row, "redundant", f"{by} already {row.rule.effect} all that it does", "remove it, or narrow the wider row"
    )


_ALLOW_ALL: Final = RuleKey("allow", "**", "True")  # a deny does something only beside a row that allows


def _matters_alone(comparison: Comparison, row: RuleRow, bearing: _Occurrences) -> bool:
    """Whether the row would do anything anywhere among rows of its own effect only, or whether that cannot be told."""
    for (keys, key), (subject, action) in bearing.items():
        alike = frozenset(one for one in keys if one.effect == key.effect)
        if row.rule.effect == "deny":
            alike |= {_ALLOW_ALL}
        if comparison.row_matters(alike, key, subject, action) is not False:
            return True
    return False


def _covered_by(comparison: Comparison, side: RuleSet, row: RuleRow, bearing: _Occurrences) -> str:
    """The first row that alone does all that this row does, in words; or all others together."""
    (keys, key), (subject, action) = next(iter(bearing.items()))
    beside = frozenset[RuleKey]() if row.rule.effect == "allow" else frozenset({_ALLOW_ALL})
    covers = [
        rule
        for other in keys - {key}
        if other.effect == key.effect and comparison.row_matters(beside | {other, key}, key, subject, action) is False
        for rule in side.rules_of(subject, action, (other,))
    ]
    first = min(covers, key=lambda rule: (rule.file, rule.line), default=None)
    return f"line {first.line} of {first.file}" if first is not None else "other rows together"


def _group_equal_rows(rows: Iterable[RuleRow]) -> Mapping[tuple[str, ...], list[RuleRow]]:
    """The rows by what they mean. Each of several equal rows could be removed; only the last of them gets a remark."""
    found: defaultdict[tuple[str, ...], list[RuleRow]] = defaultdict(list)
    for row in rows:
        found[_meaning(row)].append(row)
    return found


def _meaning(row: RuleRow) -> tuple[str, ...]:
    return row.subject, row.action, row.pattern.text, row.condition.text, row.rule.effect


# -- manifests ---------------------------------------------------------------------------------------------------------


def _lint_reach(side: RuleSet, workspace: Workspace) -> Iterator[LintFinding]:
    reach = reach_of(workspace)
    for row in side.rows:
        actions = [action for action in reach if action_matches(action, row.action)]
        if not actions or row.pattern.kind == "":
            continue
        try:
            some, beyond = _compare_reach(row, [reach[action] for action in actions])
        except AnalysisLimitReached as reason:
            yield _finding(row, "unsettled", f"how far it reaches cannot be told: {reason}", "simplify its pattern")
            continue
        if not some:
            what = f"no manifest lets {row.action} reach {row.pattern.text}"
            yield _finding(row, "beyond", what, "remove it, or mend the pattern")
        elif beyond and row.rule.effect == "allow":
            what = f"it allows {row.action} on {beyond}, which no manifest reaches"
            yield _finding(row, "wider", what, "narrow it to what the tools reach, or keep it for tools to come")


def _compare_reach(row: RuleRow, reaches: list[Reach]) -> tuple[bool, str]:
    """Whether some manifest reaches some of the row's pattern, and an example of what none reaches."""
    patterns = [parse_pattern(text) for text in dict.fromkeys(one for reach in reaches for one in reach.patterns)]
    space = ResourceSpace(row.pattern.kind, [row.pattern, *patterns])
    some, beyond = False, ""
    for place in space.classes(1):
        if not place.covering & 1 or place.resource.endswith("**"):
            continue
        if place.covering & ~1:
            some = True
        elif not beyond or beyond == "file:.":
            beyond = place.resource
    return some, beyond


def _lint_unmentioned(side: RuleSet) -> Iterator[LintFinding]:
    if side.vocabulary is None:
        return
    for action in sorted(side.vocabulary.actions):
        if action.startswith("remit."):
            continue  # Remit's own, which most workspaces never need
        if not any(action_matches(action, row.action) and row.action != "*" for row in side.rows):
            what = f"no rule is about {action}, so nobody may ever do it"
            yield LintFinding(
                file="policies/",
                line=None,
                code="unmentioned",
                what=what,
                fix=f"write a rule for {action}, if anybody should",
            )
