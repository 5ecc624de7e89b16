"""What operators and programs read of the service itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from remit.core import FrozenModel, Principal
from remit.server.authentication.sessions import LINK_S
from remit.server.definition import State
from remit.server.http.answers import HttpRefusal, answered, json_response
from remit.server.http.route import EVERY_RUN, Asked
from remit.tracing import INVALID, GaugeReader, Measurement, prometheus_text

if TYPE_CHECKING:
    from remit.server.service import Service


_WORST_FIRST: Final[tuple[State, ...]] = ("invalid", "restart")
PROMETHEUS: Final = "text/plain; version=0.0.4"


class Health(FrozenModel):
    """Whether the service answers requests. It says nothing of what it serves, because everybody may ask.

    `definition` is "invalid" while the changed files of a workspace are not valid, so that no new run starts, and "restart" if settings
    have changed that count from the next start of the service.
    """

    status: Literal["ready", "ending"]
    definition: State


async def health(service: Service, _: Request) -> Response:
    states = {workspace.definition.state for workspace in service.workspaces.values()}
    worst: list[State] = [state for state in _WORST_FIRST if state in states]
    definition: State = worst[0] if worst else "current"
    if service.ending.is_set():
        return answered(Health(status="ending", definition=definition), 503)
    return answered(Health(status="ready", definition=definition))


async def metrics(asked: Asked) -> Response:
    """INVARIANT: numbers by agent and rule are for those who may read every run."""
    asked.authorize("remit.read", EVERY_RUN)
    agents = asked.workspace.session.workspace.agents
    gauges = await asked.workspace.read(lambda journal: GaugeReader(journal, agents).read())
    is_invalid = asked.workspace.definition.state == "invalid"
    own = {INVALID: [Measurement(name=INVALID, value=is_invalid, attributes={})]}
    return Response(prometheus_text({**gauges, **own}), headers={"cache-control": "no-store"}, media_type=PROMETHEUS)


class NoFields(FrozenModel):
    """A body without fields."""


class LoginLink(FrozenModel):
    """A link with which the account logs in with a browser, once within `seconds`."""

    url: str
    seconds: int


async def login_link(asked: Asked) -> Response:
    """INVARIANT: only for an account of this machine, which the kernel names: a key or a token must not become a session of a person."""
    service, by = asked.service, asked.principal
    if service.access is None or not _is_account(by):
        raise HttpRefusal("forbidden", "only an account of this machine gets a link")
    secret = service.access.sessions.link(by.model_copy(update={"authenticated": "link"}))
    return answered(LoginLink(url=f"{service.address}/login/link/{secret}", seconds=int(LINK_S)))


def _is_account(by: Principal) -> bool:
    return by.authenticated == "os_account"


async def document(service: Service, _: Request) -> Response:
    return json_response(service.document)
