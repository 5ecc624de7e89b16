"""The authentication of the service: bearer tokens, API keys, and sessions of browsers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from starlette.requests import Request

from remit.core import NOBODY, Principal
from remit.core.events import NANO
from remit.journal import Journal, use_token
from remit.server.authentication.api_keys import is_key, key_principal
from remit.server.authentication.authenticator import NotAuthenticated
from remit.server.authentication.claims import MOST_SECONDS
from remit.server.authentication.fetching import Fetch, fetch
from remit.server.authentication.providers import Providers
from remit.server.authentication.refusals import AccessDenied, RefusalLog
from remit.server.authentication.sessions import BrowserSession, Sessions
from remit.server.authentication.tokens import TokenVerifier, Trusted
from remit.server.http.bodies import headers
from remit.server.http.local import LocalPeer, local_peer
from remit.workspace import OidcIssuer, WorkspaceSession, subject_of

SECURE_COOKIE: Final = "__Host-remit"
LOCAL_COOKIE: Final = "remit-session"  # on this machine without TLS, where browsers refuse the prefix
_SAFE: Final = ("GET", "HEAD")
_USED: Final = "remit.application"  # in the scope of a request


class Access:
    """Says who sends a request to a service with these workspaces, and which browsers are logged in.

    `secure` is True if browsers reach it by https. `journals` are those of the workspaces, by tenant. Refusals are recorded; the
    answer never says why.
    """

    def __init__(
        self,
        sessions: Sequence[WorkspaceSession],
        *,
        secure: bool,
        get: Fetch = fetch,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises UsageError if two workspaces trust one issuer with one audience, or a public key cannot be read."""
        self.journals: Final[Mapping[str, Journal]] = {
            session.workspace.settings.tenant: session.journal for session in sessions
        }
        self._settings = {session.workspace.settings.tenant: session.workspace.settings for session in sessions}
        self.trusted: Final = Trusted(
            {session.workspace.settings.tenant: session.workspace.settings.issuers for session in sessions}
        )
        self.providers: Final = Providers(get, clock)
        self.tokens: Final = TokenVerifier(self.trusted, self.providers, self._use, clock)
        self.sessions: Final = Sessions(clock)
        self.clock: Final = clock
        self.secure: Final = secure
        self.get: Final = get
        self._refusals = RefusalLog(clock)

    @property
    def cookie(self) -> str:
        """The name of the cookie of a session."""
        return SECURE_COOKIE if self.secure else LOCAL_COOKIE

    @property
    def has_login(self) -> bool:
        """True if people can log in at an identity provider."""
        return any(isinstance(trust.issuer, OidcIssuer) and trust.issuer.login is not None for trust in self.trusted)

    async def principal(self, request: Request) -> Principal:
        """See `Authenticator`. A session of a browser reads only: what it may change is changed by pages, whose forms have a token."""
        try:
            return self.enabled(await self._principal(request))
        except AccessDenied as denied:
            self.record(denied, request)
            raise

    def session(self, request: Request) -> BrowserSession | None:
        """The session of the browser that sends the request; None without one, or if it has ended or its principal is disabled."""
        session = self.sessions.find(request.cookies.get(self.cookie, ""))
        if session is None:
            return None
        try:
            self.enabled(session.principal)
        except AccessDenied as denied:
            self.record(denied, request)
            self.sessions.end(request.cookies.get(self.cookie, ""))
            return None
        return session

    def is_open(self, id: str) -> bool:
        """True while the session with that id is open, and its principal enabled. Unlike `session` it does not count as a use."""
        session = self.sessions.find_unused(id)
        return session is not None and session.principal.subject not in self.journals[session.principal.tenant].holds()

    def enabled(self, principal: Principal) -> Principal:
        """The principal. Raises AccessDenied `disabled`."""
        if principal.subject in self.journals[principal.tenant].holds():
            raise AccessDenied("disabled", principal.subject, principal.tenant)
        return principal

    def record(self, denied: AccessDenied, request: Request) -> None:
        """Record a refusal in the stream of the workspace that it was for, or of the first one if nothing says which."""
        address = "" if request.client is None else request.client.host
        journal = self.journals.get(denied.tenant) or next(iter(self.journals.values()))
        self._refusals.record(journal, denied, address)

    async def _use(self, tenant: str, issuer: str, number: str, until: float) -> bool:
        journal = self.journals[tenant]
        return await journal.run_in_thread(use_token, journal, issuer, number, until=int(until * NANO))

    async def _principal(self, request: Request) -> Principal:
        given = headers(request, "authorization")
        if not given and (peer := local_peer(request.scope)) is not None:
            return self._of_account(peer)
        if not given:
            return self._of_session(request)
        scheme, _, text = given[0].partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer" or not text:
            raise AccessDenied("malformed")
        if is_key(text):
            return key_principal(self.journals, text)
        if (used := request.scope.get(_USED)) is not None and self.clock() < used[1]:
            return cast("Principal", used[0])
        principal = await self.tokens.principal(text)
        if principal.authenticated == "application":  # its token is used once: by this request, also if it asks again
            request.scope[_USED] = principal, self.clock() + MOST_SECONDS
        return principal

    def _of_account(self, peer: LocalPeer) -> Principal:
        """The user of an account of this machine, which the kernel names."""
        settings = self._settings[peer.tenant]
        subject = subject_of(settings, peer.account) if peer.account else NOBODY
        if subject == NOBODY:
            raise AccessDenied("unknown_account", peer.account, peer.tenant)
        return Principal(subject=subject, authenticated="os_account", account=peer.account, tenant=peer.tenant)

    def _of_session(self, request: Request) -> Principal:
        id = request.cookies.get(self.cookie)
        if id is None:
            raise NotAuthenticated("the request has no credentials")
        session = self.sessions.find(id)
        if session is None:
            raise AccessDenied("session")
        # INVARIANT: a page of another site changes nothing with the cookie of a browser, and reads nothing.
        if request.method not in _SAFE or not is_own_site(request):
            raise AccessDenied("cross_site", session.principal.subject)
        return session.principal


def is_own_site(request: Request) -> bool:
    """True unless the browser says that a page of another site sends the request (Fetch Metadata, `Sec-Fetch-Site`)."""
    return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
