"""Rules come into force only if the compiled rules and stock Casbin give the same answers.

Both decide every case of the tables in `policies/` and witnesses of the rules: requests that are made from a row itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from remit.core import Context, Decision, Json, Problem, Request, WorkspaceError, action_matches
from remit.policy.cases import read_cases, request_of
from remit.policy.engine import Policy
from remit.policy.folder import CaseTable
from remit.policy.language.facts import SIDES, is_named
from remit.policy.language.loader import RuleRow
from remit.policy.language.patterns import EVERYTHING
from remit.policy.second_opinion import SecondOpinion

MOST_WITNESSES: Final = 200  # rows with witnesses, evenly spread, so that a large policy loads in time
_FIX: Final = "do not use these rules: run `remit policy test`, and report this row as a defect of Remit"
_SETS: Final = ("labels", "unidentified", "contains")
_LIKE: Final = "x"
_MOST_ACTIONS: Final = 4
_LONGEST: Final = 100_000  # characters of a text that is made to have a certain length


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """A request, and the row of a file from which it is made."""

    file: str
    line: int
    what: str
    request: Request


def check_agreement(policy: Policy, cases: tuple[CaseTable, ...] = ()) -> None:
    """Raise unless both engines agree on these tables of cases and on witnesses of the rules.

    A policy that passed once in this process is not checked again.

    Raises:
        WorkspaceError: each row on which they disagree, with both answers; or rows of the table that are not valid cases.
        UsageError: another distribution has overwritten pycasbin's files.
    """
    _check_once(policy, cases)


@lru_cache(maxsize=8)
def _check_once(policy: Policy, cases: tuple[CaseTable, ...]) -> None:
    probes = [*_from_cases(policy, cases), *_from_rules(policy)]
    opinions = SecondOpinion(policy).allows_each([probe.request for probe in probes])
    problems = [
        Problem(file=probe.file, line=probe.line, what=f"{probe.what}: {difference}", fix=_FIX)
        for probe, casbin in zip(probes, opinions, strict=True)
        if (difference := disagreement(_decide(policy, probe), casbin=casbin))
    ]
    if problems:
        raise WorkspaceError(problems)


def _decide(policy: Policy, probe: _Probe) -> Decision:
    try:
        return policy.decide(probe.request)
    except Exception as failure:
        what = f"{probe.what}: Remit's matcher failed with {type(failure).__name__}"
        raise WorkspaceError([Problem(file=probe.file, line=probe.line, what=what, fix=_FIX)]) from failure


def disagreement(decision: Decision, *, casbin: bool) -> str:
    """How Casbin's answer differs from the decision; "" if it does not. The verdict `ask` is not allowed yet."""
    if (decision.verdict == "allow") is casbin:
        return ""
    return f"the two engines disagree: Remit's matcher answers {decision.verdict}, stock Casbin {'allow' if casbin else 'deny'}"


def _from_cases(policy: Policy, tables: tuple[CaseTable, ...]) -> Iterator[_Probe]:
    for file, text in tables:
        for line, case in read_cases(policy, text, file):
            yield _Probe(file=file, line=line, what=case.note, request=request_of(policy, case))


def _from_rules(policy: Policy) -> Iterator[_Probe]:
    """Witnesses of the rows: the row's own subject, actions that it matches, and a resource that its pattern covers."""
    allowed = frozenset(row.action for row in policy.rows if row.rule.effect == "allow")
    step = -(-len(policy.rows) // MOST_WITNESSES) or 1
    for row in policy.rows[::step]:
        text, rule = row.pattern.text, row.rule
        resource = "file:x" if text == EVERYTHING else text.replace("**", "x").replace("*", "x")
        for action in _actions(policy, row, allowed):
            for context in _contexts(row):
                request = Request(subjects=(row.subject,), action=action, resources=(resource,), context=context)
                yield _Probe(file=rule.file, line=rule.line, what=rule.note or rule.text, request=request)


def _actions(policy: Policy, row: RuleRow, allowed: frozenset[str]) -> tuple[str, ...]:
    """The action of the row; for a wildcard, some actions that other rows allow, because denying any other changes nothing."""
    if not row.action.endswith("*"):
        return (row.action,)
    known = allowed if policy.vocabulary is None else policy.vocabulary.matching(row.action)
    plain = (action for action in known if not action.endswith("*") and action_matches(action, row.action))
    actions = sorted(action for action in plain if any(action_matches(action, pattern) for pattern in allowed))
    return tuple(actions[:_MOST_ACTIONS]) or ("any.action" if row.action == "*" else f"{row.action[:-1]}action",)


def _contexts(row: RuleRow) -> Iterator[Context]:
    """The empty context; then, if the row has a condition, its facts at, below and above the values where it may change."""
    yield Context()
    if row.condition.constant is None:
        yield from (_context(row, which) for which in range(3))


def _context(row: RuleRow, which: int) -> Context:
    """Each fact at its change point number `which`, or its last; and every approval that the condition requires.

    What is only compared with another fact is first the same text everywhere.
    """
    points: dict[str, list[Json]] = {}
    for point in row.condition.change_points:
        points.setdefault(point.fact, []).append(point.value)
    facts = {fact: values[min(which, len(values) - 1)] for fact, values in points.items()}
    if which == 0:
        facts = {name: _LIKE for name in row.condition.reads if is_named(name)} | facts
    sides: dict[str, dict[str, Json]] = {side: {} for side in SIDES}
    calls: dict[str, Json] = {}
    plain: dict[str, Json] = {}
    for fact, value in facts.items():
        side, _, name = fact.removeprefix("len(").removeprefix("has(").rstrip(")").partition(".")
        if is_named(fact):
            sides[side][name] = value
        elif fact.startswith("len("):
            sides[side][name] = "x" * min(max(int(value), 0), _LONGEST)
        elif fact.startswith("has("):
            if value is True:
                sides[side].setdefault(name, _LIKE)
        elif fact.startswith("calls("):
            calls[fact[len("calls('") : -len("')")]] = value
        else:
            plain[fact] = frozenset({value}) if fact in _SETS else value
    approvals = {role: max(counts) for role, counts in row.condition.thresholds.items()}
    return Context().model_copy(update={**plain, **sides, "calls": calls, "approvals": approvals})
