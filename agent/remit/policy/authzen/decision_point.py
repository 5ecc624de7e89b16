"""Answers questions of an enforcement point by the rules in force: one, several at once, and searches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pydantic import ValidationError

from remit.core import NAME_OF_SUBJECT, Context, Decision, Json, Refusal, Request
from remit.core.events import GivenDecision
from remit.core.parsing import canonical
from remit.policy.authzen.points import EnforcementPoint
from remit.policy.authzen.questions import Action, Entity, Evaluation, Evaluations
from remit.policy.engine import NOBODY, Policy
from remit.policy.language import GlobError, Stated

# Why a question is answered with no before the rules are asked.
Unanswerable: TypeAlias = Literal[
    "not_listed",  # the enforcement point is not listed for this type or action
    "invalid_id",  # no rule can name this subject or resource
    "disabled",  # the subject was disabled
    "invalid_evaluation",  # a question of several is not complete
]
_MEMBERS: Final = ("subject", "action", "resource", "context")
_NAME: Final = re.compile(NAME_OF_SUBJECT, re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What is recorded of an answer, and what the enforcement point reads of it: `decision`, and a `context` if it was denied."""

    record: GivenDecision
    body: dict[str, Json]


@dataclass(frozen=True, kw_only=True)
class DecisionPoint:
    """The rules in force for one enforcement point at one moment.

    `time` is the time of day in UTC, as rules read it. `confirmed` asks stock Casbin, None: it is not asked; `is_disabled` is True for a subject that
    may do nothing any more.
    """

    point: EnforcementPoint
    policy: Policy
    env: str
    time: str
    is_disabled: Callable[[str], bool]
    confirmed: Callable[[Policy, Request], bool] | None = None

    def evaluate(self, asked: Evaluation) -> Answered:
        """Answer one question. INVARIANT: whatever is not listed, not canonical or not decided is answered with no."""
        problem = self.problem(asked.subject, asked.action.name, asked.resource)
        if problem is not None:
            return _refused(asked, *problem)
        request = self.request(asked.subject, asked.action, asked.resource)
        decision = self.policy.decide(request)
        if decision.verdict == "allow" and not self._is_confirmed(request):
            return _refused(asked, "engines_disagree", "the two engines that check the rules disagree")
        if decision.verdict != "allow":
            decision = self.policy.advise(request, decision)
        return Answered(record=_answer(request, decision), body=_body(decision))

    def evaluate_each(self, asked: Evaluations) -> Iterator[Answered]:
        """Answer several questions in their order, up to the one with which their semantic ends."""
        last = {"execute_all": None, "deny_on_first_deny": False, "permit_on_first_permit": True}
        for item in asked.evaluations:
            answered = self._evaluate_item(asked, item)
            yield answered
            if answered.record.allowed is last[asked.options.evaluations_semantic]:
                return

    def _evaluate_item(self, asked: Evaluations, item: dict[str, Json]) -> Answered:
        given = {name: default for name in _MEMBERS if (default := getattr(asked, name)) is not None}
        given |= {name: item[name] for name in _MEMBERS if name in item}
        try:
            return self.evaluate(Evaluation.model_validate(given))
        except ValidationError as failure:
            first = failure.errors(include_input=False, include_url=False, include_context=False)[0]
            message = f"{'.'.join(map(str, first['loc']))[:200]}: {first['msg'][:200]}"
            answer = GivenDecision(subject="", action="", resource="", allowed=False, code="invalid_evaluation")
            return Answered(record=answer, body=_denied("invalid_evaluation", message))

    def allows(self, subject: Entity, action: Action, resource: Entity) -> bool:
        """True if the answer to this question would be yes: what a search returns."""
        if self.problem(subject, action.name, resource) is not None:
            return False
        request = self.request(subject, action, resource)
        try:
            return self.policy.judge(request).allowed and self._is_confirmed(request)
        except GlobError:
            return False

    def _is_confirmed(self, request: Request) -> bool:
        return self.confirmed is None or self.confirmed(self.policy, request) is True

    def request(self, subject: Entity, action: Action, resource: Entity) -> Request:
        """The question as a request to the policy. The subject acts by itself, and nothing confines what it does."""
        subjects, resources = (_name_of(subject),), (_name_of(resource),)
        stated = Stated.of(self.point.properties, subject.properties, resource.properties)
        context = Context(
            args=action.properties,
            env=self.env,
            confinement="none",
            time=self.time,
            **self.policy.entities.facts(subjects, resources, stated),
        )
        return Request(subjects=subjects, action=self.point.actions[action.name], resources=resources, context=context)

    def problem(self, subject: Entity, action: str, resource: Entity) -> tuple[Unanswerable, str] | None:
        """Why the rules are not asked; None if they are."""
        point = self.point
        if action not in point.actions:
            return "not_listed", _unlisted(point, "action", action)
        if subject.type not in point.subject_types:
            return "not_listed", _unlisted(point, "subject_types", subject.type)
        if resource.type not in point.resource_types:
            return "not_listed", _unlisted(point, "resource_types", resource.type)
        if _NAME.fullmatch(subject.id) is None or _name_of(subject) == NOBODY:
            return "invalid_id", "the id of the subject is no name that a rule can have: letters, digits and . _ @ + -"
        if not is_canonical(resource):
            return "invalid_id", f"the id of the resource is not the canonical name of one {resource.type}"
        if self.is_disabled(_name_of(subject)):
            return "disabled", "the subject is disabled"
        return None


def is_canonical(resource: Entity) -> bool:
    """True if rules name the resource exactly so. INVARIANT: one resource has one name, so no other spelling evades a deny."""
    try:
        return canonical(resource.type, resource.id) == resource.id
    except Refusal:
        return False


def _name_of(entity: Entity) -> str:
    return f"{entity.type}:{entity.id}"


def _unlisted(point: EnforcementPoint, key: str, name: str) -> str:
    return f"{name[:64]!r} is not listed in {key} of [enforcement_points.{point.name}] in remit.toml"


def _answer(request: Request, decision: Decision) -> GivenDecision:
    return GivenDecision(
        subject=request.subjects[0],
        action=request.action,
        resource=request.resources[0],
        allowed=decision.verdict == "allow",
        code=decision.reason,
        rules=tuple([f"{rule.file}:{rule.line}" for rule in decision.rules]),
    )


def _refused(asked: Evaluation, code: str, message: str) -> Answered:
    answer = GivenDecision(
        subject=_name_of(asked.subject),
        action=asked.action.name,
        resource=_name_of(asked.resource),
        allowed=False,
        code=code,
    )
    return Answered(record=answer, body=_denied(code, message))


def _body(decision: Decision) -> dict[str, Json]:
    """What the enforcement point reads. INVARIANT: of a denial no more than the deciding rules disclose."""
    if decision.verdict == "allow":
        return {"decision": True}
    if decision.verdict == "ask":
        missing = [item.model_dump(mode="json") for item in decision.missing]
        people = " and ".join(f"{item.count} of {item.role}" for item in decision.missing)
        return _denied(decision.reason, f"the rules ask for approval by {people}", missing=missing)
    denial = decision.for_model
    if denial is None:
        return _denied(decision.reason, "it is denied")
    more: dict[str, Json] = {"rules": list(denial.rules)} if denial.rules else {}
    if denial.next_step is not None:
        more["next_step"] = denial.next_step
    return _denied(denial.reason, denial.message, **more)


def _denied(code: str, reason: str, **more: Json) -> dict[str, Json]:
    return {"decision": False, "context": {"reason": reason, "remit": {"code": code, **more}}}
