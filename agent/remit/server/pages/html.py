"""Pages: templates, the headers that every page has, and forms that only a page of this service can send.

The headers follow the OWASP Secure Headers Project: nothing is loaded from elsewhere, only the scripts of this package run, no other page
frames it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remit.server.authentication import Access, AccessDenied, BrowserSession
from remit.server.pages.assets import ASSETS, asset, asset_path, string, strings

if TYPE_CHECKING:
    from jinja2 import Environment

AREAS: Final = ("approvals", "runs", "policy", "tools", "fleet", "passkeys")  # of the navigation
LARGEST_FORM: Final = 32 * 1024  # bytes
_MOST_FIELDS: Final = 20
_FOLDER: Final = Path(__file__).parent / "templates"
_CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": _CSP,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    # Not `no-referrer`: then a browser sends the origin "null" with a form, and no form would be accepted.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class BadForm(Exception):
    """The form is not one that a page of this service, in this session, has sent."""


@cache
def _templates() -> Environment:
    """The templates, made for the first page: jinja2 takes 5 MiB, and most services answer programs only."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    made = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    known: dict[str, Any] = made.globals
    known.update(t=strings(), asset=asset_path, areas=AREAS)
    return made


def fragment(template: str, **values: Any) -> str:
    """A part of a page. INVARIANT: every value is text: what a run, a model or a tool wrote makes no element and no attribute."""
    return _templates().get_template(f"{template}.html").render(values)


def page(template: str, status: int = 200, **values: Any) -> Response:
    """A whole page; see `fragment`."""
    return Response(fragment(template, **values), status, headers=HEADERS, media_type="text/html; charset=utf-8")


def message(
    title: str, text: str = "", status: int = 200, session: BrowserSession | None = None, *, back: str = "/approvals"
) -> Response:
    """A page that says one thing; `back` is where it leads."""
    return page("message", status, title=title, text=text, session=session, back=back)


def data(value: Any) -> Response:
    """JSON for a script of a page."""
    return Response(json.dumps(value), headers=HEADERS, media_type="application/json")


def redirect(path: str) -> Response:
    """Go on to another page of this service."""
    return RedirectResponse(path, 303, headers=HEADERS)


async def served_asset(request: Request) -> Response:
    """One of the files of the pages."""
    name = request.path_params["name"]
    if name not in ASSETS:
        return message(string("message", "no_page"), status=404)
    headers = {**HEADERS, "cache-control": "max-age=31536000, immutable"}
    return Response(asset(name), headers=headers, media_type=ASSETS[name])


def set_cookie(response: Response, access: Access, name: str, value: str, *, seconds: int | None = None) -> None:
    """Set a cookie that only this service gets, that no script reads, and that no form of another site brings along."""
    response.set_cookie(name, value, max_age=seconds, path="/", secure=access.secure, httponly=True, samesite="lax")


async def form(request: Request, access: Access, largest: int = LARGEST_FORM) -> Mapping[str, str]:
    """The fields of a form. Raises BadForm if another site sends it, or if it has more than `largest` bytes."""
    if not is_from_here(request, access):
        raise BadForm
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise BadForm
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > largest:
            raise BadForm
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=_MOST_FIELDS)
    except ValueError as failure:  # also an error of the encoding
        raise BadForm from failure
    if len(dict(pairs)) != len(pairs):
        raise BadForm
    return dict(pairs)


async def checked_form(
    request: Request, access: Access, session: BrowserSession, *, largest: int = LARGEST_FORM
) -> Mapping[str, str]:
    """The fields of a form that a page of this session has sent. Raises BadForm otherwise, once that is recorded."""
    try:
        fields = await form(request, access, largest)
        if not session.accepts(fields.get("form_token", "")):
            raise BadForm
    except BadForm:
        by = session.principal
        access.record(AccessDenied("cross_site", by.subject, by.tenant), request)
        raise
    return fields


def origin_of(request: Request, access: Access) -> str:
    """The address of this service, as the browser names it. The header `Host` was checked against the settings before."""
    return f"{'https' if access.secure else 'http'}://{request.headers.get('host', '')}"


def is_own_page(request: Request) -> bool:
    """True unless the browser says that a page of another site asks (Fetch Metadata, `Sec-Fetch-Site`)."""
    return request.headers.get("sec-fetch-site", "same-origin") == "same-origin"


def is_from_here(request: Request, access: Access) -> bool:
    """True if the browser says that a page of this very service sends the request.

    `Sec-Fetch-Site` (Fetch Metadata) and `Origin` must both fit, as far as they are there; without either, it is refused.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    own = origin_of(request, access)
    return (site, origin) != (None, None) and site in (None, "same-origin") and origin in (None, own)
