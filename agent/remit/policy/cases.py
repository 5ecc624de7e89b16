"""`policies/cases.yaml`: the reviewer's table of decisions that must hold, one row each, named by its note."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import ConfigDict, Field, ValidationError

from remit.core import (
    Confinement,
    Context,
    Decision,
    Effect,
    FrozenModel,
    Json,
    Problem,
    Request,
    Verdict,
    WorkspaceError,
)
from remit.core.parsing import YamlRow, read_rows
from remit.guardrails import kind_of
from remit.policy.engine import NOBODY, Policy
from remit.policy.language.names import LABELS, DeclaredNames
from remit.policy.language.patterns import GlobError, parse_resource

CASES: Final = "policies/cases.yaml"


class Case(FrozenModel):
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
    named_by_user: bool = False
    identified: bool = False
    unidentified: frozenset[str] | None = None
    contains: frozenset[str] = frozenset()
    quoted_by_user: bool = False
    requested_by_user: bool = False
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
            named_by_user=self.named_by_user,
            identified=self.identified or self.named_by_user,
            unidentified=self._unidentified,
            contains=self.contains,
            quoted_by_user=self.quoted_by_user,
            requested_by_user=self.requested_by_user,
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
    def _unidentified(self) -> frozenset[str]:
        """The kinds that the row gives, or those of all its resources where it says nothing of who named them."""
        if self.unidentified is not None:
            return self.unidentified
        return frozenset() if self.named_by_user or self.identified else frozenset(map(kind_of, self.resources))

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


def _invalid(error: ValidationError, row: YamlRow, file: str) -> Iterator[Problem]:
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
    if known is not None and known.names is not None:
        yield from _undeclared(case, known.names)
    for resource in case.resources:
        try:
            parse_resource(resource)
        except GlobError as error:
            yield error.what, error.fix
    if case.missing is not None and case.expect != "ask":
        yield "missing stands in a row that does not expect ask", "remove missing, or expect ask"


def _undeclared(case: Case, names: DeclaredNames) -> Iterator[tuple[str, str]]:
    if "env" in case.model_fields_set and case.env not in names.envs:
        yield f"no file declares the environment {case.env!r}", f"use one of: {', '.join(sorted(names.envs))}"
    for label in sorted(case.labels - names.labels - LABELS):
        yield f"no file declares the label {label!r}", f"use one of: {', '.join(sorted(names.labels | LABELS))}"


def asked_by(policy: Policy, case: Case) -> Request:
    """The request that a row describes, with the effect that the action has in this workspace."""
    return case.request("once" if policy.vocabulary is None else policy.vocabulary.effect(case.action))


def _prefixed(kind: str, name: str) -> str:
    return name if name.startswith(f"{kind}:") else f"{kind}:{name}"
