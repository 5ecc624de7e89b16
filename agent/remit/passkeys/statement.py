"""What a passkey signs: one approval of one call, with its bounds. The challenge of the assertion is its digest."""

from __future__ import annotations

import hashlib
from typing import Final

from remit.core import FrozenModel
from remit.core.events import ApprovalGranted, GrantScope
from remit.core.parsing import canonical_json

_PURPOSE: Final = "remit approval 1"  # a signature for anything else is none for an approval


class ApprovalStatement(FrozenModel):
    """One approval: of which request (`run`, `step`, `index`, and the digest of its decision), by whom, in which role, and its bounds.

    `until` is in Unix nanoseconds, None without an end. `scope` are the further calls that it covers. `nonce` is random, and counts once.
    """

    tenant: str
    run: str
    step: int
    index: int
    decision_digest: str
    subject: str
    role: str
    reason: str
    until: int | None
    scope: GrantScope | None
    nonce: str


def challenge_of(statement: ApprovalStatement) -> bytes:
    """SHA-256 of the statement in canonical JSON (RFC 8785), 32 bytes: no two statements have one text."""
    until = None if statement.until is None else str(statement.until)  # too large for a number of every reader of JSON
    signed = {"purpose": _PURPOSE, **statement.model_dump(mode="json"), "until": until}
    return hashlib.sha256(canonical_json(signed)).digest()


def statement_of(run: str, granted: ApprovalGranted) -> ApprovalStatement:
    """What the passkey of a recorded approval must have signed; the approval has a proof."""
    assert granted.passkey is not None
    return ApprovalStatement(
        tenant=granted.by.tenant,
        run=run,
        step=granted.step,
        index=granted.index,
        decision_digest=granted.decision_digest,
        subject=granted.by.subject,
        role=granted.role,
        reason=granted.reason,
        until=granted.until,
        scope=granted.scope,
        nonce=granted.passkey.nonce,
    )
