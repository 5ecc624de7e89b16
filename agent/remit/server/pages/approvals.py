"""The page of one request for approval: who asks for what, and the answer of a person. It works without scripts."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from remit.client import WaitingApproval, find_request, waiting_approvals_of
from remit.core import Principal, Refusal, UsageError, roles_held
from remit.core.events import RunStarted
from remit.journal import StoredRecord
from remit.server.authentication import Access, AccessDenied, BrowserSession
from remit.server.pages.html import BadForm, form, message, page, redirect
from remit.tracing.reports import needs_text
from remit.workspace import may, resource_of

if TYPE_CHECKING:
    from remit.server.service import Service

_T = TypeVar("_T")

_ID: Final = re.compile(r"([0-9a-f]{32})\.([0-9]{1,9}\.[0-9]{1,9})", re.ASCII)
LONGEST_REASON: Final = 500
MOST: Final = 100  # requests on the list


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a person sees of a request. `task` is "" for who may not read the run; `roles` are those in which they may answer it."""

    id: str
    summary: str
    needs: str
    expires: str
    minutes: int
    digest: str
    task: str = ""
    roles: tuple[str, ...] = ()
    is_own: bool = False
    is_closed: bool = False


class ApprovalPages:
    """The pages about approvals of a service."""

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access

    async def overview(self, request: Request) -> Response:
        """The requests that the person may answer, and those of their own."""
        if (session := self._access.session(request)) is None:
            return redirect("/login")
        found = await asyncio.to_thread(self._list, session.principal)
        return page("approvals", session=session, requests=found[:MOST], more=len(found) > MOST)

    async def show(self, request: Request) -> Response:
        """One request."""
        name = request.path_params["id"]
        if (session := self._access.session(request)) is None:
            return redirect(f"/login?next=/approvals/{name}" if _ID.fullmatch(name) else "/login")
        shown = await asyncio.to_thread(self._shown, session.principal, name)
        if shown is None:
            return _nothing(session)
        return page("approval", session=session, item=shown)

    async def grant(self, request: Request) -> Response:
        """Approve the call that the page has shown, in one role."""
        return await self._answer(request, "grant")

    async def reject(self, request: Request) -> Response:
        """Reject it, with a reason that the model reads."""
        return await self._answer(request, "reject")

    async def _answer(self, request: Request, verb: str) -> Response:
        session = self._access.session(request)
        if session is None:
            return redirect("/login")
        try:
            fields = await form(request, self._access)
            if not session.accepts(fields.get("form_token", "")):
                raise BadForm
        except BadForm:
            self._access.record(
                AccessDenied("cross_site", session.principal.subject, session.principal.tenant), request
            )
            return message("The request is refused", "Open the page of the request and answer there.", 403, session)
        name = request.path_params["id"]
        shown = await asyncio.to_thread(self._shown, session.principal, name)
        if shown is None:
            return _nothing(session)
        if fields.get("digest") != shown.digest:
            return message("The request has changed", "Read it again before you answer.", 409, session)
        try:
            text = await self._record(session.principal, name, verb, fields)
        except (Refusal, UsageError) as refused:
            # What the rules deny is said without the rule; why an approval does not count is said to who gave it.
            is_silent = isinstance(refused, Refusal) and refused.code == "policy_denied"
            return message("Your answer does not count", "" if is_silent else _text(refused), 403, session)
        return message("Your answer is recorded", text, session=session)

    async def _record(self, by: Principal, name: str, verb: str, fields: Mapping[str, str]) -> str:
        """Record the answer. Returns what happens next."""
        workspace, client = self._service.client(by)
        waiting = await asyncio.to_thread(find_request, workspace.session, _place(name))
        if verb == "grant":
            approved = await _apart(client.approve(waiting, role=fields.get("role") or None))
            rapid = f" You approved {', '.join(approved.rapid)} within the last minute, too." if approved.rapid else ""
            return f"Approved as {approved.approver} in {approved.role}.{rapid}"
        reason = fields.get("reason", "").strip()
        if not reason or len(reason) > LONGEST_REASON:
            raise UsageError(f"a rejection needs a reason of at most {LONGEST_REASON} characters")
        await _apart(client.reject(waiting, reason=" ".join(reason.split())))
        return f"Rejected as {by.subject}."

    def _list(self, by: Principal) -> list[Shown]:
        workspace, _ = self._service.client(by)
        views = (self._view(by, waiting) for waiting in waiting_approvals_of(workspace.session))
        return [view for view in views if view is not None]

    def _shown(self, by: Principal, name: str) -> Shown | None:
        """The request as the person may see it; None if there is none, or if it is not for them: nobody can tell these apart."""
        if _ID.fullmatch(name) is None:
            return None
        workspace, _ = self._service.client(by)
        try:
            return self._view(by, find_request(workspace.session, _place(name)))
        except UsageError:
            return None

    @staticmethod
    def _is_concerned(reads: bool, roles: tuple[str, ...]) -> bool:
        """True for who may read the run, and for who may answer the request."""
        return reads or bool(roles)

    def _view(self, by: Principal, waiting: WaitingApproval) -> Shown | None:
        """INVARIANT: who may not read the run sees the call only, and who may not answer it either sees nothing."""
        workspace, client = self._service.client(by)
        record, request, now = StoredRecord(workspace.journal, waiting.run), waiting.request, time.time_ns()
        started = record.get("run.started/-/-/-")
        if not isinstance(started, RunStarted):
            return None
        opened = record.state.open.get((request.step, request.index))
        approval = None if opened is None or opened.allowed else opened.approval
        is_open = approval is not None and approval.requested.key == request.key and approval.waits(now)
        run, own = resource_of(started, by), started.is_requested_by(by)
        reads = may(client.policy, by, "remit.read", run)
        roles: tuple[str, ...] = ()
        if approval is not None and by.is_person and not own and may(client.policy, by, "remit.approve", run):
            held = roles_held(by, client.policy.roles_of)
            roles = tuple(dict.fromkeys(role for role in approval.accepts(now) if role in held))
        if not self._is_concerned(reads, roles):
            return None
        return Shown(
            id=f"{waiting.run}.{request.step}.{request.index}",
            summary=request.summary,
            needs=needs_text(request),
            expires=datetime.fromtimestamp(request.expires_at // 10**9, UTC).strftime("%Y-%m-%d %H:%M UTC"),
            minutes=max(0, round(waiting.expires_in_s / 60)),
            digest=request.decision_digest,
            task=started.task if reads else "",
            roles=roles if is_open else (),
            is_own=own,
            is_closed=not is_open,
        )


async def _apart(work: Coroutine[Any, Any, _T]) -> _T:
    """Carry out what waits for the journal only in another thread: no commit stops the other requests."""
    return await asyncio.to_thread(asyncio.run, work)


def _place(name: str) -> str:
    run, _, place = name.partition(".")
    return f"{run}/{place}"


def _nothing(session: BrowserSession) -> Response:
    return message("There is no such request", "It may be closed, or it is not for you.", 404, session)


def _text(refused: Refusal | UsageError) -> str:
    return refused.message if isinstance(refused, Refusal) else str(refused)
