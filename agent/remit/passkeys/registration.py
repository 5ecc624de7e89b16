"""The check of a new passkey (W3C WebAuthn Level 3, section 7.1). Which device made it is not asked: a second person confirms whose it is."""

from __future__ import annotations

from dataclasses import dataclass

from fido2 import cbor
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import AttestationObject

from remit.core import Refusal
from remit.passkeys.assertion import ALGORITHMS, LONGEST, check_client_data, check_device, invalid


@dataclass(frozen=True, kw_only=True)
class NewPasskey:
    """A credential of a device, and its public key (COSE), both in base64url."""

    id: str
    public_key: str


def registered(client_data: str, attestation: str, origin: str, challenge: bytes) -> NewPasskey:
    """The passkey that a device has made for this challenge at this origin; the arguments are base64url.

    Raises:
        Refusal: `approval_invalid`, and what does not hold.
    """
    if len(client_data) > LONGEST or len(attestation) > LONGEST:
        raise invalid("it is too long")
    try:
        check_client_data(websafe_decode(client_data), "webauthn.create", origin, challenge)
        data = AttestationObject(websafe_decode(attestation)).auth_data
        made = data.credential_data
    except Refusal:
        raise
    except Exception as failure:  # whatever the library raises, it is no passkey
        raise invalid("the answer of the device cannot be read") from failure
    check_device(data, origin)
    if made is None or made.public_key.ALGORITHM not in ALGORITHMS:
        raise invalid("its algorithm is not accepted")
    return NewPasskey(
        id=websafe_encode(made.credential_id), public_key=websafe_encode(cbor.encode(dict(made.public_key)))
    )
