"""The pages of requests for approval: the inbox, who asks for what, and the answer of a person. They work without scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from starlette.requests import Request
from starlette.responses import Response

from remit.analysis import FileChange
from remit.client import (
    Bound,
    Consent,
    WaitingApproval,
    approve,
    bound_lines,
    must_sign,
    reject,
    review_of,
    revoke,
)
from remit.core import BREAK_GLASS, Principal, Refusal, UsageError
from remit.server.authentication import Access, BrowserSession
from remit.server.http.answers import HttpRefusal
from remit.server.http.route import EVERY_RUN, apart
from remit.server.pages.assets import string
from remit.server.pages.forms import one_line, refusal_text, whole_number
from remit.server.pages.html import HEADERS, BadForm, checked_form, fragment, message, origin_of, page, redirect
from remit.server.pages.live import Following, LivePages
from remit.server.pages.passkeys import Signing
from remit.server.pages.policy import Drafts, draft_of_rule
from remit.server.pages.requests import (
    REQUEST,
    OpenRequest,
    Rights,
    ShownRequest,
    circumstances,
    found_request,
    open_requests,
    shown_requests,
)

if TYPE_CHECKING:
    from remit.server.service import Service

AREA: Final = "approvals"
LONGEST_ANSWER: Final = 2000
MOST: Final = 100  # requests on the list
LIKE_CALLS: Final = 3  # approvals of like calls, from which on a rule is offered


@dataclass(frozen=True)
class Given:
    """A form that a person has sent from the page of a request, and the request as they see it; `origin` is the address of the service."""

    session: BrowserSession
    waiting: WaitingApproval
    shown: ShownRequest
    fields: Mapping[str, str]
    origin: str

    @property
    def by(self) -> Principal:
        return self.session.principal


class ApprovalPages:
    """The pages about approvals of a service."""

    def __init__(self, service: Service, access: Access, live: LivePages, drafts: Drafts) -> None:
        self._service = service
        self._access = access
        self._live = live
        self._drafts = drafts
        self._signing: Final = Signing(service, access)
        self._rights: Final = Rights()

    async def overview(self, request: Request) -> Response:
        """The requests that the person may answer, and those of their own."""
        if (session := self._access.session(request)) is None:
            return redirect("/login")
        values = await asyncio.to_thread(self._list, session.principal)
        return page("approvals", session=session, area=AREA, **values)

    async def follow(self, request: Request) -> Response:
        """The list, each time that it changes."""
        if (session := self._access.session(request)) is None:
            return Response(status_code=403, headers=HEADERS)
        workspace, _ = self._service.client(session.principal)
        listed: Following[list[OpenRequest]] = Following(
            what=AREA,
            read=lambda: open_requests(workspace.session),
            seen=self._values,
            render=lambda values, _, __: fragment("approvals_list", **values),
        )
        return self._live.stream(request, listed)

    async def show(self, request: Request) -> Response:
        """One request."""
        name = request.path_params["id"]
        if (session := self._access.session(request)) is None:
            return redirect(f"/login?next=/approvals/{name}" if REQUEST.fullmatch(name) else "/login")
        values = await asyncio.to_thread(self._page, session.principal, name)
        return _nothing(session) if values is None else page("approval", session=session, area=AREA, **values)

    async def grant(self, request: Request) -> Response:
        """Approve the call that the page has shown, in one role; with bounds also further calls like it."""
        return await self._answer(request, self._grant)

    async def challenge(self, request: Request) -> Response:
        """What a passkey of the person must sign for the approval that the form asks for, as JSON for the script of the page."""
        return await self._answer(request, self._challenge)

    async def reject(self, request: Request) -> Response:
        """Reject it, with a reason that the model reads."""
        return await self._answer(request, self._reject)

    async def instead(self, request: Request) -> Response:
        """Reject it, with an answer that the model reads in place of that of the tool."""
        return await self._answer(request, self._instead)

    async def revoke(self, request: Request) -> Response:
        """Withdraw one's own approval."""
        return await self._answer(request, self._revoke)

    async def bound(self, request: Request) -> Response:
        """Show which further calls an approval with bounds would cover: the person approves them on that page."""
        return await self._answer(request, self._bounds)

    async def rule(self, request: Request) -> Response:
        """Draft the rule that would have allowed the call, or the last like it, without asking. Nothing changes what is in force."""
        return await self._answer(request, self._rule)

    async def _answer(self, request: Request, act: Answer) -> Response:
        """Carry out what a form of the page of a request asks for. Nothing counts that the person has not seen."""
        if (session := self._access.session(request)) is None:
            return redirect("/login")
        try:
            fields = await checked_form(request, self._access, session)
        except BadForm:
            return message(string("message", "refused"), string("message", "refused_form"), 403, session)
        name = request.path_params["id"]
        found = await asyncio.to_thread(self._found, session.principal, name)
        if found is None:
            return _nothing(session)
        if fields.get("digest") != found[1].digest:
            return message(string("approval", "changed"), string("approval", "changed_text"), 409, session)
        try:
            return await act(Given(session, *found, fields, origin_of(request, self._access)))
        except (Refusal, UsageError, HttpRefusal) as refused:
            return message(string("approval", "counts_not"), refusal_text(refused), 403, session)

    async def _grant(self, given: Given) -> Response:
        workspace, client = self._service.client(given.by)
        consent = await asyncio.to_thread(self._signing.signed, given.session, _consent(given), given.fields)
        approved = await asyncio.to_thread(approve, workspace.session, client.policy, given.waiting, consent)
        text = string("approval", "approved", approver=approved.approver, role=approved.role)
        if approved.rapid:
            text += " " + string("approval", "was_rapid", actions=", ".join(approved.rapid))
        if approved.like < LIKE_CALLS or not given.shown.reads:
            return _recorded(text, given.session)
        return page("approved", session=given.session, area=AREA, text=text, item=given.shown, count=approved.like)

    async def _challenge(self, given: Given) -> Response:
        return await asyncio.to_thread(self._signing.begin, given.session, _consent(given), given.waiting, given.origin)

    async def _reject(self, given: Given) -> Response:
        _, client = self._service.client(given.by)
        await apart(client.reject(given.waiting, reason=one_line(given.fields, "reason")))
        return _recorded(string("approval", "rejected", by=given.by.subject), given.session)

    async def _instead(self, given: Given) -> Response:
        workspace, client = self._service.client(given.by)
        response, by = one_line(given.fields, "answer", LONGEST_ANSWER), given.by
        what = string("approval", "answer")
        await asyncio.to_thread(
            reject, workspace.session, client.policy, given.waiting, by=by, reason=what, response=response
        )
        return _recorded(string("approval", "answered", by=by.subject), given.session)

    async def _revoke(self, given: Given) -> Response:
        workspace, _ = self._service.client(given.by)
        by, reason = given.by, one_line(given.fields, "reason")
        await asyncio.to_thread(revoke, workspace.session, given.waiting, by=by, reason=reason)
        return _recorded(string("approval", "revoked", by=by.subject), given.session)

    async def _bounds(self, given: Given) -> Response:
        workspace, _ = self._service.client(given.by)
        bound = _bound(given.fields)
        if bound is None or not given.shown.roles or not given.fields.get("role"):
            raise UsageError("say how many further calls, and in which role you approve them")
        whole_number(given.fields.get("minutes", ""), 1, 1440)
        lines = await asyncio.to_thread(bound_lines, workspace.session, given.waiting, bound)
        sent = {name: given.fields.get(name, "") for name in ("role", "more", "minutes", "resources", "condition")}
        signs = await asyncio.to_thread(must_sign, workspace.journal, given.by)
        return page("bound", session=given.session, area=AREA, item=given.shown, lines=lines, fields=sent, signs=signs)

    async def _rule(self, given: Given) -> Response:
        workspace, client = self._service.client(given.by)
        if not given.shown.reads or not client.may("remit.read", EVERY_RUN):
            raise UsageError(string("policy", "not_allowed"))
        changes = await asyncio.to_thread(self._drafted, given)
        draft = self._drafts.begin(workspace.session, client.policy, given.by, changes)
        return redirect(f"/policy/drafts/{draft.id}")

    def _drafted(self, given: Given) -> tuple[FileChange, ...]:
        """The rule of this call if it was approved, otherwise of the last approved call like it."""
        workspace, _ = self._service.client(given.by)
        session, request = workspace.session, given.waiting.request
        similar = review_of(session, given.waiting, lambda _: True).similar
        places = [(given.waiting.run, request.step, request.index)] + [
            (one.run, one.step, one.index) for one in similar
        ]
        refused = UsageError(string("approval", "no_rule"))
        for run, step, index in places:
            try:
                return draft_of_rule(session, run, (step, index))
            except UsageError as why:
                refused = why
        raise refused

    def _values(self, by: Principal, opened: list[OpenRequest]) -> dict[str, Any]:
        _, client = self._service.client(by)
        found = shown_requests(opened, client.policy, by, self._rights)
        return {"requests": [_line_of(item) for item in found[:MOST]], "more": len(found) > MOST}

    def _list(self, by: Principal) -> dict[str, Any]:
        workspace, _ = self._service.client(by)
        return self._values(by, open_requests(workspace.session))

    def _page(self, by: Principal, name: str) -> dict[str, Any] | None:
        if (found := self._found(by, name)) is None:
            return None
        workspace, client = self._service.client(by)
        signs = bool(found[1].roles or found[1].emergency) and must_sign(workspace.journal, by)
        return {"item": found[1], "signs": signs, **circumstances(workspace.session, client.policy, by, *found)}

    def _found(self, by: Principal, name: str) -> tuple[WaitingApproval, ShownRequest] | None:
        workspace, client = self._service.client(by)
        return found_request(workspace.session, client.policy, by, name)


Answer: TypeAlias = Callable[[Given], Coroutine[Any, Any, Response]]


def _line_of(item: ShownRequest) -> dict[str, Any]:
    """A request on the list."""
    title = item.summary.splitlines()[0]
    return {"id": item.id, "title": title, "needs": item.needs, "minutes": item.minutes, "is_own": item.is_own}


def _consent(given: Given) -> Consent:
    """The approval that a form asks for. Raises UsageError."""
    fields, role = given.fields, given.fields.get("role") or None
    minutes = whole_number(fields["minutes"], 1, 1440) if "minutes" in fields else 15
    reason = one_line(fields, "reason") if role == BREAK_GLASS else ""
    return Consent(by=given.by, role=role, reason=reason, minutes=minutes, bound=_bound(fields))


def _bound(fields: Mapping[str, str]) -> Bound | None:
    """The further calls that the form names; None without any."""
    if not fields.get("more"):
        return None
    resources = tuple(fields.get("resources", "").split())
    return Bound(
        more=whole_number(fields["more"], 1, 100), resources=resources, condition=fields.get("condition", "").strip()
    )


def _recorded(text: str, session: BrowserSession) -> Response:
    return message(string("approval", "recorded"), text, session=session)


def _nothing(session: BrowserSession) -> Response:
    return message(string("approval", "no_such"), string("approval", "no_such_text"), 404, session)
