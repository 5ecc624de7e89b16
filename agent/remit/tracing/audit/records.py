"""One event as a record of the Open Cybersecurity Schema Framework (OCSF, https://schema.ocsf.io), version 1.8.0.

A decision is API Activity; an approval is User Access Management; a hold, a settlement and a change of rules, pins or secrets are Entity
Management, and so is a read of what a run recorded. Arguments of calls and texts of models and tools are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from remit.core import BREAK_GLASS, NOBODY, Failed, Principal, is_principal
from remit.core.events import (
    CODE,
    AccessRefused,
    ActApproved,
    ActRequested,
    ActUsed,
    AnswerGiven,
    ApprovalGranted,
    ApprovalRefused,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalVoided,
    BreakGlassReviewed,
    CallDecided,
    ContentRead,
    DecisionsGiven,
    EffectSettled,
    HoldLifted,
    HoldSet,
    KeyCreated,
    KeyRevoked,
    PasskeyConfirmed,
    PasskeyEnrolled,
    PasskeyRevoked,
    PolicyAdopted,
    PolicyChanged,
    PolicyPublished,
    QuestionAnswered,
    Recorded,
    RolloutFinished,
    RolloutOpened,
    RolloutRolledBack,
    RolloutStaged,
    RunErased,
    RunPruned,
    RunResumed,
    SecretSet,
)
from remit.tracing.audit.ocsf import ACCESS, API, ENTITY, Act, Chain, Record, record_of, user_of


def audit_record(item: Recorded, chain: Chain, *, arguments: bool = False) -> Record | None:
    """The record of one event; None if it is none of audit. With `arguments`, a decision has those of its call.

    `metadata.uid` is the event's place in the journal, RUN/NUMBER: an event that is sent again has the same one.
    """
    if item.event is None:
        act = _erased(item) if item.type in _ACTS else None
    else:
        make = _ACTS.get(item.type)
        act = None if make is None else make(item.event, chain)
    if act is None:
        return None
    if arguments and isinstance(item.event, CallDecided):
        act.fields["api"]["request"]["data"] = _arguments(item.event)
    return record_of(item, chain, act)


# -- decisions ---------------------------------------------------------------------------------------------------------


def _decided(event: CallDecided, chain: Chain) -> Act:
    call, decision, started = event.call, event.decision, chain.started
    action = call.action if call is not None else event.proposed.action
    verdict, detail, rules = "refused", "", ["refused before a decision"]
    if decision is not None:
        verdict, detail = decision.verdict, decision.message
        rules = [f"{rule.file}:{rule.line}" for rule in decision.rules] or [decision.reason]
    elif isinstance(event.refusal, Failed):
        detail = event.refusal.error.code
    place = f"{chain.name}/{event.step}.{event.index}"
    agent = started.subjects.agent if started is not None else "agent:unknown"
    policy = {"uid": decision.policy_digest} if decision is not None and decision.policy_digest else {}
    unmapped = {"remit.verdict": verdict, "remit.round": event.round, "remit.enforced": event.enforced}
    return Act(
        of=API,
        activity=_ACTIVITIES.get(call.effect if call is not None else "", (99, "Other")),
        message=f"{verdict} {action}, called by {agent}",
        severity=1
        if verdict in ("allow", "ask")
        else 4
        if decision is not None and decision.reason == "engines_disagree"
        else 2,
        status={"allow": 1, "ask": 99}.get(verdict, 2),
        detail=detail,
        fields={
            "api": {"operation": action, "service": {"name": action.partition(".")[0]}, "request": {"uid": place}},
            "actor": {
                "user": user_of(started.by) if started is not None else {"name": NOBODY},
                "app_name": agent,
                "authorizations": [{"decision": verdict, "policy": {"name": rule, **policy}} for rule in rules],
            },
            "src_endpoint": {"name": agent},
            **_resources(event),
        },
        unmapped={**unmapped, **({"remit.for_user": started.subjects.user} if started is not None else {})},
    )


_ACTIVITIES: Final = {"read": (2, "Read"), **dict.fromkeys(("idempotent", "keyed", "once"), (3, "Update"))}


def _arguments(event: CallDecided) -> Any:
    return event.call.arguments if event.call is not None else event.proposed.arguments


def _resources(event: CallDecided | None) -> Mapping[str, Any]:
    if event is None or event.call is None or not event.call.touches:
        return {}
    named = {touch.resource: touch.access for touch in event.call.touches}
    return {
        "resources": [
            {"name": name, "type": name.partition(":")[0], "labels": [access]} for name, access in named.items()
        ]
    }


# -- approvals ---------------------------------------------------------------------------------------------------------


def _approval(
    event: ApprovalRequested | ApprovalGranted | ApprovalRejected | ApprovalRevoked | ApprovalRefused | ApprovalVoided,
    chain: Chain,
) -> Act:
    decided = chain.call(event.step, event.index)
    action = decided.proposed.action if decided is not None and decided.call is None else ""
    action = decided.call.action if decided is not None and decided.call is not None else action or "a call"
    activity, severity, status, words, detail = (99, "Other"), 1, 1, "", ""
    by = None if isinstance(event, ApprovalRequested | ApprovalVoided) else event.by
    match event:
        case ApprovalRequested():
            asked = ", ".join(f"{item.count} of {item.role}" for item in event.missing)
            words, status = f"{asked} asked to approve", 99
        case ApprovalGranted():
            emergency = event.role == BREAK_GLASS
            activity, severity = (1, "Assign Privileges"), 4 if emergency else 1
            words, detail = f"{event.approver} approves as {event.role}", event.reason
        case ApprovalRejected():
            words, detail, status = f"{event.approver} rejects", event.reason, 2
        case ApprovalRevoked():
            activity, words, detail = (
                (2, "Revoke Privileges"),
                f"{event.approver} revokes the approval of",
                event.reason,
            )
        case ApprovalRefused():
            words, detail, status, severity = f"{event.approver} may not answer for", event.code, 2, 2
        case ApprovalVoided():
            activity, words, detail = (
                (2, "Revoke Privileges"),
                f"the approval of {event.approver} is void for",
                event.code,
            )
    started = chain.started
    subject = started.subjects.agent if started is not None else "agent:unknown"
    return Act(
        of=ACCESS,
        activity=activity,
        message=f"{words} {action} of {subject}",
        by=by,
        severity=severity,
        status=status,
        detail=detail,
        fields={
            "user": {"name": subject, "type_id": 99, "type": "Agent"},
            "privileges": [action],
            **_resources(decided),
        },
        unmapped={
            "remit.call": f"{event.step}.{event.index}",
            **(_bounds(event) if isinstance(event, ApprovalGranted) else {}),
        },
    )


def _bounds(event: ApprovalGranted) -> Mapping[str, Any]:
    """When an approval ends, how many further calls it covers, and the approval that it follows from."""
    until = {} if event.until is None else {"remit.until": event.until}
    more = (
        {} if event.scope is None else {"remit.more": event.scope.more, "remit.resources": list(event.scope.resources)}
    )
    return {**until, **more, **({"remit.under": event.under} if event.under else {})}


def _reviewed(event: BreakGlassReviewed, chain: Chain) -> Act:
    message = f"{event.by.subject} reviewed the emergency approval {event.granted}"
    return _entity(
        (99, "Other"), "approval", f"{chain.name}/{event.granted}", message, event.by, detail=event.note, severity=3
    )


def _act(event: ActRequested | ActApproved | ActUsed, _: Chain) -> Act:
    """An act with Remit itself for which the rules ask a second person."""
    who = event.by.subject
    match event:
        case ActRequested():
            return _entity(
                (99, "Other"), "act", event.act, f"{who} asks to be allowed: {event.what}", event.by, severity=2
            )
        case ActApproved():
            message = f"{who} approves the act {event.act} as {event.role}"
            return _entity((99, "Other"), "act", event.act, message, event.by, severity=2)
        case ActUsed():
            return _entity((99, "Other"), "act", event.act, f"{who} does the approved act {event.act}", event.by)


# -- entities: holds, effects, rules, secrets, records ------------------------------------------------------------------------


def _entity(
    activity: tuple[int, str],
    kind: str,
    name: str,
    message: str,
    by: Principal | None,
    *,
    detail: str = "",
    severity: int = 1,
) -> Act:
    return Act(
        of=ENTITY,
        activity=activity,
        message=message,
        by=by,
        severity=severity,
        detail=detail,
        fields={"entity": {"name": name, "type": kind}},
    )


_CREATE: Final = (1, "Create")
_READ: Final = (2, "Read")
_UPDATE: Final = (3, "Update")
_DELETE: Final = (4, "Delete")
_DISABLE: Final = (9, "Disable")
_ACTIVATE: Final = (10, "Activate")
_DEACTIVATE: Final = (11, "Deactivate")
_SUSPEND: Final = (12, "Suspend")
_RESUME: Final = (13, "Resume")


def _hold(event: HoldSet | HoldLifted, _: Chain) -> Act:
    who, scope, is_set = event.by.subject, event.scope, isinstance(event, HoldSet)
    detail = event.reason if isinstance(event, HoldSet) else ""
    if is_principal(scope):
        activity, kind, words = (_DISABLE, "user", "disables") if is_set else (_ACTIVATE, "user", "enables")
    elif scope.startswith(CODE):
        activity, kind, words, scope = _DISABLE, "code", "revokes the code", scope.removeprefix(CODE)
    else:
        activity, kind, words = (_SUSPEND, "hold", "holds") if is_set else (_RESUME, "hold", "lifts the hold of")
    return _entity(
        activity, kind, scope, f"{who} {words} {scope}", event.by, detail=detail, severity=3 if is_set else 1
    )


def _key(event: KeyCreated | KeyRevoked, _: Chain) -> Act:
    activity, verb = (_CREATE, "creates") if isinstance(event, KeyCreated) else (_DISABLE, "revokes")
    message = f"{event.by.subject} {verb} the API key {event.id} of {event.subject}"
    return _entity(activity, "api key", event.id, message, event.by, severity=2)


def _passkey(event: PasskeyEnrolled | PasskeyConfirmed | PasskeyRevoked, _: Chain) -> Act:
    match event:
        case PasskeyEnrolled():
            activity, what = _CREATE, f"enrolls the passkey {event.id[:8]} {event.name!r}"
        case PasskeyConfirmed():
            activity, what = (99, "Other"), f"confirms the passkey {event.id[:8]} of {event.subject}"
        case PasskeyRevoked():
            activity, what = _DISABLE, f"revokes the passkey {event.id[:8]} of {event.subject}: {event.reason}"
    return _entity(activity, "passkey", event.id, f"{event.by.subject} {what}", event.by, severity=2)


def _access(event: AccessRefused, _: Chain) -> Act:
    """Authentication that was refused; the record says whom it was for only as far as the token or key claims it."""
    message = f"the service refuses a request without valid authentication: {event.why}"
    act = _entity((99, "Other"), "access", event.claimed or "unknown", message, None, detail=event.why, severity=2)
    return replace(act, status=2, unmapped={"remit.address": event.address, "remit.more": event.more})


def _settled(event: EffectSettled, chain: Chain) -> Act:
    place = f"{chain.name}/{event.step}.{event.index}"
    message = f"{event.source} states that the effect of {place} has the outcome {event.landed}"
    return _entity(_UPDATE, "effect", place, message, event.by, detail=event.reason, severity=2)


def _answered(event: AnswerGiven | QuestionAnswered, chain: Chain) -> Act:
    place = f"{chain.name}/{event.step}.{event.index}"
    words = "answers" if isinstance(event, AnswerGiven) else "answered, and it goes on:"
    return _entity((99, "Other"), "question", place, f"{event.by.subject} {words} the tool of {place}", event.by)


def _policy(event: PolicyChanged | PolicyAdopted | PolicyPublished, chain: Chain) -> Act:
    if isinstance(event, PolicyPublished):
        what = "puts its own rules in force for all processes" if event.files else "ends the rules that were published"
        by, message = event.by, f"{event.by.subject} {what}: {event.reason}"
    elif isinstance(event, PolicyAdopted):
        by, message = event.by, f"runs start under other {' and '.join(event.changes)}"
    else:
        problem = f": the new rules are not valid: {event.problem}" if event.problem else ""
        by, message = None, f"the rules of run {chain.name} changed{problem}"
    entity = {"name": "policies/", "type": "policy", "policy": {"name": "policies/", "uid": event.policy_digest}}
    return replace(_entity(_UPDATE, "policy", "policies/", message, by, severity=2), fields={"entity": entity})


def _rollout(event: RolloutOpened | RolloutStaged | RolloutRolledBack | RolloutFinished, chain: Chain) -> Act:
    match event:
        case RolloutOpened():
            activity, words = _CREATE, f"is opened for {event.agent}"
        case RolloutStaged():
            activity, words = _UPDATE, f"goes to stage {event.number}"
        case RolloutRolledBack():
            activity, words = _DEACTIVATE, f"is rolled back: {event.reason}"
        case RolloutFinished():
            activity, words = _ACTIVATE, "is finished"
    return _entity(activity, "rollout", chain.name, f"the rollout {words}", event.by, severity=2)


def _resumed(event: RunResumed, chain: Chain) -> Act | None:
    """A run that goes on with changed files, code or pins; None for one that goes on as it began."""
    if event.accepted is None:
        return None
    message = f"{event.by.subject} resumes run {chain.name} and accepts changes of {len(event.accepted.changed)} files or pins"
    detail = ", ".join(event.accepted.changed)
    return _entity(_RESUME, "run", chain.name, message, event.by, detail=detail, severity=2)


def _secret(event: SecretSet, _: Chain) -> Act:
    return _entity(
        _UPDATE, "secret", event.name, f"{event.by.subject} sets the secret {event.name}", event.by, severity=2
    )


def _read(event: ContentRead, _: Chain) -> Act:
    return _entity(_READ, "run", event.run, f"{event.by.subject} reads run {event.run}: {event.how}", event.by)


def _given(event: DecisionsGiven, _: Chain) -> Act:
    """Decisions for an application, which carries them out itself; each is in the record with its time."""
    allowed = sum(one.allowed for one in event.decisions)
    message = (
        f"{event.by.subject} was given {len(event.decisions)} decisions, {allowed} of them allow, as {event.point}"
    )
    act = _entity(_READ, "decisions", event.point, message, event.by)
    decisions = [one.model_dump(mode="json") for one in event.decisions]
    return replace(act, unmapped={"remit.decisions": decisions, "remit.policy": event.policy_digest})


def _removed(event: RunErased | RunPruned, _: Chain) -> Act:
    what = "erases the texts of" if isinstance(event, RunErased) else "deletes"
    return _entity(_DELETE, "run", event.run, f"{event.by.subject} {what} run {event.run}", event.by, severity=2)


def _erased(item: Recorded) -> Act:
    """An event whose texts were erased: its header still shows that there was one."""
    return _entity((0, "Unknown"), "event", item.key, f"{item.type}: its texts were erased", None)


_ACTS: Final[Mapping[str, Callable[[Any, Chain], Act | None]]] = {
    "call.decided": _decided,
    **dict.fromkeys(
        (f"approval.{what}" for what in ("requested", "granted", "rejected", "revoked", "refused", "voided")), _approval
    ),
    "break_glass.reviewed": _reviewed,
    **dict.fromkeys((f"act.{what}" for what in ("requested", "approved", "used")), _act),
    **dict.fromkeys(("key.created", "key.revoked"), _key),
    **dict.fromkeys((f"passkey.{what}" for what in ("enrolled", "confirmed", "revoked")), _passkey),
    "access.refused": _access,
    "hold.set": _hold,
    "hold.lifted": _hold,
    "effect.settled": _settled,
    **dict.fromkeys(("answer.given", "question.answered"), _answered),
    "run.resumed": _resumed,
    "policy.changed": _policy,
    "policy.adopted": _policy,
    "policy.published": _policy,
    **dict.fromkeys((f"rollout.{what}" for what in ("opened", "staged", "rolled_back", "finished")), _rollout),
    "secret.set": _secret,
    "content.read": _read,
    "decisions.given": _given,
    "run.erased": _removed,
    "run.pruned": _removed,
}
AUDITED: Final = frozenset(_ACTS)
