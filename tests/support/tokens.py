"""Tokens of tests: an identity provider without network, whose keys the test has, and an application."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

ISSUER: Final = "https://login.example.com"
AUDIENCE: Final = "remit"
SHOP: Final = "https://shop.example.com"
HOUR: Final = 3600

_RSA: Final = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})


class Provider:
    """An identity provider as the service sees it: a `Fetch`. `asked` are the addresses that were fetched."""

    def __init__(self, issuer: str = ISSUER, key: RSAKey | ECKey = _RSA) -> None:
        self.issuer = issuer
        self.key = key
        self.published: list[dict[str, Any]] = [dict(key.as_dict(private=False))]
        self.changes: dict[str, Any] = {}  # of the description
        self.asked: list[str] = []
        self.down = False

    async def __call__(self, url: str, form: Mapping[str, str] | None = None) -> bytes:
        from remit.server.authentication import ProviderFailed

        self.asked.append(url)
        if self.down:
            raise ProviderFailed("it does not answer")
        if url.endswith("/.well-known/openid-configuration"):
            places = {
                name: f"{self.issuer}/{name}" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
            }
            return json.dumps({"issuer": self.issuer, **places, **self.changes}).encode()
        return json.dumps({"keys": self.published}).encode()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a good token of `ann`, with changes; None removes one."""
        now = int(time.time())
        made = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + HOUR, **changes}
        return {name: value for name, value in made.items() if value is not None}

    def token(
        self, *, header: Mapping[str, Any] | None = None, key: RSAKey | ECKey | None = None, **changes: Any
    ) -> str:
        return signed(self.claims(**changes), key or self.key, {"alg": "RS256", "kid": "one", **(header or {})})


class Shop:
    """The backend of an application."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256")
        self._number = 0

    @property
    def public(self) -> str:
        return self.key.as_pem(private=False).decode()

    def token(self, **changes: Any) -> str:
        self._number += 1
        now = int(time.time())
        made = {
            "iss": SHOP,
            "aud": AUDIENCE,
            "sub": "ann",
            "iat": now,
            "exp": now + 60,
            "jti": f"number-{self._number}",
        }
        claims = {name: value for name, value in {**made, **changes}.items() if value is not None}
        return signed(claims, self.key, {"alg": "ES256"})


def hmac_signed(claims: Mapping[str, Any], secret: bytes, header: Mapping[str, Any]) -> str:
    """Signed by a shared secret: joserfc itself refuses a public key as one."""
    parts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.digest(secret, b".".join(parts), "sha256")
    return b".".join([*parts, urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def signed(claims: Mapping[str, Any], key: RSAKey | ECKey, header: Mapping[str, Any]) -> str:
    registry = jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
    return jws.serialize_compact(dict(header), json.dumps(claims), key, registry=registry)


def unsigned(claims: dict[str, Any], header: dict[str, Any], signature: str = "") -> str:
    """A token with that text in place of a signature."""
    parts = (urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    return ".".join([*parts, signature])
