"""What people do with Remit itself: actions `remit.*`, decided by the same rules and cases as the calls of agents.

A run is the resource `run:own/AGENT` for the person who started it or for whom it acts, and `run:other/AGENT` for everybody else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from weakref import WeakKeyDictionary

import remit.journal
import remit.policy
from remit.core import (
    Context,
    Effect,
    MissingApproval,
    Principal,
    Refusal,
    Request,
    UsageError,
    is_principal,
    roles_held,
    same_person,
)
from remit.core.events import NANO, ActApproved, ActRequested, ActUsed, AnyEvent, RunStarted
from remit.core.parsing import digest

if TYPE_CHECKING:  # the names of the actions are read without the database and without stock Casbin
    from remit.journal import Journal, RunSummary
    from remit.policy import Policy

OwnAction: TypeAlias = Literal[
    "remit.run",  # start a run, or make one call; on agent:NAME
    "remit.resume",  # continue a run; on run:own/AGENT or run:other/AGENT
    "remit.read",  # read, export or replay a run, and see it in lists; on run:…
    "remit.hold",  # set and lift a hold; on run:…, agent:NAME, tool:NAME or hold:all
    "remit.settle",  # say whether an effect of unknown outcome has happened; on run:…
    "remit.approve",  # approve or reject in a role that the request asks for, answer a server, and review an emergency; on run:…
    "remit.erase",  # erase the content of runs, and delete runs; on run:…
    "remit.publish",  # pin a tool, or the graph of an agent, which lets it run; on tool:NAME and agent:NAME
    "remit.policy",  # put rules in force for every process that shares the journal; on policy:rules
    "remit.revoke",  # revoke the code of a tool, or of the graph of an agent; on tool:NAME and agent:NAME
    "remit.alert",  # close an alert; on agent:NAME
    "remit.rollout",  # open and widen a rollout; on agent:NAME
    "remit.impersonate",  # act for another user; on user:NAME
    "remit.disable",  # disable a person or a service, and enable them; on user:NAME and service:NAME
    "remit.keys",  # create and revoke API keys of a service; on service:NAME
    "remit.passkeys",  # confirm and revoke the passkey of another person; on user:NAME
]

# Whether everybody may do it while no row says who may do such things.
# INVARIANT: False for what gives a person more than they have. Such an action is denied until a row allows it.
OWN_ACTIONS: Final[Mapping[OwnAction, bool]] = {
    "remit.run": True,
    "remit.resume": True,
    "remit.read": True,
    "remit.hold": True,
    "remit.settle": True,
    "remit.approve": True,
    "remit.erase": True,
    "remit.publish": True,
    "remit.revoke": True,
    "remit.alert": True,
    "remit.rollout": False,
    "remit.impersonate": False,
    "remit.disable": False,
    "remit.policy": False,
    "remit.keys": False,
    "remit.passkeys": False,
}
OWN_KINDS: Final = ("run", "agent", "tool", "user", "service", "hold", "policy")  # of the resources of these actions
_OPEN: Final = frozenset(name for name, is_open in OWN_ACTIONS.items() if is_open)
EVERY_HOLD: Final = "hold:all"
NAMED: Final = 20  # runs that a request for a second person names
LASTS_NS: Final = 24 * 3600 * NANO  # of a request for a second person
_NO_FACTS: Final = Context()
_MOST_KEPT: Final = 4096  # permissions by one set of rules
_PERMITTED: Final[WeakKeyDictionary[Policy, set[object]]] = WeakKeyDictionary()
# Reading has no effect, and the calls of a run are asked about one by one.
_WITHOUT_CASBIN: Final[frozenset[OwnAction]] = frozenset({"remit.read", "remit.run", "remit.resume"})


def own_effects() -> dict[str, Effect]:
    """The effect of each action: reading changes nothing."""
    return {name: "read" if name == "remit.read" else "once" for name in OWN_ACTIONS}


def run_resource(agent: str, *, own: bool) -> str:
    """The name of a run in the rules; `agent` is a subject or a name."""
    return f"run:{'own' if own else 'other'}/{agent.removeprefix('agent:') or 'unknown'}"


def resource_of(started: RunStarted | None, by: Principal) -> str:
    """The name of that run in the rules, for that person. A run whose beginning was erased is nobody's own."""
    if started is None:
        return run_resource("", own=False)
    return run_resource(started.subjects.agent, own=started.is_requested_by(by))


def authorize_run(policy: Policy, journal: Journal, run: str, by: Principal, action: OwnAction, what: str) -> None:
    """`authorize` for one run of the journal.

    Raises:
        Refusal: `policy_denied` if the rules do not let the person do it.
    """
    authorize(policy, by, action, _resource(journal, run, by), what, journal=journal)


def authorize_runs(
    policy: Policy, journal: Journal, runs: Sequence[str], by: Principal, action: OwnAction, verb: str
) -> None:
    """`authorize` for several runs at once: one question for the person's own runs of an agent, and one for those of others.

    Raises:
        Refusal: `policy_denied` or `approval_required` for some of them.
    """
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(_resource(journal, run, by), []).append(run)
    for resource, of_resource in found.items():
        names = ", ".join(run[:8] for run in of_resource[:NAMED])
        more = f" and {len(of_resource) - NAMED} more, {digest(of_resource)[:15]}" if len(of_resource) > NAMED else ""
        authorize(policy, by, action, resource, f"{verb} run {names}{more}", journal=journal)


def authorize_hold(policy: Policy, journal: Journal, scope: str, by: Principal, what: str) -> None:
    """`authorize` for setting or lifting a hold of that scope: `run:ID`, `agent:NAME`, `tool:NAME`, `user:NAME`, `service:NAME` or `all`.

    Raises:
        Refusal: `policy_denied` if the rules do not let the person do it.
    """
    kind, _, name = scope.partition(":")
    if kind == "run":
        authorize_run(policy, journal, name, by, "remit.hold", what)
    elif is_principal(scope):
        authorize(policy, by, "remit.disable", scope, what, journal=journal)
    else:
        authorize(policy, by, "remit.hold", scope if name else EVERY_HOLD, what, journal=journal)


def readable(policy: Policy, rows: Iterable[RunSummary], by: Principal) -> Iterator[RunSummary]:
    """The rows of a list of runs that the person may read."""
    known: dict[tuple[str, bool], bool] = {}
    for row in rows:
        place = row.agent, row.user == by.subject
        if place not in known:
            known[place] = may(policy, by, "remit.read", run_resource(row.agent, own=place[1]))
        if known[place]:
            yield row


def authorize(
    policy: Policy, by: Principal, action: OwnAction, resource: str, what: str, *, journal: Journal | None = None
) -> None:
    """Check that the rules let a person do something with Remit itself; `what` says it in words, as "read this run".

    If they ask a second person, the request is recorded in `journal`; once it is approved, the person does the same again.

    Raises:
        Refusal: `policy_denied` if the rules do not allow it, `approval_required` while a second person has to approve it.
    """
    if journal is not None:
        check_enabled(journal, by)
    if (refusal := _refusal(policy, by, action, resource)) is None:
        return
    decided = ((request, policy.decide(request)) for request in _requests(by, action, resource))
    asked = next(((request, decision) for request, decision in decided if decision.verdict == "ask"), None)
    if by.scope is None and asked is not None and journal is not None and not _is_denied(policy, by, action, resource):
        _use_approval(policy, journal, by, asked[0], what, asked[1].missing)
        return
    raise Refusal(
        "policy_denied",
        f"{by.subject} may not {what}: {refusal}",
        next_step=f"ask a person whom the rules allow {action} on {resource}, or to change the rules",
    )


def check_enabled(journal: Journal, by: Principal) -> None:
    """Raise Refusal `policy_denied` if that principal is disabled."""
    if (hold := journal.holds().get(by.subject)) is not None:
        raise Refusal(
            "policy_denied",
            f"{by.subject} is disabled: {hold.reason}",
            details={"reason": "disabled"},
            next_step=f"ask a person whom the rules allow remit.disable on {by.subject} to enable it",
        )


def may(policy: Policy, by: Principal, action: OwnAction, resource: str) -> bool:
    """True if the rules let that person do it.

    INVARIANT: a permission is used again for the same rules, subject, roles, scope, action and resource: it follows from nothing else.
    A denial is decided each time, because it may come from a failure.
    """
    known = _PERMITTED.setdefault(policy, set())
    asked = by.subject, by.roles, by.scope, action, resource
    if asked in known:
        return True
    if _refusal(policy, by, action, resource) is not None:
        return False
    if len(known) >= _MOST_KEPT:
        known.clear()
    known.add(asked)
    return True


def _refusal(policy: Policy, by: Principal, action: OwnAction, resource: str) -> str | None:
    """Why the person may not do it; None if they may. INVARIANT: rules that cannot be evaluated allow nothing."""
    if by.scope is not None and not by.scope.covers(action, resource):
        return f"its API key is not for {action} on {resource}"
    requests = _requests(by, action, resource)
    try:
        judged = [(request, policy.judge(request)) for request in requests]
        denied = next((request for request, judgement in judged if judgement.rows and not judgement.allowed), None)
        allowed = next((request for request, judgement in judged if judgement.allowed), None)
        if denied is None and allowed is not None:
            agrees = action in _WITHOUT_CASBIN or remit.policy.SecondOpinion(policy).allows(allowed)
            return None if agrees else "stock Casbin denies it under the same rules"
        closed = denied or not OWN_ACTIONS[action] or _is_closed(policy, action)
        return policy.decide(denied or requests[0]).message if closed else None
    except Exception as failure:  # noqa: BLE001 - whatever fails is a defect of the engine
        return f"the rules could not be evaluated ({type(failure).__name__})"


def _is_closed(policy: Policy, action: OwnAction) -> bool:
    """True if only rows that allow the action give it: rows name it, or they say who may do another action that is open without rows."""
    return any(
        row.action in (action, "remit.*") or (row.rule.effect == "allow" and row.action in _OPEN) for row in policy.rows
    )


def _resource(journal: Journal, run: str, by: Principal) -> str:
    first = journal.get(run, "run.started/-/-/-")
    started = None if first is None else first.event
    return resource_of(started if isinstance(started, RunStarted) else None, by)


def _requests(by: Principal, action: OwnAction, resource: str) -> tuple[Request, ...]:
    """The question to the rules, for the subject and for each role of its token: one allows, and a deny for any of them denies."""
    return tuple(
        Request(subjects=(name,), action=action, resources=(resource,), context=_NO_FACTS)
        for name in (by.subject, *by.roles)
    )


def _is_denied(policy: Policy, by: Principal, action: OwnAction, resource: str) -> bool:
    """True if a row denies it, to the subject or to a role of its token."""
    judged = (policy.judge(request) for request in _requests(by, action, resource))
    return any(judgement.rows and not judgement.allowed for judgement in judged)


# ── a second person ──────────────────────────────────────────────────────────────────────────────────────────────────────
# If the rules ask for approvals, an act is requested, approved and used once, in the stream of the workspace.


def _use_approval(
    policy: Policy, journal: Journal, by: Principal, request: Request, what: str, missing: Sequence[MissingApproval]
) -> None:
    """Use the approvals that other people gave to this act of that person. Without enough of them, request them.

    INVARIANT: approvals count once, for the same person and the same words, and only from others who have the role now.

    Raises:
        Refusal: `approval_required`: a second person has to approve it first.
    """
    act = digest({"by": by.subject, "action": request.action, "resources": request.resources, "what": what})
    act = act.removeprefix("sha256:")[:16]
    asked = _open(journal, act)
    if asked is None:
        asked = _asked(journal, act, by, request, what, missing)
    counts = Counter(
        given.role
        for given in _given(journal, asked)
        if not same_person(given.by, by)
        and given.by.subject not in journal.holds()
        and given.role in roles_held(given.by, policy.roles_of)
    )
    approved = request.context.model_copy(update={"approvals": counts})
    if policy.judge(request.model_copy(update={"context": approved})).allowed:
        try:
            journal.append_shared(remit.journal.WORKSPACE_RUN, ActUsed(act=act, number=asked.number, by=by))
        except remit.journal.AlreadyRecorded:
            raise Refusal("approval_invalid", f"the approval to {what} has been used already") from None
        return
    needed = ", ".join(f"{item.count} × {item.role}" for item in missing)
    raise Refusal(
        "approval_required",
        f"{by.subject} may {what} once other people approve it: {needed}",
        details={"act": act},
        next_step=f"ask another person to run `remit approve act {act[:8]}`, then do this again",
    )


def open_acts(journal: Journal) -> list[ActRequested]:
    """The acts that wait for a second person, the oldest first."""
    recorded = (item.event for item in journal.every("act.requested", since=time.time_ns() - LASTS_NS))
    asked = (event for event in recorded if isinstance(event, ActRequested) and _is_open(journal, event))
    return [event for event in asked if event.by.subject not in journal.holds()]


def approve_act(policy: Policy, journal: Journal, name: str, by: Principal, role: str | None = None) -> ActApproved:
    """Record the approval of a second person; `name` is the act or its beginning.

    Raises:
        UsageError: no open act has that name, or several have.
        Refusal: `approval_invalid` for the person who wants to do it, for an agent, or without one of the roles that are asked.
    """
    check_enabled(journal, by)
    found = [act for act in open_acts(journal) if act.act.startswith(name)] if name else []
    if len(found) != 1:
        names = ", ".join(act.act[:8] for act in open_acts(journal)) or "none"
        raise UsageError(f"{name!r} matches {len(found)} acts that wait for approval, not one: {names}")
    (asked,) = found
    roles = {item.role for item in asked.missing} & roles_held(by, policy.roles_of)
    mine = sorted(roles if role is None else roles & {role})
    if same_person(by, asked.by) or not by.is_person or by.tenant != asked.by.tenant:
        raise Refusal(
            "approval_invalid", f"{by.subject} cannot approve this: it must be another person than {asked.by.subject}"
        )
    if not mine:
        needed = " or ".join(item.role for item in asked.missing)
        raise Refusal("approval_invalid", f"{by.subject} may not approve this: the approval needs {needed}")
    while True:
        given = _given(journal, asked)
        if any(same_person(one.by, by) for one in given):
            raise Refusal("approval_invalid", f"{by.subject} has already approved this")
        event = ActApproved(act=asked.act, number=asked.number, count=len(given) + 1, by=by, role=mine[0])
        try:
            journal.append_shared(remit.journal.WORKSPACE_RUN, event)
        except remit.journal.AlreadyRecorded:
            continue  # another person approved at the same time
        return event


def _asked(
    journal: Journal, act: str, by: Principal, request: Request, what: str, missing: Sequence[MissingApproval]
) -> ActRequested:
    """Record a new request."""
    number = 1
    while _event(journal, f"act.requested/{act}/{number}") is not None:
        number += 1
    asked = ActRequested(
        act=act,
        number=number,
        action=request.action,
        resource=request.resources[0],
        what=what,
        by=by,
        missing=tuple(missing),
        expires_at=time.time_ns() + LASTS_NS,
    )
    try:
        journal.append_shared(remit.journal.WORKSPACE_RUN, asked)
    except remit.journal.AlreadyRecorded:
        return _asked(journal, act, by, request, what, missing)
    return asked


def _open(journal: Journal, act: str) -> ActRequested | None:
    """The open request of that act."""
    number = 1
    while isinstance(event := _event(journal, f"act.requested/{act}/{number}"), ActRequested):
        if _is_open(journal, event):
            return event
        number += 1
    return None


def _is_open(journal: Journal, asked: ActRequested) -> bool:
    used = _event(journal, f"act.used/{asked.act}/{asked.number}")
    return used is None and time.time_ns() < asked.expires_at


def _given(journal: Journal, asked: ActRequested) -> list[ActApproved]:
    """The approvals of a request, in order."""
    found: list[ActApproved] = []
    place = f"act.approved/{asked.act}/{asked.number}"
    while isinstance(event := _event(journal, f"{place}/{len(found) + 1}"), ActApproved):
        found.append(event)
    return found


def _event(journal: Journal, key: str) -> AnyEvent | None:
    recorded = journal.get(remit.journal.WORKSPACE_RUN, key)
    return None if recorded is None else recorded.event
