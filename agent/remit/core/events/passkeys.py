"""Events of passkeys, with which people sign approvals, and what such a signature is. All are recorded in the run named `workspace`."""

from __future__ import annotations

from typing import Literal

from remit.core.calls import FrozenModel
from remit.core.events.event import Event
from remit.core.principals import Principal


class PasskeyProof(FrozenModel):
    """Records that a passkey has signed an approval: a WebAuthn assertion (W3C WebAuthn Level 3, section 7.2), and what it needs to be checked.

    Binary values are base64url without padding. `id` is the credential; `public_key` its COSE key (RFC 9052), as it was enrolled.
    `origin` is the address of the service. The challenge in `client_data` is the digest of the approval with `nonce`, which counts once.
    """

    id: str
    public_key: str
    origin: str
    nonce: str
    client_data: str
    authenticator_data: str
    signature: str


class PasskeyEnrolled(Event):
    """Records that a person has made a passkey for themselves. It signs nothing until another person has confirmed it.

    `name` is what the person calls it; `origin` is the address of the service. `public_key` is a COSE key in base64url.
    """

    type: Literal["passkey.enrolled"] = "passkey.enrolled"
    id: str
    name: str
    origin: str
    public_key: str
    by: Principal

    @property
    def key(self) -> str:
        return f"passkey.enrolled/{self.id}"


class PasskeyConfirmed(Event):
    """Records that a second person confirms that the passkey is that of `subject`."""

    type: Literal["passkey.confirmed"] = "passkey.confirmed"
    id: str
    subject: str
    by: Principal

    @property
    def key(self) -> str:
        return f"passkey.confirmed/{self.id}"


class PasskeyRevoked(Event):
    """Records that a passkey signs nothing any more, for ever: its person has lost it, or another person takes it back."""

    type: Literal["passkey.revoked"] = "passkey.revoked"
    id: str
    subject: str
    reason: str
    by: Principal

    @property
    def key(self) -> str:
        return f"passkey.revoked/{self.id}"
