"""Log in with a browser: at an identity provider, by authorization code with PKCE, or by a one-time link of this machine.

OpenID Connect Core 1.0 section 3.1; RFC 7636 (PKCE); RFC 9700 (best practice); RFC 9207 (`iss` in the answer).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remit.core import Json, Principal, Refusal
from remit.core.parsing import parse_json
from remit.server.authentication import Access, AccessDenied, Expiring, ProviderFailed, Trust
from remit.server.pages.assets import string
from remit.server.pages.html import BadForm, form, message, page, redirect, set_cookie
from remit.workspace import OidcIssuer

LOGIN_S: Final = 10 * 60.0  # how long a login may take
HOME: Final = "/approvals"
_NEXT: Final = re.compile(
    r"/(?:approvals(?:/[0-9a-f]{32}\.[0-9]{1,9}\.[0-9]{1,9})?|runs(?:/[0-9a-f]{32})?|policy|tools|fleet|passkeys)",
    re.ASCII,
)


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A login that was begun. `browser` is the digest of the secret that only that browser has."""

    trust: Trust
    nonce: str
    verifier: str
    browser: str
    next: str


class Login:
    """The pages of logging in and out of a service."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._begun: Expiring[_Begun] = Expiring(LOGIN_S, access.clock)

    @property
    def _cookie(self) -> str:
        return f"{self._access.cookie}-login"

    async def choose(self, request: Request) -> Response:
        """The ways to log in."""
        return page(
            "login",
            ways=[(trust.tenant, trust.name) for trust in self._ways()],
            tenants=len(self._access.journals) > 1,
            next=_next_of(request),
            session=self._access.session(request),
        )

    async def begin(self, request: Request) -> Response:
        """Send the browser to the identity provider."""
        place = (request.path_params["tenant"], request.path_params["name"])
        trust = next((trust for trust in self._ways() if (trust.tenant, trust.name) == place), None)
        if trust is None or not isinstance(trust.issuer, OidcIssuer) or (login := trust.issuer.login) is None:
            return message(string("message", "no_page"), status=404)
        try:
            provider = await self._access.providers.provider(trust.issuer.issuer)
        except AccessDenied as denied:
            self._access.record(denied, request)
            return message(string("login", "provider"), string("login", "provider_text"), 503)
        nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(3))
        begun = _Begun(trust=trust, nonce=nonce, verifier=verifier, browser=_digest(browser), next=_next_of(request))
        asked = {
            "response_type": "code",
            "client_id": login.client_id,
            "redirect_uri": login.redirect,
            "scope": " ".join(login.scopes),
            "state": self._begun.keep(begun),
            "nonce": nonce,
            "code_challenge": urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        separator = "&" if "?" in provider.authorization_endpoint else "?"
        response = RedirectResponse(f"{provider.authorization_endpoint}{separator}{urlencode(asked)}", 303)
        set_cookie(response, self._access, self._cookie, browser, seconds=int(LOGIN_S))
        response.headers["cache-control"] = "no-store"
        return response

    async def finish(self, request: Request) -> Response:
        """The identity provider has sent the browser back, with a code for the tokens."""
        begun = self._begun.take(request.query_params.get("state", ""))
        try:
            principal = await self._identified(request, begun)
        except AccessDenied as denied:
            self._access.record(denied, request)
            return message(string("login", "failed"), string("login", "failed_text"), 403)
        assert begun is not None  # otherwise it was refused
        return self._logged_in(request, principal, begun.next)

    async def link(self, request: Request) -> Response:
        """The page of a one-time link. Opening it uses nothing: a preview of the link must not."""
        return page("link", secret=request.path_params["secret"][:100], session=None)

    async def use_link(self, request: Request) -> Response:
        """Log in with a one-time link."""
        try:
            fields = await form(request, self._access)
            principal = self._access.sessions.use_link(fields.get("secret", ""))
            if principal is None:
                raise AccessDenied("login")
            principal = self._access.enabled(principal)
        except BadForm:
            self._access.record(AccessDenied("cross_site"), request)
            return message(string("message", "refused"), status=403)
        except AccessDenied as denied:
            self._access.record(denied, request)
            return message(string("login", "used"), string("login", "used_text"), 403)
        return self._logged_in(request, principal, HOME)

    async def out(self, request: Request) -> Response:
        """Log out."""
        session = self._access.session(request)
        try:
            fields = await form(request, self._access)
            if session is not None and not session.accepts(fields.get("form_token", "")):
                raise BadForm
        except BadForm:
            self._access.record(AccessDenied("cross_site"), request)
            return message(string("message", "refused"), status=403)
        self._access.sessions.end(request.cookies.get(self._access.cookie, ""))
        response = message(string("login", "out"))
        response.delete_cookie(self._access.cookie, path="/", secure=self._access.secure, httponly=True, samesite="lax")
        return response

    def _ways(self) -> list[Trust]:
        return [trust for trust in self._access.trusted if isinstance(trust.issuer, OidcIssuer) and trust.issuer.login]

    def _logged_in(self, request: Request, principal: Principal, path: str) -> Response:
        """Begin a session. INVARIANT: under a new id, so an id that the browser was given before opens nothing."""
        self._access.sessions.end(request.cookies.get(self._access.cookie, ""))
        response = redirect(path)
        set_cookie(response, self._access, self._access.cookie, self._access.sessions.start(principal))
        response.delete_cookie(self._cookie, path="/", secure=self._access.secure, httponly=True, samesite="lax")
        return response

    async def _identified(self, request: Request, begun: _Begun | None) -> Principal:
        """The person whom the provider names. Raises AccessDenied."""
        given = request.query_params
        browser = _digest(request.cookies.get(self._cookie, ""))
        if begun is None or not hmac.compare_digest(browser, begun.browser) or not given.get("code"):
            raise AccessDenied("login")
        issuer = begun.trust.issuer
        assert isinstance(issuer, OidcIssuer)
        assert issuer.login is not None
        if given.get("iss", issuer.issuer) != issuer.issuer:
            raise AccessDenied("login", issuer.issuer, begun.trust.tenant)
        provider = await self._access.providers.provider(issuer.issuer)
        try:
            answer = await self._access.get(
                provider.token_endpoint,
                {
                    "grant_type": "authorization_code",
                    "code": given["code"][:4096],
                    "redirect_uri": issuer.login.redirect,
                    "client_id": issuer.login.client_id,
                    "code_verifier": begun.verifier,
                },
            )
        except ProviderFailed as failure:
            raise AccessDenied("login", issuer.issuer, begun.trust.tenant) from failure
        principal = await self._access.tokens.identity(_id_token(answer), begun.trust, begun.nonce)
        return self._access.enabled(principal)


def _id_token(answer: bytes) -> str:
    try:
        value = parse_json(answer.decode())
    except (UnicodeDecodeError, Refusal) as failure:
        raise AccessDenied("login") from failure
    token = cast("dict[str, Json]", value).get("id_token") if isinstance(value, dict) else None
    if not isinstance(token, str):
        raise AccessDenied("login")
    return token


def _next_of(request: Request) -> str:
    """The page to show after the login: one of this service, and no other address."""
    path = request.query_params.get("next", "")
    return path if _NEXT.fullmatch(path) else HOME


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
