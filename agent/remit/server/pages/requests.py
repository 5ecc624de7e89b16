"""What a person sees of a request for approval, and how they may answer it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from remit.broker.approvals import plain
from remit.client import RequestReview, WaitingApproval, find_request, rapid_before, review_of, waiting_approvals_of
from remit.core import BREAK_GLASS, Principal, UsageError, roles_held, same_person
from remit.core.events import NANO, ApprovalState, RunStarted
from remit.core.parsing import canonical_json
from remit.journal import StoredRecord
from remit.policy import Policy
from remit.tracing.reports import answer_lines, needs_text, utc
from remit.workspace import OwnAction, WorkspaceSession, may, resource_of

MOST_KNOWN: Final = 20_000  # answers of the rules that are kept
REQUEST: Final = re.compile(r"([0-9a-f]{32})\.([0-9]{1,9}\.[0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class ShownRequest:
    """A request for approval, for one person. `task` is "" for who may not read the run; `roles` are those in which they may answer it.

    `until` is in Unix seconds. `gave` is True if an approval of theirs counts, `emergency` if they may approve in `role:break-glass`.
    """

    id: str
    run: str
    place: str
    summary: str
    needs: str
    expires: str
    until: int
    minutes: int
    digest: str
    task: str = ""
    reads: bool = False
    roles: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    gave: bool = False
    emergency: bool = False
    is_own: bool = False
    is_closed: bool = False


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """A request for approval with what everybody's view of it needs. `approval` is None once its call may begin or has ended."""

    waiting: WaitingApproval
    started: RunStarted
    approval: ApprovalState | None


class Rights:
    """What people may do under the rules in force. These actions depend on no fact, so each question is asked once until the rules change."""

    def __init__(self) -> None:
        self._known: tuple[Policy | None, dict[object, bool]] = (None, {})

    def may(self, policy: Policy, by: Principal, action: OwnAction, resource: str) -> bool:
        of, known = self._known
        if of is not policy or len(known) >= MOST_KNOWN:
            self._known = _, known = policy, {}
        key = (by.model_copy(update={"session": ""}), action, resource)
        if key not in known:
            known[key] = may(policy, by, action, resource)
        return known[key]


def open_requests(session: WorkspaceSession) -> list[OpenRequest]:
    """The open requests of the workspace, the oldest first, for each person to see a part of."""
    found = (_opened(session, waiting) for waiting in waiting_approvals_of(session))
    return [item for item in found if item is not None]


def shown_requests(found: Iterable[OpenRequest], policy: Policy, by: Principal, rights: Rights) -> list[ShownRequest]:
    """Those that the person may answer or read."""
    views = (shown_request(item, policy, by, rights) for item in found)
    return [view for view in views if view is not None]


def found_request(
    session: WorkspaceSession, policy: Policy, by: Principal, name: str
) -> tuple[WaitingApproval, ShownRequest] | None:
    """The request RUN.STEP.INDEX as the person may see it; None if there is none, or if it is not for them: nobody can tell these apart."""
    matched = REQUEST.fullmatch(name)
    if matched is None:
        return None
    try:
        waiting = find_request(session, f"{matched[1]}/{matched[2]}")
    except UsageError:
        return None
    opened = _opened(session, waiting)
    shown = None if opened is None else shown_request(opened, policy, by, Rights())
    return None if shown is None else (waiting, shown)


def _opened(session: WorkspaceSession, waiting: WaitingApproval) -> OpenRequest | None:
    record, request = StoredRecord(session.journal, waiting.run), waiting.request
    started = record.get("run.started/-/-/-")
    if not isinstance(started, RunStarted):
        return None
    opened = record.state.open.get((request.step, request.index))
    approval = None if opened is None or opened.allowed else opened.approval
    return OpenRequest(waiting=waiting, started=started, approval=approval)


def shown_request(item: OpenRequest, policy: Policy, by: Principal, rights: Rights) -> ShownRequest | None:
    """INVARIANT: who may not read the run sees the call only, and who may not answer it either sees nothing."""
    waiting, started, approval = item.waiting, item.started, item.approval
    request, now = waiting.request, time.time_ns()
    is_open = approval is not None and approval.requested.key == request.key and approval.waits(now)
    run, own = resource_of(started, by), started.is_requested_by(by)
    reads = rights.may(policy, by, "remit.read", run)
    answers = approval is not None and by.is_person and not own and rights.may(policy, by, "remit.approve", run)
    roles = _roles(approval, policy, by, now) if answers and approval is not None else ()
    if not _is_concerned(reads, roles):
        return None
    gave = approval is not None and any(same_person(grant.by, by) for grant in approval.counted(now))
    usable = BREAK_GLASS in roles_held(by, policy.roles_of) and request.break_glass
    return ShownRequest(
        id=f"{waiting.run}.{request.step}.{request.index}",
        run=waiting.run,
        place=f"{waiting.run[:8]}/{request.step}.{request.index}",
        summary=request.summary,
        needs=needs_text(request),
        expires=datetime.fromtimestamp(request.expires_at // NANO, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        until=request.expires_at // NANO,
        minutes=max(0, round(waiting.expires_in_s / 60)),
        digest=request.decision_digest,
        task=started.task if reads else "",
        reads=reads,
        roles=roles if is_open else (),
        answers=tuple(answer_lines(approval.answers)) if approval is not None and reads else (),
        gave=gave,
        emergency=answers and is_open and usable,
        is_own=own,
        is_closed=not is_open,
    )


def circumstances(
    session: WorkspaceSession, policy: Policy, by: Principal, waiting: WaitingApproval, shown: ShownRequest
) -> dict[str, Any]:
    """What else the page shows: whether the person answers fast, and for who may read the run what came before."""

    def may_read(run: str) -> bool:
        started = StoredRecord(session.journal, run).get("run.started/-/-/-")
        return isinstance(started, RunStarted) and may(policy, by, "remit.read", resource_of(started, by))

    return {
        "rapid": rapid_before(session, waiting, by) if shown.roles else (),
        "review": _texts(review_of(session, waiting, may_read)) if shown.reads else None,
    }


def _texts(review: RequestReview) -> dict[str, Any]:
    """The circumstances as texts in which no character hides."""
    return {
        "whole": review.whole,
        "rules": [
            {"file": rule.file, "line": rule.line, "text": plain(rule.text), "note": plain(rule.note)}
            for rule in review.rules
        ],
        "facts": [(name, plain(canonical_json(value).decode())) for name, value in sorted(review.facts.items())],
        "earlier": [
            {
                "place": item.place,
                "action": plain(item.action),
                "resources": [plain(name) for name in item.resources],
                "labels": item.labels,
            }
            for item in review.earlier
        ],
        "earlier_count": review.earlier_count,
        "like": review.like,
        "similar": [
            {
                "run": one.run,
                "place": f"{one.run[:8]}/{one.step}.{one.index}",
                "approver": one.approver,
                "role": one.role,
                "at": utc(one.at),
                "differences": one.differences,
            }
            for one in review.similar
        ],
    }


def _roles(approval: ApprovalState, policy: Policy, by: Principal, now: int) -> tuple[str, ...]:
    held = roles_held(by, policy.roles_of)
    return tuple(dict.fromkeys(role for role in approval.accepts(now) if role in held))


def _is_concerned(reads: bool, roles: tuple[str, ...]) -> bool:
    """True for who may read the run, and for who may answer the request."""
    return reads or bool(roles)
