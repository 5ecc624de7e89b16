"""What operators and programs read of the service itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from remit.core import FrozenModel
from remit.server.http.answers import answered, json_response
from remit.server.http.route import EVERY_RUN, Asked
from remit.tracing import GaugeReader, prometheus_text

if TYPE_CHECKING:
    from remit.server.service import Service


PROMETHEUS: Final = "text/plain; version=0.0.4"


class Health(FrozenModel):
    """Whether the service answers requests. It says nothing of what it serves, because everybody may ask."""

    status: Literal["ready", "ending"]


async def health(service: Service, _: Request) -> Response:
    if service.ending.is_set():
        return answered(Health(status="ending"), 503)
    return answered(Health(status="ready"))


async def metrics(asked: Asked) -> Response:
    """INVARIANT: numbers by agent and rule are for those who may read every run."""
    asked.authorize("remit.read", EVERY_RUN)
    agents = asked.workspace.session.workspace.agents
    gauges = await asked.workspace.read(lambda journal: GaugeReader(journal, agents).read())
    return Response(prometheus_text(gauges), headers={"cache-control": "no-store"}, media_type=PROMETHEUS)


async def document(service: Service, _: Request) -> Response:
    return json_response(service.document)
