"""The passkeys of people: enrolled by themselves, confirmed by a second person, revoked by either; and the approvals that they sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import remit.passkeys
from remit.core import Principal, Refusal, UsageError, same_person
from remit.core.events import PasskeyConfirmed, PasskeyEnrolled, PasskeyProof, PasskeyRevoked
from remit.journal import WORKSPACE_RUN, AlreadyRecorded, Journal, Passkey, find_passkey, list_passkeys
from remit.policy import Policy
from remit.workspace import WorkspaceSession, authorize, check_enabled, may

if TYPE_CHECKING:  # the library is loaded for the first signature
    from remit.passkeys import ApprovalStatement, NewPasskey

MOST: Final = 10  # passkeys of one person that are not revoked
LONGEST_NAME: Final = 60


def enroll_passkey(session: WorkspaceSession, made: NewPasskey, *, name: str, origin: str, by: Principal) -> Passkey:
    """Record a passkey that the person has made for themselves. It signs nothing until another person has confirmed it.

    Raises:
        UsageError: it is enrolled already, the name is empty or too long, or the person has too many.
        Refusal: `policy_denied`: they are disabled, or no person.
    """
    check_enabled(session.journal, by)
    if not by.is_person:
        raise Refusal("policy_denied", f"{by.subject} is no person, and only a person has a passkey")
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        raise UsageError(f"write a name for the passkey, of at most {LONGEST_NAME} characters")
    own = [item for item in list_passkeys(session.journal) if item.subject == by.subject and item.revoked is None]
    if len(own) >= MOST:
        raise UsageError(f"{by.subject} has {MOST} passkeys: revoke one first")
    event = PasskeyEnrolled(id=made.id, name=name.strip(), origin=origin, public_key=made.public_key, by=by)
    try:
        session.journal.append_shared(WORKSPACE_RUN, event)
    except AlreadyRecorded:
        raise UsageError("this passkey is enrolled already, or was revoked") from None
    return _found(session.journal, made.id)


def confirm_passkey(session: WorkspaceSession, policy: Policy, id: str, *, by: Principal) -> Passkey:
    """Record that a second person confirms whose passkey it is.

    Raises:
        UsageError: no passkey that waits for it has that id.
        Refusal: `policy_denied`: the rules do not allow `remit.passkeys`; `approval_invalid`: it is their own.
    """
    found = _found(session.journal, id)
    if found.confirmed is not None or found.revoked is not None:
        raise UsageError("the passkey does not wait for a confirmation")
    if same_person(found.enrolled.by, by) or not by.is_person or by.tenant != found.enrolled.by.tenant:
        raise Refusal("approval_invalid", f"{by.subject} cannot confirm this passkey: it must be another person")
    authorize(
        policy, by, "remit.passkeys", found.subject, f"confirm a passkey of {found.subject}", journal=session.journal
    )
    try:
        session.journal.append_shared(WORKSPACE_RUN, PasskeyConfirmed(id=id, subject=found.subject, by=by))
    except AlreadyRecorded:
        raise UsageError("another person has confirmed the passkey already") from None
    return _found(session.journal, id)


def revoke_passkey(session: WorkspaceSession, policy: Policy, id: str, *, by: Principal, reason: str) -> Passkey:
    """Record that a passkey signs nothing any more: its person has lost it, or a person whom the rules allow it takes it back.

    Raises:
        UsageError: no passkey that is not revoked has that id, or the reason is empty.
        Refusal: `policy_denied`: it is the passkey of another person, and the rules do not allow `remit.passkeys`.
    """
    check_enabled(session.journal, by)
    found = _found(session.journal, id)
    if found.revoked is not None:
        raise UsageError("the passkey is revoked already")
    if not reason.strip():
        raise UsageError("revoking a passkey needs a reason")
    if not same_person(found.enrolled.by, by):
        what = f"revoke a passkey of {found.subject}"
        authorize(policy, by, "remit.passkeys", found.subject, what, journal=session.journal)
    event = PasskeyRevoked(id=id, subject=found.subject, reason=reason, by=by)
    try:
        session.journal.append_shared(WORKSPACE_RUN, event)
    except AlreadyRecorded:
        raise UsageError("the passkey is revoked already") from None
    return _found(session.journal, id)


def must_sign(journal: Journal, by: Principal) -> bool:
    """True if the person has, or has had, a passkey that a second person confirmed.

    INVARIANT: a revoked one counts, too: a stolen session cannot revoke its way to approvals without a signature.
    """
    return any(item.subject == by.subject and item.confirmed is not None for item in list_passkeys(journal))


def active_passkeys(journal: Journal, by: Principal) -> list[Passkey]:
    """The passkeys with which that person signs approvals."""
    return [item for item in list_passkeys(journal) if item.is_active and item.subject == by.subject]


def passkeys_seen_by(session: WorkspaceSession, policy: Policy, by: Principal) -> list[Passkey]:
    """The person's own passkeys, and those of others that they may confirm and revoke."""
    return [
        item
        for item in list_passkeys(session.journal)
        if item.subject == by.subject or may(policy, by, "remit.passkeys", item.subject)
    ]


def check_signature(journal: Journal, statement: ApprovalStatement, proof: PasskeyProof, by: Principal) -> None:
    """Check that a passkey of that person, which counts now, has signed the approval.

    Raises:
        Refusal: `approval_invalid`, and what does not hold.
    """
    passkey = find_passkey(journal, proof.id)
    if passkey is None or passkey.subject != by.subject or passkey.enrolled.by.tenant != by.tenant:
        raise Refusal("approval_invalid", f"the passkey is not one of {by.subject}")
    if passkey.revoked is not None:
        raise Refusal("approval_invalid", f"the passkey of {by.subject} is revoked")
    if passkey.confirmed is None:
        raise Refusal("approval_invalid", f"no second person has confirmed the passkey of {by.subject}")
    if (passkey.enrolled.public_key, passkey.enrolled.origin) != (proof.public_key, proof.origin):
        raise Refusal(
            "approval_invalid", f"the passkey of {by.subject} is enrolled with another key, or at another address"
        )
    remit.passkeys.check_assertion(proof, remit.passkeys.challenge_of(statement))


def _found(journal: Journal, id: str) -> Passkey:
    found = find_passkey(journal, id)
    if found is None:
        raise UsageError("there is no such passkey")
    return found
