"""What operators and programs read of the service itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from starlette.requests import Request
from starlette.responses import Response

from remit.core import FrozenModel
from remit.server.http.answers import answered, json_response

if TYPE_CHECKING:
    from remit.server.service import Service


class Health(FrozenModel):
    """Whether the service answers requests. It says nothing of what it serves, because everybody may ask."""

    status: Literal["ready", "ending"]


async def health(service: Service, _: Request) -> Response:
    if service.ending.is_set():
        return answered(Health(status="ending"), 503)
    return answered(Health(status="ready"))


async def document(service: Service, _: Request) -> Response:
    return json_response(service.document)
