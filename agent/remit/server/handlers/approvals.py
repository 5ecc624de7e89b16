"""Requests for approval, and the answers of people."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from remit.client import ApprovalPage, Approved, Bound, WaitingApproval, page_of_approvals
from remit.core import FrozenModel, UsageError
from remit.journal import FIRST, Journal, Place
from remit.server.handlers.calls import ApprovalView, approval_view
from remit.server.http.answers import answered, not_found
from remit.server.http.paging import NEXT, Limit
from remit.server.http.route import Asked, apart

Reason = Annotated[
    str, Field(min_length=1, max_length=2000, description="Why; the record keeps it, and a model may read it")
]


class ApprovalsQuery(FrozenModel):
    """Which open requests, the oldest first."""

    limit: Limit = 50
    # At most 18 digits after the first of each number: numbers that a database holds.
    cursor: Annotated[
        str | None,
        Field(pattern=r"^[0-8]?[0-9]{1,18}\.[0-9a-f]{0,32}\.(-1|[0-8]?[0-9]{1,18})$", description=NEXT),
    ] = None

    @property
    def after(self) -> Place:
        """The place in the list after which the page begins."""
        if self.cursor is None:
            return FIRST
        at, run, number = self.cursor.split(".")
        return int(at), run, int(number)


class ApprovalList(FrozenModel):
    """Some of the open requests that the principal may answer or read. A page can have fewer than `limit`, and a `next` page."""

    approvals: tuple[ApprovalView, ...]
    next: str | None


class MoreCalls(FrozenModel):
    """Further calls of the run that are approved too; see `remit approve grant --more`."""

    more: Annotated[int, Field(ge=1, le=100)]
    resources: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    condition: Annotated[str, Field(max_length=2000)] = ""

    @property
    def bound(self) -> Bound:
        return Bound(more=self.more, resources=self.resources, condition=self.condition)


class Grant(FrozenModel):
    """How a person approves: `role` may be left out if the request needs one role. `minutes` are for an emergency and for `bound`."""

    role: Annotated[str | None, Field(pattern=r"^role:[a-z][a-z0-9_-]{0,62}$")] = None
    reason: Annotated[str, Field(max_length=2000)] = ""
    minutes: Annotated[int, Field(ge=1, le=1440)] = 15
    bound: MoreCalls | None = None


class Rejection(FrozenModel):
    """Why a person rejects the call. The model reads it."""

    reason: Reason


class GrantView(FrozenModel):
    """An approval that was recorded. `rapid` are the actions that the same person approved within the last minute; `next` says who goes on."""

    id: str
    run: str
    approver: str
    role: str
    rapid: tuple[str, ...]
    next: str


class RejectionView(FrozenModel):
    """A rejection that was recorded."""

    id: str
    run: str


async def listed(asked: Asked) -> Response:
    query: ApprovalsQuery = asked.query

    def read(_: Journal) -> ApprovalPage:
        session = asked.client.session
        return page_of_approvals(session, partial(_may_see, asked), limit=query.limit, after=query.after)

    page = await asked.workspace.read(read)
    shown = tuple(approval_view(item.run, item.request) for item in page.requests)
    place = None if page.next is None else ".".join(map(str, page.next))
    return answered(ApprovalList(approvals=shown, next=place))


async def show(asked: Asked) -> Response:
    found = await _found(asked)
    return answered(approval_view(found.run, found.request))


async def grant(asked: Asked) -> Response:
    body: Grant = asked.body
    found = await _found(asked)
    bound = None if body.bound is None else body.bound.bound
    approving = asked.client.approve(found, role=body.role, reason=body.reason, minutes=body.minutes, bound=bound)
    approved: Approved = await apart(approving)
    return answered(
        GrantView(
            id=f"{found.run}/{found.request.step}.{found.request.index}",
            run=found.run,
            approver=approved.approver,
            role=approved.role,
            rapid=approved.rapid,
            next=approved.next,
        )
    )


async def reject(asked: Asked) -> Response:
    body: Rejection = asked.body
    found = await _found(asked)
    await apart(asked.client.reject(found, reason=body.reason))
    return answered(RejectionView(id=f"{found.run}/{found.request.step}.{found.request.index}", run=found.run))


async def _found(asked: Asked) -> WaitingApproval:
    """The request of the path. INVARIANT: one that the principal may not see looks like one that does not exist."""
    run, place = asked.path["run"], asked.path["call"]
    try:
        found = await apart(asked.client.find_approval(f"{run}/{place}"))
    except UsageError:
        raise not_found("request for approval") from None
    if not await asked.workspace.read(lambda _: _may_see(asked, found.run)):
        raise not_found("request for approval")
    return found


def _may_see(asked: Asked, run: str) -> bool:
    """True for who may answer requests of the run, or read the run: a request shows the call and nothing else of it."""
    resource = asked.client.run_resource(run)
    return asked.client.may("remit.approve", resource) or asked.client.may("remit.read", resource)
