"""Events of access: API keys, and authentication that was refused. All are recorded in the run named `workspace`."""

from __future__ import annotations

from typing import Literal

from remit.core.events.event import Event
from remit.core.principals import KeyScope, Principal


class KeyCreated(Event):
    """Records that a person creates an API key of a service, which can do at most what `scope` says.

    `id` is the public part of the key, and `digest` the SHA-256 of its secret, which is never recorded. `expires_at` is in Unix
    nanoseconds; None: it is valid until it is revoked.
    """

    type: Literal["key.created"] = "key.created"
    id: str
    digest: str
    subject: str
    scope: KeyScope
    expires_at: int | None = None
    by: Principal

    @property
    def key(self) -> str:
        return f"key.created/{self.id}"


class KeyRevoked(Event):
    """Records that a person revokes an API key, for ever."""

    type: Literal["key.revoked"] = "key.revoked"
    id: str
    subject: str
    by: Principal

    @property
    def key(self) -> str:
        return f"key.revoked/{self.id}"


class AccessRefused(Event):
    """Records that the service did not accept who wanted to ask. The answer of the service does not say why; `why` does.

    `claimed` is who the token or the key claims to be, "" if that cannot be read; `address` is that of the client. Within some
    seconds only the first refusal is recorded, and `more` counts those before it that were not. `number` counts the events of the workspace.
    """

    type: Literal["access.refused"] = "access.refused"
    number: int
    why: str
    claimed: str = ""
    address: str = ""
    more: int = 0

    @property
    def key(self) -> str:
        return f"access.refused/{self.number}"
