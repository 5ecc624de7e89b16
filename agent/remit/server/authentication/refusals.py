"""Authentication that is refused: why, and its record. The answer to the request never says why."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from remit.core import RunEnded
from remit.core.events import AccessRefused
from remit.journal import Journal, note_act
from remit.server.authentication.authenticator import NotAuthenticated

Why: TypeAlias = Literal[
    "malformed",  # no token and no key
    "unknown_issuer",
    "wrong_audience",  # the issuer is known, but no workspace names it with that audience
    "algorithm",  # not one of those that the setting allows
    "unknown_signer",  # the issuer has no such key
    "signature",
    "expired",
    "not_yet_valid",
    "claims",  # a claim is missing, or has a wrong form
    "lifetime",  # the token of an application may be used for longer than 60 seconds
    "replayed",  # the token of an application was used before
    "issuer_unreachable",
    "unknown_key",
    "revoked_key",
    "expired_key",
    "unknown_account",  # an account of this machine that [identity] does not name
    "disabled",  # the principal is disabled
    "session",  # the session has ended, or there is none of that id
    "cross_site",  # a page of another site has sent the request
    "login",  # a login was not finished as it was begun
]
EVERY_S: Final = 60.0  # of each reason, one refusal is recorded within this time
_LONGEST: Final = 200  # characters of a claim in the record


class AccessDenied(NotAuthenticated):
    """The request does not prove who sends it, for that reason.

    `claimed` is who it claims to be, `tenant` that of the workspace for which it was made; "" if that cannot be said.
    """

    def __init__(self, why: Why, claimed: str = "", tenant: str = "") -> None:
        self.why: Final[Why] = why
        self.claimed: Final = claimed
        self.tenant = tenant
        super().__init__(why)


class RefusalLog:
    """Records refusals in the stream of a workspace.

    INVARIANT: an attacker cannot fill the journal: of each reason one event is recorded within `EVERY_S`, with the number of those
    since the one before.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[tuple[str, Why], float] = {}
        self._more: dict[tuple[str, Why], int] = {}

    def record(self, journal: Journal, denied: AccessDenied, address: str) -> None:
        """Record the refusal, or count it. A journal that cannot be written changes nothing: the request is refused anyway."""
        now = self._clock()
        place: tuple[str, Why] = (journal.name, denied.why)
        if place in self._last and now - self._last[place] < EVERY_S:
            self._more[place] = self._more.get(place, 0) + 1
            return
        self._last[place], more = now, self._more.pop(place, 0)
        claimed = "".join(letter if letter.isprintable() else "?" for letter in denied.claimed[:_LONGEST])

        def event(number: int) -> AccessRefused:
            return AccessRefused(number=number, why=denied.why, claimed=claimed, address=address[:64], more=more)

        try:
            note_act(journal, event)
        except RunEnded:
            self._more[place] = more + 1
