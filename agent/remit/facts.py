"""Facts: what policy, budgets and people read of a run. A fold of its events, and nothing else.

Live, resumed and replayed runs agree because none of them knows anything that is not here. Only calls between decision
and answer are kept one by one, so a long run costs no more per event than a short one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, TypeVar

from remit.call import Call, Confinement, Context, Failed, Grant, Missing, Succeeded, Touch
from remit.errors import Code
from remit.event import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    Content,
    HoldLifted,
    HoldSet,
    ModelAnswered,
    ModelAsked,
    ModelFailed,
    Outcome,
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
)

NANO: Final = 1_000_000_000

# The codes of a call that was refused before anything of it ran.
REFUSED: Final[frozenset[Code]] = frozenset(
    {
        "unknown_action",
        "invalid_arguments",
        "policy_denied",
        "approval_required",
        "approval_rejected",
        "approval_expired",
        "approval_invalid",
        "held",
        "budget_exhausted",
        "rate_limited",
        "denial_loop",
        "circuit_open",
        "content_blocked",
    }
)

_Frozen = TypeVar("_Frozen")

RunState: TypeAlias = Literal["running", "waiting", "finished"]


@dataclass(frozen=True, kw_only=True)
class OpenCall:
    """A call between its first decision and its answer.

    `request` is the decision digest of the latest approval request, "" where nobody was asked; `grants` are those for
    that request only, the first of each person, given before `expires_at` (Unix nanoseconds).
    """

    action: str
    allowed: bool = False
    happened: bool = False
    request: str = ""
    missing: tuple[Missing, ...] = ()
    expires_at: int = 0
    grants: tuple[Grant, ...] = ()
    rejected: bool = False

    @property
    def waiting(self) -> bool:
        """Whether people have still to answer."""
        return not self.allowed and not self.rejected and sum(item.count for item in self.missing) > len(self.grants)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a run after some of its events. `started_at` and `ended_at` are Unix nanoseconds.

    `attempted` counts every call that the model asked for, refused ones too; `settled` counts by action the calls that
    succeeded or may have happened; `streak` counts refused calls since the last one that was not.
    """

    started: RunStarted | None = None
    started_at: int | None = None
    ended_at: int | None = None
    finished: bool = False
    outcome: Outcome | None = None
    code: Code | None = None
    resumed: int = 0
    step: int = -1
    labels: frozenset[str] = frozenset()
    attempted: int = 0
    answered: int = 0
    denied: int = 0
    first_denied: str | None = None
    streak: int = 0
    settled: Mapping[str, int] = field(default_factory=dict[str, int])
    open: Mapping[tuple[int, int], OpenCall] = field(default_factory=dict[tuple[int, int], OpenCall])
    holds: Mapping[str, HoldSet] = field(default_factory=dict[str, HoldSet])

    @property
    def requested(self) -> tuple[str, ...]:
        """The keys of the latest approval request of each call that has no answer yet."""
        return tuple(
            f"approval.requested/{step}/{index}/{call.request}"
            for (step, index), call in self.open.items()
            if call.request
        )

    @property
    def state(self) -> RunState:
        """`waiting` where at least one call waits for people; `running` also where no process is at it just now."""
        if self.finished:
            return "finished"
        return "waiting" if any(call.waiting for call in self.open.values()) else "running"

    def calls(self, *, but: tuple[int, int] | None = None) -> dict[str, int]:
        """Calls by action that succeeded, may have happened, or are allowed and not yet answered, except `but`.

        Counting allowed calls before they run is what lets only one of three parallel calls win a budget of one.
        """
        counts = dict(self.settled)
        for place, call in self.open.items():
            if place != but and (call.allowed or call.happened):
                counts[call.action] = counts.get(call.action, 0) + 1
        return counts


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One line of the list of runs. `started_at` and `ended_at` are Unix nanoseconds."""

    run: str
    started_at: int
    ended_at: int | None
    agent: str
    user: str
    task: str
    model: str
    scripted: bool
    state: RunState
    outcome: Outcome | None
    code: Code | None
    steps: int
    calls: int
    denied: int
    first_denied: str | None
    content: Content = "whole"


# The events that a summary is made of.
SUMMARISED: Final = (
    "run.started",
    "run.finished",
    "model.asked",
    "call.decided",
    "approval.requested",
    "approval.granted",
    "approval.rejected",
    "call.answered",
)


def summary(run: str, facts: Facts) -> RunSummary:
    """What the list of runs says of one; empty where its first event was erased."""
    started = facts.started
    return RunSummary(
        run=run,
        started_at=facts.started_at or 0,
        ended_at=facts.ended_at,
        agent=started.subjects.agent if started else "",
        user=started.subjects.user if started else "",
        task=started.task if started else "",
        model=started.model if started else "",
        scripted=started.scripted if started else False,
        state=facts.state,
        outcome=facts.outcome,
        code=facts.code,
        steps=facts.step + 1,
        calls=facts.attempted,
        denied=facts.denied,
        first_denied=facts.first_denied,
        content=started.content if started else "whole",
    )


def fold(facts: Facts, recorded: Recorded) -> Facts:
    """The facts after one more event."""
    match recorded.event:
        case RunStarted() as event:
            return replace(facts, started=event, started_at=recorded.at)
        case RunResumed() as event:
            return replace(facts, resumed=max(facts.resumed, event.count))
        case ModelAsked() | ModelAnswered() | ModelFailed() as event:
            return replace(facts, step=max(facts.step, event.step))
        case CallDecided() as event:
            return _decided(facts, event)
        case ApprovalRequested() | ApprovalGranted() | ApprovalRejected() as event:
            return _approval(facts, event, recorded.at)
        case AttemptEnded() as event:
            happened = event.code is None or event.landed in ("landed", "unknown")
            call = facts.open.get((event.step, event.index))
            if call is None or not happened:
                return facts
            return _with(facts, (event.step, event.index), replace(call, happened=True))
        case CallAnswered() as event:
            return _answered(facts, event)
        case RunFinished() as event:
            return replace(facts, finished=True, ended_at=recorded.at, outcome=event.outcome, code=event.code)
        case HoldSet() as event:
            return replace(facts, holds={**facts.holds, event.scope: event})
        case HoldLifted() as event:
            return replace(facts, holds={scope: hold for scope, hold in facts.holds.items() if scope != event.scope})
        case None:
            return _erased(facts, recorded)
        case _:
            return facts


def context(
    facts: Facts,
    *,
    call: Call,
    env: str,
    confinement: Confinement,
    at: int,
    roles_of: Callable[[str], frozenset[str]],
    decision_digest: str | None = None,
) -> Context:
    """What a condition may read when `call` is decided at `at` (Unix nanoseconds).

    A grant counts if it was given for the latest request, by a person who has that role now and is not the requester,
    and has not lapsed; with `decision_digest`, only if that request asked about this very decision.
    """
    place = (call.step, call.index)
    asked = facts.open.get(place)
    approvals: dict[str, int] = {}
    if asked is not None and not asked.rejected and decision_digest in (None, asked.request):
        for grant in asked.grants:
            lapsed = grant.until is not None and at >= grant.until
            if (
                not lapsed
                and _is_person(grant.approver, call, facts.started)
                and grant.role in roles_of(grant.approver)
            ):
                approvals[grant.role] = approvals.get(grant.role, 0) + 1
    return Context(
        args=call.arguments,
        labels=facts.labels,
        named=_named(facts.started.task if facts.started else "", call.touches),
        calls=facts.calls(but=place),
        approvals=approvals,
        env=env,
        confinement=confinement,
        time=datetime.fromtimestamp(at // NANO, UTC).strftime("%H:%M"),
    )


def _decided(facts: Facts, event: CallDecided) -> Facts:
    place = (event.step, event.index)
    earlier = facts.open.get(place)
    action = event.call.action if event.call else event.ask.action
    allowed = event.decision is not None and event.decision.verdict == "allow"
    call = OpenCall(action=action, allowed=allowed) if earlier is None else replace(earlier, allowed=allowed)
    first = 1 if event.round == 0 else 0
    return replace(_with(facts, place, call), attempted=facts.attempted + first)


def _approval(facts: Facts, event: ApprovalRequested | ApprovalGranted | ApprovalRejected, at: int) -> Facts:
    place = (event.step, event.index)
    call = facts.open.get(place)
    if call is None:
        return facts
    if isinstance(event, ApprovalRequested):
        # INVARIANT: a new request starts from no grants; what people said of another decision does not carry over.
        call = replace(
            call,
            request=event.decision_digest,
            missing=event.missing,
            expires_at=event.expires_at,
            grants=(),
            rejected=False,
        )
    elif event.decision_digest != call.request:
        return facts
    elif isinstance(event, ApprovalRejected):
        call = replace(call, rejected=True)
    elif at < call.expires_at and all(grant.approver != event.approver for grant in call.grants):
        call = replace(call, grants=(*call.grants, Grant(approver=event.approver, role=event.role, until=event.until)))
    return _with(facts, place, call)


def _answered(facts: Facts, event: CallAnswered) -> Facts:
    place = (event.step, event.index)
    call = facts.open.get(place)
    facts = replace(
        facts, answered=facts.answered + 1, open={key: item for key, item in facts.open.items() if key != place}
    )
    match event.result:
        case Succeeded() as result:
            facts = replace(facts, labels=facts.labels.union(result.labels), streak=0)
        case Failed() as result if result.error.code in REFUSED:
            action = call.action if call else "a call"
            first = facts.first_denied or f"{action} at step {event.step}: {result.error.code}"
            facts = replace(facts, denied=facts.denied + 1, first_denied=first, streak=facts.streak + 1)
        case Failed():
            facts = replace(facts, streak=0)
    if call is not None and (event.result.ok or call.happened):
        facts = replace(facts, settled={**facts.settled, call.action: facts.settled.get(call.action, 0) + 1})
    return facts


def _erased(facts: Facts, recorded: Recorded) -> Facts:
    """Only finished runs lose bodies, so headers are enough to tell when it began and that it is over."""
    if recorded.type == "run.started":
        return replace(facts, started_at=recorded.at)
    if recorded.type == "run.finished":
        return replace(facts, finished=True, ended_at=recorded.at)
    return facts


def _with(facts: Facts, place: tuple[int, int], call: OpenCall) -> Facts:
    return replace(facts, open={**facts.open, place: call})


def _is_person(approver: str, call: Call, started: RunStarted | None) -> bool:
    """Another person: neither a subject of the call nor whoever started the run in that subject's name."""
    own = (*call.subjects.all, started.actor if started else "")
    return approver.startswith("user:") and approver != "user:none" and approver not in own


def _named(task: str, touches: tuple[Touch, ...]) -> bool:
    """Whether the user's own words name every resource; a call that touches nothing is not named."""
    return bool(touches) and all(_says(task, touch.name) for touch in touches)


def _says(task: str, name: str) -> bool:
    # A name must not be a part of a longer one: `a.md` is not named by `secret/a.md` nor by `a.md.bak`.
    return (
        bool(name)
        and name in task
        and re.search(rf"(?<![\w./@:%+*-]){re.escape(name)}(?![\w/@:%+*-]|\.\w)", task) is not None
    )


def replace(whole: _Frozen, **changes: Any) -> _Frozen:
    """The same with some fields changed: as `dataclasses.replace`, which takes half of all folding, without its checks."""
    made = object.__new__(type(whole))
    made.__dict__.update(whole.__dict__, **changes)
    return made
