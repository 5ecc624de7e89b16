"""The claims of a token that was checked: when it is valid, and the principal that it makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast

from remit.core import NAME_OF_SUBJECT, NOBODY, Json, KeyScope, Principal
from remit.server.authentication.refusals import AccessDenied
from remit.workspace import ApplicationIssuer, OidcIssuer

SKEW_S: Final = 30.0  # by which two clocks may differ
MOST_SECONDS: Final = 60.0  # of the token of an application
_LONGEST_ACCOUNT: Final = 255  # characters of a `sub`: OpenID Connect Core 1.0 section 2
_MOST_VALUES: Final = 1000  # of a claim that gives roles
# What the users of an application can do through it, if the rules allow it to them.
APPLICATION_ACTIONS: Final = ("remit.run", "remit.resume", "remit.read")
APPROVE: Final = "remit.approve"


def check_times(claims: Mapping[str, Json], now: float, longest: float | None = None) -> None:
    """Check `exp`, `nbf` and `iat`; `now` is in Unix seconds. With `longest`, the token is valid for at most so many seconds.

    Raises:
        AccessDenied: `expired`, `not_yet_valid`, `lifetime`, or `claims` for a time that is missing or none.
    """
    issuer = str(claims["iss"])
    end, begin, made = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if end is None or (longest is not None and made is None):
        raise AccessDenied("claims", issuer)
    if now >= end + SKEW_S:
        raise AccessDenied("expired", issuer)
    if any(at is not None and at > now + SKEW_S for at in (begin, made)):
        raise AccessDenied("not_yet_valid", issuer)
    if longest is not None and made is not None and not 0 < end - made <= longest:
        raise AccessDenied("lifetime", issuer)


def oidc_principal(claims: Mapping[str, Json], issuer: OidcIssuer, *, tenant: str) -> Principal:
    """The user of a token of an identity provider, with the roles that the setting maps. Raises AccessDenied `claims`."""
    account = _account(claims, issuer.issuer)
    if issuer.subject == "email" and claims.get("email_verified") is not True:
        raise AccessDenied("claims", issuer.issuer)
    return Principal(
        subject=_subject(claims.get(issuer.subject), issuer.issuer),
        authenticated="oidc",
        account=account,
        issuer=issuer.issuer,
        roles=_roles(claims, issuer),
        tenant=tenant,
    )


def application_principal(claims: Mapping[str, Json], issuer: ApplicationIssuer, *, tenant: str) -> Principal:
    """The user whom an application has signed in; bounded to its agents. Raises AccessDenied `claims`."""
    actions = (*APPLICATION_ACTIONS, APPROVE) if issuer.approvals else APPLICATION_ACTIONS
    return Principal(
        subject=_subject(claims.get("sub"), issuer.issuer),
        authenticated="application",
        account=_account(claims, issuer.issuer),
        issuer=issuer.issuer,
        tenant=tenant,
        scope=KeyScope(actions=actions, agents=tuple(issuer.agents)),
    )


def _roles(claims: Mapping[str, Json], issuer: OidcIssuer) -> tuple[str, ...]:
    """The roles of the claims. INVARIANT: a value that the setting does not name gives nothing."""
    found: dict[str, None] = {}
    for claim, mapped in issuer.roles.items():
        value = claims.get(claim)
        values = cast("list[object]", value)[:_MOST_VALUES] if isinstance(value, list) else [value]
        found |= {mapped[one]: None for one in values if isinstance(one, str) and one in mapped}
    return tuple(found)


def _account(claims: Mapping[str, Json], issuer: str) -> str:
    account = claims.get("sub")
    if not isinstance(account, str) or not 0 < len(account) <= _LONGEST_ACCOUNT or not account.isprintable():
        raise AccessDenied("claims", issuer)
    return account


def _subject(name: Json, issuer: str) -> str:
    subject = f"user:{name}"
    if not isinstance(name, str) or re.fullmatch(NAME_OF_SUBJECT, name, re.ASCII) is None or subject == NOBODY:
        raise AccessDenied("claims", issuer)
    return subject


def _time(claims: Mapping[str, Json], name: str) -> float | None:
    """A time in Unix seconds; None without one."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise AccessDenied("claims", str(claims["iss"]))
    return float(value)
