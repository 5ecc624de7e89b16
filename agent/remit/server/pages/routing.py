"""The routes of the pages. They are apart from the table of the API: they answer people, and no OpenAPI document describes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from remit.server.authentication import Access
from remit.server.pages.approvals import ApprovalPages
from remit.server.pages.comparisons import ComparisonPages
from remit.server.pages.fleet import FleetPages, ToolPages
from remit.server.pages.html import redirect, served_asset
from remit.server.pages.live import LivePages
from remit.server.pages.login import HOME, Login
from remit.server.pages.passkeys import PasskeyPages
from remit.server.pages.policy import Drafts, EditorPages, QuestionPages
from remit.server.pages.runs import RunPages

if TYPE_CHECKING:
    from remit.server.service import Service

PageHandler: TypeAlias = Callable[[Request], Awaitable[Response]]


def page_routes(service: Service, access: Access) -> list[Route]:
    """The routes of every page of the service."""
    live, drafts = LivePages(service, access), Drafts(service.apart)
    login, approvals, passkeys = (
        Login(access),
        ApprovalPages(service, access, live, drafts),
        PasskeyPages(service, access),
    )
    runs = RunPages(service, access, live)
    questions, editor = QuestionPages(service, access), EditorPages(service, access, drafts)

    tools, fleet = ToolPages(service, access), FleetPages(service, access)
    comparisons = ComparisonPages(service, access)

    async def home(_: Request) -> Response:
        return redirect(HOME)

    pages: list[tuple[str, str, PageHandler]] = [
        ("GET", "/", home),
        ("GET", "/pages/{name}", served_asset),
        ("GET", "/login", login.choose),
        ("GET", "/login/start/{tenant}/{name}", login.begin),
        ("GET", "/login/callback", login.finish),
        ("GET", "/login/link/{secret}", login.link),
        ("POST", "/login/link", login.use_link),
        ("POST", "/logout", login.out),
        ("GET", "/approvals", approvals.overview),
        ("GET", "/approvals/{id}", approvals.show),
        ("POST", "/approvals/{id}/grant", approvals.grant),
        ("POST", "/approvals/{id}/reject", approvals.reject),
        ("POST", "/approvals/{id}/answer", approvals.instead),
        ("POST", "/approvals/{id}/bound", approvals.bound),
        ("POST", "/approvals/{id}/revoke", approvals.revoke),
        ("POST", "/approvals/{id}/challenge", approvals.challenge),
        ("POST", "/approvals/{id}/rule", approvals.rule),
        ("GET", "/runs", runs.overview),
        ("GET", "/runs/{run}", runs.show),
        ("GET", "/runs/{run}/file", runs.file),
        ("POST", "/runs/{run}/hold", runs.hold),
        ("POST", "/runs/{run}/release", runs.release),
        ("POST", "/runs/{run}/resume", runs.resume),
        ("POST", "/runs/{run}/settle", runs.settle),
        ("POST", "/runs/{run}/compare", comparisons.begin),
        ("GET", "/runs/{run}/compared/{id}", comparisons.show),
        ("GET", "/live/runs", runs.follow),
        ("GET", "/live/runs/{run}", runs.follow_one),
        ("GET", "/policy", questions.ask),
        ("POST", "/policy/explain", questions.explain),
        ("GET", "/policy/edit", editor.edit),
        ("POST", "/policy/drafts", editor.save),
        ("GET", "/policy/drafts/{id}", editor.show),
        ("GET", "/policy/drafts/{id}/patch", editor.patch),
        ("GET", "/tools", tools.overview),
        ("GET", "/tools/{name}", tools.show),
        ("GET", "/fleet", fleet.overview),
        ("GET", "/passkeys", passkeys.show),
        ("POST", "/passkeys/begin", passkeys.begin),
        ("POST", "/passkeys/enroll", passkeys.enroll),
        ("POST", "/passkeys/confirm", passkeys.confirm),
        ("POST", "/passkeys/revoke", passkeys.revoke),
        ("GET", "/live/approvals", approvals.follow),
    ]
    return [Route(path, handler, methods=[method]) for method, path, handler in pages]
