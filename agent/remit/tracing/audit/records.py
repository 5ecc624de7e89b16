"""One event as a record of the Open Cybersecurity Schema Framework (OCSF, https://schema.ocsf.io), version 1.8.0.

A decision is API Activity; an approval is User Access Management; a hold, a settlement and a change of rules, pins or secrets are Entity
Management, and so is a read of what a run recorded. Arguments of calls and texts of models and tools are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any, Final, TypeAlias

from remit.core import BREAK_GLASS, NOBODY, Failed, Principal, is_principal
from remit.core.events import (
    CODE,
    AccessRefused,
    ActApproved,
    ActRequested,
    ActUsed,
    ApprovalGranted,
    ApprovalRefused,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalVoided,
    BreakGlassReviewed,
    CallDecided,
    ContentRead,
    EffectSettled,
    HoldLifted,
    HoldSet,
    KeyCreated,
    KeyRevoked,
    PolicyAdopted,
    PolicyChanged,
    QuestionAnswered,
    Recorded,
    RolloutFinished,
    RolloutOpened,
    RolloutRolledBack,
    RolloutStaged,
    RunErased,
    RunPruned,
    RunResumed,
    RunStarted,
    SecretSet,
)

OCSF_VERSION: Final = "1.8.0"

Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What records of one chain need of it: how its run started, None if it is no run or was erased, and how a call was decided first."""

    name: str
    started: RunStarted | None
    call: Callable[[int, int], CallDecided | None]


@dataclass(frozen=True, kw_only=True)
class _Class:
    uid: int
    name: str
    category: str


_API: Final = _Class(uid=6003, name="API Activity", category="Application Activity")
_ENTITY: Final = _Class(uid=3004, name="Entity Management", category="Identity & Access Management")
_ACCESS: Final = _Class(uid=3005, name="User Access Management", category="Identity & Access Management")
_SEVERITIES: Final = {1: "Informational", 2: "Low", 3: "Medium", 4: "High"}
_STATUSES: Final = {1: "Success", 2: "Failure", 99: "Other"}
_USER_TYPES: Final = {"user": (1, "User"), "service": (4, "Service"), "agent": (99, "Agent")}


@dataclass(frozen=True, kw_only=True)
class _Act:
    """What one event is in OCSF. `by` is who did it; None: Remit itself. `fields` are those of its class."""

    of: _Class
    activity: tuple[int, str]
    message: str
    fields: Mapping[str, Any]
    by: Principal | None = None
    severity: int = 1
    status: int = 1
    detail: str = ""
    unmapped: Mapping[str, Any] = field(default_factory=dict[str, Any])


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
    return _record(item, chain, act)


def _record(item: Recorded, chain: Chain, act: _Act) -> Record:
    number, activity = act.activity
    actor = {} if act.by is None else {"actor": {"user": _user(act.by)}}
    optional = {"status_detail": act.detail} if act.detail else {}
    tenant = chain.started.tenant if chain.started is not None else act.by.tenant if act.by is not None else "default"
    return {
        "class_uid": act.of.uid,
        "class_name": act.of.name,
        "category_uid": act.of.uid // 1000,
        "category_name": act.of.category,
        "activity_id": number,
        "activity_name": activity,
        "type_uid": act.of.uid * 100 + number,
        "type_name": f"{act.of.name}: {activity}",
        "time": item.at // 1_000_000,
        "severity_id": act.severity,
        "severity": _SEVERITIES[act.severity],
        "status_id": act.status,
        "status": _STATUSES[act.status],
        "message": act.message,
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": "Remit", "vendor_name": "Remit", "version": version("remit")},
            "uid": f"{item.run}/{item.seq}",
            "correlation_uid": item.run,
            "event_code": item.type,
            "log_name": "remit.audit",
            "tenant_uid": tenant,
        },
        **actor,
        **optional,
        **act.fields,
        "unmapped": {"remit.hash": item.hash, **act.unmapped},
    }


# -- decisions ---------------------------------------------------------------------------------------------------------


def _decided(event: CallDecided, chain: Chain) -> _Act:
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
    return _Act(
        of=_API,
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
                "user": _user(started.by) if started is not None else {"name": NOBODY},
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
) -> _Act:
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
    return _Act(
        of=_ACCESS,
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


def _reviewed(event: BreakGlassReviewed, chain: Chain) -> _Act:
    message = f"{event.by.subject} reviewed the emergency approval {event.granted}"
    return _entity(
        (99, "Other"), "approval", f"{chain.name}/{event.granted}", message, event.by, detail=event.note, severity=3
    )


def _act(event: ActRequested | ActApproved | ActUsed, _: Chain) -> _Act:
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
) -> _Act:
    return _Act(
        of=_ENTITY,
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


def _hold(event: HoldSet | HoldLifted, _: Chain) -> _Act:
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


def _key(event: KeyCreated | KeyRevoked, _: Chain) -> _Act:
    activity, verb = (_CREATE, "creates") if isinstance(event, KeyCreated) else (_DISABLE, "revokes")
    message = f"{event.by.subject} {verb} the API key {event.id} of {event.subject}"
    return _entity(activity, "api key", event.id, message, event.by, severity=2)


def _access(event: AccessRefused, _: Chain) -> _Act:
    """Authentication that was refused; the record says whom it was for only as far as the token or key claims it."""
    message = f"the service refuses a request without valid authentication: {event.why}"
    act = _entity((99, "Other"), "access", event.claimed or "unknown", message, None, detail=event.why, severity=2)
    return replace(act, status=2, unmapped={"remit.address": event.address, "remit.more": event.more})


def _settled(event: EffectSettled, chain: Chain) -> _Act:
    place = f"{chain.name}/{event.step}.{event.index}"
    message = f"{event.source} states that the effect of {place} has the outcome {event.landed}"
    return _entity(_UPDATE, "effect", place, message, event.by, detail=event.reason, severity=2)


def _answered(event: QuestionAnswered, chain: Chain) -> _Act:
    place = f"{chain.name}/{event.step}.{event.index}"
    return _entity((99, "Other"), "question", place, f"{event.by.subject} answered the tool of {place}", event.by)


def _policy(event: PolicyChanged | PolicyAdopted, chain: Chain) -> _Act:
    if isinstance(event, PolicyAdopted):
        by, message = event.by, f"runs start under other {' and '.join(event.changes)}"
    else:
        problem = f": the new rules are not valid: {event.problem}" if event.problem else ""
        by, message = None, f"the rules of run {chain.name} changed{problem}"
    entity = {"name": "policies/", "type": "policy", "policy": {"name": "policies/", "uid": event.policy_digest}}
    return replace(_entity(_UPDATE, "policy", "policies/", message, by, severity=2), fields={"entity": entity})


def _rollout(event: RolloutOpened | RolloutStaged | RolloutRolledBack | RolloutFinished, chain: Chain) -> _Act:
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


def _resumed(event: RunResumed, chain: Chain) -> _Act | None:
    """A run that goes on with changed files, code or pins; None for one that goes on as it began."""
    if event.accepted is None:
        return None
    message = f"{event.by.subject} resumes run {chain.name} and accepts changes of {len(event.accepted.changed)} files or pins"
    detail = ", ".join(event.accepted.changed)
    return _entity(_RESUME, "run", chain.name, message, event.by, detail=detail, severity=2)


def _secret(event: SecretSet, _: Chain) -> _Act:
    return _entity(
        _UPDATE, "secret", event.name, f"{event.by.subject} sets the secret {event.name}", event.by, severity=2
    )


def _read(event: ContentRead, _: Chain) -> _Act:
    return _entity(_READ, "run", event.run, f"{event.by.subject} reads run {event.run}: {event.how}", event.by)


def _removed(event: RunErased | RunPruned, _: Chain) -> _Act:
    what = "erases the texts of" if isinstance(event, RunErased) else "deletes"
    return _entity(_DELETE, "run", event.run, f"{event.by.subject} {what} run {event.run}", event.by, severity=2)


def _erased(item: Recorded) -> _Act:
    """An event whose texts were erased: its header still shows that there was one."""
    return _entity((0, "Unknown"), "event", item.key, f"{item.type}: its texts were erased", None)


_ACTS: Final[Mapping[str, Callable[[Any, Chain], _Act | None]]] = {
    "call.decided": _decided,
    **dict.fromkeys(
        (f"approval.{what}" for what in ("requested", "granted", "rejected", "revoked", "refused", "voided")), _approval
    ),
    "break_glass.reviewed": _reviewed,
    **dict.fromkeys((f"act.{what}" for what in ("requested", "approved", "used")), _act),
    **dict.fromkeys(("key.created", "key.revoked"), _key),
    "access.refused": _access,
    "hold.set": _hold,
    "hold.lifted": _hold,
    "effect.settled": _settled,
    "question.answered": _answered,
    "run.resumed": _resumed,
    "policy.changed": _policy,
    "policy.adopted": _policy,
    **dict.fromkeys((f"rollout.{what}" for what in ("opened", "staged", "rolled_back", "finished")), _rollout),
    "secret.set": _secret,
    "content.read": _read,
    "run.erased": _removed,
    "run.pruned": _removed,
}
AUDITED: Final = frozenset(_ACTS)


def _user(principal: Principal) -> Mapping[str, Any]:
    number, kind = _USER_TYPES[principal.subject.partition(":")[0]]
    issuer = {"domain": principal.issuer} if principal.issuer else {}
    return {"name": principal.subject, "uid": principal.account, "type_id": number, "type": kind, **issuer}
