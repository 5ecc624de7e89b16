"""What the rules say: why a call is decided as it is, who may make it, and what a subject may do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from remit.analysis import find_holders, list_permissions
from remit.core import Decision, FrozenModel, Json, Rule
from remit.policy.language import GlobError
from remit.server.handlers.decisions import ActionName, AskedCall
from remit.server.http.answers import HttpRefusal, answered, not_found
from remit.server.http.paging import RulesPage, page_of_rules
from remit.server.http.route import EVERY_RUN, Asked


class EvaluatedRule(FrozenModel):
    """What one rule says for one subject and one resource, and why. `named` is the subject or role that the rule names."""

    subject: str
    named: str
    resource: str
    says: str
    why: str
    rule: Rule


class ExplanationView(FrozenModel):
    """A decision, the resources of its call, and each rule that matches the call, or almost matches it."""

    decision: Decision
    arguments: dict[str, Json]
    resources: tuple[str, ...]
    rules: tuple[EvaluatedRule, ...]


class AskedHolders(RulesPage):
    """Which call: `resource` may be a set, as "file:docs/**"."""

    action: ActionName
    resource: Annotated[str, Field(min_length=1, max_length=4096)]


class RoleView(FrozenModel):
    """A role whose approval is needed, and the users who could give it."""

    role: str
    people: tuple[str, ...]


class HolderView(FrozenModel):
    """Whether one subject may make the call. One of `only_if` must hold, and none of `unless`."""

    subject: str
    standing: str
    only_if: tuple[str, ...]
    unless: tuple[str, ...]
    asks: tuple[RoleView, ...]
    rules: tuple[Rule, ...]


class HolderList(FrozenModel):
    """Subjects of the rules, for one call. A call needs the permission of the agent and of its user."""

    holders: tuple[HolderView, ...]
    next: str | None


class AskedSubject(RulesPage):
    """Whose permissions."""

    subject: Annotated[str, Field(min_length=1, max_length=200)]


class PermissionView(FrozenModel):
    """What one rule lets the subject do, or forbids. `named` is the subject or role that the rule names."""

    action: str
    resource: str
    standing: str
    condition: str
    named: str
    asks: tuple[RoleView, ...]
    rule: Rule
    denied_by: Rule | None


class PermissionList(FrozenModel):
    """What the subject may do and may not do, with the rules of its roles."""

    permissions: tuple[PermissionView, ...]
    next: str | None


async def explain(asked: Asked) -> Response:
    body: AskedCall = asked.body
    asked.authorize("remit.read", f"run:other/{body.agent}")
    asked.authorize_agent(body.agent)
    found = await asked.client.explain(body.action, body.arguments, agent=body.agent, user=body.user)
    rules = [EvaluatedRule.model_validate(_fields(line, "disclosure")) for line in found.rules]
    return answered(
        ExplanationView(
            decision=found.decision,
            arguments=found.call.arguments,
            resources=tuple(f"{item.access} {item.resource}" for item in found.call.touches),
            rules=tuple(rules),
        )
    )


async def who(asked: Asked) -> Response:
    body: AskedHolders = asked.body
    asked.authorize("remit.read", EVERY_RUN)
    policy = asked.client.policy
    if policy.vocabulary is not None and body.action not in policy.vocabulary.actions:
        raise not_found("action", body.action, policy.vocabulary.actions)
    try:
        found = await asked.workspace.read(lambda _: find_holders(policy, body.action, body.resource))
    except GlobError as error:
        raise HttpRefusal("invalid_request", str(error)) from None
    shown, place = page_of_rules(found, body, policy.digest)
    return answered(HolderList(holders=tuple(HolderView.model_validate(_fields(item)) for item in shown), next=place))


async def can(asked: Asked) -> Response:
    body: AskedSubject = asked.body
    asked.authorize("remit.read", EVERY_RUN)
    policy = asked.client.policy
    if body.subject not in policy.subjects:
        raise not_found("subject", body.subject, policy.subjects)
    found = await asked.workspace.read(lambda _: list_permissions(policy, body.subject))
    shown, place = page_of_rules(found, body, policy.digest)
    views = tuple(PermissionView.model_validate(_fields(item)) for item in shown)
    return answered(PermissionList(permissions=views, next=place))


def _fields(item: Any, *without: str) -> dict[str, Any]:
    return {name: value for name, value in asdict(item).items() if name not in without}
