"""A passkey in software: what a browser and a device answer, with each part changeable."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.cose import ES256
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData

VERIFIED = 0x05  # the device has seen and verified the person
SEEN = 0x01


class SoftPasskey:
    """A key pair of a device for one address."""

    def __init__(self, origin: str, host: str) -> None:
        self.origin = origin
        self._host = hashlib.sha256(host.encode()).digest()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._id = os.urandom(32)
        self.id = text(self._id)

    def made(self, asked: Any) -> dict[str, str]:
        """The fields of the form that enrolls it."""
        public = ES256.from_cryptography_key(self._key.public_key())
        credential = AttestedCredentialData.create(b"\0" * 16, self._id, public)
        data = AuthenticatorData.create(self._host, 0x40 | VERIFIED, 0, credential)
        attestation = AttestationObject.create("none", data, {})
        client_data = self._client_data("webauthn.create", asked["challenge"], self.origin)
        return {"nonce": asked["nonce"], "client_data": text(client_data), "attestation": text(bytes(attestation))}

    def signed(
        self, asked: Any, *, origin: str = "", flags: int = VERIFIED, kind: str = "webauthn.get"
    ) -> dict[str, str]:
        """The fields of a form that it has signed."""
        client_data = self._client_data(kind, asked["challenge"], origin or self.origin)
        data = bytes(AuthenticatorData.create(self._host, flags, 1))
        signature = self._key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        return {
            "nonce": asked["nonce"],
            "id": self.id,
            "client_data": text(client_data),
            "authenticator_data": text(data),
            "signature": text(signature),
        }

    @staticmethod
    def _client_data(kind: str, challenge: str, origin: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False}).encode()


def text(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def data(value: str) -> bytes:
    return urlsafe_b64decode(value + "=" * (-len(value) % 4))
