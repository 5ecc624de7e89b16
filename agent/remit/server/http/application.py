"""The ASGI application of a table of routes: who asks, limits, errors."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from remit.core import Refusal, RunEnded, UsageError, WorkspaceError
from remit.core.parsing import visible
from remit.policy import SCOPE_FILE
from remit.server.authentication import NotAuthenticated
from remit.server.http.answers import HttpCode, HttpRefusal, ServiceError, error_of, error_of_run, failed
from remit.server.http.bodies import REQUEST_ID, parsed_body, parsed_query, request_id
from remit.server.http.in_time import in_time
from remit.server.http.local import local_peer
from remit.server.http.openapi import openapi
from remit.server.http.route import Asked, Route
from remit.server.pages import page_routes
from remit.server.service import Service

_log: Final = logging.getLogger("remit.server")
_LONGEST: Final = 500  # characters of a problem in an answer
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_OF_STATUS: Final[Mapping[int, HttpCode]] = {404: "not_found", 405: "method_not_allowed"}


def build_app(service: Service, routes: Sequence[Route]) -> ASGIApp:
    """The application that answers the routes of the table, and nothing else."""

    service.document = openapi(routes)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        service.begin()
        yield
        await service.end()

    endpoints: dict[tuple[str, str], Endpoint] = {(row.method, row.path): Endpoint(service, row) for row in routes}
    answered = [StarletteRoute(path, endpoint, methods=[method]) for (method, path), endpoint in endpoints.items()]
    app = Starlette(
        routes=answered if service.access is None else [*answered, *page_routes(service, service.access)],
        exception_handlers={HTTPException: _unrouted, ClientDisconnect: _gone, Exception: _defect},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a path with a slash more is none of the table
    fixed = {place: endpoint for place, endpoint in endpoints.items() if "{" not in place[1]}
    return HostChecked(Direct(app, fixed), service)


class Direct:
    """Answers the routes whose paths have no parameter by one look into the table.

    The others, and what no route answers, go to Starlette's router, which tries one route after the other.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        self._app = app
        self._endpoints: Final = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = None
        if scope["type"] == "http" and not scope.get("root_path"):
            found = self._endpoints.get((scope["method"], scope["path"]))
        await (self._app if found is None else found)(scope, receive, send)


class HostChecked:
    """Answers only requests that name this service: a page of another site must not reach it by a name of its own."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        settings = service.settings
        self._app = app
        self._hosts: Final = frozenset({*settings.hosts, *(_LOCAL if settings.is_local else ()), settings.host})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return
        if scope["type"] == "http" and local_peer(scope) is None and not self._is_named(scope):
            message = "the header Host does not name this service"
            refused = failed(
                ServiceError(code="misdirected", message=message, next_step="write the name into [serve] hosts")
            )
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_named(self, scope: Scope) -> bool:
        named = [value for name, value in scope["headers"] if name == b"host"]
        return len(named) == 1 and _without_port(named[0].decode("latin-1")) in self._hosts


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


class Endpoint:
    """The ASGI application of one route. It is the only place where exceptions become answers."""

    def __init__(self, service: Service, route: Route) -> None:
        self._service = service
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            longest = None if self._route.streams else self._service.settings.timeout
            response = await in_time(self._answer(request), longest)
        except TimeoutError:
            response = failed(ServiceError(code="timeout", message="the request took too long", retryable=True))
        except HttpRefusal as refusal:
            response = failed(refusal.error, headers=refusal.headers)
        except NotAuthenticated:
            error = ServiceError(code="unauthenticated", message="the request does not prove who sends it")
            response = failed(error, headers={"www-authenticate": self._route.challenge(self._service, request)})
        except Refusal as refusal:
            response = failed(error_of(refusal))
        except RunEnded as ended:
            _log.error("%s", ended)
            response = failed(error_of_run(ended), also={"run": ended.run} if ended.run else None)
        except UsageError as error:
            response = failed(ServiceError(code="invalid_request", message=str(error)))
        except WorkspaceError as error:
            response = failed(_not_valid(error))
        except ClientDisconnect as error:
            response = await _gone(request, error)
        except Exception as defect:
            await (await _defect(request, defect))(scope, receive, send)
            raise
        if named := request_id(request):
            response.headers[REQUEST_ID] = named
        await response(scope, receive, send)

    async def _body(self, request: Request) -> BaseModel | None:
        route, most = self._route, self._service.settings.body
        if route.body is None:
            return None
        return await parsed_body(request, route.body, most, wrong_type=route.wrong_type)

    async def _answer(self, request: Request) -> Response:
        service, route = self._service, self._route
        if route.public is not None:
            return await route.public(service, request)
        if service.ending.is_set():
            raise HttpRefusal("unavailable", "the service ends", retry_after_s=5.0)
        principal = await service.principal(request)
        workspace, client = service.client(principal)
        body = await self._body(request)
        query = None if route.query is None else parsed_query(request, route.query)
        assert route.handler is not None  # a route has one of the two
        return await route.handler(
            Asked(
                request=request,
                service=service,
                principal=principal,
                workspace=workspace,
                client=client,
                body=body,
                query=query,
            )
        )


async def _unrouted(_: Request, error: Exception) -> Response:
    """The answer to a path or a method that no route has."""
    assert isinstance(error, HTTPException)
    code: HttpCode = _OF_STATUS.get(error.status_code, "invalid_request")
    return failed(
        ServiceError(code=code, message="the service has no such route", next_step="read /openapi.json"),
        headers=error.headers,
    )


async def _gone(_: Request, error: Exception) -> Response:
    """The answer that no client gets: it closed the connection before its body was complete."""
    return failed(ServiceError(code="invalid_request", message="the body is not complete"))


async def _defect(_: Request, error: Exception) -> Response:
    """The answer to a defect. Starlette raises it again, so the log of the server has it; the answer says nothing of it."""
    return failed(ServiceError(code="internal", message="the service has a defect: its log says more"))


def _not_valid(error: WorkspaceError) -> ServiceError:
    """The error of a scope that the request has, or of the workspace: its first problem, for those who may start runs there."""
    first = next(iter(error.problems), None)
    if first is not None and all(problem.file == SCOPE_FILE for problem in error.problems):
        message = f"the scope is not valid: {visible(first.what[:_LONGEST])}"
        return ServiceError(code="invalid_request", message=message, next_step=first.fix)
    _log.error("%s", error)
    what = "" if first is None else f": {visible(f'{first.file}: {first.what}'[:_LONGEST])}"
    fix = None if first is None else first.fix
    return ServiceError(code="unavailable", message=f"the workspace is not valid{what}", retryable=True, next_step=fix)
