"""What people do with Remit itself: actions `remit.*`, decided by the same rules and cases as the calls of agents.

A run is the resource `run:own/AGENT` for the person who started it or for whom it acts, and `run:other/AGENT` for everybody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Literal, TypeAlias

from remit.core import Context, Effect, Principal, Refusal, Request
from remit.core.events import RunStarted
from remit.journal import Journal, RunSummary
from remit.policy import Policy, SecondOpinion

OwnAction: TypeAlias = Literal[
    "remit.run",  # start a run, or make one call; on agent:NAME
    "remit.resume",  # continue a run; on run:own/AGENT or run:other/AGENT
    "remit.read",  # read, export or replay a run, and see it in lists; on run:…
    "remit.hold",  # set and lift a hold; on run:…, agent:NAME, tool:NAME or hold:all
    "remit.settle",  # say whether an effect of unknown outcome has happened; on run:…
    "remit.approve",  # approve or reject in a role that the request asks for, and review an emergency; on run:…
    "remit.erase",  # erase the content of runs, and delete runs; on run:…
    "remit.publish",  # pin a tool, which lets it run; on tool:NAME
    "remit.revoke",  # revoke the code of a tool; on tool:NAME
    "remit.alert",  # close an alert; on agent:NAME
    "remit.rollout",  # open and widen a rollout; on agent:NAME
    "remit.impersonate",  # act for another user; on user:NAME
]

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
}
EVERY_HOLD: Final = "hold:all"
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
    first = journal.get(run, "run.started/-/-/-")
    started = None if first is None else first.event
    resource = resource_of(started if isinstance(started, RunStarted) else None, by)
    authorize(policy, by, action, resource, what)


def authorize_hold(policy: Policy, journal: Journal, scope: str, by: Principal, what: str) -> None:
    """`authorize` for setting or lifting a hold of that scope: `run:ID`, `agent:NAME`, `tool:NAME` or `all`.

    Raises:
        Refusal: `policy_denied` if the rules do not let the person do it.
    """
    kind, _, name = scope.partition(":")
    if kind == "run":
        authorize_run(policy, journal, name, by, "remit.hold", what)
    else:
        authorize(policy, by, "remit.hold", scope if name else EVERY_HOLD, what)


def readable(policy: Policy, rows: Iterable[RunSummary], by: Principal) -> Iterator[RunSummary]:
    """The rows of a list of runs that the person may read."""
    known: dict[tuple[str, bool], bool] = {}
    for row in rows:
        place = row.agent, row.user == by.subject
        if place not in known:
            known[place] = may(policy, by, "remit.read", run_resource(row.agent, own=place[1]))
        if known[place]:
            yield row


def authorize(policy: Policy, by: Principal, action: OwnAction, resource: str, what: str) -> None:
    """Check that the rules let a person do something with Remit itself; `what` says it in words, as "read this run".

    Raises:
        Refusal: `policy_denied` if they do not.
    """
    if (refusal := _refusal(policy, by, action, resource)) is not None:
        raise Refusal(
            "policy_denied",
            f"{by.subject} may not {what}: {refusal}",
            next_step=f"ask a person whom the rules allow {action} on {resource}, or to change the rules",
        )


def may(policy: Policy, by: Principal, action: OwnAction, resource: str) -> bool:
    """True if the rules let that person do it."""
    return _refusal(policy, by, action, resource) is None


def _refusal(policy: Policy, by: Principal, action: OwnAction, resource: str) -> str | None:
    """Why the person may not do it; None if they may. INVARIANT: rules that cannot be evaluated allow nothing."""
    request = Request(subjects=(by.subject,), action=action, resources=(resource,), context=Context())
    try:
        judgement = policy.judge(request)
        if judgement.allowed:
            agrees = action in _WITHOUT_CASBIN or SecondOpinion(policy).allows(request)
            return None if agrees else "stock Casbin denies it under the same rules"
        # An action that no row names is open, as its entry says. A row that denies counts in any case.
        named = any(row.action in (action, "remit.*") for row in policy.rows)
        return policy.decide(request).message if named or judgement.rows or not OWN_ACTIONS[action] else None
    except Exception as failure:  # noqa: BLE001 - whatever fails is a defect of the engine
        return f"the rules could not be evaluated ({type(failure).__name__})"
