"""Who may use the service: API keys of services, and people and services that are disabled."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from remit.broker import lift_hold, requesters, set_hold
from remit.core import NAME_OF_SUBJECT, NOBODY, KeyScope, Principal, UsageError, is_principal, one_of, spelled
from remit.core.events import NANO, ApprovalRejected, ApprovalRequested, HoldSet, KeyCreated, KeyRevoked
from remit.journal import WORKSPACE_RUN, AlreadyRecorded, Journal, StoredRecord, approvals_in_state
from remit.workspace import WorkspaceSession, authorize, authorize_hold

# What a key can be for: acts on runs of agents, and never those that need a person.
KEY_ACTIONS: Final = ("remit.run", "remit.resume", "remit.read", "remit.hold")
KEY_PREFIX: Final = "remit"  # of every key, so that scanners of secrets know one
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """An API key that was created. `text` is shown once and kept nowhere."""

    created: KeyCreated
    text: str


@dataclass(frozen=True, kw_only=True)
class Disabled:
    """A principal that was disabled. `voided` are the requests for approval, RUN/STEP.INDEX, that count no more."""

    hold: HoldSet
    voided: tuple[str, ...]


def create_key(
    session: WorkspaceSession, subject: str, scope: KeyScope, *, by: Principal, lasts_s: float | None = None
) -> NewKey:
    """Create an API key of the service `subject`; it expires after `lasts_s` seconds, None: never.

    The key is 256 random bits. Only its SHA-256 is recorded, which needs no salt and no slow hash for that reason.

    Raises:
        UsageError: the subject is no service, or the scope names nothing, or what does not exist.
        Refusal: `policy_denied`: the rules do not allow `remit.keys`.
    """
    _check_name(subject, "service:")
    _check_scope(session, subject, scope)
    authorize(session.policy, by, "remit.keys", subject, f"create a key of {subject}", journal=session.journal)
    id, secret = secrets.token_hex(8), secrets.token_urlsafe(_SECRET_BYTES)
    created = KeyCreated(
        id=id,
        digest=digest_of(secret),
        subject=subject,
        scope=scope,
        expires_at=None if lasts_s is None else time.time_ns() + int(lasts_s * NANO),
        by=by,
    )
    session.journal.append_shared(WORKSPACE_RUN, created)
    return NewKey(created=created, text=f"{KEY_PREFIX}_{id}_{secret}")


def _check_scope(session: WorkspaceSession, subject: str, scope: KeyScope) -> None:
    """Raise UsageError for a scope with which the key could do nothing, or that names what does not exist."""
    if bool(scope.actions) != bool(scope.agents) or not (scope.actions or scope.points):
        raise UsageError("a key without actions or without agents could do nothing: name both, or an enforcement point")
    for action in scope.actions:
        if action not in KEY_ACTIONS:
            raise UsageError(f"a key cannot be for {spelled(action)}: {one_of(action, KEY_ACTIONS)}")
    for agent in scope.agents:
        if agent not in (known := session.workspace.agents):
            raise UsageError(f"there is no agent {spelled(agent)} here: {one_of(agent, known)}")
    for point in scope.points:
        listed = session.workspace.settings.enforcement_points.get(point)
        if listed is None or listed.account != subject:
            raise UsageError(f"{subject} is not the account of an enforcement point {point!r}: list it in remit.toml")


def digest_of(secret: str) -> str:
    """The digest under which the secret part of an API key is recorded."""
    return hashlib.sha256(secret.encode()).hexdigest()


def list_keys(journal: Journal) -> Sequence[KeyCreated]:
    """The keys that are not revoked, by service."""
    return sorted(journal.keys().values(), key=lambda key: (key.subject, key.id))


def revoke_key(session: WorkspaceSession, id: str, *, by: Principal) -> KeyCreated:
    """Revoke an API key, for ever. Every service refuses it within a second.

    Raises:
        UsageError: no key that is not revoked has that id.
        Refusal: `policy_denied`: the rules do not allow `remit.keys`.
    """
    found = session.journal.keys().get(id)
    if found is None:
        known = one_of(id, session.journal.keys())
        raise UsageError(f"no key has the id {spelled(id)}, or it is revoked: {known} `remit key list` shows the keys")
    authorize(session.policy, by, "remit.keys", found.subject, f"revoke key {id}", journal=session.journal)
    session.journal.append_shared(WORKSPACE_RUN, KeyRevoked(id=id, subject=found.subject, by=by))
    return found


def disable_principal(session: WorkspaceSession, subject: str, *, by: Principal, reason: str) -> Disabled:
    """Disable `user:NAME` or `service:NAME`: within a second it can ask for nothing, its runs stop, and its keys and sessions end.

    Open requests for approval of its runs are rejected, and so are those that it has approved and that are not carried out yet.

    Raises:
        UsageError: the subject is no user and no service, or `reason` is empty.
        Refusal: `policy_denied`: the rules do not allow `remit.disable`.
    """
    _check_name(subject, "user:", "service:")
    if not reason.strip():
        raise UsageError(f"disabling {subject} needs a reason")
    authorize_hold(session.policy, session.journal, subject, by, f"disable {subject}")
    # INVARIANT: first nothing more begins, then what waits is rejected: a request in between is refused as long as the hold lasts.
    hold = set_hold(session.journal, subject, why=reason, by=by)
    return Disabled(hold=hold, voided=tuple(_void_requests(session.journal, subject, by)))


def enable_principal(session: WorkspaceSession, subject: str, *, by: Principal) -> None:
    """Let a disabled principal ask again. What was rejected stays rejected.

    Raises:
        UsageError: it is not disabled.
        Refusal: `policy_denied`: the rules do not allow `remit.disable`.
    """
    _check_name(subject, "user:", "service:")
    authorize_hold(session.policy, session.journal, subject, by, f"enable {subject}")
    if subject not in session.journal.holds():
        raise UsageError(f"{subject} is not disabled")
    lift_hold(session.journal, subject, by=by)


def disabled_principals(journal: Journal) -> Sequence[HoldSet]:
    """The principals that are disabled, by name."""
    return [hold for scope, hold in sorted(journal.holds().items()) if is_principal(scope)]


def _void_requests(journal: Journal, subject: str, by: Principal) -> list[str]:
    """Reject the requests for approval that the subject asked for, or has approved. Returns their places."""
    voided: list[str] = []
    for state in ("waiting", "answered"):
        for run, _, body in approvals_in_state(journal, state):
            request = ApprovalRequested.model_validate_json(body)
            if _concerns(journal, run, request, subject):
                rejected = ApprovalRejected(
                    step=request.step,
                    index=request.index,
                    decision_digest=request.decision_digest,
                    by=by,
                    reason=f"{subject} was disabled",
                )
                with suppress(AlreadyRecorded):  # it was answered at the same moment; the hold stops it
                    StoredRecord(journal, run).append(rejected, durable=True)
                    voided.append(f"{run}/{request.step}.{request.index}")
    return voided


def _concerns(journal: Journal, run: str, request: ApprovalRequested, subject: str) -> bool:
    state = StoredRecord(journal, run).state
    opened = state.open.get((request.step, request.index))
    if opened is None or opened.approval is None or state.started is None:
        return False
    approvers = (grant.approver for grant in opened.approval.grants)
    return opened.approval.end is None and subject in (*requesters(state.started), *approvers)


def _check_name(subject: str, *kinds: str) -> None:
    kind = next((kind for kind in kinds if subject.startswith(kind)), None)
    if kind is None or subject == NOBODY or re.fullmatch(NAME_OF_SUBJECT, subject.removeprefix(kind)) is None:
        raise UsageError(f"{subject!r} cannot be named here: write {' or '.join(f'{kind}NAME' for kind in kinds)}")
