"""`policies/cases.yaml`: decisions that the rules must give, one row each. The note of a row is its name."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pydantic import ConfigDict, Field, ValidationError

from remit.core import (
    CONFIRMATION,
    READ_RESULT,
    RENAMED,
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
    near_names,
    one_of,
    spelled,
)
from remit.core.parsing import YamlRow, read_rows
from remit.guardrails import kind_of
from remit.policy.engine import NOBODY, Policy
from remit.policy.language.entities import Stated
from remit.policy.language.names import DeclaredNames, undeclared_names
from remit.policy.language.patterns import GlobError, parse_resource


class Case(FrozenModel):
    """One row: a request with its facts, and the decision that the rules must give.

    `rule` is part of the note of a rule that must be among the deciding ones; of a rule without note, part of its text.
    `missing`, if given, must be all approvals that the decision requires.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    note: str = Field(min_length=1, description="The name of the case; each has its own")
    agent: str = Field(default="", description="agent:NAME, or its name; left out for what people do with Remit itself")
    user: str = Field(default=NOBODY, description="user:NAME, or its name")
    action: str = Field(min_length=1, description="TOOL.ACTION")
    resources: tuple[str, ...] = Field(description="Every resource of the call, in canonical form")
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
    approvals: dict[str, int] = Field(default_factory=dict, description="How many people approved the call, by role")
    env: str = "local"
    confinement: Confinement = "full"
    subject: dict[str, Json] = Field(
        default_factory=dict, description="Properties that the enforcement point states of the user"
    )
    resource: dict[str, Json] = Field(
        default_factory=dict, description="Properties that the enforcement point states of the resource"
    )
    time: str = Field(default="12:00", pattern=r"^(?:[01][0-9]|2[0-3]):[0-5][0-9]$")
    expect: Verdict = Field(description="The decision that the rules must give")
    rule: str = Field(default="", description="A part of the note of a deciding rule; without note, of its text")
    missing: dict[str, int] | None = Field(
        default=None, description="All approvals that the decision requires, by role"
    )

    def request(self, effect: Effect = "once") -> Request:
        """The request that this row describes. `effect` is the action's own, used unless the row sets another."""
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
            approvals={approver_named(role): count for role, count in self.approvals.items()},
            env=self.env,
            confinement=self.confinement,
            time=self.time,
        )
        subjects = (*((_prefixed("agent", self.agent),) if self.agent else ()), _prefixed("user", self.user))
        return Request(subjects=subjects, action=self.action, resources=self.resources, context=context)

    @property
    def _unidentified(self) -> frozenset[str]:
        """The kinds that the row sets; without `named_by_user` and `identified`, those of all its resources."""
        if self.unidentified is not None:
            return self.unidentified
        return frozenset() if self.named_by_user or self.identified else frozenset(map(kind_of, self.resources))

    def mismatch(self, decision: Decision) -> str:
        """How `decision` differs from the expected one; "" if it does not."""
        if decision.verdict != self.expect:
            return f"expected {self.expect}, got {decision.verdict}: {decision.message}"
        if decision.reason == "error":
            return f"{decision.verdict}, but only because of an error: {decision.message}"
        deciding = [rule.note or rule.text for rule in decision.rules]
        if self.rule and not any(self.rule in text for text in deciding):
            return f"{decision.verdict}, but not by {self.rule!r}; the deciding rules were {deciding or 'none'}"
        expected = None if self.missing is None else {approver_named(role): n for role, n in self.missing.items()}
        required = {missing.role: missing.count for missing in decision.missing}
        if expected is not None and expected != required:
            return f"expected the missing approvals {expected}, got {required}"
        return ""


def read_cases(policy: Policy, text: str, file: str) -> tuple[tuple[int, Case], ...]:
    """The rows of the table, each with the line on which it begins.

    Raises:
        WorkspaceError: every row that is not a valid case, with its line.
    """
    cases: list[tuple[int, Case]] = []
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    try:
        for row in read_rows(text, file=file):
            try:
                case = Case.model_validate(row.value)
            except ValidationError as error:
                problems.extend(_schema_problems(error, row, file))
                continue
            problems.extend(
                Problem(file=file, line=row.line, what=w, fix=fix) for w, fix in _sense_problems(policy, case)
            )
            if (earlier := lines.setdefault(case.note, row.line)) != row.line:
                what = f"line {earlier} has the same note {case.note!r}"
                problems.append(Problem(file=file, line=row.line, what=what, fix="give each row its own note"))
            cases.append((row.line, case))
    except WorkspaceError as error:
        problems.extend(error.problems)
    if problems:
        raise WorkspaceError(problems)
    return tuple(cases)


def _schema_problems(error: ValidationError, row: YamlRow, file: str) -> Iterator[Problem]:
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        what = f"{'.'.join(path)}: {item['msg'].lower()}" if path else "a row is not a mapping of keys to values"
        fix = f"use {', '.join(Case.model_fields)}"
        if item["type"] == "extra_forbidden":
            what, near = f"unknown key {path[0]!r}", near_names(path[0], Case.model_fields)
            if (renamed := RENAMED["case"].get(path[0])) or near:
                fix = f"write {renamed or near[0]}"
        yield Problem(file=file, line=row.lines.get(path[0], row.line) if path else row.line, what=what, fix=fix)


def _sense_problems(policy: Policy, case: Case) -> Iterator[tuple[str, str]]:
    """Mistakes with which a row would pass for the wrong reason: a misspelled action or resource is denied too."""
    known = policy.vocabulary
    if known is not None and case.action not in known.actions:
        yield f"no tool has the action {spelled(case.action)}", one_of(case.action, known.actions)
    if known is not None and known.names is not None:
        yield from _undeclared(case, policy, known.names)
    own = case.action.startswith("remit.") and case.action != READ_RESULT
    point = None if known is None else known.points.get(case.action.partition(".")[0])
    if (own or point is not None) == bool(case.agent):
        what = (
            f"{case.action} is done by a person, and the row names an agent" if case.agent else "the row names no agent"
        )
        yield what, "remove agent" if case.agent else "write agent: agent:NAME"
    if known is not None:
        yield from _stated_problems(case, point)
    for resource in case.resources:
        try:
            kind = parse_resource(resource).kind
        except GlobError as error:
            yield error.what, error.fix
            continue
        if known is not None and known.names is not None and point is None and kind not in known.names.kinds:
            yield f"no file declares the kind of resource {spelled(kind)}", one_of(kind, known.names.kinds)
    if case.missing is not None and case.expect != "ask":
        yield "missing is set in a row that does not expect ask", "remove missing, or expect ask"


def _stated_problems(case: Case, point: Collection[str] | None) -> Iterator[tuple[str, str]]:
    """The properties that a row states, and that no enforcement point may state for its action."""
    for name in _stated(case):
        if point is None:
            yield (
                f"{name} is stated, and {case.action} is no action of an enforcement point",
                "write the property in policies/entities.jsonl",
            )
        elif name not in point:
            yield f"the enforcement point may not state {name}", "list it for the enforcement point in remit.toml"


def _undeclared(case: Case, policy: Policy, names: DeclaredNames) -> Iterator[tuple[str, str]]:
    asked = {approver_named(role) for role in (*case.approvals, *(case.missing or ()))}
    return undeclared_names(
        names,
        policy.roles,
        subjects=case.request().subjects,
        env=case.env if "env" in case.model_fields_set else None,
        labels=case.labels,
        approvers=asked,
        strict=False,
    )


def request_of(policy: Policy, case: Case) -> Request:
    """The request of a row, with the effect of its action and the properties of its entities in this workspace."""
    request = case.request("once" if policy.vocabulary is None else policy.vocabulary.effect(case.action))
    return policy.entities.of(request, Stated.of(list(_stated(case)), case.subject, case.resource))


def _stated(case: Case) -> Iterator[str]:
    yield from (f"subject.{name}" for name in case.subject)
    yield from (f"resource.{name}" for name in case.resource)


def approver_named(name: str) -> str:
    """The role of that name, which may be written without `role:`; a confirmation is none."""
    return name if name == CONFIRMATION else _prefixed("role", name)


def _prefixed(kind: str, name: str) -> str:
    return name if name.startswith(f"{kind}:") else f"{kind}:{name}"
