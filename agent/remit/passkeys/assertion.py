"""The check of the signature of a passkey (W3C WebAuthn Level 3, section 7.2)."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final, cast
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidSignature
from fido2 import cbor
from fido2.cose import CoseKey
from fido2.utils import websafe_decode
from fido2.webauthn import AuthenticatorData

from remit.core import Json, Refusal
from remit.core.events import PasskeyProof
from remit.core.parsing import parse_json

LONGEST: Final = 4096  # characters of one value of an assertion
# COSE algorithms that are accepted: ES256, EdDSA, RS256 (RFC 9053, RFC 8812), as browsers offer them.
ALGORITHMS: Final = (-7, -8, -257)


def check_assertion(proof: PasskeyProof, challenge: bytes) -> None:
    """Check that the passkey has signed the challenge, at its origin, and that its device has verified the person.

    Raises:
        Refusal: `approval_invalid`, and what does not hold.
    """
    client_data, authenticator_data = _bytes(proof.client_data), _bytes(proof.authenticator_data)
    check_client_data(client_data, "webauthn.get", proof.origin, challenge)
    data = _authenticator_data(authenticator_data)
    check_device(data, proof.origin)
    message = authenticator_data + hashlib.sha256(client_data).digest()
    try:
        _key(_bytes(proof.public_key)).verify(message, _bytes(proof.signature))
    except InvalidSignature:
        raise invalid("its signature is not that of the passkey") from None
    except Exception as failure:  # whatever the library raises, it is no signature
        raise invalid(f"its signature cannot be checked ({type(failure).__name__})") from failure


def check_client_data(client_data: bytes, kind: str, origin: str, challenge: bytes) -> None:
    """Check what the browser says: for what, where, and over which challenge it has asked the device."""
    try:
        found = parse_json(client_data.decode(), longest=LONGEST)
    except (UnicodeDecodeError, Refusal) as failure:
        raise invalid("its client data is not JSON") from failure
    data = cast("dict[str, Json]", found) if isinstance(found, dict) else {}
    if data.get("type") != kind:
        raise invalid("it is for something else")
    if data.get("origin") != origin or data.get("crossOrigin", False) is not False:
        raise invalid("it was made for another address than that of this service")
    given = data.get("challenge")
    if not isinstance(given, str) or not hmac.compare_digest(_bytes(given), challenge):
        raise invalid("it signs another approval")


def check_device(data: AuthenticatorData, origin: str) -> None:
    """Check what the device says: for which host it has signed, and that it has verified the person."""
    host = urlsplit(origin).hostname or ""
    if not hmac.compare_digest(data.rp_id_hash, hashlib.sha256(host.encode()).digest()):
        raise invalid("it is of a passkey of another host")
    if not (data.is_user_present() and data.is_user_verified()):
        raise invalid("the device has not verified the person, by PIN, finger or face")


def invalid(what: str) -> Refusal:
    return Refusal("approval_invalid", f"the approval by a passkey does not count: {what}")


def _bytes(text: str) -> bytes:
    if len(text) > LONGEST:
        raise invalid("it is too long")
    try:
        return websafe_decode(text)
    except ValueError as failure:
        raise invalid("it is not base64url") from failure


def _authenticator_data(data: bytes) -> AuthenticatorData:
    try:
        return AuthenticatorData(data)
    except Exception as failure:  # whatever the library raises, it is no such data
        raise invalid("the data of its device cannot be read") from failure


def _key(data: bytes) -> CoseKey:
    found: Any = cbor.decode(data)  # pyright: ignore[reportUnknownMemberType] - the library leaves its types out
    key = CoseKey.parse(found)
    if key.ALGORITHM not in ALGORITHMS:
        raise invalid("its algorithm is not accepted")
    return key
