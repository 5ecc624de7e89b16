"""What a condition may read of a call and its run: the context of a policy request, built from the run's state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from remit.core import Call, Confinement, Context, Grant, Json
from remit.core.events import NANO, RunStarted
from remit.core.parsing import URL_KINDS
from remit.guardrails import argument_texts, contained_kinds, kind_of, quotes_all, requests_action, unnamed_resources
from remit.journal import RunState


def leaves_system(call: Call) -> bool:
    """Whether somebody may come to read what the call says: it acts, or it asks for a page, whose query is a text too."""
    return call.effect != "read" or any(touch.kind in URL_KINDS and not touch.fixed for touch in call.touches)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When and where a call is decided. `at` is Unix nanoseconds; `roles_of` says which roles a person has now.

    With `decision_digest`, only approvals count whose request asked about this very decision.
    """

    env: str
    confinement: Confinement
    at: int
    roles_of: Callable[[str], frozenset[str]]
    decision_digest: str | None = None


def policy_context(
    facts: RunState,
    call: Call,
    moment: Moment,
    *,
    means: Iterable[str] = (),
    shown: Mapping[str, Json] | None = None,
    spoken: bool | None = None,
) -> Context:
    """What a condition may read when `call` is decided. `means` are the words that stand for the action.

    `shown` are its arguments as recorded; `spoken` is whether the user said all of them, where that is recorded because
    some were not. A grant counts if it was given for the latest request, by a person who has that role now and is not the
    requester, and has not lapsed.
    """
    place = (call.step, call.index)
    words = facts.words
    chosen = [touch for touch in call.touches if not touch.fixed]
    strange = unnamed_resources(words, chosen, facts.directory)
    unknown = frozenset(kind_of(resource) for resource in strange if resource not in facts.directory)
    carries = frozenset[str]()
    if leaves_system(call):
        names = {touch.name for touch in chosen} | {touch.resource for touch in chosen}
        texts = argument_texts(call.arguments if shown is None else shown, names)
        carries = contained_kinds(texts, words, facts.directory, facts.values)
        if spoken is None:
            spoken = quotes_all(words, argument_texts(call.arguments, names))
    approvals: dict[str, int] = {}
    for grant in counted_grants(facts, call, moment):
        approvals[grant.role] = approvals.get(grant.role, 0) + 1
    return Context(
        args=call.arguments,
        labels=facts.labels,
        named_by_user=bool(chosen) and not strange,
        identified=not unknown,
        unidentified=unknown,
        contains=carries,
        quoted_by_user=bool(spoken),
        requested_by_user=requests_action(words, means),
        effect=call.effect,
        calls=facts.calls(but=place),
        approvals=approvals,
        env=moment.env,
        confinement=moment.confinement,
        time=_time_of_day(moment.at),
    )


def _time_of_day(at: int) -> str:
    """Hours and minutes in UTC; a strftime would be a tenth of a backtest."""
    hours, minutes = divmod(at // (60 * NANO) % (24 * 60), 60)
    return f"{hours:02}:{minutes:02}"


def counted_grants(facts: RunState, call: Call, moment: Moment) -> tuple[Grant, ...]:
    """The grants that count for the call now, of those that were given for its latest request."""
    asked = facts.open.get((call.step, call.index))
    if asked is None or asked.rejected or moment.decision_digest not in (None, asked.request):
        return ()
    return tuple(
        grant
        for grant in asked.grants
        if (grant.until is None or moment.at < grant.until)
        and _is_another_person(grant.approver, call, facts.started)
        and grant.role in moment.roles_of(grant.approver)
    )


def _is_another_person(approver: str, call: Call, started: RunStarted | None) -> bool:
    """Another person: neither a subject of the call nor whoever started the run in that subject's name."""
    own = (*call.subjects.all, started.actor if started else "")
    return approver.startswith("user:") and approver != "user:none" and approver not in own
