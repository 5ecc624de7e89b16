"""The form of an audit record: OCSF 1.8, whatever the event is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, TypeAlias

from remit.core import Principal
from remit.core.events import CallDecided, Recorded, RunStarted

OCSF_VERSION: Final = "1.8.0"

Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What records of one chain need of it: how its run started, None if it is no run or was erased, and how a call was decided first."""

    name: str
    started: RunStarted | None
    call: Callable[[int, int], CallDecided | None]


@dataclass(frozen=True, kw_only=True)
class AuditClass:
    uid: int
    name: str
    category: str


API: Final = AuditClass(uid=6003, name="API Activity", category="Application Activity")
ENTITY: Final = AuditClass(uid=3004, name="Entity Management", category="Identity & Access Management")
ACCESS: Final = AuditClass(uid=3005, name="User Access Management", category="Identity & Access Management")
_SEVERITIES: Final = {1: "Informational", 2: "Low", 3: "Medium", 4: "High"}
_STATUSES: Final = {1: "Success", 2: "Failure", 99: "Other"}
_USER_TYPES: Final = {"user": (1, "User"), "service": (4, "Service"), "agent": (99, "Agent")}


@dataclass(frozen=True, kw_only=True)
class Act:
    """What one event is in OCSF. `by` is who did it; None: Remit itself. `fields` are those of its class."""

    of: AuditClass
    activity: tuple[int, str]
    message: str
    fields: Mapping[str, Any]
    by: Principal | None = None
    severity: int = 1
    status: int = 1
    detail: str = ""
    unmapped: Mapping[str, Any] = field(default_factory=dict[str, Any])


def record_of(item: Recorded, chain: Chain, act: Act) -> Record:
    number, activity = act.activity
    actor = {} if act.by is None else {"actor": {"user": user_of(act.by)}}
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


def user_of(principal: Principal) -> Mapping[str, Any]:
    number, kind = _USER_TYPES[principal.subject.partition(":")[0]]
    issuer = {"domain": principal.issuer} if principal.issuer else {}
    return {"name": principal.subject, "uid": principal.account, "type_id": number, "type": kind, **issuer}
