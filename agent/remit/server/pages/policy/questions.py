"""What the rules say, asked by forms: why a call is decided as it is, who may make it, and what a subject may do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from remit.analysis import ability_text, find_holders, list_permissions, rules_text, standing_text
from remit.client import AsyncRemit
from remit.core import Refusal, UsageError, WorkspaceError
from remit.policy.language import GlobError
from remit.server.authentication import Access, BrowserSession
from remit.server.http.answers import HttpRefusal
from remit.server.http.route import EVERY_RUN
from remit.server.pages.assets import string
from remit.server.pages.forms import refusal_text
from remit.server.pages.html import BadForm, checked_form, message, page, redirect

if TYPE_CHECKING:
    from remit.server.service import Service

AREA: Final = "policy"
MOST_ROWS: Final = 300
LONGEST_NAME: Final = 4096  # characters of a resource
_Question = Mapping[str, str]


class QuestionPages:
    """The page of questions about the rules of a service."""

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access

    async def ask(self, request: Request) -> Response:
        """The forms, with the answer to "who" or "can" if the address asks for one."""
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/policy")
        asked = {name: value[:LONGEST_NAME] for name, value in request.query_params.items()}
        return await asyncio.to_thread(self._shown, session, asked)

    async def explain(self, request: Request) -> Response:
        """The forms, with why a call is decided as it is. A form sends it, because arguments do not belong into an address."""
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/policy")
        try:
            fields = await checked_form(request, self._access, session)
        except BadForm:
            return message(string("message", "refused"), status=403, session=session)
        _, client = self._service.client(session.principal)
        agent, action, user = (fields.get(name, "").strip() for name in ("agent", "action", "user"))
        try:
            if not _may_ask_about(client, agent):
                raise HttpRefusal("forbidden", string("policy", "not_allowed"))
            arguments = fields.get("arguments", "").strip() or "{}"
            found = await client.explain(action, arguments, agent=agent, user=user or None)
        except (Refusal, UsageError, WorkspaceError, HttpRefusal) as refused:
            return self._page(session, fields, problem=_why(refused))
        decision = found.decision
        rules = [
            (one.subject, one.named, one.resource, one.says, f"{one.rule.file}:{one.rule.line}", one.why, one.rule.note)
            for one in found.rules
        ]
        answer = {
            "kind": "explain",
            "verdict": decision.verdict,
            "message": decision.message,
            "next": decision.next_step or "",
            "resources": [f"{one.access} {one.resource}" for one in found.call.touches],
            "rows": rules[:MOST_ROWS],
            "more": max(len(rules) - MOST_ROWS, 0),
        }
        return self._page(session, fields, answer=answer)

    def _shown(self, session: BrowserSession, asked: _Question) -> Response:
        _, client = self._service.client(session.principal)
        kind = asked.get("ask", "")
        if kind not in ("who", "can"):
            return self._page(session, asked)
        if not client.may("remit.read", EVERY_RUN):
            return self._page(session, asked, problem=string("policy", "not_allowed"))
        try:
            rows = _holders(client, asked) if kind == "who" else _permissions(client, asked)
        except (GlobError, UsageError) as error:
            return self._page(session, asked, problem=str(error))
        answer = {"kind": kind, "rows": rows[:MOST_ROWS], "more": max(len(rows) - MOST_ROWS, 0)}
        return self._page(session, asked, answer=answer)

    def _page(
        self, session: BrowserSession, asked: _Question, *, answer: dict[str, Any] | None = None, problem: str = ""
    ) -> Response:
        workspace, client = self._service.client(session.principal)
        policy = client.policy
        names: dict[str, Any] = {
            "agents": sorted(workspace.session.workspace.agents),
            "actions": sorted(policy.vocabulary.actions) if policy.vocabulary is not None else [],
            "subjects": sorted(policy.subjects),
            "drafts": client.may("remit.read", EVERY_RUN),
        }
        fields = ("agent", "action", "resource", "subject", "user", "arguments")
        given = {name: asked.get(name, "") for name in fields}
        return page("policy", session=session, area=AREA, asked=given, answer=answer, problem=problem, **names)


def _may_ask_about(client: AsyncRemit, agent: str) -> bool:
    """True for who may read runs of that agent, and start them: an explanation says what would happen to both."""
    return client.may("remit.read", f"run:other/{agent}") and client.may("remit.run", f"agent:{agent}")


def _holders(client: AsyncRemit, asked: _Question) -> list[tuple[str, ...]]:
    action, resource, policy = asked.get("action", ""), asked.get("resource", "").strip(), client.policy
    if policy.vocabulary is None or action not in policy.vocabulary.actions:
        raise UsageError(string("policy", "no_action"))
    if not resource:
        raise UsageError(string("policy", "no_resource"))
    found = sorted(find_holders(policy, action, resource), key=lambda one: one.standing == "never")
    return [(one.subject, standing_text(one), rules_text(one.rules)) for one in found]


def _permissions(client: AsyncRemit, asked: _Question) -> list[tuple[str, ...]]:
    subject, policy = asked.get("subject", ""), client.policy
    if subject not in policy.subjects:
        raise UsageError(string("policy", "no_subject"))
    found = list_permissions(policy, subject)
    return [(one.action, one.resource, ability_text(one), rules_text((one.rule,)), one.rule.note) for one in found]


def _why(refused: Refusal | UsageError | WorkspaceError | HttpRefusal) -> str:
    return refusal_text(refused) or string("policy", "not_allowed")
