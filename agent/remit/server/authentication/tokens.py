"""Tokens of identity providers and of applications: JSON Web Tokens (RFC 7519), checked as RFC 8725 advises."""

from __future__ import annotations

import hashlib
import re
import time
from base64 import urlsafe_b64decode
from binascii import Error as NotBase64
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from remit.core import Json, Principal, Refusal, UsageError
from remit.core.parsing import parse_json
from remit.server.authentication.claims import MOST_SECONDS, SKEW_S, application_principal, check_times, oidc_principal
from remit.server.authentication.providers import Providers, fits
from remit.server.authentication.refusals import AccessDenied
from remit.workspace import ApplicationIssuer, OidcIssuer, audiences

if TYPE_CHECKING:
    from remit.server.authentication.keys import PublicKey

LONGEST: Final = 16 * 1024  # characters of a token
CACHED: Final = 10_000  # tokens that are kept as checked
# INVARIANT: the claims are read from the text that was signed, and no other character stands in it.
_COMPACT: Final = re.compile(r"(([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+))\.([A-Za-z0-9_-]*)")
_TYPES: Final = (None, "JWT", "jwt", "at+jwt", "application/at+jwt")  # RFC 8725 section 3.11; RFC 9068

Pair: TypeAlias = tuple[str, str]  # issuer and audience
# Notes the use of a token of that tenant, issuer and number, which ends at that time (Unix seconds). False if it was used before.
Use: TypeAlias = Callable[[str, str, str, float], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trust:
    """An issuer that a workspace trusts. `tenant` is that of the workspace, `name` that of the setting."""

    tenant: str
    name: str
    issuer: OidcIssuer | ApplicationIssuer
    keys: tuple[PublicKey, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Token:
    """A token that was taken apart, and not checked yet: nothing of it is true."""

    header: Mapping[str, Json]
    claims: Mapping[str, Json]
    signed: bytes  # the text that the signature is about
    signature: bytes


class Trusted:
    """The issuers of all workspaces of a service, by issuer and audience.

    INVARIANT: a pair names one workspace, so that a token chooses its tenant, and nothing else of a request does.
    """

    def __init__(self, issuers: Mapping[str, Mapping[str, OidcIssuer | ApplicationIssuer]]) -> None:
        """`issuers` are the settings of each tenant.

        Raises:
            UsageError: two workspaces name one pair, or a public key cannot be read.
        """
        self._of: dict[Pair, Trust] = {}
        for tenant, named in issuers.items():
            for name, issuer in named.items():
                trust = Trust(tenant=tenant, name=name, issuer=issuer, keys=_keys_of(name, issuer))
                for audience in audiences(issuer):
                    earlier = self._of.setdefault((issuer.issuer, audience), trust)
                    if earlier is not trust:
                        both = f"the workspaces of {earlier.tenant!r} and {tenant!r}"
                        raise UsageError(
                            f"{both} both trust {issuer.issuer} with the audience {audience!r}: give each an audience of its own"
                        )
        self._issuers = {issuer for issuer, _ in self._of}

    def __iter__(self) -> Iterator[Trust]:
        return iter(dict.fromkeys(self._of.values()))

    def of(self, claims: Mapping[str, Json]) -> Trust:
        """The issuer of a token. Raises AccessDenied `unknown_issuer` or `wrong_audience`; a token for two workspaces is for none."""
        issuer, audience = claims.get("iss"), claims.get("aud")
        named = cast("list[object]", audience) if isinstance(audience, list) else [audience]
        if not isinstance(issuer, str) or issuer not in self._issuers:
            raise AccessDenied("unknown_issuer", issuer if isinstance(issuer, str) else "")
        found = {
            id(trust): trust for one in named[:20] if isinstance(one, str) and (trust := self._of.get((issuer, one)))
        }
        if len(found) != 1:
            raise AccessDenied("wrong_audience", issuer)
        return next(iter(found.values()))


class TokenVerifier:
    """Says who a bearer token is of."""

    def __init__(
        self, trusted: Trusted, providers: Providers, use: Use, clock: Callable[[], float] = time.time
    ) -> None:
        self._trusted = trusted
        self._providers = providers
        self._use = use
        self._clock = clock
        self._checked: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    async def principal(self, text: str) -> Principal:
        """The principal of the token. Raises AccessDenied."""
        place = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        known = self._checked.get(place)
        if known is not None and self._clock() < known[1]:
            return known[0]
        token = taken_apart(text)
        trust = self._trusted.of(token.claims)
        try:
            if isinstance(trust.issuer, ApplicationIssuer):
                return await self._of_application(token, trust, trust.issuer)
            principal = await self._of_provider(token, trust, trust.issuer)
        except AccessDenied as denied:
            denied.tenant = trust.tenant
            raise
        self._checked[place] = principal, float(token.claims["exp"]) + SKEW_S
        if len(self._checked) > CACHED:
            self._checked.popitem(last=False)
        return principal

    async def identity(self, text: str, trust: Trust, nonce: str) -> Principal:
        """The principal of an ID token that a login brought. OpenID Connect Core 1.0 section 3.1.3.7."""
        token = taken_apart(text)
        assert isinstance(trust.issuer, OidcIssuer)
        assert trust.issuer.login is not None
        client, audience = trust.issuer.login.client_id, token.claims.get("aud")
        alone = audience in (client, [client]) or (isinstance(audience, list) and client in audience)
        azp = token.claims.get("azp", client)
        if token.claims.get("iss") != trust.issuer.issuer or not alone or azp != client:
            raise AccessDenied("wrong_audience", trust.issuer.issuer)
        if token.claims.get("nonce") != nonce:
            raise AccessDenied("login", trust.issuer.issuer)
        return await self._of_provider(token, trust, trust.issuer)

    async def _of_provider(self, token: _Token, trust: Trust, issuer: OidcIssuer) -> Principal:
        algorithm, kid = _algorithm(token, issuer), token.header.get("kid", "")
        if not isinstance(kid, str):
            raise AccessDenied("malformed", issuer.issuer)
        key = await self._providers.key(issuer.issuer, kid, algorithm)
        _check_signature(token, key, algorithm)
        check_times(token.claims, self._clock())
        return oidc_principal(token.claims, issuer, tenant=trust.tenant)

    async def _of_application(self, token: _Token, trust: Trust, issuer: ApplicationIssuer) -> Principal:
        algorithm = _algorithm(token, issuer)
        fitting = [key for key in trust.keys if fits(key, algorithm)]
        if not fitting:
            raise AccessDenied("unknown_signer", issuer.issuer)
        if not any(_is_signed(token, key, algorithm) for key in fitting):
            raise AccessDenied("signature", issuer.issuer)
        check_times(token.claims, self._clock(), longest=MOST_SECONDS)
        principal = application_principal(token.claims, issuer, tenant=trust.tenant)
        await self._use_up(token.claims, trust)
        return principal

    async def _use_up(self, claims: Mapping[str, Json], trust: Trust) -> None:
        """Note that the token is used. INVARIANT: each is used once, whichever process of the workspace it is given to."""
        number, issuer = claims.get("jti"), trust.issuer.issuer
        if not isinstance(number, str) or not 8 <= len(number) <= 200:
            raise AccessDenied("claims", issuer)
        if not await self._use(trust.tenant, issuer, number, float(claims["exp"]) + 2 * SKEW_S):
            raise AccessDenied("replayed", issuer)


def taken_apart(text: str) -> _Token:
    """The parts of a token. Raises AccessDenied `malformed` for what is none, or what two readers could read differently."""
    if len(text) > LONGEST or (parts := _COMPACT.fullmatch(text)) is None:
        raise AccessDenied("malformed")
    try:
        header, claims = (_object(_decoded(part).decode()) for part in parts.group(2, 3))
        signature = _decoded(parts[4])
    except (NotBase64, ValueError, Refusal):
        raise AccessDenied("malformed") from None
    if header.get("typ") not in _TYPES or "crit" in header:
        raise AccessDenied("malformed")
    return _Token(header=header, claims=claims, signed=parts[1].encode(), signature=signature)


def _object(text: str) -> dict[str, Json]:
    value = parse_json(text)
    if not isinstance(value, dict):
        raise AccessDenied("malformed")
    return cast("dict[str, Json]", value)


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _algorithm(token: _Token, issuer: OidcIssuer | ApplicationIssuer) -> str:
    """The algorithm of the signature. INVARIANT: the setting says which are accepted, never the token."""
    named = token.header.get("alg")
    if named not in issuer.algorithms:
        raise AccessDenied("algorithm", issuer.issuer)
    return str(named)


def _check_signature(token: _Token, key: PublicKey, algorithm: str) -> None:
    if not _is_signed(token, key, algorithm):
        raise AccessDenied("signature", str(token.claims.get("iss", "")))


def _is_signed(token: _Token, key: PublicKey, algorithm: str) -> bool:
    from remit.server.authentication.keys import is_signature  # noqa: PLC0415 - see there

    return is_signature(token.signed, token.signature, key, algorithm)


def _keys_of(name: str, issuer: OidcIssuer | ApplicationIssuer) -> tuple[PublicKey, ...]:
    if isinstance(issuer, OidcIssuer):
        return ()
    from remit.server.authentication.keys import public_key  # noqa: PLC0415 - see there

    found: list[PublicKey] = []
    for text in issuer.keys:
        key = public_key(text)
        if key is None or not any(fits(key, algorithm) for algorithm in issuer.algorithms):
            raise UsageError(
                f"a public key of issuers.{name} cannot be read, is too short, or is for none of its algorithms"
            )
        found.append(key)
    return tuple(found)
