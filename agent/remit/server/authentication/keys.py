"""Public keys that check signatures (RFC 7517), and the signatures (RFC 7515).

INVARIANT: the other modules import this one when a token, a provider or a setting brings a key: joserfc takes 11 MiB, and a service
with API keys alone has no use for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, TypeAlias, cast

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from remit.core import Json

PublicKey: TypeAlias = RSAKey | ECKey | OKPKey

_MOST_KEYS: Final = 50
_RSA_BITS: Final = 2048
_SHORTEST_N: Final = _RSA_BITS * 4 // 3 // 8  # characters of base64


def signing_keys(document: Mapping[str, Json]) -> dict[str, tuple[PublicKey, ...]]:
    """The public keys that sign. Every other one is left out, so a key for encryption or a shared secret checks no token."""
    listed = document.get("keys")
    found: dict[str, tuple[PublicKey, ...]] = {}
    for item in cast("list[object]", listed)[:_MOST_KEYS] if isinstance(listed, list) else []:
        data = cast("dict[str, Json]", item) if isinstance(item, dict) else {}
        if data.get("kty") not in ("RSA", "EC", "OKP") or data.get("use", "sig") != "sig":
            continue
        if data["kty"] == "RSA" and len(str(data.get("n", ""))) < _SHORTEST_N:
            continue
        try:
            key = import_key(data)
        except (JoseError, ValueError, TypeError, KeyError):
            continue  # RFC 7517 section 5: ignore a key that one does not understand
        if (public := _usable(key)) is not None:
            kid = data.get("kid")
            name = kid if isinstance(kid, str) else ""
            found[name] = (*found.get(name, ()), public)
    return found


def public_key(text: str) -> PublicKey | None:
    """The key in the text of a setting; None if it is no public key that is long enough."""
    for kind in ("RSA", "EC", "OKP"):
        try:
            return _usable(import_key(text, kind))
        except (JoseError, ValueError, TypeError):
            continue
    return None


def is_signature(signed: bytes, signature: bytes, key: PublicKey, algorithm: str) -> bool:
    """True if it is the signature of the key over those bytes, with that algorithm."""
    try:
        return _verifier(algorithm)(signed, signature, key)
    except (JoseError, ValueError):
        return False


@cache
def _verifier(algorithm: str) -> Callable[[bytes, bytes, PublicKey], bool]:
    return jws.JWSRegistry(algorithms=[algorithm]).get_alg(algorithm).verify


def _usable(key: object) -> PublicKey | None:
    """The key, if it is a public one that is long enough; a private key in a public place is none."""
    if not isinstance(key, RSAKey | ECKey | OKPKey) or key.is_private:
        return None
    if isinstance(key, RSAKey) and key.raw_value.key_size < _RSA_BITS:
        return None
    return key
