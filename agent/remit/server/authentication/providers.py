"""What is known of identity providers: their addresses and their keys (OpenID Connect Discovery 1.0, RFC 7517)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from remit.core import Json, Refusal
from remit.core.parsing import parse_json
from remit.server.authentication.fetching import Fetch, ProviderFailed, fetch, is_safe
from remit.server.authentication.refusals import AccessDenied

if TYPE_CHECKING:
    from remit.server.authentication.keys import PublicKey

REFRESH_S: Final = 3600.0  # how long keys are used without asking again
KEPT_S: Final = 24 * 3600.0  # how long they are used while the provider does not answer
PAUSE_S: Final = 30.0  # between two requests to a provider, whatever tokens ask for
# The kind of key of each algorithm, with its curve. RFC 7518 section 3.1, RFC 8037.
_KIND: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", "")),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "EdDSA": ("OKP", "Ed25519"),
}


@dataclass(frozen=True, kw_only=True)
class Provider:
    """An identity provider as it describes itself. `keys` are those that sign, by their ids; "" for one without an id."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    keys: Mapping[str, tuple[PublicKey, ...]] = field(repr=False)

    def key(self, kid: str, algorithm: str) -> PublicKey | None:
        """The key of that id for that algorithm; without an id, the only key for it."""
        found = self.keys.get(kid, ()) if kid else [key for keys in self.keys.values() for key in keys]
        fitting = [key for key in found if fits(key, algorithm)]
        return fitting[0] if len(fitting) == 1 else None


def fits(key: PublicKey, algorithm: str) -> bool:
    """True if signatures of that algorithm are checked with such a key. INVARIANT: a key is never used for another algorithm."""
    kind, curve = _KIND[algorithm]
    stated = key.get("alg")
    return key.key_type == kind and (not curve or key.get("crv") == curve) and stated in (None, algorithm)


class _Known:
    """What is known of one provider, and when it was asked."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.provider: Provider | None = None
        self.fetched_at = self.asked_at = float("-inf")


class Providers:
    """The identity providers of a service.

    INVARIANT: tokens cannot make it ask a provider more often than once in `PAUSE_S`.
    """

    def __init__(self, get: Fetch = fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._get = get
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def provider(self, issuer: str) -> Provider:
        """The provider with that issuer. Raises AccessDenied `issuer_unreachable`."""
        known = self._known.setdefault(issuer, _Known())
        if known.provider is None or self._clock() - known.fetched_at > REFRESH_S:
            await self._refresh(issuer, known)
        if known.provider is None or self._clock() - known.fetched_at > KEPT_S:
            raise AccessDenied("issuer_unreachable", issuer)
        return known.provider

    async def key(self, issuer: str, kid: str, algorithm: str) -> PublicKey:
        """The key with that id. For one that is not known, the provider is asked again: it may have new ones.

        Raises:
            AccessDenied: `unknown_signer` or `issuer_unreachable`.
        """
        found = (await self.provider(issuer)).key(kid, algorithm)
        if found is None:
            known = self._known[issuer]
            await self._refresh(issuer, known)
            found = None if known.provider is None else known.provider.key(kid, algorithm)
        if found is None:
            raise AccessDenied("unknown_signer", issuer)
        return found

    async def _refresh(self, issuer: str, known: _Known) -> None:
        """Ask the provider, unless it was asked a moment ago. What it answered before stays if it fails."""
        async with known.lock:
            if self._clock() - known.asked_at < PAUSE_S:
                return
            known.asked_at = self._clock()
            try:
                known.provider = await self._described(issuer)
            except ProviderFailed:
                return
            known.fetched_at = known.asked_at

    async def _described(self, issuer: str) -> Provider:
        from remit.server.authentication.keys import signing_keys  # noqa: PLC0415 - see there

        found = _object(await self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration"))
        places = [found.get(name) for name in ("jwks_uri", "authorization_endpoint", "token_endpoint")]
        if found.get("issuer") != issuer or not all(is_safe(place, issuer) for place in places):
            raise ProviderFailed("its description is of another issuer, or names an address without https")
        keys, login, tokens = map(str, places)
        return Provider(
            issuer=issuer,
            authorization_endpoint=login,
            token_endpoint=tokens,
            keys=signing_keys(_object(await self._get(keys))),
        )


def _object(body: bytes) -> dict[str, Json]:
    try:
        value = parse_json(body.decode())
    except (UnicodeDecodeError, Refusal) as failure:
        raise ProviderFailed("its answer is not JSON") from failure
    if not isinstance(value, dict):
        raise ProviderFailed("its answer is not a JSON object")
    return cast("dict[str, Json]", value)
