"""Runs the table of policy cases: which cases pass, and which rules and actions no case covers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from remit.core import Problem, Rule, Verdict, WorkspaceError
from remit.policy import CaseTable, Policy, SecondOpinion, disagreement, read_cases, request_of


@dataclass(frozen=True, kw_only=True)
class PolicyCaseResult:
    """The result of one case. `message` is "" if it passed; `rules` are (file, line) of the deciding rules."""

    note: str
    file: str
    line: int
    action: str
    passed: bool
    message: str
    verdict: Verdict
    rules: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What no passed case covers: rules that decide none of them, and actions of tools that none of them calls."""

    rules: tuple[Rule, ...]
    actions: tuple[str, ...]


def run_tables(policy: Policy, tables: Iterable[CaseTable]) -> tuple[PolicyCaseResult, ...]:
    """`run_cases` for each table: that of the organization, and those of teams.

    Raises:
        WorkspaceError: some rows of some tables are not valid cases.
    """
    results: list[PolicyCaseResult] = []
    problems: list[Problem] = []
    for file, text in tables:
        try:
            results += run_cases(policy, text, file)
        except WorkspaceError as error:
            problems += error.problems
    if problems:
        raise WorkspaceError(problems)
    return tuple(results)


def run_cases(policy: Policy, text: str, file: str) -> tuple[PolicyCaseResult, ...]:
    """Decide every case of the table under `policy`, in order. Stock Casbin must give the same answer to each.

    Raises:
        WorkspaceError: some rows are not valid cases. It names each of them with its line.
    """
    results: list[PolicyCaseResult] = []
    cases = read_cases(policy, text, file)
    requests = [request_of(policy, case) for _, case in cases]
    opinions = SecondOpinion(policy).allows_each(requests)
    for (line, case), request, casbin in zip(cases, requests, opinions, strict=True):
        decision = policy.decide(request)
        message = case.mismatch(decision) or disagreement(decision, casbin=casbin)
        results.append(
            PolicyCaseResult(
                note=case.note,
                file=file,
                line=line,
                action=case.action,
                passed=not message,
                message=message,
                verdict=decision.verdict,
                rules=tuple((rule.file, rule.line) for rule in decision.rules),
            )
        )
    return tuple(results)


def find_uncovered(policy: Policy, results: Iterable[PolicyCaseResult]) -> Coverage:
    """List the rules and actions that no passed case covers."""
    passed = [result for result in results if result.passed]
    used = {place for result in passed for place in result.rules}
    asked = {result.action for result in passed}
    actions = sorted(policy.vocabulary.actions) if policy.vocabulary is not None else []
    return Coverage(
        rules=tuple(rule for rule in policy.rules if (rule.file, rule.line) not in used),
        actions=tuple(action for action in actions if action not in asked and not action.startswith("remit.")),
    )
