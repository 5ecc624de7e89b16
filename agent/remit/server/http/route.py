"""A row of the table of routes, and the request that its handler gets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from remit.core import Code, Principal
from remit.server.http.answers import HttpCode, HttpRefusal, did_you_mean
from remit.workspace import OwnAction

if TYPE_CHECKING:  # the table is read without a service, for the documents
    from remit.client import AsyncRemit
    from remit.server.service import Service
    from remit.server.workspaces import ServedWorkspace

# Who may read every run may also read the numbers of all runs, and the rules about them.
EVERY_RUN: Final = "run:other/**"
_T = TypeVar("_T")
Method: TypeAlias = Literal["GET", "POST", "DELETE"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request to a route.

    `client` acts as `principal`, on the `workspace` of their tenant; none of the three exists for a public route. `body` and `query`
    are objects of the route's models, None without one.
    """

    request: Request
    service: Service
    principal: Principal
    workspace: ServedWorkspace
    client: AsyncRemit
    body: Any = None
    query: Any = None

    @property
    def path(self) -> dict[str, str]:
        """The parameters in the path, by name."""
        found: dict[str, str] = self.request.path_params
        return found

    def authorize(self, action: OwnAction, resource: str) -> None:
        """Raise HttpRefusal `forbidden` if the rules do not let the principal do it."""
        if not self.client.may(action, resource):
            raise HttpRefusal("forbidden", "the rules do not allow it")

    def authorize_agent(self, agent: str) -> None:
        """Raise HttpRefusal if the principal may not start runs of that agent, or if there is no such agent.

        INVARIANT: the near name in the answer is one whose runs the principal may start, and both refusals have the same one: no answer
        says which other agents there are.
        """
        agents = self.workspace.session.workspace.agents
        permitted = self.client.may("remit.run", f"agent:{agent}")
        if permitted and agent in agents:
            return
        near = did_you_mean(agent, (one for one in agents if self.client.may("remit.run", f"agent:{one}")))
        if not permitted:
            raise HttpRefusal("forbidden", "the rules do not allow it", next_step=near)
        raise HttpRefusal("not_found", "there is no such agent", next_step=near)


async def apart(work: Coroutine[Any, Any, _T]) -> _T:
    """Carry out what waits for the journal only in another thread: no commit stops the other requests."""
    return await asyncio.to_thread(asyncio.run, work)


Handler: TypeAlias = Callable[[Asked], Awaitable[Response]]
# A route that needs no principal.
PublicHandler: TypeAlias = Callable[["Service", Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One route: what it accepts, what it answers, and who may use it.

    `path` has parameters in braces. `answer` is the type of the value of a result that succeeded, with `status`; `raw` says that the
    answer is no result: it is of the media type `media`. `statuses` are further statuses with the same answer. `act` names the action of Remit's own that the rules must allow, on
    `resource`, None for a route that shows each principal their own view. `codes` are the codes that it answers beside those of
    every route. A body that is not declared as JSON has the code `wrong_type`. A route of JSON-RPC (`rpc`) also fails as that says, and
    `challenge` is what its header WWW-Authenticate says. `idempotent` routes accept the header Idempotency-Key; one that `streams` has no longest time. A `public` route needs no principal.
    """

    method: Method
    path: str
    summary: str
    handler: Handler | None = None
    public: PublicHandler | None = None
    body: type[BaseModel] | None = None
    wrong_type: HttpCode = "unsupported_media_type"
    query: type[BaseModel] | None = None
    answer: Any = None
    status: int = 200
    statuses: tuple[int, ...] = ()
    media: str = "application/json"
    raw: bool = False
    act: OwnAction | None = None
    resource: str = ""
    codes: tuple[Code | HttpCode, ...] = ()
    rpc: bool = False
    challenge: Callable[[Service, Request], str] = lambda _, __: "Bearer"
    idempotent: bool = False
    streams: bool = False
