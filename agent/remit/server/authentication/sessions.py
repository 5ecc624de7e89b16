"""The sessions of people who have logged in with a browser, kept by the service: the browser has a random id only.

OWASP Session Management; RFC 6265bis for the prefix `__Host-`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from remit.core import Principal

IDLE_S: Final = 15 * 60.0
LONGEST_S: Final = 8 * 3600.0
LINK_S: Final = 10 * 60.0  # how long a one-time link can be used
MOST: Final = 10_000  # sessions, links and logins of each kind; more of them end the oldest

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class BrowserSession:
    """One login. `principal.session` names it in records; it is no secret. `form_token` is in every form of its pages."""

    principal: Principal
    form_token: str
    started: float
    seen: float

    def accepts(self, form_token: str) -> bool:
        """True if a form of a page of this session has sent the token."""
        return hmac.compare_digest(form_token.encode(), self.form_token.encode())


class Expiring(Generic[_Value]):
    """Values under secrets, each for a time. Only the SHA-256 of a secret is kept. When it is full, the oldest value goes."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._values: OrderedDict[bytes, tuple[_Value, float]] = OrderedDict()

    def keep(self, value: _Value) -> str:
        """Keep the value under a new secret of 256 random bits, which is returned."""
        secret = secrets.token_urlsafe(32)
        self.put(secret, value)
        return secret

    def put(self, secret: str, value: _Value) -> None:
        """Keep the value under that secret, from now on for the time."""
        self._values[_digest(secret)] = value, self._clock() + self._seconds
        self._values.move_to_end(_digest(secret))
        while len(self._values) > MOST:
            self._values.popitem(last=False)

    def find(self, secret: str) -> _Value | None:
        """The value, None if there is none or its time is over."""
        found = self._values.get(_digest(secret))
        return found[0] if found is not None and self._clock() < found[1] else None

    def take(self, secret: str) -> _Value | None:
        """`find`, and forget it."""
        value = self.find(secret)
        self._values.pop(_digest(secret), None)
        return value


class Sessions:
    """The sessions of a service. A session ends after 15 minutes without a request, and after 8 hours in any case."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._open: Expiring[BrowserSession] = Expiring(IDLE_S, clock)
        self._links: Expiring[Principal] = Expiring(LINK_S, clock)

    def start(self, principal: Principal) -> str:
        """Begin a session for a principal who has just logged in, under a new id. Returns the id, which only the browser keeps."""
        now, id = self._clock(), secrets.token_urlsafe(32)
        named = principal.model_copy(update={"session": _digest(id).hex()[:16]})
        self._open.put(id, BrowserSession(principal=named, form_token=secrets.token_urlsafe(32), started=now, seen=now))
        return id

    def find(self, id: str) -> BrowserSession | None:
        """The session with that id, which counts as used now; None if it has ended."""
        session, now = self._open.find(id), self._clock()
        if session is None or now - session.started >= LONGEST_S:
            self._open.take(id)
            return None
        session = replace(session, seen=now)
        self._open.put(id, session)
        return session

    def find_unused(self, id: str) -> BrowserSession | None:
        """`find`, but it does not count as used: the session of a page that is only looked at ends with the time."""
        session = self._open.find(id)
        return session if session is not None and self._clock() - session.started < LONGEST_S else None

    def end(self, id: str) -> None:
        """End the session with that id, if there is one."""
        self._open.take(id)

    def link(self, principal: Principal) -> str:
        """The secret of a link with which that principal logs in once, within 10 minutes."""
        return self._links.keep(principal)

    def use_link(self, secret: str) -> Principal | None:
        """The principal of a link that was not used yet; None otherwise."""
        return self._links.take(secret)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
