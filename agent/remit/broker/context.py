"""Builds the context of a policy request: the facts about a call and its run that a condition can read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from remit.core import CONFIRMATION, IN_CONVERSATION, Call, Confinement, Context, Json, ResourceAccess, roles_held
from remit.core.events import NANO, ApprovalGranted, AttemptBegun, RunStarted
from remit.core.parsing import SERVER_KIND, URL_KINDS
from remit.guardrails import argument_texts, contained_kinds, kind_of, quotes_all, requests_action, unnamed_resources
from remit.journal import Record, RunState
from remit.policy.language import Entities

# Facts that are searched for in texts or looked up, so that finding them takes most of the time of a backtest.
NAMES: Final = frozenset({"named_by_user", "identified", "unidentified"})
TEXTS: Final = frozenset({"contains", "quoted_by_user"})
PROPERTIES: Final = frozenset({"subject", "resource"})
COSTLY: Final = NAMES | TEXTS | PROPERTIES


def leaves_system(call: Call) -> bool:
    """True if the arguments may leave the system: the action has an effect, requests a URL that the model chose, or asks a server elsewhere."""
    return call.effect != "read" or any(
        touch.kind == SERVER_KIND or (touch.kind in URL_KINDS and not touch.fixed) for touch in call.touches
    )


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When and where a call is decided. `at` is in Unix nanoseconds; `roles_of` returns the current roles of a person; `entities`
    are the properties that the workspace vouches for.

    With `decision_digest`, only approvals of that decision count; None counts the approvals of any decision.
    """

    env: str
    confinement: Confinement
    at: int
    roles_of: Callable[[str], frozenset[str]]
    entities: Entities
    decision_digest: str | None = None


def policy_context(
    state: RunState,
    call: Call,
    moment: Moment,
    *,
    means: Iterable[str] = (),
    shown: Mapping[str, Json] | None = None,
    quoted: bool | None = None,
    read: Collection[str] = COSTLY,
) -> Context:
    """The facts that a condition can read when `call` is decided.

    `means` are the request words of the action. `shown` are its arguments as recorded. `quoted` is the recorded value of
    `quoted_by_user` if the arguments were redacted, because it cannot be computed from redacted arguments. Costly facts that are
    not in `read` keep their defaults. INVARIANT: `read` has every one of them that a rule of the action reads; a backtest knows that.
    """
    place = (call.step, call.index)
    chosen = [touch for touch in call.touches if not touch.fixed]
    facts: dict[str, Any] = {}
    if not NAMES.isdisjoint(read):
        facts |= _named(state, chosen)
    if not TEXTS.isdisjoint(read):
        facts |= _found_in_texts(state, call, chosen, shown, quoted)
    if not PROPERTIES.isdisjoint(read):
        facts |= moment.entities.facts(call.subjects.all, [touch.resource for touch in call.touches])
    return Context(
        args=call.arguments,
        labels=state.labels | given_labels(state, call),
        requested_by_user=requests_action(state.task, means),
        effect=call.effect,
        calls=_calls(state, place),
        approvals=_by_role(counted_grants(state, call, moment)),
        env=moment.env,
        confinement=moment.confinement,
        time=_time_of_day(moment.at),
        **facts,
    )


def _named(state: RunState, chosen: Sequence[ResourceAccess]) -> dict[str, Any]:
    """Which of the resources that the model chose the user or the directory names."""
    unnamed = unnamed_resources(state.words, chosen, state.directory)
    unknown = frozenset(kind_of(resource) for resource in unnamed if resource not in state.directory)
    return {"named_by_user": bool(chosen) and not unnamed, "identified": not unknown, "unidentified": unknown}


def _found_in_texts(
    state: RunState, call: Call, chosen: Sequence[ResourceAccess], shown: Mapping[str, Json] | None, quoted: bool | None
) -> dict[str, Any]:
    """What the other texts of the arguments contain, if they may leave the system."""
    if not leaves_system(call):
        return {"quoted_by_user": bool(quoted)}
    names = {touch.name for touch in chosen} | {touch.resource for touch in chosen}
    texts = argument_texts(call.arguments if shown is None else shown, names)
    if quoted is None:
        quoted = quotes_all(state.words, argument_texts(call.arguments, names))
    contains = contained_kinds(texts, state.words, state.directory, state.values)
    return {"contains": contains, "quoted_by_user": quoted}


def given_labels(state: RunState, call: Call) -> frozenset[str]:
    """The labels of everything that the live sandbox of the run for the call's tool was ever given."""
    return state.given.get(call.action.partition(".")[0], frozenset())


def known_labels(record: Record, call: Call) -> tuple[str, ...]:
    """The labels of what the live sandbox knew while the last attempt of the call ran: what it returned may contain that.

    From the record of the attempt: until the result is recorded, the sandbox may be given something for another call.
    """
    number = record.count(f"attempt.begun/{call.step}/{call.index}")
    begun = record.get(f"attempt.begun/{call.step}/{call.index}/{number}")
    return begun.given or () if isinstance(begun, AttemptBegun) else ()


def as_decided(state: RunState, call: Call) -> RunState:
    """The state with the labels that the run had when the call was decided.

    What other calls have read since then says nothing of this one: the model wrote it before. Only its sandbox may know it.
    """
    open_call = state.open.get((call.step, call.index))
    return state if open_call is None else replace(state, labels=open_call.labels_then)


def _calls(state: RunState, place: tuple[int, int]) -> dict[str, int]:
    """How many calls of each action the run has made, and how many its conversation, by "ACTION in conversation"."""
    counts = state.calls(but=place)
    if state.conversation is None:
        return counts | {f"{name}{IN_CONVERSATION}": count for name, count in counts.items()}
    earlier = state.conversation.calls
    every = {f"{name}{IN_CONVERSATION}": counts.get(name, 0) + earlier.get(name, 0) for name in {*counts, *earlier}}
    return counts | every


def _by_role(grants: Iterable[ApprovalGranted]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for grant in grants:
        counts[grant.role] = counts.get(grant.role, 0) + 1
    return counts


def _time_of_day(at: int) -> str:
    """Hours and minutes in UTC. Not `strftime`, which would take a tenth of the time of a backtest."""
    hours, minutes = divmod(at // (60 * NANO) % (24 * 60), 60)
    return f"{hours:02}:{minutes:02}"


def counted_grants(state: RunState, call: Call, moment: Moment) -> tuple[ApprovalGranted, ...]:
    """The grants of the latest approval request of the call that count now.

    A grant counts if it has not expired, and if it is from another person than the requester who has the role now; a confirmation, if it
    is from the requester.
    """
    found = state.open.get((call.step, call.index))
    approval = None if found is None else found.approval
    if approval is None or moment.decision_digest not in (None, approval.requested.decision_digest):
        return ()
    return tuple(grant for grant in approval.counted(moment.at) if _counts(grant, call, state.started, moment.roles_of))


def _counts(
    grant: ApprovalGranted, call: Call, started: RunStarted | None, roles_of: Callable[[str], frozenset[str]]
) -> bool:
    """True if the grant is from a person who may give it now. INVARIANT: no requester gives more than a confirmation."""
    by = grant.by
    own = by.subject in call.subjects.all or (started is not None and started.is_requested_by(by))
    if grant.role == CONFIRMATION:
        return by.is_person and own
    return by.is_person and not own and grant.role in roles_held(by, roles_of)
