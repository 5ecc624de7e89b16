"""Passkeys in the console: the page on which people enrol, confirm and revoke them, and the challenges that they sign."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

import remit.passkeys
from remit.client import (
    Consent,
    WaitingApproval,
    active_passkeys,
    confirm_passkey,
    end_of,
    enroll_passkey,
    must_sign,
    passkeys_seen_by,
    revoke_passkey,
    statement_to_sign,
)
from remit.core import Principal, Refusal, UsageError
from remit.core.events import PasskeyProof
from remit.journal import Passkey
from remit.server.authentication import Access, BrowserSession, Expiring
from remit.server.pages.assets import string
from remit.server.pages.forms import refusal_text
from remit.server.pages.html import BadForm, checked_form, data, message, origin_of, page, redirect
from remit.tracing.reports import utc

if TYPE_CHECKING:
    from remit.server.service import Service

AREA: Final = "passkeys"
SIGN_S: Final = 5 * 60.0  # how long a challenge may be signed
_PROOF: Final = ("id", "client_data", "authenticator_data", "signature")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A challenge that a session was given: for an approval that ends at `until`, None without an end, at that address."""

    session: str
    origin: str
    until: int | None = None
    challenge: bytes = b""


class Signing:
    """The challenges that passkeys sign for approvals. Each is of one session, and is used once."""

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._asked: Final[Expiring[_Asked]] = Expiring(SIGN_S, access.clock)

    def begin(self, session: BrowserSession, consent: Consent, waiting: WaitingApproval, origin: str) -> Response:
        """What the browser needs so that a passkey of the person signs this approval."""
        workspace, _ = self._service.client(session.principal)
        if consent.role is None:
            raise UsageError("say in which role you approve it")
        passkeys = [
            item for item in active_passkeys(workspace.journal, session.principal) if item.enrolled.origin == origin
        ]
        if not passkeys:
            raise UsageError("you have no passkey for this address that signs approvals")
        until = end_of(waiting, consent.role, consent, time.time_ns())
        nonce = self._asked.keep(_Asked(session=session.principal.session, origin=origin, until=until))
        statement = statement_to_sign(workspace.session, waiting, replace(consent, until=until), nonce)
        return data(
            {
                "nonce": nonce,
                "challenge": _text(remit.passkeys.challenge_of(statement)),
                "rpId": urlsplit(origin).hostname,
                "ids": [item.id for item in passkeys],
                "timeout": int(SIGN_S * 1000),
            }
        )

    def signed(self, session: BrowserSession, consent: Consent, fields: Mapping[str, str]) -> Consent:
        """The approval with the signature that the form has brought along.

        INVARIANT: who has ever had a passkey that was confirmed approves nothing here without one, and no challenge counts twice.

        Raises:
            Refusal: `approval_invalid`.
        """
        workspace, _ = self._service.client(session.principal)
        passkeys = {item.id: item for item in active_passkeys(workspace.journal, session.principal)}
        nonce = fields.get("nonce", "")
        if not nonce:
            if must_sign(workspace.journal, session.principal):
                raise Refusal("approval_invalid", string("approval", "unsigned"))
            return consent
        asked = self._asked.take(nonce)
        if asked is None or asked.session != session.principal.session:
            raise Refusal(
                "approval_invalid",
                "the approval does not count: the challenge that its passkey has signed was used, is too old, or is of another session",
            )
        passkey = passkeys.get(fields.get("id", ""))
        given = {name: fields.get(name, "") for name in _PROOF}
        key = "" if passkey is None else passkey.enrolled.public_key
        proof = PasskeyProof(**given, nonce=nonce, origin=asked.origin, public_key=key)
        return replace(consent, until=asked.until, passkey=proof)


class PasskeyPages:
    """The page of passkeys."""

    def __init__(self, service: Service, access: Access) -> None:
        self._service = service
        self._access = access
        self._asked: Final[Expiring[_Asked]] = Expiring(SIGN_S, access.clock)

    async def show(self, request: Request) -> Response:
        """The passkeys of the person, and those of others that they may confirm."""
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/passkeys")
        values = await asyncio.to_thread(self._list, session.principal)
        return page("passkeys", session=session, area=AREA, **values)

    async def begin(self, request: Request) -> Response:
        """What the browser needs to make a passkey."""
        return await self._act(request, self._begin)

    async def enroll(self, request: Request) -> Response:
        """Record the passkey that the browser has made."""
        return await self._act(request, self._enroll)

    async def confirm(self, request: Request) -> Response:
        """A second person confirms whose it is."""
        return await self._act(request, self._confirm)

    async def revoke(self, request: Request) -> Response:
        """It signs nothing any more."""
        return await self._act(request, self._revoke)

    async def _act(self, request: Request, act: _Act) -> Response:
        if (session := self._access.session(request)) is None:
            return redirect("/login?next=/passkeys")
        try:
            fields = await checked_form(request, self._access, session)
            return await asyncio.to_thread(act, session, fields, origin_of(request, self._access))
        except BadForm:
            return message(string("message", "refused"), status=403, session=session)
        except (Refusal, UsageError) as refused:
            return message(string("passkeys", "failed"), refusal_text(refused), 403, session)

    def _begin(self, session: BrowserSession, fields: Mapping[str, str], origin: str) -> Response:
        by = session.principal
        workspace, client = self._service.client(by)
        challenge = secrets.token_bytes(32)
        asked = _Asked(session=by.session, origin=origin, challenge=challenge)
        own = [item.id for item in passkeys_seen_by(workspace.session, client.policy, by) if item.subject == by.subject]
        return data(
            {
                "nonce": self._asked.keep(asked),
                "challenge": _text(challenge),
                "rpId": urlsplit(origin).hostname,
                # The name that the device shows; the handle names the person without saying who they are.
                "user": _text(hashlib.sha256(f"{by.tenant} {by.subject}".encode()).digest()),
                "name": by.subject,
                "ids": own,
                "algorithms": list(remit.passkeys.ALGORITHMS),
                "timeout": int(SIGN_S * 1000),
            }
        )

    def _enroll(self, session: BrowserSession, fields: Mapping[str, str], origin: str) -> Response:
        asked = self._asked.take(fields.get("nonce", ""))
        if asked is None or asked.session != session.principal.session or asked.origin != origin:
            raise UsageError(string("passkeys", "scripts"))
        made = remit.passkeys.registered(
            fields.get("client_data", ""), fields.get("attestation", ""), origin, asked.challenge
        )
        workspace, _ = self._service.client(session.principal)
        found = enroll_passkey(
            workspace.session, made, name=fields.get("name", ""), origin=origin, by=session.principal
        )
        text = string("passkeys", "ask", number=_number(found))
        return message(string("passkeys", "made"), text, session=session)

    def _confirm(self, session: BrowserSession, fields: Mapping[str, str], _: str) -> Response:
        workspace, client = self._service.client(session.principal)
        found = confirm_passkey(workspace.session, client.policy, fields.get("id", ""), by=session.principal)
        text = string("passkeys", "confirmed_text", subject=found.subject)
        return message(string("passkeys", "confirmed"), text, session=session)

    def _revoke(self, session: BrowserSession, fields: Mapping[str, str], _: str) -> Response:
        workspace, client = self._service.client(session.principal)
        reason = " ".join(fields.get("reason", "").split())[:200]
        revoke_passkey(workspace.session, client.policy, fields.get("id", ""), by=session.principal, reason=reason)
        return message(string("passkeys", "revoked"), string("passkeys", "revoked_text"), session=session)

    def _list(self, by: Principal) -> dict[str, Any]:
        workspace, client = self._service.client(by)
        seen = passkeys_seen_by(workspace.session, client.policy, by)
        return {
            "own": [_shown(item) for item in seen if item.subject == by.subject],
            "others": [_shown(item) for item in seen if item.subject != by.subject],
        }


_Act = Callable[[BrowserSession, Mapping[str, str], str], Response]


def _shown(item: Passkey) -> dict[str, Any]:
    if item.revoked is not None:
        state = string("passkeys", "was_revoked", by=item.revoked.by.subject, reason=item.revoked.reason)
    else:
        state = string("passkeys", "active" if item.confirmed is not None else "waits")
    return {
        "id": item.id,
        "subject": item.subject,
        "name": item.enrolled.name,
        "origin": item.enrolled.origin,
        "number": _number(item),
        "at": utc(item.at),
        "state": state,
        "waits": item.confirmed is None and item.revoked is None,
        "revoked": item.revoked is not None,
    }


def _number(item: Passkey) -> str:
    """The number by which two people make sure that they mean the same passkey: of its public key."""
    return hashlib.sha256(item.enrolled.public_key.encode()).hexdigest()[:24]


def _text(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
