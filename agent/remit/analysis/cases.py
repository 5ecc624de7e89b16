"""`policies/cases.yaml`: the reviewer's table of decisions that must hold, one row each, named by its note."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import ConfigDict, Field, ValidationError

from remit.core import (
    Confinement,
    Context,
    Decision,
    Effect,
    Json,
    Noun,
    Problem,
    Request,
    Rule,
    Verdict,
    WorkspaceError,
)
from remit.core.parsing import Row, read_rows
from remit.guardrails import kind_of
from remit.policy import NOBODY, Policy
from remit.policy.language import GlobError, parse_resource


class Case(Noun):
    """One row: who asks for what, under which facts, and what the rules must answer.

    `rule` is part of the note (or, without one, of the text) of a rule that must be among the deciding ones. `missing`,
    where given, must be the whole set of approvals asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    note: str = Field(min_length=1)
    agent: str = Field(min_length=1)
    user: str = NOBODY
    action: str = Field(min_length=1)
    resources: tuple[str, ...]
    args: dict[str, Json] = Field(default_factory=dict)
    labels: frozenset[str] = frozenset()
    named: bool = False
    known: bool = False
    unknown: frozenset[str] | None = None
    carries: frozenset[str] = frozenset()
    said: bool = False
    intended: bool = False
    effect: Effect | None = None
    calls: dict[str, int] = Field(default_factory=dict)
    approvals: dict[str, int] = Field(default_factory=dict)
    env: str = "local"
    confinement: Confinement = "full"
    time: str = Field(default="12:00", pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$")
    expect: Verdict
    rule: str = ""
    missing: dict[str, int] | None = None

    def request(self, effect: Effect = "once") -> Request:
        """The request that this row describes; `effect` is the action's own, where the row names no other."""
        context = Context(
            args=self.args,
            labels=self.labels,
            named=self.named,
            known=self.known or self.named,
            unknown=self._unknown,
            carries=self.carries,
            said=self.said,
            intended=self.intended,
            effect=self.effect or effect,
            calls=self.calls,
            approvals={_prefixed("role", role): count for role, count in self.approvals.items()},
            env=self.env,
            confinement=self.confinement,
            time=self.time,
        )
        subjects = (_prefixed("agent", self.agent), _prefixed("user", self.user))
        return Request(subjects=subjects, action=self.action, resources=self.resources, context=context)

    @property
    def _unknown(self) -> frozenset[str]:
        """The kinds that the row gives, or those of all its resources where it says nothing of who named them."""
        if self.unknown is not None:
            return self.unknown
        return frozenset() if self.named or self.known else frozenset(map(kind_of, self.resources))

    def judge(self, decision: Decision) -> str:
        """In what `decision` is not the expected one; "" where it is."""
        if decision.verdict != self.expect:
            return f"expected {self.expect}, got {decision.verdict}: {decision.message}"
        if decision.reason == "error":
            return f"{decision.verdict} only because of an error: {decision.message}"
        deciding = [rule.note or rule.text for rule in decision.rules]
        if self.rule and not any(self.rule in text for text in deciding):
            return f"{decision.verdict}, but not by {self.rule!r}; deciding were {deciding or 'no rules'}"
        wanted = None if self.missing is None else {_prefixed("role", role): n for role, n in self.missing.items()}
        got = {missing.role: missing.count for missing in decision.missing}
        if wanted is not None and wanted != got:
            return f"expected the approvals {wanted}, got {got}"
        return ""


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """How one row came out. `message` is "" where it passed; `rules` are (file, line) of the deciding rules."""

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
    """What the table leaves open: rules by which no passed row is decided, and actions of tools that no row asks for."""

    rules: tuple[Rule, ...]
    actions: tuple[str, ...]


def run_cases(policy: Policy, text: str, file: str) -> tuple[CaseResult, ...]:
    """Decide every row of the table under `policy`, in the table's order.

    Raises:
        WorkspaceError: rows that are no cases, all of them, each with its line.
    """
    results: list[CaseResult] = []
    for line, case in read_cases(policy, text, file):
        decision = policy.decide(case.request(policy.vocabulary.effect(case.action) if policy.vocabulary else "once"))
        message = case.judge(decision)
        results.append(
            CaseResult(
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


def uncovered(policy: Policy, results: Iterable[CaseResult]) -> Coverage:
    """The rules and actions that the table does not pin."""
    passed = [result for result in results if result.passed]
    used = {place for result in passed for place in result.rules}
    asked = {result.action for result in passed}
    actions = sorted(policy.vocabulary.actions) if policy.vocabulary is not None else []
    return Coverage(
        rules=tuple(rule for rule in policy.rules if (rule.file, rule.line) not in used),
        actions=tuple(one for one in actions if one not in asked and not one.startswith("remit.")),
    )


def read_cases(policy: Policy, text: str, file: str) -> tuple[tuple[int, Case], ...]:
    """The rows of the table, each with the line it begins on.

    Raises:
        WorkspaceError: rows that are no cases, all of them, each with its line.
    """
    cases: list[tuple[int, Case]] = []
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    try:
        for row in read_rows(text, file=file):
            try:
                case = Case.model_validate(row.value)
            except ValidationError as error:
                problems.extend(_invalid(error, row, file))
                continue
            problems.extend(Problem(file=file, line=row.line, what=w, fix=fix) for w, fix in _senseless(policy, case))
            if (earlier := lines.setdefault(case.note, row.line)) != row.line:
                what = f"line {earlier} has the same note {case.note!r}"
                problems.append(Problem(file=file, line=row.line, what=what, fix="give each row its own note"))
            cases.append((row.line, case))
    except WorkspaceError as error:
        problems.extend(error.problems)
    if problems:
        raise WorkspaceError(problems)
    return tuple(cases)


def _invalid(error: ValidationError, row: Row, file: str) -> Iterator[Problem]:
    for one in error.errors():
        path = [str(part) for part in one["loc"]]
        what = f"{'.'.join(path)}: {one['msg'].lower()}" if path else "a row is a mapping of names to values"
        line = row.lines.get(path[0], row.line) if path else row.line
        yield Problem(file=file, line=line, what=what, fix=f"use {', '.join(Case.model_fields)}")


def _senseless(policy: Policy, case: Case) -> Iterator[tuple[str, str]]:
    """Rows that would pass for the wrong reason: a misspelled action or resource is denied too."""
    known = policy.vocabulary
    if known is not None and case.action not in known.actions:
        yield f"no tool has the action {case.action!r}", f"use one of: {', '.join(sorted(known.actions))}"
    for resource in case.resources:
        try:
            parse_resource(resource)
        except GlobError as error:
            yield error.what, error.fix
    if case.missing is not None and case.expect != "ask":
        yield "missing stands in a row that does not expect ask", "remove missing, or expect ask"


def _prefixed(kind: str, name: str) -> str:
    return name if name.startswith(f"{kind}:") else f"{kind}:{name}"
