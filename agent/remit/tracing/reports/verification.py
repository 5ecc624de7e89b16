"""Is a record what was written, and does it agree with itself?

The chain shows what was done to events that were sealed. Whoever can seal a chain anew can make one that holds; then
what the events say of each other must still agree: one digest from decision over approval to attempt, one outcome
from attempt to result, every policy one of the run's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from remit.broker.approvals import shown_facts
from remit.core import Call, Decision, Succeeded, UsageError, WorkspaceError, decision_digest, request_digest
from remit.core.events import (
    AnyEvent,
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalRevoked,
    ApprovalVoided,
    AttemptBegun,
    AttemptEnded,
    CallAnswered,
    CallDecided,
    EffectSettled,
    ModelResponded,
    PolicyChanged,
    Recorded,
    RunResumed,
    RunStarted,
)
from remit.journal import Chain, ChainFault, verify_chain
from remit.tracing import Trace
from remit.tracing.reports.reconciliation import compare_copies


def verify(
    trace: Trace, *, original: Chain | None = None, head: tuple[int, str] | None = None
) -> tuple[ChainFault, ...]:
    """Every fault of a record. `original` is the journal's own, `head` the last event as somebody else kept it."""
    faults = [*trace.faults()]
    head = head or (original.head if original is not None else None)
    if head is not None and trace.chain.head is None:
        faults += [fault for fault in verify_chain(trace.chain.links, head=head) if fault not in faults]
    if original is not None:
        faults += [
            fault for fault in compare_copies(trace.chain, original) if fault.seq not in {one.seq for one in faults}
        ]
    if any(fault.broken for fault in faults):
        return tuple(faults)
    return (*faults, *_objects(trace), *contradictions(trace.records))


def contradictions(records: Iterable[Recorded]) -> list[ChainFault]:
    """Where the events of a run say different things of the same; nothing is said of those that were erased."""
    reading = _Reading()
    for item in records:
        if item.event is None:
            reading.erased = True
        elif not reading.erased:  # what an erased event said is not known, so what follows from it is not either
            reading.faults += [
                ChainFault(seq=item.seq, kind="contradicted", what=f"{item.key}: {what}")
                for what in reading.hear(item.run, item.event)
            ]
    return reading.faults


def _objects(trace: Trace) -> Iterator[ChainFault]:
    """The rules that the run names are here, and are what their digests say."""
    try:
        trace.bundles()
    except (UsageError, WorkspaceError) as failure:
        yield ChainFault(seq=0, kind="missing" if "no object" in str(failure) else "edited", what=str(failure))


@dataclass
class _Told:
    """What is known of one call so far."""

    decided: CallDecided
    allowed: bool = False
    digests: set[str] = field(default_factory=set[str])
    asked: set[str] = field(default_factory=set[str])
    intended: AttemptBegun | None = None
    ended: AttemptEnded | None = None
    settled: EffectSettled | None = None


class _Reading:
    """The events of a run so far, as far as they bind what follows."""

    def __init__(self) -> None:
        self.faults: list[ChainFault] = []
        self.erased = False
        self._policies: set[str] = set()
        self._whole = True
        self._bound = True
        self._turns: dict[int, ModelResponded] = {}
        self._calls: dict[tuple[int, int], _Told] = {}

    def hear(self, run: str, event: AnyEvent) -> Iterator[str]:
        match event:
            case RunStarted() | RunResumed() | PolicyChanged():
                self._policies.add(event.policy_digest)
                if isinstance(event, RunStarted):
                    self._whole = event.content == "complete"
                    self._bound = event.content != "anonymized"  # by placeholders, digests too
            case ModelResponded():
                self._turns[event.step] = event
            case CallDecided():
                yield from self._decided(run, event)
            case (
                ApprovalRequested()
                | ApprovalGranted()
                | ApprovalRejected()
                | ApprovalRevoked()
                | ApprovalVoided()
                | AttemptBegun()
                | AttemptEnded()
                | EffectSettled()
                | CallAnswered()
            ):
                told = self._calls.get((event.step, event.index))
                if told is None:
                    yield "nothing decided that call"
                else:
                    yield from _contradictions_of_call(told, event)
            case _:
                pass

    def _decided(self, run: str, event: CallDecided) -> Iterator[str]:
        turn = self._turns.get(event.step)
        if (
            turn is None
            or event.index >= len(turn.proposed_calls)
            or turn.proposed_calls[event.index] != event.proposed
        ):
            yield "the model did not ask for that"
        told = self._calls.setdefault((event.step, event.index), _Told(decided=event))
        told.allowed = event.decision is not None and event.decision.verdict == "allow"
        call, decision = event.call, event.decision
        if call is None or decision is None:
            return
        if (call.run, call.step, call.index) != (run, event.step, event.index):
            yield "it is a decision of another call"
        if self._whole and call.request_digest != request_digest(
            call.subjects, call.action, call.arguments, call.manifest
        ):
            yield "the request's digest is not that of what was asked"
        if self._bound and not self._is_bound(told, call, decision):
            yield "the decision is not of this request under these rules"
        told.digests.add(decision.decision_digest)
        if decision.policy_digest not in self._policies:
            yield "it was decided by rules that are none of the run's"

    def _is_bound(self, told: _Told, call: Call, decision: Decision) -> bool:
        """Whether the decision's digest is of this request and these rules, and of the facts where people are asked."""
        proposed_calls = decision.verdict == "ask"
        if not self._whole and proposed_calls:
            return True  # the facts are withheld
        shown = shown_facts(decision.facts) if proposed_calls else {}
        bound = decision_digest(call.request_digest, decision.policy_digest, shown)
        return decision.decision_digest == bound or (not proposed_calls and decision.decision_digest in told.asked)


def _contradictions_of_call(told: _Told, event: AnyEvent) -> Iterator[str]:
    """Where an event contradicts what earlier events of its call say; adds the event to what is known of the call."""
    match event:
        case ApprovalRequested() | ApprovalGranted() | ApprovalRejected() | ApprovalRevoked() | ApprovalVoided():
            yield from _approval(told, event)
        case AttemptBegun():
            yield from _attempt_begun(told, event)
        case AttemptEnded():
            yield from _attempt_ended(told, event)
        case EffectSettled():
            yield from _effect_settled(told, event)
        case CallAnswered():
            yield from _answered(told, event)
        case _:
            pass


def _approval(
    told: _Told, event: ApprovalRequested | ApprovalGranted | ApprovalRejected | ApprovalRevoked | ApprovalVoided
) -> Iterator[str]:
    """An approval is asked for a decision of this call, and answered only after it is asked for."""
    if isinstance(event, ApprovalRequested):
        told.asked.add(event.decision_digest)
        if event.decision_digest not in told.digests:
            yield "people are asked about another decision"
    elif event.decision_digest not in told.asked:
        yield f"{event.approver} answered what nobody asked"


def _attempt_begun(told: _Told, event: AttemptBegun) -> Iterator[str]:
    """An attempt needs a decision that allows exactly its request."""
    told.intended, told.settled = event, None
    call = told.decided.call
    if not told.allowed:
        yield "it ran though no decision allows it"
    if call is None or event.request_digest != call.request_digest:
        yield "another request ran than was decided"
    if event.decision_digest not in told.digests:
        yield "it ran under another decision than its own"


def _attempt_ended(told: _Told, event: AttemptEnded) -> Iterator[str]:
    if told.intended is None or told.intended.attempt != event.attempt:
        yield "it ended without having begun"
    told.ended = event


def _effect_settled(told: _Told, event: EffectSettled) -> Iterator[str]:
    """A person settles an effect only where its last attempt did not end, or ended without saying whether it landed."""
    told.settled = event
    begun, ended = told.intended, told.ended
    if begun is not None and ended is not None and ended.attempt != begun.attempt:
        ended = None  # it belongs to an earlier attempt
    if begun is None or (ended is not None and ended.landed != "unknown"):
        yield "it was settled though nobody had doubts"


def _answered(told: _Told, event: CallAnswered) -> Iterator[str]:
    ended, settled, result = told.ended, told.settled, event.result
    not_landed = settled is not None and settled.landed == "not_landed"
    if isinstance(result, Succeeded):
        found = settled is not None and settled.landed == "landed"
        if ended is None or (ended.code is not None and not found):
            yield "it succeeded though no attempt did"
        elif result.value != (settled.value if ended.code is not None and settled is not None else ended.value):
            yield "the result is not what the attempt returned"
    elif result.error.attempts and ended is None:
        yield "it failed otherwise than its attempt"
    elif result.error.attempts and ended is not None:
        ends = {ended.code, ended.cause} if not_landed else {ended.code}
        again = ended.retry_in_s is not None or (not_landed and ended.lost)  # and Remit refused to try once more
        if result.error.code not in ends and not again:
            yield "it failed otherwise than its attempt"
