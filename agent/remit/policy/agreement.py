"""A rulebook comes into force only if the compiled rules and stock Casbin answer alike.

They are asked about every case of `policies/cases.yaml`, and about a witness of each rule: a request made from the row itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from remit.core import Context, Decision, Json, Problem, Request, WorkspaceError, action_matches
from remit.policy.cases import CASES, asked_by, read_cases
from remit.policy.engine import Policy
from remit.policy.language.loader import RuleRow
from remit.policy.language.patterns import EVERYTHING
from remit.policy.second_opinion import SecondOpinion

MOST_WITNESSES: Final = 200  # rows, spread evenly over all, so that a large rulebook starts in time too
_FIX: Final = (
    "do not use these rules: run `remit policy test`, and report the row with the request as an error of Remit"
)
_SETS: Final = ("labels", "unidentified", "contains")
_MOST_ACTIONS: Final = 4
_LONGEST: Final = 100_000  # characters of a text that is made to have a length


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request, and the row of a file that it is from."""

    file: str
    line: int
    what: str
    request: Request


def check_agreement(policy: Policy, cases: str = "") -> None:
    """Raise unless both engines answer alike. `cases` is the text of the table, "" where there is none.

    What agreed once in this process is not asked again.

    Raises:
        WorkspaceError: each row on which they differ, with both answers; or rows of the table that are no cases.
        UsageError: Casbin is not the one that Remit was made for.
    """
    _check_once(policy, cases)


@lru_cache(maxsize=8)
def _check_once(policy: Policy, cases: str) -> None:
    asked = [*_from_cases(policy, cases), *_from_rules(policy)]
    opinions = SecondOpinion(policy).allows_each([one.request for one in asked])
    problems = [
        Problem(file=one.file, line=one.line, what=f"{one.what}: {differ}", fix=_FIX)
        for one, casbin in zip(asked, opinions, strict=True)
        if (differ := disagreement(_decided(policy, one), casbin=casbin))
    ]
    if problems:
        raise WorkspaceError(problems)


def _decided(policy: Policy, one: _Asked) -> Decision:
    try:
        return policy.decide(one.request)
    except Exception as failure:
        what = f"{one.what}: Remit's matcher failed with {type(failure).__name__}"
        raise WorkspaceError([Problem(file=one.file, line=one.line, what=what, fix=_FIX)]) from failure


def disagreement(decision: Decision, *, casbin: bool) -> str:
    """In what Casbin's answer is another one; "" where it is the same. A call that waits for approval is not allowed yet."""
    if (decision.verdict == "allow") is casbin:
        return ""
    return f"the two engines disagree: Remit's matcher says {decision.verdict}, stock Casbin {'allow' if casbin else 'deny'}"


def _from_cases(policy: Policy, text: str) -> Iterator[_Asked]:
    for line, case in read_cases(policy, text, CASES):
        yield _Asked(file=CASES, line=line, what=case.note, request=asked_by(policy, case))


def _from_rules(policy: Policy) -> Iterator[_Asked]:
    """Witnesses of the rows: the row's own subject, actions that it means, and a resource that its pattern covers."""
    allowed = frozenset(row.action for row in policy.rows if row.rule.effect == "allow")
    step = -(-len(policy.rows) // MOST_WITNESSES) or 1
    for row in policy.rows[::step]:
        text, rule = row.pattern.text, row.rule
        resource = "file:x" if text == EVERYTHING else text.replace("**", "x").replace("*", "x")
        for action in _actions(policy, row, allowed):
            for context in _contexts(row):
                request = Request(subjects=(row.subject,), action=action, resources=(resource,), context=context)
                yield _Asked(file=rule.file, line=rule.line, what=rule.note or rule.text, request=request)


def _actions(policy: Policy, row: RuleRow, allowed: frozenset[str]) -> tuple[str, ...]:
    """The action of the row; where that is a wildcard, some actions that rows allow: a deny of others shows nothing."""
    if not row.action.endswith("*"):
        return (row.action,)
    known = allowed if policy.vocabulary is None else policy.vocabulary.matching(row.action)
    plain = (action for action in known if not action.endswith("*") and action_matches(action, row.action))
    found = sorted(action for action in plain if any(action_matches(action, one) for one in allowed))
    return tuple(found[:_MOST_ACTIONS]) or ("any.action" if row.action == "*" else f"{row.action[:-1]}action",)


def _contexts(row: RuleRow) -> Iterator[Context]:
    """Nothing at all; then, where the row has a condition, the values at, below and above which that may turn."""
    yield Context()
    if row.condition.constant is None:
        yield from (_context(row, which) for which in range(3))


def _context(row: RuleRow, which: int) -> Context:
    """Each fact with that one of the values at which it may turn, else with the last; and every approval that is asked for."""
    turns: dict[str, list[Json]] = {}
    for turn in row.condition.turns:
        turns.setdefault(turn.fact, []).append(turn.value)
    found = {fact: values[min(which, len(values) - 1)] for fact, values in turns.items()}
    args: dict[str, Json] = {}
    calls: dict[str, Json] = {}
    plain: dict[str, Json] = {}
    for fact, value in found.items():
        if fact.startswith("args."):
            args[fact.removeprefix("args.")] = value
        elif fact.startswith("len(args."):
            args[fact[len("len(args.") : -1]] = "x" * min(max(int(value), 0), _LONGEST)
        elif fact.startswith("calls("):
            calls[fact[len("calls('") : -len("')")]] = value
        else:
            plain[fact] = frozenset({value}) if fact in _SETS else value
    approvals = {role: max(counts) for role, counts in row.condition.thresholds.items()}
    return Context().model_copy(update={**plain, "args": args, "calls": calls, "approvals": approvals})
