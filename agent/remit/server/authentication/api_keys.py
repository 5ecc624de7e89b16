"""API keys of services, as requests bring them."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from typing import Final

from remit.client import KEY_PREFIX, digest_of
from remit.core import Principal
from remit.journal import WORKSPACE_RUN, Journal
from remit.server.authentication.refusals import AccessDenied

AUTHORITY: Final = "remit:keys"  # the issuer of every key
_KEY: Final = re.compile(rf"{KEY_PREFIX}_([0-9a-f]{{16}})_([A-Za-z0-9_-]{{43}})", re.ASCII)


def is_key(text: str) -> bool:
    """True for a text that is no token: it says that it is an API key."""
    return text.startswith(f"{KEY_PREFIX}_")


def key_principal(journals: Mapping[str, Journal], text: str) -> Principal:
    """The service of an API key; `journals` are those of the workspaces, by tenant.

    Raises:
        AccessDenied: `malformed`, `unknown_key`, `revoked_key` or `expired_key`.
    """
    found = _KEY.fullmatch(text)
    if found is None:
        raise AccessDenied("malformed")
    id, secret = found.groups()
    for tenant, journal in journals.items():
        if (key := journal.keys().get(id)) is None:
            continue
        # INVARIANT: how long the comparison takes says nothing of the secret.
        if not hmac.compare_digest(key.digest, digest_of(secret)):
            raise AccessDenied("unknown_key", key.subject, tenant)
        if key.expires_at is not None and time.time_ns() >= key.expires_at:
            raise AccessDenied("expired_key", key.subject, tenant)
        return Principal(
            subject=key.subject,
            authenticated="api_key",
            account=key.id,
            issuer=AUTHORITY,
            tenant=tenant,
            scope=key.scope,
        )
    for tenant, journal in journals.items():
        if journal.get(WORKSPACE_RUN, f"key.revoked/{id}") is not None:
            raise AccessDenied("revoked_key", id, tenant)
    raise AccessDenied("unknown_key", id)
