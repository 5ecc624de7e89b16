"""The fold that makes facts of events, one at a time; nothing else ever changes a fact."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from remit.core import Failed, Grant, Succeeded
from remit.core.events import (
    AnswerRejected,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    AttemptBegun,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    EffectSettled,
    HoldLifted,
    HoldSet,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
    ToolFailed,
    ToolRecovered,
    ToolTrialStarted,
)
from remit.guardrails import UNTRUSTED, traceable_values
from remit.journal.run_state import (
    PASSING,
    REFUSED,
    Circuit,
    InDoubtEffect,
    OpenCall,
    RunState,
    Tries,
    effect_digest,
    meant,
)

_Frozen = TypeVar("_Frozen")


def apply_event(facts: RunState, recorded: Recorded) -> RunState:
    """The facts after one more event."""
    match recorded.event:  # the most frequent first: a look at a class that it is not costs as much as some folding
        case CallDecided() as event:
            return _decided(facts, event)
        case CallAnswered() as event:
            return _answered(facts, event)
        case AttemptBegun() | AttemptEnded() as event:
            return _attempted(facts, event)
        case RunStarted() as event:
            return replace(facts, started=event, started_at=recorded.at)
        case RunResumed() as event:
            return replace(facts, resumed=max(facts.resumed, event.count))
        case ModelRequested() as event:
            streak = facts.refused_in_a_row
            step = max(facts.step, event.step)
            return replace(facts, step=step, streak=streak, refused_in_step=0, worked_in_step=False)
        case ModelResponded() as event:
            return _answered_by_model(facts, event)
        case ModelFailed() as event:
            return replace(facts, step=max(facts.step, event.step))
        case AnswerRejected():
            return replace(facts, answers_rejected=facts.answers_rejected + 1)
        case ApprovalRequested() | ApprovalGranted() | ApprovalRejected() | ApprovalRevoked() as event:
            return _approval(facts, event, recorded.at)
        case EffectSettled() as event:
            return _settled(facts, event)
        case RunFinished() as event:
            return replace(facts, finished=True, ended_at=recorded.at, outcome=event.outcome, code=event.code)
        case HoldSet() as event:
            return replace(facts, holds={**facts.holds, event.scope: event})
        case HoldLifted() as event:
            return replace(facts, holds={scope: hold for scope, hold in facts.holds.items() if scope != event.scope})
        case ToolFailed() | ToolTrialStarted() | ToolRecovered() as event:
            return _circuit(facts, event, recorded.at)
        case None:
            return _erased(facts, recorded)
        case _:
            return facts


def _answered_by_model(facts: RunState, event: ModelResponded) -> RunState:
    given, taken = event.usage.input_tokens, event.usage.output_tokens
    return replace(
        facts,
        step=max(facts.step, event.step),
        internal=event.step if event.internal else facts.internal,
        input_tokens=facts.input_tokens + (given or 0),
        output_tokens=facts.output_tokens + (taken or 0),
        unmetered=facts.unmetered + (0 if event.internal or None not in (given, taken) else 1),
    )


def _decided(facts: RunState, event: CallDecided) -> RunState:
    place = (event.step, event.index)
    earlier = facts.open.get(place)
    verdict = event.decision.verdict if event.decision is not None else "deny"
    allowed, proposed_calls = verdict == "allow", verdict == "ask"
    if earlier is not None:
        return _with(facts, place, replace(earlier, allowed=allowed, proposed_calls=proposed_calls))
    action, wanted, called, effect = event.ask.action, f"ask:{event.ask.action}", "", ""
    if event.call is not None:
        action, wanted = event.call.action, meant(event.call)
        called, effect = event.call.request_digest, effect_digest(event.call)
    trusted = UNTRUSTED not in facts.labels
    call = OpenCall(
        action=action,
        meant=wanted,
        trusted=trusted,
        allowed=allowed,
        proposed_calls=proposed_calls,
        called=called,
        effect=effect,
    )
    again = 1 if wanted in facts.tries else 0
    opened = {**facts.open, place: call}
    return replace(facts, open=opened, attempted=facts.attempted + 1, retried=facts.retried + again)


def _approval(
    facts: RunState, event: ApprovalRequested | ApprovalGranted | ApprovalRejected | ApprovalRevoked, at: int
) -> RunState:
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
    elif isinstance(event, ApprovalRevoked):
        call = replace(call, grants=tuple(grant for grant in call.grants if grant.approver != event.approver))
    elif at < call.expires_at and all(grant.approver != event.approver for grant in call.grants):
        call = replace(call, grants=(*call.grants, Grant(approver=event.approver, role=event.role, until=event.until)))
    return _with(facts, place, call)


def _attempted(facts: RunState, event: AttemptBegun | AttemptEnded) -> RunState:
    place = (event.step, event.index)
    call = facts.open.get(place)
    if call is None:
        return facts
    if isinstance(event, AttemptBegun):  # what was found out of an earlier attempt says nothing of this one
        facts = replace(facts, retried=facts.retried + (1 if event.attempt > 1 else 0))
        return _with(facts, place, replace(call, key=event.idempotency_key, settled=None))
    output = facts.output_bytes + event.spent.output_bytes
    if event.code is None:
        opened = {**facts.open, place: replace(call, happened=True, doubtful=False)}
        return replace(facts, output_bytes=output, open=opened)
    told = event.labels if event.step > facts.internal else ()
    facts = _labelled(replace(facts, output_bytes=output), told)
    call = facts.open[place]
    facts = _tried(facts, call.meant, failed=1)
    if event.landed not in ("landed", "unknown"):
        return facts
    settled = call.settled is not None and call.settled.landed != "unknown"
    happened = not settled or call.happened
    doubtful = event.landed == "unknown" and call.effect != "" and not settled
    return _with(facts, place, replace(call, happened=happened, doubtful=doubtful))


def _settled(facts: RunState, event: EffectSettled) -> RunState:
    """What was in doubt is known, as far as anyone can tell."""
    place = (event.step, event.index)
    call = facts.open.get(place)
    if call is not None:
        landed, doubtful = event.landed != "not_landed", event.landed == "unknown"
        return _with(facts, place, replace(call, happened=landed, doubtful=doubtful, settled=event))
    doubt = next((doubt for doubt in facts.doubts if (doubt.step, doubt.index) == place), None)
    if doubt is None or event.landed == "unknown":
        return facts
    rest = tuple(other for other in facts.doubts if other is not doubt)
    if event.landed == "landed":
        return replace(facts, doubts=(*rest, replace(doubt, settled=event)))
    settled = {**facts.settled, doubt.action: max(0, facts.settled.get(doubt.action, 0) - 1)}
    return replace(facts, doubts=rest, settled=settled)


def _answered(facts: RunState, event: CallAnswered) -> RunState:
    place = (event.step, event.index)
    call = facts.open.get(place)
    changes: dict[str, Any] = {
        "answered": facts.answered + 1,
        "open": {key: item for key, item in facts.open.items() if key != place},
    }
    if call is not None and (event.result.ok or call.happened):
        changes["settled"] = {**facts.settled, call.action: facts.settled.get(call.action, 0) + 1}
    match event.result:
        case Succeeded() as result:
            forgiven = () if call is None else (call.meant, f"ask:{call.action}")
            if facts.tries:
                changes["tries"] = {wanted: tries for wanted, tries in facts.tries.items() if wanted not in forgiven}
            facts = _learned(replace(facts, worked_in_step=True, **changes), event, result, call)
        case Failed() as result:
            facts = _failed(replace(facts, **changes), event.step, call, result)
    if call is not None and call.doubtful:
        step, index = place
        doubt = InDoubtEffect(
            step=step, index=index, action=call.action, effect=call.effect, request=call.called, key=call.key
        )
        facts = replace(facts, doubts=(*facts.doubts, doubt))
    elif call is not None and event.result.ok and facts.doubts:  # what is done under its key is done
        doubts = tuple(doubt for doubt in facts.doubts if not doubt.key or doubt.key != call.key)
        facts = replace(facts, doubts=doubts)
    return facts


def _learned(facts: RunState, event: CallAnswered, result: Succeeded, call: OpenCall | None) -> RunState:
    """What a result says of the run: its labels, and the names that it adds to the directory while nobody could steer it."""
    changes: dict[str, Any] = {}
    if event.step <= facts.internal:
        return replace(facts, directory=facts.directory.union(event.directory_added))
    facts = _labelled(facts, result.labels)
    if event.labels_removed:
        changes["labels"] = facts.labels.difference(event.labels_removed)
    if event.directory_added:  # INVARIANT: the broker lists nothing that untrusted text could have chosen
        changes["directory"] = facts.directory.union(event.directory_added)
    if secret := [label for label in result.labels if label != UNTRUSTED]:
        told = traceable_values(result.value)
        changes["values"] = {**facts.values, **{label: told | facts.values.get(label, frozenset()) for label in secret}}
    return replace(facts, **changes) if changes else facts


def _labelled(facts: RunState, labels: Collection[str]) -> RunState:
    """What was read puts its labels on the run, and on record at every call that was decided before."""
    if not labels:
        return facts
    opened = {place: replace(call, since=call.since.union(labels)) for place, call in facts.open.items()}
    return replace(facts, labels=facts.labels.union(labels), open=opened)


def _failed(facts: RunState, step: int, call: OpenCall | None, result: Failed) -> RunState:
    """A call that was refused counts as such; any other has done some work."""
    code = result.error.code
    told = f"{call.action if call else 'a call'} at step {step}: {code}"
    facts = replace(facts, first_failed=facts.first_failed or told)
    if not (result.refused and code in REFUSED):
        return replace(facts, worked_in_step=True)
    first, refused = facts.first_denied or told, facts.refused_in_step + 1
    facts = replace(facts, denied=facts.denied + 1, first_denied=first, refused_in_step=refused)
    return facts if call is None or code in PASSING else _tried(facts, call.meant, refused=1)


def _tried(facts: RunState, wanted: str, *, failed: int = 0, refused: int = 0) -> RunState:
    before = facts.tries.get(wanted, Tries())
    tries = Tries(failed=before.failed + failed, refused=before.refused + refused)
    return replace(facts, tries={**facts.tries, wanted: tries})


def _circuit(facts: RunState, event: ToolFailed | ToolTrialStarted | ToolRecovered, at: int) -> RunState:
    before = facts.circuits.get(event.tool, Circuit())
    rest = {tool: circuit for tool, circuit in facts.circuits.items() if tool != event.tool}
    match event:
        case ToolRecovered():
            return replace(facts, circuits=rest)
        case ToolTrialStarted():
            now = replace(before, trials=before.trials + 1, tried_at=at)
        case ToolFailed():
            now = replace(before, failures=before.failures + 1, rest_s=event.rest_s)
            # A failure while it rests is of a call that began before; one after it rested, of its trial.
            if (before.opened_at and at >= before.rests_until) or (
                not before.opened_at and now.failures >= event.limit
            ):
                now = replace(now, opened_at=at, openings=before.openings + 1, trials=0, tried_at=0)
    return replace(facts, circuits={**rest, event.tool: now})


def _erased(facts: RunState, recorded: Recorded) -> RunState:
    """Only finished runs lose bodies, so headers are enough to tell when it began and that it is over."""
    if recorded.type == "run.started":
        return replace(facts, started_at=recorded.at)
    if recorded.type == "run.finished":
        return replace(facts, finished=True, ended_at=recorded.at)
    return facts


def _with(facts: RunState, place: tuple[int, int], call: OpenCall) -> RunState:
    return replace(facts, open={**facts.open, place: call})


def replace(whole: _Frozen, **changes: Any) -> _Frozen:
    """The same with some fields changed: as `dataclasses.replace`, which takes half of all folding, without its checks."""
    made = object.__new__(type(whole))
    made.__dict__.update(whole.__dict__, **changes)
    return made
