"""The one table of routes. The application and the OpenAPI document are made from it."""

from __future__ import annotations

from typing import Final, get_args

from remit.core import Decision, ModelCode
from remit.server.handlers import calls, decisions, operation, runs
from remit.server.http.answers import STATUS
from remit.server.http.route import Route

# The routes that are asked most often come first: Starlette tries them in order.
ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/v1/decisions",
        summary="Decide one call of an agent. Nothing runs and nothing is recorded.",
        handler=decisions.decide,
        body=decisions.AskedCall,
        answer=Decision,
        act="remit.run",
        resource="agent:NAME",
        codes=(
            "unknown_action",
            "invalid_arguments",
            "content_blocked",
            "denial_loop",
            "budget_exhausted",
            "held",
            "not_found",
        ),
    ),
    Route(
        method="POST",
        path="/v1/calls",
        summary="Make one call as an agent: it is decided, confined and recorded.",
        handler=calls.call,
        body=calls.NewCall,
        answer=calls.CallAnswer,
        statuses=tuple(dict.fromkeys(STATUS[code] for code in get_args(ModelCode))),
        raw=True,
        codes=("conflict", "too_many", "sandbox_unavailable", "unrecorded", "not_found"),
        act="remit.run",
        resource="agent:NAME",
        idempotent=True,
    ),
    Route(
        method="POST",
        path="/v1/runs",
        summary="Start a run of an agent. It goes on when the request has been answered.",
        handler=runs.start,
        body=runs.NewRun,
        answer=runs.RunView,
        status=202,
        statuses=(200,),
        act="remit.run",
        resource="agent:NAME",
        codes=("conflict", "too_many", "sandbox_unavailable", "unrecorded", "not_found"),
        idempotent=True,
    ),
    Route(
        method="GET",
        path="/v1/runs/{run}",
        summary="One run: its state, its answer, and whom it waits for.",
        handler=runs.show,
        answer=runs.RunView,
        act="remit.read",
        resource="run:own/AGENT or run:other/AGENT",
    ),
    Route(
        method="GET",
        path="/healthz",
        summary="Whether the service answers requests.",
        public=operation.health,
        answer=operation.Health,
    ),
    Route(
        method="GET",
        path="/openapi.json",
        summary="This document.",
        public=operation.document,
        answer=dict[str, object],
        raw=True,
    ),
)
