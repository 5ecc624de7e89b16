"""How each event changes the run state. Nothing else changes it.

Every function here is pure (it reads no clock, file or policy): a resumed or replayed run reaches the recorded state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from remit.core import BREAK_GLASS, Decision, Failed, Succeeded, failure_place, is_refused
from remit.core.events import (
    AnswerRejected,
    ApprovalAnswer,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalVoided,
    AttemptBegun,
    AttemptEnded,
    BoundedApproval,
    BreakGlassReviewed,
    CallAnswered,
    CallDecided,
    ConversationRun,
    EffectSettled,
    InDoubtEffect,
    ModelFailed,
    ModelRequested,
    ModelResponded,
    PolicyChanged,
    Recorded,
    RunFinished,
    RunResumed,
    RunStarted,
    next_approval,
)
from remit.guardrails import UNTRUSTED, traceable_values
from remit.journal.during_calls import given, questioned
from remit.journal.run_state import (
    MODEL_FAILED,
    PART_NS,
    PARTS_KEPT,
    PASSING,
    REFUSED,
    EmergencyApproval,
    OpenCall,
    Outcomes,
    RunState,
    Tries,
    effect_digest,
    retry_key,
)

_Frozen = TypeVar("_Frozen")
ApprovalEvent: TypeAlias = ApprovalRequested | ApprovalAnswer
_OPENED: Final = OpenCall(action="")


def apply_event(state: RunState, recorded: Recorded) -> RunState:
    """The state after one more event."""
    return _timed(_applied(state, recorded), recorded)


def _timed(state: RunState, recorded: Recorded) -> RunState:
    """Count the time in which the run waited for people, or no process drove it: it is none of its time limit.

    What a person does ends no wait: that ends with what the run does next.
    """
    event, since = recorded.event, state.waits_since
    if isinstance(event, RunResumed):
        since = since or (
            event.since if state.model_wait is None else 0
        )  # a wait for the model is counted when it is asked again
    elif since and getattr(event, "by", None) is not None and state.status != "running":
        return state
    waits = recorded.at if state.open and state.status == "waiting" else 0
    if not since and not waits:
        return state
    waited = state.waited + (max(0, recorded.at - since) if since else 0)
    return replace(state, waited=waited, waits_since=waits)


def _continued(state: RunState, conversation: ConversationRun) -> RunState:
    """The state of a run that begins with what the runs before it left to it."""
    return replace(
        state,
        labels=frozenset(conversation.labels),
        directory=frozenset(conversation.directory),
        values={label: frozenset(values) for label, values in conversation.values.items()},
        doubts=conversation.doubts,
        bounded=conversation.bounded,
    )


def _applied(state: RunState, recorded: Recorded) -> RunState:
    match recorded.event:  # the most frequent first: each class pattern that does not match takes measurable time
        case CallDecided() as event:
            return _decided(state, event, recorded)
        case CallAnswered() as event:
            return _answered(state, event, recorded.at)
        case AttemptBegun() | AttemptEnded() as event:
            return _attempted(state, event, recorded)
        case RunStarted() as event:
            begun = replace(state, started=event, started_at=recorded.at, bundles=_used(state, event.bundle))
            return begun if event.conversation is None else _continued(begun, event.conversation)
        case RunResumed() as event:
            return replace(state, resumed=max(state.resumed, event.count), bundles=_used(state, event.bundle))
        case PolicyChanged() as event:
            return replace(state, bundles=_used(state, event.bundle))
        case ModelRequested() as event:
            return _requested(state, event, recorded.at)
        case ModelResponded() as event:
            return _answered_by_model(state, event)
        case ModelFailed() as event:
            return _model_failed(state, event, recorded.at)
        case AnswerRejected():
            return replace(state, answers_rejected=state.answers_rejected + 1)
        case (
            ApprovalRequested()
            | ApprovalGranted()
            | ApprovalRejected()
            | ApprovalRevoked()
            | ApprovalVoided()
            | BreakGlassReviewed() as event
        ):
            return _approval(state, event, recorded)
        case EffectSettled() as event:
            return _settled(state, event)
        case RunFinished() as event:
            return _finished(state, event, recorded.at)
        case None:
            return _erased(state, recorded)
        case other:
            return questioned(state, other)


def _requested(state: RunState, event: ModelRequested, at: int) -> RunState:
    waited = 0 if state.model_wait is None else max(0, at - state.model_failed_at)
    return replace(
        state,
        step=max(state.step, event.step),
        streak=state.refused_in_a_row,
        refused_in_step=0,
        worked_in_step=False,
        model_failures=state.model_failures if event.attempt is not None else 0,
        model_wait=None,
        waited=state.waited + waited,
    )


def _model_failed(state: RunState, event: ModelFailed, at: int) -> RunState:
    return replace(
        state,
        step=max(state.step, event.step),
        model_failures=state.model_failures + 1,
        model_wait=None if event.again_at is None else event,
        model_failed_at=at,
        recent=_counted(state, at, MODEL_FAILED),
    )


def _finished(state: RunState, event: RunFinished, at: int) -> RunState:
    return replace(state, finished=True, ended_at=at, outcome=event.outcome, code=event.code, model_wait=None)


def _answered_by_model(state: RunState, event: ModelResponded) -> RunState:
    used_in, used_out = event.usage.input_tokens, event.usage.output_tokens
    return replace(
        state,
        step=max(state.step, event.step),
        internal=event.step if event.internal else state.internal,
        input_tokens=state.input_tokens + (used_in or 0),
        output_tokens=state.output_tokens + (used_out or 0),
        unmetered=state.unmetered + (0 if event.internal or None not in (used_in, used_out) else 1),
        cost=state.cost + (event.cost or 0),
        response_model=event.response_model or state.response_model,
        unpriced=state.unpriced + (0 if event.internal or event.cost is not None else 1),
    )


def _decided(state: RunState, event: CallDecided, recorded: Recorded) -> RunState:
    place = (event.step, event.index)
    earlier = state.open.get(place)
    allowed = event.allowed
    asks = not allowed and event.decision is not None and event.decision.verdict == "ask"
    verdict = {
        "allowed": allowed,
        "needs_approval": asks,
        "rule": _rule_of(event.decision),
        "labels_then": state.labels,
    }
    if earlier is not None:  # decided again, after an approval: what is known of the call stays
        return _with(state, place, replace(_followed(earlier, recorded), **verdict))
    # A call that could not be parsed has no resources, so its tries are counted by its action alone.
    action, key, request, effect = event.proposed.action, f"ask:{event.proposed.action}", "", ""
    if event.call is not None:
        action, key = event.call.action, retry_key(event.call)
        request, effect = event.call.request_digest, effect_digest(event.call)
    call = replace(
        _OPENED,
        action=action,
        retry_key=key,
        trusted=UNTRUSTED not in state.labels,
        request_digest=request,
        effect_digest=effect,
        enforced=event.enforced,
        **verdict,
    )
    opened, retried = {**state.open, place: call}, state.retried + (1 if key in state.tries else 0)
    through = state.let_through + event.let_through
    return replace(state, open=opened, let_through=through, attempted=state.attempted + 1, retried=retried)


def _used(state: RunState, bundle: str) -> tuple[str, ...]:
    return state.bundles if not bundle or bundle in state.bundles else (*state.bundles, bundle)


def _approval(state: RunState, event: ApprovalEvent, recorded: Recorded) -> RunState:
    place = (event.step or 0, event.index or 0)
    if isinstance(event, ApprovalGranted) and event.role == BREAK_GLASS:
        emergency = EmergencyApproval(seq=recorded.seq, key=event.key, at=recorded.at, until=event.until or 0)
        state = replace(state, emergencies=(*state.emergencies, emergency))
    elif isinstance(event, BreakGlassReviewed):
        reviewed = (replace(item, reviewed=item.reviewed or item.key == event.granted) for item in state.emergencies)
        state = replace(state, emergencies=tuple(reviewed))
    elif isinstance(event, ApprovalRevoked | ApprovalVoided) and state.bounded:
        state = replace(state, bounded=tuple(item for item in state.bounded if not _ends(item, event)))
    call = state.open.get(place)
    if call is None:
        return state
    if isinstance(event, ApprovalRequested):
        state = replace(state, asked=state.asked + (0 if call.approval else 1))
    call = _followed(call, recorded)
    if isinstance(event, ApprovalGranted) and call.approval is not None and event in call.approval.grants:
        state = replace(state, bounded=_bounded(state, event, call))
    return _with(state, place, call)


def _bounded(state: RunState, event: ApprovalGranted, call: OpenCall) -> tuple[BoundedApproval, ...]:
    """The bounded approvals after an approval that counts: one more, or one that covers a further call."""
    if event.scope is not None and call.approval is not None:
        facts = call.approval.requested.facts
        return (*state.bounded, BoundedApproval(granted=event, action=call.action, facts=facts))
    if not event.under:
        return state.bounded
    return tuple(
        item.model_copy(update={"used": item.used + 1}) if item.granted.key == event.under else item
        for item in state.bounded
    )


def _ends(bounded: BoundedApproval, event: ApprovalRevoked | ApprovalVoided) -> bool:
    """True if that approval, or one of a further call under it, is withdrawn: then nothing more is approved under it."""
    granted = bounded.granted
    if bounded.run:
        return False
    same = (granted.decision_digest, granted.number) == (event.decision_digest, event.number)
    return granted.approver == event.approver and same and (granted.step, granted.index) == (event.step, event.index)


def _followed(call: OpenCall, recorded: Recorded) -> OpenCall:
    """The call with its request for approval after that event."""
    return replace(call, approval=next_approval(call.approval, recorded.event, recorded.seq, recorded.at))


def _attempted(state: RunState, event: AttemptBegun | AttemptEnded, recorded: Recorded) -> RunState:
    place = (event.step, event.index)
    call = state.open.get(place)
    if call is None:
        return state
    if isinstance(event, AttemptBegun):  # the settled outcome of an earlier attempt does not apply to this one
        state = replace(state, retried=state.retried + (1 if event.attempt > 1 else 0))
        if event.given is not None:
            state = replace(state, given=given(state, call, event.given, begins=True))
        begun = replace(call, idempotency_key=event.idempotency_key, attempting=True, settled=None)
        return _with(state, place, begun if call.approval is None else _followed(begun, recorded))
    output = state.output_bytes + event.spent.output_bytes
    if event.code is None:
        ended = replace(call, attempting=False, happened=True, doubtful=False)
        changes: dict[str, Any] = {"output_bytes": output, "open": {**state.open, place: ended}}
        if event.read_digest:
            attempt = (event.step, event.index, event.attempt)
            # The highest, not the latest: calls of one step end in any order, and a replay must find the same one.
            last = max(attempt, state.reads.get(call.request_digest, attempt))
            changes["reads"] = {**state.reads, call.request_digest: last}
        return replace(state, **changes)
    call = replace(call, attempting=False)
    violated = "sandbox_violation" in (event.code, event.cause)
    state = _with(replace(state, violations=state.violations + violated), place, call)
    # The model does not read results of internal steps, so these put no labels on the run.
    labels = event.labels if event.step > state.internal else ()
    state = _labelled(replace(state, output_bytes=output, given=given(state, call, event.labels)), labels)
    call = state.open[place]
    state = _tried(state, call.retry_key, failed=1)
    if event.landed not in ("landed", "unknown"):
        return state
    settled = call.settled is not None and call.settled.landed != "unknown"
    happened = not settled or call.happened
    doubtful = event.landed == "unknown" and call.effect_digest != "" and not settled
    return _with(state, place, replace(call, happened=happened, doubtful=doubtful))


def _settled(state: RunState, event: EffectSettled) -> RunState:
    """Apply the outcome that a probe or a person found for an effect of unknown outcome."""
    place = (event.step, event.index)
    call = state.open.get(place)
    if call is not None:
        landed, doubtful = event.landed != "not_landed", event.landed == "unknown"
        return _with(state, place, replace(call, happened=landed, doubtful=doubtful, settled=event))
    doubt = next((doubt for doubt in state.doubts if (doubt.run, doubt.step, doubt.index) == ("", *place)), None)
    if doubt is None or event.landed == "unknown":
        return state
    rest = tuple(item for item in state.doubts if item is not doubt)
    if event.landed == "landed":  # it stays listed: the same effect must not be made again
        return replace(state, doubts=(*rest, doubt.model_copy(update={"settled": event})))
    # Counted when it was answered because it may have happened; it did not, so the count of calls goes down again.
    settled = {**state.settled, doubt.action: max(0, state.settled.get(doubt.action, 0) - 1)}
    return replace(state, doubts=rest, settled=settled)


def _answered(state: RunState, event: CallAnswered, at: int) -> RunState:
    place = (event.step, event.index)
    call = state.open.get(place)
    changes: dict[str, Any] = {
        "answered": state.answered + 1,
        "open": {key: item for key, item in state.open.items() if key != place},
        "recent": _with_outcome(state, event, call, at),
    }
    if call is not None and (event.result.ok or call.happened):
        changes["settled"] = {**state.settled, call.action: state.settled.get(call.action, 0) + 1}
    match event.result:
        case Succeeded() as result:
            cleared = () if call is None else (call.retry_key, f"ask:{call.action}")
            if state.tries:
                changes["tries"] = {key: tries for key, tries in state.tries.items() if key not in cleared}
            changes |= _learned(state, event, result, call)
            read = result.labels if event.step > state.internal else ()  # as in `_attempted`
            state = _labelled(replace(state, worked_in_step=True, **changes), read)
            if event.labels_removed and event.step > state.internal:
                state = replace(state, labels=state.labels.difference(event.labels_removed))
        case Failed() as result:
            read = event.labels if event.step > state.internal else ()  # as in `_attempted`
            state = _failed(_labelled(replace(state, **changes), read), event.step, call, result)
    return state if call is None else _doubted(state, event, call)


def _with_outcome(state: RunState, event: CallAnswered, call: OpenCall | None, at: int) -> Mapping[Outcomes, int]:
    code = event.result.error.code if isinstance(event.result, Failed) else "ok"
    # A name that the model invented must not become a time series of its own.
    action = "" if call is None or code == "unknown_action" else call.action
    return _counted(state, at, code, call.rule if call is not None and code == "policy_denied" else "", action)


def _counted(state: RunState, at: int, code: str, rule: str = "", action: str = "") -> Mapping[Outcomes, int]:
    """`recent` with one more outcome at that time, and without parts that are older than those that are kept."""
    part = at // PART_NS
    kept = {key: count for key, count in state.recent.items() if key[0] > part - PARTS_KEPT}
    key = (part, code, rule, action)
    return {**kept, key: kept.get(key, 0) + 1}


def _rule_of(decision: Decision | None) -> str:
    """What denies the call: a rule, or the reason of the decision if no rule does; "" if it is not denied."""
    if decision is None or decision.verdict != "deny":
        return ""
    first = decision.rules[0] if decision.reason == "denied_by_rule" and decision.rules else None
    return decision.reason if first is None else f"{first.file}:{first.line}"


def _doubted(state: RunState, event: CallAnswered, call: OpenCall) -> RunState:
    """Note an effect of unknown outcome, or settle those of the same idempotency key."""
    if call.doubtful:
        doubt = InDoubtEffect(
            step=event.step,
            index=event.index,
            action=call.action,
            effect_digest=call.effect_digest,
            request_digest=call.request_digest,
            idempotency_key=call.idempotency_key,
        )
        state = replace(state, doubts=(*state.doubts, doubt))
    elif event.result.ok and state.doubts:  # a success under the same idempotency key settles it
        key = call.idempotency_key
        doubts = tuple(item for item in state.doubts if not item.idempotency_key or item.idempotency_key != key)
        state = replace(state, doubts=doubts)
    return state


def _learned(state: RunState, event: CallAnswered, result: Succeeded, call: OpenCall | None) -> dict[str, Any]:
    """What a result adds to the run beside its labels: resources for the directory, and texts of other labels than "untrusted"."""
    changes: dict[str, Any] = {"given": given(state, call, result.labels)}
    if event.directory_added:  # INVARIANT: the broker adds no resource that untrusted text could have chosen
        changes["directory"] = state.directory.union(event.directory_added)
    secret = [label for label in result.labels if label != UNTRUSTED] if event.step > state.internal else []
    if secret:
        traceable = traceable_values(result.value)
        more = {label: traceable | state.values.get(label, frozenset()) for label in secret}
        changes["values"] = {**state.values, **more}
    return changes


def _labelled(state: RunState, labels: Collection[str]) -> RunState:
    """Put the labels on the run, and note them at every open call: those calls were decided before this was read."""
    if not labels or (not state.open and state.labels.issuperset(labels)):
        return state
    opened = {place: replace(call, labels_since=call.labels_since.union(labels)) for place, call in state.open.items()}
    return replace(state, labels=state.labels.union(labels), open=opened)


def _failed(state: RunState, step: int, call: OpenCall | None, result: Failed) -> RunState:
    """Count a refused call as refused; any other failed call shows that the step did some work."""
    code, place = result.error.code, failure_place(result.error)
    line = f"{call.action if call else 'a call'} at step {step}: {code}{place and f' ({place})'}"
    state = replace(state, first_failed=state.first_failed or line)
    if code not in REFUSED or not is_refused(result, enforced=call is None or call.enforced):
        return replace(state, worked_in_step=True)
    first, refused = state.first_denied or line, state.refused_in_step + 1
    state = replace(state, denied=state.denied + 1, first_denied=first, refused_in_step=refused)
    return state if call is None or code in PASSING else _tried(state, call.retry_key, refused=1)


def _tried(state: RunState, key: str, *, failed: int = 0, refused: int = 0) -> RunState:
    before = state.tries.get(key, Tries())
    tries = Tries(failed=before.failed + failed, refused=before.refused + refused)
    return replace(state, tries={**state.tries, key: tries})


def _erased(state: RunState, recorded: Recorded) -> RunState:
    """Apply an event whose body was erased. Only finished runs lose bodies, so only their beginning and end matter here."""
    if recorded.type == "run.started":
        return replace(state, started_at=recorded.at)
    if recorded.type == "run.finished":
        return replace(state, finished=True, ended_at=recorded.at)
    return state


def _with(state: RunState, place: tuple[int, int], call: OpenCall) -> RunState:
    return replace(state, open={**state.open, place: call})


def replace(item: _Frozen, **changes: Any) -> _Frozen:
    """As `dataclasses.replace`, without its checks, which take half of the time of applying events."""
    changed = object.__new__(type(item))
    (known := changed.__dict__).update(item.__dict__)
    known.update(changes)
    return changed
