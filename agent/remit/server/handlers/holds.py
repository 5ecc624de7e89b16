"""Holds: an operator stops a run, an agent, a tool or everything."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Final

from pydantic import Field
from starlette.responses import Response

from remit.core import FrozenModel, UsageError
from remit.core.events import HoldSet
from remit.server.handlers.approvals import Reason
from remit.server.http.answers import answered, not_found
from remit.server.http.paging import NEXT, Limit
from remit.server.http.route import Asked, apart

_SCOPE: Final = r"^((run|agent|tool):[A-Za-z0-9_-]{1,64}|all)$"


class NewHold(FrozenModel):
    """What is held, and why. `scope` is "run:RUN", "agent:NAME", "tool:NAME" or "all"."""

    scope: Annotated[str, Field(pattern=_SCOPE)]
    reason: Reason


class HoldView(FrozenModel):
    """A hold in force. `by` is the subject who set it."""

    scope: str
    reason: str
    by: str


class HoldsQuery(FrozenModel):
    """Which holds, in the order of their scopes."""

    limit: Limit = 50
    cursor: Annotated[str | None, Field(pattern=_SCOPE, description=NEXT)] = None


class HoldList(FrozenModel):
    """Some of the holds in force, without those on runs that the principal may neither hold nor read."""

    holds: tuple[HoldView, ...]
    next: str | None


class LiftedHold(FrozenModel):
    """The hold that is no longer in force."""

    scope: str


async def listed(asked: Asked) -> Response:
    query: HoldsQuery = asked.query
    holds = await asked.client.holds()
    rest = (item for scope, item in sorted(holds.items()) if scope > (query.cursor or "") and _may_see(asked, scope))
    found = await asked.workspace.read(lambda _: list(islice(rest, query.limit + 1)))
    shown = found[: query.limit]
    return answered(HoldList(holds=tuple(map(_view, shown)), next=shown[-1].scope if len(found) > len(shown) else None))


async def hold(asked: Asked) -> Response:
    body: NewHold = asked.body
    await _check(asked, body.scope)
    return answered(_view(await apart(asked.client.hold(body.scope, reason=body.reason))))


async def lift(asked: Asked) -> Response:
    scope = asked.path["scope"]
    await _check(asked, scope)
    try:
        await apart(asked.client.lift(scope))
    except UsageError:
        raise not_found("hold") from None
    return answered(LiftedHold(scope=scope))


async def _check(asked: Asked, scope: str) -> None:
    """INVARIANT: a run that the principal may neither hold nor read looks like one that does not exist."""
    if not await asked.workspace.read(lambda _: _may_see(asked, scope)):
        raise not_found("run")


def _may_see(asked: Asked, scope: str) -> bool:
    kind, _, run = scope.partition(":")
    if kind != "run":
        return True
    try:
        resource = asked.client.run_resource(run)
    except UsageError:
        return False
    return asked.client.may("remit.hold", resource) or asked.client.may("remit.read", resource)


def _view(item: HoldSet) -> HoldView:
    return HoldView(scope=item.scope, reason=item.reason, by=item.by.subject)
